"""Open the page with three sentences for whoever decides, and with what not to believe.

Each sentence is of the first ladder that can say it. A number that the analysis warns against is not said without
the warning; the digits, the rules and all caveats stand in the sections below.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.detection.verdict import Verdict
from analysis.errors import Code, grave_codes
from analysis.figures import style
from analysis.forecasting.forecast import Prediction
from analysis.forecasting.recipes import with_seconds
from analysis.forecasting.target import CUT
from analysis.report import html
from analysis.report.answer import warnings_of
from analysis.report.findings import Findings, Ladders, Law, StepBack
from analysis.report.laws import MOST_PASSES, passes
from analysis.report.noise import noise_by_rung
from analysis.report.tasks import exact_verdicts, name_of, plain_sizes

# Tasks that are named in a sentence; of more the first, and how many there are.
_MOST_NAMED = 4


@dataclass(frozen=True)
class Pace:
    """How fast the largest size was trained: FLOPs a second of one `device`."""

    flops: float
    device: str


def opening(told: Ladders) -> list[tuple[str, str, str]]:
    """Say the forecast, the next budgets and the abilities: of each a word, a section's mark and one sentence."""
    return [
        ("Forecast", *_first(told, _forecast, "The fit")),
        ("Next budgets", *_first(told, _budgets, "The next decision")),
        ("Abilities", *_first(told, _abilities, "Tasks")),
    ]


def _first(told: Ladders, say: Callable[[Findings], tuple[bool, str]], title: str) -> tuple[str, str]:
    """The first ladder that has an answer; where none has, the first one's reason."""
    said = [(found, *say(found)) for found in told.each]
    found, known, sentence = next((one for one in said if one[1]), said[0])
    mark = html.anchor(title)
    if found.part:
        mark = f"{html.anchor(f'Ladder {found.part}')}-{mark}"
    return mark if known else "", _of_ladder(found, sentence)


def _forecast(found: Findings) -> tuple[bool, str]:
    """Say what the target was forecast at, what came, and what such a forecast can bear."""
    target, unit = found.target, found.units.after
    if target is None or (not found.kept and isinstance(found.held_out, str)):
        return False, f"No forecast of a loss: {found.held_out}"
    if found.kept:
        p, cut, runs = found.kept[0].prediction, found.kept[0].cut, len(found.kept[0].content["data"]["rows"])
    else:
        assert not isinstance(found.held_out, str)
        p, cut, runs = found.held_out.prediction, CUT, int(found.held_out.used.sum())
    reach = f"with at most 1/{cut:g} of its compute" if cut else "that were there"
    said = (
        f"A model of {style.count(target.params)} {found.source.size_name} and {style.count(target.tokens)} tokens "
        f"was forecast, from {runs} runs {reach}, to reach a loss of {p.loss:.3f}{unit} ({_interval(p)}); "
    )
    grave = grave_codes(warnings_of(found))
    if grave:
        bears = f"this carries a grave warning ({grave}) and can bear no decision"
    elif not target.losses:
        bears = "it is not measured yet, so nothing says how far this can be relied on"
    else:
        bears = _borne(p, target.losses, cut)
    measured = f"it reached {target.measured:.3f}, " if target.losses else ""
    return True, f"{said}{measured}{bears}."


def _borne(p: Prediction, losses: Sequence[float], cut: float | None) -> str:
    """Say what a forecast that was measured can bear."""
    inside = sum(map(p.holds, losses))
    off = abs(p.loss / float(np.mean(losses)) - 1)
    step = f"a step of {cut:g} times in compute" if cut else "such a step"
    if inside < len(losses):
        outside = f"{len(losses) - inside} of {len(losses)} runs outside" if len(losses) > 1 else "outside"
        return f"{outside} the interval, so {step} can bear no decision by this law (it was {off:.1%} off)"
    return f"inside the interval and {off:.1%} off, so one test says that {step} can be borne"


def _interval(p: Prediction) -> str:
    return f"{p.level:.0%} interval {p.lower:.3f} to {p.upper:.3f}"


