"""Say of tasks in the report: classes, thresholds, seeds, caveats, twins. Pictures are drawn elsewhere."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from analysis.detection.twins import worth_saying
from analysis.detection.verdict import ORDER, Verdict
from analysis.errors import Code
from analysis.figures import style, task_data
from analysis.report import html
from analysis.report.findings import Findings


def tasks_section(found: Findings, shown: dict[str, Markup]) -> html.Section:
    title = "Tasks"
    if isinstance(found.tasks, str):
        return html.Section(title, html.paragraph(f"No curves of tasks: {found.tasks}"))
    parts = []
    if isinstance(found.classes, str):
        parts.append(html.paragraph(f"The tasks could not be classified: {found.classes}"))
    else:
        parts += [html.paragraph(f"Classes found: {class_counts(found)}."), _class_table(found)]
    parts += [shown.get("tasks", Markup()), shown.get("twins", Markup())]
    if not isinstance(found.classes, str):
        parts += _sentences(found)
    return html.Section(title, html.joined(*parts))


def _sentences(found: Findings) -> list[Markup]:
    """Say what emergence says beside the classes: twins, thresholds against loss, forecasts from below."""
    classes = found.classes
    assert not isinstance(classes, str)
    lined = [a.sentence() for a in classes.alignments if a.lines_up is not None]
    below = [plain_sizes(take_off.sentence()) for take_off in classes.take_offs]
    titled = (
        (f"Twins (sizes are {found.source.size_name}):", twin_sentences(found)),
        ("Do thresholds of different horizons line up in text loss?", lined),
        (
            "Where each jump was to be expected, told from the answers' likelihood at the sizes below it:",
            below,
        ),
    )
    return [html.joined(html.paragraph(title), html.bullets(said)) for title, said in titled if said]


def twin_sentences(found: Findings) -> list[str]:
    """Say from which size a task differs from its twin."""
    assert not isinstance(found.classes, str)
    exact = [twin for twin in found.classes.twins if twin.metric in ("exact_match", "")]
    return [plain_sizes(twin.sentence()) for twin in worth_saying(exact)]


def class_counts(found: Findings) -> str:
    assert not isinstance(found.classes, str)
    verdicts = exact_verdicts(found)
    counts = Counter(v.label for v in verdicts.values())
    below = Counter(v.label for v in verdicts.values() if not v.counts)
    said = ", ".join(
        f"{counts[name]} {name}" + (f" ({below[name]} not above a shortcut)" if below[name] else "")
        for name in ORDER
        if counts[name]
    )
    expected = _expected(found)
    judged = [key for key in verdicts if expected.get(key)]
    agree = sum(verdicts[key].label == expected[key] for key in judged)
    return f"{said}; {agree} of {len(judged)} as expected" if judged else said


def exact_verdicts(found: Findings) -> dict[tuple[str, str], Verdict]:
    assert not isinstance(found.classes, str) and not isinstance(found.tasks, str)
    by_curve = task_data.by_curve(found.classes)
    names = task_data.curves(found.tasks, by_curve)
    verdicts = {name: task_data.verdict_of(by_curve, *name) for name in names}
    return {name: verdict for name, verdict in verdicts.items() if verdict is not None}


def _expected(found: Findings) -> dict[tuple[str, str], str]:
    assert not isinstance(found.tasks, str)
    rows = found.tasks.drop_duplicates(["task", "variant"])[["task", "variant", "intended_class"]]
    return {(task, variant): label for task, variant, label in rows.to_numpy().tolist() if label}


def _class_table(found: Findings) -> Markup:
    """Write the classes as a table that fits the page; below it, in sentences that wrap, caveats and seeds."""
    expected, verdicts = _expected(found), exact_verdicts(found)
    # A column that no task has anything to say in is left out.
    columns: dict[str, dict[tuple[str, str], str]] = {
        "expected class": {key: expected.get(key, "") for key in verdicts},
        "effect": {key: f"{v.effect:+.2f}" for key, v in verdicts.items()},
        "threshold (90%), parameters": {key: _threshold(v) for key, v in verdicts.items()},
        "shortcut, beaten from": {key: _shortcut(v) for key, v in verdicts.items()},
        "caveats": {key: ", ".join(code for code, _ in _caveats(v)) for key, v in verdicts.items()},
    }
    columns = {name: cells for name, cells in columns.items() if any(cells.values())}
    header = ("task", "found", *columns)
    rows = [
        (name_of(*key), verdict.label, *(cells[key] for cells in columns.values()))
        for key, verdict in verdicts.items()
    ]
    said: dict[str, list[str]] = {}
    for key, verdict in verdicts.items():
        for code, message in _caveats(verdict):
            said.setdefault(f"{code}: {plain_sizes(message)}", []).append(name_of(*key))
    lines = [f"{line} ({', '.join(names)})" for line, names in said.items()]
    parted = {key: v.success_rate for key, v in verdicts.items() if v.success_rate and _part(v.success_rate)}
    seeds = [f"{name_of(*key)}: {_success(rates)}" for key, rates in parted.items()]
    below = (("Caveats:", lines), ("Where seeds part: how many are past half of the gain, by size:", seeds))
    said_below = [
        part for title, items in below if items for part in (html.paragraph(title), html.bullets(items))
    ]
    return html.joined(html.table(header, rows), *said_below)


def name_of(task: str, variant: str) -> str:
    return task if variant in ("", "direct") else f"{task}: {variant}"


def plain_sizes(sentence: str) -> str:
    """Write sizes for people: 20.3k for 2.03e+04."""
    return re.sub(r"\b\d(\.\d+)?e\+\d+\b", lambda found: style.count(float(found[0])), sentence)


def _caveats(verdict: Verdict) -> list[tuple[str, str]]:
    """List the warnings on a verdict as (code, sentence)."""
    said = [(str(w.code), w.message) for w in verdict.warnings]
    if verdict.metric_induced and all(code != Code.METRIC_INDUCED for code, _ in said):
        said.insert(0, (str(Code.METRIC_INDUCED), Code.METRIC_INDUCED.sentence))
    return said


def _threshold(verdict: Verdict) -> str:
    if verdict.threshold is None or verdict.threshold_interval is None:
        return ""
    low, high = verdict.threshold_interval
    return f"{style.count(verdict.threshold)} ({style.count(low)} to {style.count(high)})"


def _shortcut(verdict: Verdict) -> str:
    """Say what a guesser without the ability has, and from which size the score is above it and counts."""
    if not np.isfinite(verdict.curve.shortcut):
        return ""
    beaten = verdict.beats_shortcut_from
    return f"{verdict.curve.shortcut:.2f}, {style.count(beaten) if beaten is not None else 'never'}"


def _part(rates: Sequence[dict[str, float]]) -> bool:
    return any(0 < rate["rate"] < 1 for rate in rates)


def _success(rates: Sequence[dict[str, float]]) -> str:
    """Say where the seeds part: `0/3 to 20k, 1/3 at 33k, 3/3 from 68k`."""
    runs: list[tuple[str, list[float]]] = []
    for rate in rates:
        share = f"{round(rate['rate'] * rate['seeds'])}/{rate['seeds']:.0f}"
        if runs and runs[-1][0] == share:
            runs[-1][1].append(rate["size"])
        else:
            runs.append((share, [rate["size"]]))
    said = []
    for i, (share, sizes) in enumerate(runs):
        if i == 0:
            said.append(f"{share} to {style.count(sizes[-1])}")
        elif i == len(runs) - 1:
            said.append(f"{share} from {style.count(sizes[0])}")
        else:
            span = "" if len(sizes) == 1 else f" to {style.count(sizes[-1])}"
            said.append(f"{share} at {style.count(sizes[0])}{span}")
    return ", ".join(said)
