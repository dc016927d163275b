"""Write what a report says of registered forecasts: sentences of the answer, the floor's check, their table."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from analysis.figures import style
from analysis.fitting.result import Fit
from analysis.forecasting.defaults import RECIPE
from analysis.forecasting.score import KEYS, Score
from analysis.forecasting.sensitivity import SHIFT
from analysis.report import html
from analysis.report.findings import Findings, Ladders, Law
from analysis.report.kept import Kept

PENDING = "not measured yet"


def one_forecast(found: Findings, one: Kept) -> str:
    """Say in a sentence what a forecast said, how far it was off, and whether it stands."""
    p, target = one.prediction, found.target
    reach = f"runs of at most 1/{one.cut:g} of its compute" if one.cut else "all runs that were there"
    said = (
        f"From {reach}: {p.loss:.4f}{found.units.after}, {p.level:.0%} interval {p.lower:.4f} to {p.upper:.4f} "
        f"({100 * (p.lower / p.loss - 1):+.1f}% to {100 * (p.upper / p.loss - 1):+.1f}%)"
    )
    if target is None or not target.losses or not one.scores:
        return f"{said}; {PENDING}."
    error = 100 * (p.loss / target.measured - 1)
    inside = sum(map(p.holds, target.losses))
    many = len(target.losses) > 1
    held = f"{inside} of {len(target.losses)} runs inside" if many else "inside" if inside else "outside"
    first = one.scores[0]
    return (
        f"{said}; {abs(error):.2f}% too {'high' if error > 0 else 'low'}, {held}; {first.standing}"
        f"{f' ({first.why})' if first.why else ''}."
    )


def floors(found: Findings) -> list[str]:
    """Say which E each law found beside the true floor, where that is known; nothing where it is not."""
    if found.true_floor is None:
        return []
    laws = [(f"forecast from {one.of_target}", one.fitted) for one in found.kept if one.fitted is not None]
    if isinstance(found.law, Law):
        laws.append(("law of all runs", found.law.forecast.fit))
    said = [_floor(name, law, found.true_floor) for name, law in laws]
    return [f"The true floor of this text is {found.true_floor:.4f}{found.units.after}.", *said]


def _floor(name: str, law: Fit, true: float) -> str:
    if law.floor.kind == "known":
        return f"The {name} holds E at {law.params['E']:.4f}, as it was given."
    low, high = law.conf_int(RECIPE.level).get("E", (float("nan"),) * 2)
    where = "inside" if low <= true <= high else "outside"
    interval = f"{RECIPE.level:.0%} interval {low:.4f} to {high:.4f}"
    return f"The {name} found E = {law.params['E']:.4f} [{interval}]: {where}."


def sensitivities(found: Findings) -> list[str]:
    """Say of each registered forecast what it would be with E a tenth of a nat lower and higher."""
    said = []
    for one in found.kept:
        moved = [
            f"{100 * (entry['loss'][0] / one.prediction.loss - 1):+.2f}% with E {entry['shift']:+g} "
            f"({', '.join(f'{value:.4g}' for value in entry['floor'].values())})"
            for entry in one.content.get("sensitivity") or ()
            if entry["loss"] and entry["loss"][0]
        ]
        if moved:
            said.append(f"The forecast from {one.of_target} would move by {' and '.join(moved)}.")
    return said


def floor_part(found: Findings) -> Markup:
    """Check E, and show how much each forecast rests on it."""
    said = [*floors(found), *sensitivities(found)]
    title = html.paragraph(f"The floor E, and {SHIFT:g} nats of it:")
    return html.joined(title, html.bullets(said)) if said else Markup()


def forecasts_section(told: Ladders, shown: Markup) -> html.Section | None:
    """Tabulate every registered forecast of the folder with its scores; `shown` is the calibration picture."""
    if told.verified is None:
        return None
    several = len(told.each) > 1
    header = [*["ladder"] * several, "forecast", "registered", "N", "D", "runs used", "said", "90% interval"]
    header += ["measured", "error", "inside 50%, 90%", "CRPS", "standing"]
    rows = [row[0 if several else 1 :] for one in told.kept for row in _rows(told, one)]
    found = told.verified.calibration()["registered"]
    inside = found["inside"]["0.9"]
    counted = (
        html.paragraph(
            f"Of {found['n']} registered forecasts that were measured, {inside['count']} held at 90%: a share of "
            f"{inside['share']:.0%}, binomial 90% interval {inside['interval'][0]:.0%} to "
            f"{inside['interval'][1]:.0%}; mean error {found['mean_absolute_error']:.2%}, mean CRPS "
            f"{found['mean_crps']:.4f}. Of several runs of a target one is counted. Late and changed forecasts "
            "count apart."
        )
        if found["n"]
        else html.paragraph("No forecast that was registered before its target began is measured yet.")
    )
    notes = html.box("warn", *told.verified.notes) if told.verified.notes else Markup()
    return html.Section("Forecasts", html.joined(counted, html.table(header, rows), notes, shown))


def _rows(told: Ladders, one: Kept) -> Iterator[list[str]]:
    p = one.prediction
    names = [
        found.part for found in told.each if "run_id" in found.whole and one.runs & set(found.whole["run_id"])
    ]
    about = [", ".join(names) or "-", one.id, str(one.content["registered_at"])[:16]]
    about += [style.count(p.params or 0.0), style.count(p.tokens or 0.0), one.of_target]
    about += [f"{p.loss:.4f}", f"{p.lower:.4f} to {p.upper:.4f}"]
    if not one.scores:
        yield [*about, "-", "-", "-", "-", PENDING]
    for score in one.scores:
        yield [*about, *_scored(score)]


def _scored(score: Score) -> Sequence[str]:
    inside = ", ".join("in" if score.inside[key] else "out" for key in KEYS)
    standing = f"{score.standing}: {score.why}" if score.why else score.standing
    return f"{score.measured:.4f}", f"{100 * score.error:+.2f}%", inside, f"{score.crps:.4f}", standing
