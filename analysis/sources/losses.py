"""Which metric of a project is the loss, and which of a run's losses is its last: last, least or a mean."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import UserError, shortened
from analysis.sources.names import is_smoothed, losses, unit_of
from analysis.sources.run import TrackedRun
from analysis.sources.values import series

_SHOWN = 8


def loss_metric(runs: Sequence[TrackedRun], asked: str = "") -> tuple[str, list[str]]:
    """Return the metric that is the loss, and sentences on the others. UserError where none or several could be.

    A held-out loss goes before a training loss (`names.losses`); of several of one rank, one that most runs have.
    """
    metrics = dict.fromkeys(str(name) for run in runs for name in run.history.columns if name != "step")
    if asked:
        if asked not in metrics:
            raise UserError(f"--columns loss={asked}: no metric of that name; {_held(list(metrics))}")
        return asked, []
    ranked = losses(metrics)
    if not ranked:
        raise UserError(
            f"no metric is a loss by its name; {_held(list(metrics))}; say it with --columns loss=METRIC"
        )
    having = {
        name: sum(name in run.history and run.history[name].notna().any() for run in runs)
        for name in ranked[0]
    }
    most = [name for name in ranked[0] if having[name] == max(having.values())]
    if len(most) > 1:
        raise UserError(
            f"several metrics could be the loss: {shortened(most, _SHOWN)}; choose with --columns loss={most[0]}"
        )
    others = [name for names in ranked for name in names if name != most[0]]
    smoothed = [name for name in others if is_smoothed(name)]
    said = []
    if others:
        said.append(f"passed over {shortened(others, _SHOWN)}: --columns loss=NAME takes another")
    if smoothed:
        said.append(f"{len(smoothed)} of them are smoothed over steps by their names")
    return most[0], said


def loss_series(run: TrackedRun, metric: str) -> tuple[Float[Array, " n"], Float[Array, " n"], int]:
    """Return the steps and losses of a run, and how many rows a restart had repeated; of a perplexity, its log."""
    if metric not in run.history:
        return np.empty(0), np.empty(0), 0
    step, loss, repeated = series(run, metric)
    if unit_of(metric) == "perplexity":
        loss = np.log(np.where(loss > 0, loss, np.nan))
    return step, loss, repeated


def ended(loss: Float[Array, " n"], at: str) -> float:
    """Return a run's loss by the rule `at`: last, min, or mean:K of its last K evaluations."""
    if at == "last":
        return float(loss[-1])
    if at == "min":
        return float(loss.min())
    count = re.fullmatch(r"mean:([1-9]\d*)", at)
    if count is None:
        raise UserError(
            f"--loss-at {at}: write last, min, or mean:K for the mean of the last K evaluations (mean:5)"
        )
    return float(loss[-int(count[1]) :].mean())


def _held(metrics: list[str]) -> str:
    return f"there are {shortened(metrics, _SHOWN)}" if metrics else "there is no metric at all"
