"""List the pictures of a report by name: which can be drawn from the findings, and what each shows in words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.errors import grave_codes
from analysis.figures import calibration, forecast, ladder, style, task_data, tasks
from analysis.forecasting.score import STANDINGS
from analysis.forecasting.target import CUT
from analysis.report.findings import Findings, HeldOut, Ladders, Law
from analysis.report.promises import one_forecast
from analysis.report.tasks import class_counts, twin_sentences
from analysis.tables.finished import finished_rows


@dataclass(frozen=True)
class Picture:
    """`name` is the file's, without its ending; `shows` is the alternative text and the caption; `data` is what is
    drawn."""

    name: str
    figure: Figure
    shows: str
    data: pd.DataFrame


def pictures(found: Findings) -> Iterator[Picture]:
    """Draw every picture that the findings allow, in the order of the report."""
    if len(found.rows):
        yield _loss_compute(found)
    if not isinstance(found.law, str):
        if not found.law.unsplit:
            yield _next_budgets(found, found.law)
        yield _residuals(found, found.law)
    yield from _components(found)
    yield from _tasks(found)


def every_picture(told: Ladders) -> Iterator[Picture]:
    """Draw the pictures of every ladder, named after it where there are several, and the forecasts' calibration."""
    for found in told.each:
        for shown in pictures(found):
            yield replace(shown, name=file_name(found, shown.name))
    yield from calibration_picture(told)


def file_name(found: Findings, name: str) -> str:
    """Name a picture's file: after its ladder where there are several."""
    return re.sub(r"[^\w-]", "_", f"{found.part}_{name}") if found.part else name


def calibration_picture(told: Ladders) -> Iterator[Picture]:
    """Draw how the forecasts of the folder were calibrated; nothing while none is measured."""
    if told.verified is not None and told.verified.scores:
        counted = sum(len(told.verified.of(standing)) for standing in STANDINGS)
        said = told.verified.calibration()["registered"]
        inside = f"{said['inside']['0.9']['count']} of {said['n']} registered forecasts held at 90%. "
        data = calibration.calibration_data(told.verified)
        yield Picture(
            "calibration",
            calibration.draw_calibration(data),
            f"{inside * bool(said['n'])}Every measured forecast of the folder ({counted}). Left: the share inside "
            "intervals of each level, beside what calibrated forecasters of as many forecasts would have. Right: "
            "where the measured loss fell in each forecast.",
            data,
        )


def _loss_compute(found: Findings) -> Picture:
    rows, target, held, kept = found.rows, found.target, found.held_out, found.kept
    law = None
    shows = f"Loss of {len(rows)} finished runs against their training compute, falling from "
    shows += (
        f"{rows['loss'].max():.4g} to {rows['loss'].min():.4g}; every run is a point, every size a colour."
    )
    if target is not None and not isinstance(held, str):
        law = _drawn(rows, held, target.flops)
        off = 100 * (held.prediction.loss / target.measured - 1)
        inside = sum(map(held.prediction.holds, target.losses))
        shows += (
            f" The forecast from the filled points is {abs(off):.2g}% too {'high' if off > 0 else 'low'}, and its "
            f"interval holds {inside} of {len(target.losses)} measured; the lines are its law, which saw neither "
            "the hollow points nor the target. Right: the target on a scale of its own."
        )
    if kept:
        law = _promised(found)
        shows += " " + " ".join(one_forecast(found, one) for one in kept)
        if law.lines:
            shows += (
                f" The lines are the law of the forecast from {kept[0].of_target}, fitted again to its runs."
            )
        shows += " Right: the target on a scale of its own."
    data = forecast.loss_compute_data(rows, found.lost, target, law)
    figure = forecast.loss_compute(data, found.compute, found.units.axis)
    return Picture("loss_compute", figure, shows, data)


def _drawn(rows: pd.DataFrame, held: HeldOut, flops: float) -> forecast.HeldOutLaw:
    below = (rows["flops"] <= flops / CUT).to_numpy()
    used = np.zeros(len(rows), dtype=bool)
    used[np.flatnonzero(below)] = held.used
    return forecast.HeldOutLaw(((CUT, held.prediction),), below, used, held.lines)


def _promised(found: Findings) -> forecast.HeldOutLaw:
    """What the registered forecasts said, over the runs that the nearest of them used."""
    used = next(
        (one.used for one in found.kept if one.used is not None), np.zeros(len(found.rows), dtype=bool)
    )
    said = tuple((one.cut, one.prediction) for one in found.kept)
    return forecast.HeldOutLaw(said, used, used, found.lines)


def _next_budgets(found: Findings, law: Law) -> Picture:
    grave = grave_codes(law.forecast.warnings)
    caution = f"not to be decided from: {grave}" if grave else ""
    steps = [step.prediction for step in law.back] or [""] * len(law.next)
    held = [None if isinstance(p, str) else (p.lower / p.loss, p.upper / p.loss) for p in steps]
    data = ladder.next_budgets_data(found.rows, law.path, law.next, held)
    figure = ladder.next_budgets(data, found.units.axis, caution)
    last = law.next[-1]
    warned = f"{caution[:1].upper()}{caution[1:]}. " if caution else ""
    return Picture(
        "next_budgets",
        figure,
        f"{warned}By the law of all runs the best loss falls to {last.loss:.4g} at {last.flops_ratio:.3g} times "
        f"the largest run's compute ({last.lower:.4g} to {last.upper:.4g} for one new run), and which size and "
        "tokens reach it. Runs lie above the line where their size or horizon is not the best for their compute.",
        data,
    )


