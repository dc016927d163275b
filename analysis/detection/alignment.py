"""Score against loss: the thresholds of runs of different size and tokens, and if they line up in loss.

Du et al. 2024 (arXiv 2403.15796) found that they do for large models. Here each horizon of a ladder has its
own threshold in size; in loss they are one, or they are not.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.detection.verdict import Verdict

# Thresholds line up where their spread in loss is at most this share of their spread in size, each as a
# share of the range that the table covers.
ALIGNED = 0.5


@dataclass(frozen=True)
class Alignment:
    """The place where a task's score passes the middle of its gain, for each horizon (by rank, shortest first).

    `size` and `loss` at the crossing (None: not crossed); `spread_size` and `spread_loss` are their ranges as
    shares of the table's range of log size and of loss; `lines_up` None with fewer than two crossings.
    """

    task: str
    variant: str
    bar: float
    tokens: tuple[float, ...]
    size: tuple[float | None, ...]
    loss: tuple[float | None, ...]
    spread_size: float | None
    spread_loss: float | None
    lines_up: bool | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """The answer in one line."""
        task = f"{self.task} ({self.variant})" if self.variant else self.task
        verb = "line up" if self.lines_up else "do not line up"
        return (
            f"{task}: thresholds of {len(self.tokens)} horizons {verb} in loss "
            f"(spread {self.spread_loss:.0%} of its range; {self.spread_size:.0%} in size)"
        )


def alignments(rows: pd.DataFrame, verdicts: Sequence[Verdict]) -> list[Alignment]:
    """Compare thresholds of the emergent and smooth tasks over `rows` of all horizons, as scores gives them.

    Nothing is said of a table without loss, tokens, correct and total; rows that lack one of them are passed over.
    """
    if not {"loss", "tokens", "correct", "total"} <= set(rows.columns):
        return []
    rows = rows.assign(score=rows["correct"] / rows["total"])
    known = np.isfinite(rows[["score", "loss", "tokens"]].to_numpy(dtype=float)).all(axis=1)
    rows = rows[known & (rows["size"] > 0).to_numpy()]
    found = []
    for verdict in verdicts:
        curve = verdict.curve
        if verdict.label not in ("emergent", "smooth") or curve.metric not in ("", "exact_match"):
            continue
        mine = rows[rows["task"].eq(curve.task) & rows["variant"].eq(curve.variant)]
        mine = mine[mine["metric"].isin(["", curve.metric])]
        # Horizons are told apart by their rank in a size and seed: tokens differ between sizes by design, and
        # between seeds by the steps that were skipped.
        rank = mine.groupby(["size", "seed"])["tokens"].rank(method="dense")
        bar = float((verdict.fitted.min() + verdict.fitted.max()) / 2)
        found.append(_alignment(curve.task, curve.variant, bar, mine.assign(horizon=rank)))
    return found


def _alignment(task: str, variant: str, bar: float, rows: pd.DataFrame) -> Alignment:
    tokens, sizes, losses = [], [], []
    for _, horizon in rows.groupby("horizon"):
        by_size = horizon.groupby("size")[["score", "loss", "tokens"]].mean().sort_index()
        log = np.log(by_size.index.to_numpy(dtype=float))
        at = _crossing(log, by_size["score"].to_numpy(), bar)
        tokens.append(float(by_size["tokens"].iloc[-1]))
        sizes.append(None if at is None else float(np.exp(at)))
        losses.append(None if at is None else float(np.interp(at, log, by_size["loss"].to_numpy())))
    crossed = [(s, l) for s, l in zip(sizes, losses, strict=True) if s is not None and l is not None]
    spread_size = spread_loss = aligned = None
    if len(crossed) >= 2:
        log_sizes, crossed_loss = np.log([s for s, _ in crossed]), [l for _, l in crossed]
        size_range, loss_range = float(np.ptp(np.log(rows["size"]))), float(np.ptp(rows["loss"]))
        if loss_range > 0:
            spread_size = float(np.ptp(log_sizes)) / size_range
            spread_loss = float(np.ptp(crossed_loss)) / loss_range
            aligned = bool(spread_loss <= ALIGNED * spread_size)
    out = (tuple(tokens), tuple(sizes), tuple(losses))
    return Alignment(task, variant, bar, *out, spread_size, spread_loss, aligned)


def _crossing(x: Array, y: Array, bar: float) -> float | None:
    """Return the last upward crossing of `bar` by straight lines between the points; None where there is none."""
    up = np.flatnonzero((y[:-1] < bar) & (y[1:] >= bar))
    if not len(up):
        return None
    k = int(up[-1])
    return float(x[k] + (bar - y[k]) / (y[k + 1] - y[k]) * (x[k + 1] - x[k]))