def _budgets(found: Findings) -> tuple[bool, str]:
    """Say the best loss at the next budgets, each with the wider of two intervals, and what they cost."""
    law = found.law
    if isinstance(law, str):
        return False, f"No law, so no loss of a larger budget: {law}"
    if law.unsplit:
        return False, f"No loss of a larger budget: {law.unsplit}."
    losses = [f"{p.loss:.3f} ({low:.3f} to {high:.3f})" for p, (low, high) in _widest(law)]
    ratios = _listed([f"{p.flops_ratio:.3g}" for p in law.next])
    pace = pace_of(found)
    budgets = [p.flops or math.nan for p in law.next]
    if pace is None:
        cost = (
            f"for {_listed([style.power(c) for c in budgets])} FLOPs, no timings being kept to tell hours by"
        )
    else:
        hours = _listed([f"{c / pace.flops / 3600:.2g}" for c in budgets])
        cost = f"for about {hours} device-hours ({pace.device}, as fast as the largest model was trained)"
    grave = grave_codes(law.forecast.warnings)
    but = f"; but the law has a grave warning ({grave}), so decide nothing from this" if grave else ""
    level = f"{law.next[0].level:.0%}"
    return True, (
        f"With {ratios} times the largest run's compute the best loss is expected at {_listed(losses)}"
        f"{found.units.after}, {level} intervals, {cost}{but}."
    )


def _widest(law: Law) -> list[tuple[Prediction, tuple[float, float]]]:
    """Each budget with the wider of the law's own interval and of the hold-out's over the same step."""
    found = []
    for i, p in enumerate(law.next):
        back = law.back[i].prediction if law.back else ""
        low, high = p.lower, p.upper
        if not isinstance(back, str):
            low, high = min(low, p.loss * back.lower / back.loss), max(high, p.loss * back.upper / back.loss)
        found.append((p, (low, high)))
    return found


def pace_of(found: Findings) -> Pace | None:
    """Return how fast the largest size was trained, from the runs' timings or a column of seconds."""
    rows = found.rows[found.rows["params"].eq(found.rows["params"].max())]
    timed = with_seconds(rows, Path(found.source.path))
    if "seconds" not in timed:
        return None
    speeds = (timed["flops"] / timed["seconds"]).replace([np.inf, -np.inf], np.nan).dropna()
    speeds = speeds[speeds > 0]
    if speeds.empty:
        return None
    device = "its device"
    if found.source.is_folder and "run_id" in rows:
        try:
            path = Path(found.source.path) / str(rows["run_id"].iloc[-1]) / "execution.json"
            device = str(json.loads(path.read_bytes()).get("device") or device)
        except (OSError, ValueError, AttributeError, RecursionError):
            pass
    return Pace(float(speeds.median()), device)


def _abilities(found: Findings) -> tuple[bool, str]:
    """Say which abilities come past which size, which grow, and which have not come."""
    if isinstance(found.tasks, str):
        return False, f"No abilities: {found.tasks}"
    if isinstance(found.classes, str):
        return False, f"The tasks could not be classified: {found.classes}"
    verdicts = exact_verdicts(found)
    jumps = [(key, v) for key, v in verdicts.items() if v.threshold is not None]
    jumps.sort(key=lambda one: one[1].threshold or 0.0)
    named = [_jump(name_of(*key), v) for key, v in jumps[:_MOST_NAMED]]
    named += [f"{len(jumps) - _MOST_NAMED} more"] if len(jumps) > _MOST_NAMED else []
    said = (
        f"{_are(len(jumps))} expected only past a size: {_listed(named)}" if jumps else "none is seen to jump"
    )
    top = max(float(v.curve.size.max()) for v in verdicts.values())
    grow = [v for v in verdicts.values() if v.label == "smooth"]
    rest = []
    if grow:
        idle = sum(not v.counts for v in grow)
        rest.append(
            f"{_grow(len(grow))} steadily" + (f" ({idle} of them no better than a shortcut)" * bool(idle))
        )
    if flat := [name_of(*key) for key, v in verdicts.items() if v.label == "flat"]:
        rest.append(f"nothing is seen up to {style.count(top)} of {_listed(flat[:_MOST_NAMED])}")
    if worse := [name_of(*key) for key, v in verdicts.items() if v.label == "inverse"]:
        rest.append(f"{_listed(worse[:_MOST_NAMED])} {'gets' if len(worse) == 1 else 'get'} worse")
    tasks = f"{len(verdicts)} task{'s' * (len(verdicts) != 1)}"
    return True, f"Of {tasks} {'; '.join([said, *rest])} ({found.source.size_name})."


def _jump(name: str, verdict: Verdict) -> str:
    """Name a jump with its threshold and the caveats that a reader must not miss."""
    low, high = verdict.threshold_interval or (math.nan, math.nan)
    codes = {w.code for w in verdict.warnings}
    doubts = [
        *["one seed"] * (Code.ONE_SEED in codes),
        *["its seeds differ"] * (Code.SEEDS_DIFFER in codes),
        *["an effect of its metric"] * bool(verdict.metric_induced),
        *["no better than a shortcut"] * (not verdict.counts),
    ]
    about = "; ".join([f"{style.count(low)} to {style.count(high)}", *doubts])
    return f"{name} from about {style.count(verdict.threshold or math.nan)} ({about})"