def _residuals(found: Findings, law: Law) -> Picture:
    percent = 100 * (found.rows["loss"].to_numpy() / law.fitted - 1)[law.used]
    crosses = "" if law.used.all() else "Crosses: rows that the fit left out. "
    data = ladder.residuals_data(found.rows, law.fitted, law.used, found.noise)
    return Picture(
        "residuals",
        ladder.residuals(data),
        f"The runs lie {percent.min():+.2g}% to {percent.max():+.2g}% from the law of all runs, half of them "
        f"within {np.median(np.abs(percent)):.2g}%. {crosses}A trend here is a law "
        "that does not hold"
        + ("; seed noise alone stays in the grey band." if found.noise is not None else "."),
        data,
    )


def _components(found: Findings) -> Iterator[Picture]:
    """Draw the columns loss_*: of a folder of runs the mixture's components and the classes of its text."""
    rows = _with_size(found.rows)
    if rows.empty:
        return
    measured = [str(c)[5:] for c in rows.columns if str(c).startswith("loss_") and _holds_numbers(rows[c])]
    # Only the records' contract gives a dot a meaning: a class of the text.
    dotted = {name for name in measured if "." in name and found.source.is_folder}
    # Blocks of the held-out windows are no components; the section on noise is of them.
    names = [n for n in measured if n not in dotted and n != "total" and not n.startswith("block_")]
    # The component that a law is fitted to comes first.
    names.sort(key=lambda name: not rows[f"loss_{name}"].equals(rows["loss"]))
    classes = [name for name in measured if name in dotted]
    parts, sizes = found.units.parts, found.source.size_name
    if len(names) > 1 and found.source.is_folder:
        total = "The total is their weighted sum. Dashed: the least possible loss, where it can be computed."
        shows = f"{_fall(rows, names)} {total}"
        data = ladder.components_data(rows, names)
        yield Picture("components", ladder.components(data, parts, sizes), shows, data)
    elif len(names) > 1:
        shows = f"{_fall(rows, names)} These are the table's own columns loss_*."
        data = ladder.components_data(rows, names)
        yield Picture("components", ladder.components(data, parts, sizes), shows, data)
    if classes:
        shows = f"{_fall(rows, classes)} Each class of the text contributes so much to its loss; they add up to it."
        data = ladder.components_data(rows, classes)
        yield Picture("text_classes", ladder.components(data, parts, sizes), shows, data)
    orders = [str(c)[3:] for c in rows.columns if str(c).startswith("kl_") and _holds_numbers(rows[c])]
    if orders:
        mean = rows.groupby("params")[[f"kl_{order}" for order in orders]].mean().dropna(how="all")
        near = mean.idxmin(axis=1)
        nearest = [
            f"{style.count(n)}: {str(name)[3:]}" for n, name in zip(near.index.tolist(), near, strict=True)
        ]
        data = ladder.ngrams_data(rows, orders)
        yield Picture(
            "ngrams",
            ladder.ngrams(data, found.units.axis, sizes),
            "Left: the text loss over size, and the losses of n-gram models of the same text. Right: how far each "
            f"rung's predictions are from each n-gram's, KL(model || n-gram). Nearest: {', '.join(nearest)}.",
            data,
        )


def _with_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the longest run of each size and seed."""
    return finished_rows(rows, longest=True)[0]


def _holds_numbers(column: "pd.Series[float]") -> bool:
    """True where a column can be drawn: numbers, and at least one of them."""
    types = pd.api.types
    numeric = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    return bool(numeric and np.isfinite(column.astype(float)).any())


def _fall(rows: pd.DataFrame, names: list[str]) -> str:
    """Say from the smallest size to the largest which component falls most and which least."""
    means = rows.groupby("params")[[f"loss_{name}" for name in names]].mean()
    change = (means.iloc[-1] / means.iloc[0] - 1).replace([np.inf, -np.inf], np.nan).dropna()
    if len(means) < 2 or change.empty:
        return "Loss of each component over model size; every run is a dot."
    if change.max() - change.min() < 0.005:
        return f"From the smallest model to the largest, all fall alike, by {change.mean():+.0%}; every run a dot."
    most, least = str(change.idxmin())[5:], str(change.idxmax())[5:]
    return (
        f"From the smallest model to the largest, the loss of {most} changes by {change.min():+.0%}, the most, and "
        f"that of {least} by {change.max():+.0%}; longest horizon, every run a dot."
    )


def _tasks(found: Findings) -> Iterator[Picture]:
    if isinstance(found.tasks, str):
        return
    verdicts = {} if isinstance(found.classes, str) else task_data.by_curve(found.classes)
    sizes = found.source.size_name
    said = "" if isinstance(found.classes, str) else f"Found: {class_counts(found)}. "
    data = task_data.accuracy_data(found.tasks, verdicts)
    yield Picture(
        "tasks",
        tasks.score_page(data, sizes),
        f"{said}Score of each task against model size, every seed a dot (longest horizon of each size and seed). "
        "Above each: the class found, and the expected class where it is another. A score counts above the "
        "dash-dotted line, which is what a shortcut has.",
        data,
    )
    twins = task_data.find_twins(found.tasks)
    if twins:
        said = (
            "" if isinstance(found.classes, str) else "".join(f"{line}. " for line in twin_sentences(found))
        )
        data = task_data.twins_data(found.tasks, twins, verdicts)
        yield Picture(
            "twins",
            tasks.twin_page(data, sizes),
            f"{said}Tasks that differ in one thing only, drawn together: directly or by a chain of steps, "
            "frequent or rare, gold or flipped labels.",
            data,
        )
