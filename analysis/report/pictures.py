"""The pictures of a report, by name: which can be drawn from the findings, and what each shows in words."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from matplotlib.figure import Figure

from analysis.figures import forecast as forecast_plot
from analysis.figures import ladder, tasks
from analysis.report.findings import Findings
from analysis.tables.finished import compute_column, finished_rows

SIZE = "params_nonembedding"


@dataclass(frozen=True)
class Picture:
    """`name` is the file's, without its ending; `shows` is the alternative text and the caption."""

    name: str
    figure: Figure
    shows: str


def pictures(found: Findings) -> Iterator[Picture]:
    """Every picture that the findings allow, in the order of the report."""
    if len(found.rows):
        yield _loss_compute(found)
    if not isinstance(found.law, str):
        yield _next_budgets(found)
        yield Picture(
            "residuals",
            ladder.residuals(found.rows, found.law.fitted, found.law.used, found.noise),
            "How far each run lies above or below the law of all runs, in percent. Crosses: rows that the fit "
            "left out. A trend here is a law that does not hold; noise alone stays in the grey band.",
        )
    yield from _components(found)
    if not isinstance(found.tasks, str):
        verdicts = {} if isinstance(found.classes, str) else tasks.by_curve(found.classes)
        yield Picture(
            "tasks",
            tasks.accuracy(found.tasks, verdicts),
            "Score of each task against model size, every seed a dot (longest horizon of each size and seed). "
            "Above each: the class found, and the class the task was built to show where it is another. A score "
            "counts above the dash-dotted line, which is what a shortcut has.",
        )
        twins = tasks.find_twins(found.tasks)
        if twins:
            yield Picture(
                "twins",
                tasks.twins(found.tasks, twins),
                "Tasks that differ in one thing only, drawn together: directly or by a chain of steps, "
                "frequent or rare, gold or flipped labels.",
            )


def loss_name(found: Findings) -> str:
    """What the axis of losses is called: a run folder's unit is known, a file's is its own."""
    return ladder.LOSS if "run_id" in found.table.columns else "loss (as in the table)"


def _loss_compute(found: Findings) -> Picture:
    forecast = None
    if not isinstance(found.held_out, str):
        held = found.held_out
        prediction = held.prediction
        forecast = forecast_plot.Forecast(
            prediction.loss, prediction.lower, prediction.upper, prediction.level, held.lines, held.used
        )
    figure = forecast_plot.loss_compute(
        found.rows, found.lost, found.target, forecast, compute_column(found.table), loss_name(found)
    )
    shows = (
        "Loss of every finished run against its training compute; every seed is a point, every size a colour."
    )
    if forecast is not None:
        shows += (
            " The lines are the law fitted to the filled points alone; the hollow ones and the target were "
            "not seen by it. Right: the target magnified, with the forecast's interval."
        )
    return Picture("loss_compute", figure, shows)


def _next_budgets(found: Findings) -> Picture:
    law = found.law
    assert not isinstance(law, str)
    figure = ladder.next_budgets(
        found.rows,
        [asdict(p) for p in law.path],
        [asdict(p) for p in law.next],
        loss_name(found),
    )
    return Picture(
        "next_budgets",
        figure,
        "What more compute would buy, by the law of all runs: the best loss for a budget with the interval of "
        "one new run, and the model size and tokens that reach it. Runs lie above the line where their size or "
        "horizon is not the best for their compute.",
    )


def _components(found: Findings) -> Iterator[Picture]:
    if SIZE not in found.rows.columns or found.rows.empty:
        return
    rows, _ = finished_rows(found.rows, longest=True)
    measured = [str(c)[5:] for c in rows.columns if str(c).startswith("loss_") and rows[c].notna().any()]
    names = [name for name in measured if "." not in name and name != "total"]
    # The component that a law is fitted to comes first.
    names.sort(key=lambda name: not rows[f"loss_{name}"].equals(rows["loss"]))
    classes = [name for name in measured if "." in name]
    if len(names) > 1:
        yield Picture(
            "components",
            ladder.components(rows, names, SIZE),
            "Loss of each component of the mixture over model size (longest horizon, every seed a dot). "
            "The total is their weighted sum. Dashed: the least possible loss, where it can be computed.",
        )
    if classes:
        yield Picture(
            "text_classes",
            ladder.components(rows, classes, SIZE),
            "What each class of bytes contributes to the text loss; the contributions add up to it.",
        )
    orders = [str(c)[3:] for c in rows.columns if str(c).startswith("kl_") and rows[c].notna().any()]
    if orders and "loss" in rows:
        mean = rows.groupby(SIZE)[[f"kl_{order}" for order in orders]].mean()
        nearest = [f"{n:,.0f}: {str(name)[3:]}" for n, name in mean.idxmin(axis=1).items()]
        yield Picture(
            "ngrams",
            ladder.ngrams(rows, orders, SIZE),
            "Left: the text loss over size, and the losses of n-gram models of the same text. Right: how far each "
            "rung's predictions are from each n-gram's, KL(model || n-gram); nearest by size: "
            + ", ".join(nearest)
            + ".",
        )