def _are(count: int) -> str:
    return "1 is" if count == 1 else f"{count} are"


def _grow(count: int) -> str:
    return "1 grows" if count == 1 else f"{count} grow"


def _listed(names: Sequence[str]) -> str:
    """Join names as a sentence does: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def doubts(told: Ladders) -> list[str]:
    """Say what not to believe of the three sentences, the grave warnings of every ladder first."""
    said = []
    for of in (_grave_ones, _of_forecast, _of_budgets, _of_tasks, _of_losses):
        for found in told.each:
            said += [_of_ladder(found, doubt) for doubt in of(found)]
    return said


def _of_ladder(found: Findings, sentence: str) -> str:
    """Name the ladder that a sentence is of, among several."""
    return f"{sentence[:-1]} (ladder {found.part})." if found.part else sentence


def _grave_ones(found: Findings) -> list[str]:
    said = [f"The forecast: {w.message} ({w.code})." for w in warnings_of(found) if w.code.grave]
    if isinstance(found.law, Law):
        grave = [w for w in found.law.forecast.warnings if w.code.grave]
        said += [f"The law of all runs: {w.message} ({w.code})." for w in grave]
    return said


def _of_forecast(found: Findings) -> list[str]:
    target = found.target
    if target is None or (not found.kept and isinstance(found.held_out, str)) or not target.losses:
        return []
    said = ["One target is one trial: of forecasts with honest 90% intervals one in ten still misses."]
    changed = [one for one in found.kept if one.scores and one.scores[0].standing != "registered"]
    said += [
        f"The forecast from {one.of_target} is {one.scores[0].standing}, not registered." for one in changed
    ]
    return said


def _of_budgets(found: Findings) -> list[str]:
    law = found.law
    if isinstance(law, str) or law.unsplit:
        return []
    said = []
    tested = [step.ratio for step in law.back if _held(step, found)]
    far = f"{max(tested):g} times" if tested else "no distance at all"
    said.append(f"Hold-outs of this ladder bear a step of {far} in compute; what lies further is not tested.")
    missed = [
        f"{step.ratio:g}"
        for step in law.back
        if not isinstance(step.prediction, str) and not _held(step, found)
    ]
    if missed:
        said.append(f"The same step taken backwards missed what was measured at {_listed(missed)} times.")
    over = [p for p in law.next if (passes(found, p) or 0.0) > MOST_PASSES]
    if over:
        said.append(
            f"The best tokens at {_listed([f'{p.flops_ratio:.3g}' for p in over])} times are "
            f"{_listed([f'{passes(found, p):.2g}' for p in over])} passes over the text; repeated text is worth "
            "less than the law counts it."
        )
    return said


def _held(step: StepBack, found: Findings) -> bool:
    """True where the step backwards was taken, and its interval held what was measured."""
    p = step.prediction
    return not isinstance(p, str) and found.target is not None and p.holds(found.target.measured)


def _of_tasks(found: Findings) -> list[str]:
    if isinstance(found.tasks, str) or isinstance(found.classes, str):
        return []
    about = {
        Code.UNDERPOWERED: "A jump may have been missed, for want of items or seeds, in",
        Code.SHORTCUT: "A guess without the ability scores as well, at some or all sizes, in",
        Code.SEEDS_DIFFER: "Seeds jump at different sizes in",
        Code.ONE_SEED: "The class rests on one seed in",
        Code.METRIC_INDUCED: "The jump may come from the metric alone in",
        Code.NOT_SIGNIFICANT: "A jump is likely, but not shown, in",
    }
    verdicts = exact_verdicts(found)
    said = []
    for code, sentence in about.items():
        names = [name_of(*key) for key, v in verdicts.items() if any(w.code == code for w in v.warnings)]
        if names:
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            said.append(f"{sentence} {', '.join(names[:_MOST_NAMED])}{more}.")
    return [plain_sizes(line) for line in said]


def _of_losses(found: Findings) -> list[str]:
    said = []
    shared = [rung.shared for rung in noise_by_rung(found.rows) if rung.shared is not None]
    if shared:
        said.append(
            f"All losses are on the same held-out text: other text would move them together by "
            f"{np.median(shared):.1%}."
        )
    if len(found.lost):
        said.append(
            f"{len(found.lost)} run{'s' * (len(found.lost) != 1)} diverged or failed and are in no law."
        )
    if found.science:
        said.append("Runs of other corpora, schedules or optimisers lie in this table and are left out.")
    return said
