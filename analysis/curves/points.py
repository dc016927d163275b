"""From a table of evaluations to points of curves: each with its schedule, its run, and what a law reads there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from analysis.arrays import Array, Columns
from analysis.curves.schedule import CONSTANT, FALLS, Schedule
from analysis.errors import UserError
from analysis.tables.columns import numbers, positive_numbers, row_name
from analysis.tables.finished import LeftOut
from analysis.tables.science import COLUMN, check_one_science

# An evaluation within so many warm-ups of the beginning is of the warm-up more than of a curve.
WARMUPS = 10.0
# A last evaluation may miss its horizon by a batch, or by the few steps that were skipped.
AT_THE_END = 0.98
# Of more evaluations than this, all ends and a random part of the others: noise is a matrix of them all.
MOST = 2000
KINDS = (CONSTANT, *FALLS)
NEEDED = (
    "a whole curve needs its schedule: the columns schedule (constant, wsd, linear or cosine), horizon_tokens, "
    "warmup_tokens and, for wsd, decay_share or decay_start_tokens; state what all rows share with "
    "--schedule schedule=wsd,decay_share=.2,warmup_tokens=1e5"
)


@dataclass(frozen=True)
class Points:
    """n evaluations. x: what a law of curves reads. size: the rung (0 is the smallest); run: the run, a trunk and
    its branches being one (of one size and seed where the table has seeds). falling: the rate has begun to fall;
    ended: the schedule is over; horizon: in tokens, infinite for a trunk. table: the rows of the table."""

    x: Columns
    loss: Float[Array, " n"]
    size: Int[np.ndarray, " n"]
    run: Int[np.ndarray, " n"]
    falling: Bool[np.ndarray, " n"]
    ended: Bool[np.ndarray, " n"]
    horizon: Float[Array, " n"]
    schedules: tuple[Schedule, ...]
    table: pd.DataFrame
    left_out: tuple[LeftOut, ...]

    def __len__(self) -> int:
        return len(self.loss)

    def keep(self, mask: Bool[np.ndarray, " n"]) -> "Points":
        """Keep the points where `mask`; sizes and runs keep their numbers."""
        return Points(
            {name: column[mask] for name, column in self.x.items()},
            self.loss[mask],
            self.size[mask],
            self.run[mask],
            self.falling[mask],
            self.ended[mask],
            self.horizon[mask],
            tuple(s for s, kept in zip(self.schedules, mask, strict=True) if kept),
            self.table[mask],
            self.left_out,
        )


def read_points(table: pd.DataFrame, stated: Mapping[str, str]) -> Points:
    """Read every evaluation past the warm-up; `stated` gives columns that the table lacks, the same for all rows.

    UserError where no schedule can be known, and for runs that differ in more than their schedule.
    """
    _check_science(table)
    for name, value in stated.items():
        if name in table.columns:
            raise UserError(f"--schedule {name}={value}: the table has a column {name}; leave it out here")
    table = table.assign(**{name: _value(name, value) for name, value in stated.items()})
    left_out: list[LeftOut] = []

    def leave_out(keep: Bool[np.ndarray, " n"], reason: str) -> None:
        nonlocal table
        if not keep.all():
            left_out.append(LeftOut(reason, tuple(table.index[~keep].tolist())))
            table = table[keep]

    leave_out(
        table["loss"].notna().to_numpy(bool) if "loss" in table else np.ones(len(table), bool), "no loss"
    )
    columns = {name: positive_numbers(table, name) for name in ("params", "tokens", "loss")}
    schedules = _schedules(table)
    # A schedule counts steps; tokens may leave out those whose gradient was no number.
    clock = columns["tokens"]
    if {"step", "batch_tokens"} <= set(table.columns):
        clock = np.asarray(numbers(table, "step") * numbers(table, "batch_tokens"), dtype=np.float64)
        clock = np.where(np.isfinite(clock), clock, columns["tokens"])
    late = clock >= np.array([WARMUPS * s.warmup for s in schedules])
    leave_out(late, f"an evaluation within {WARMUPS:g} warm-ups of the beginning")
    schedules, clock = [s for s, kept in zip(schedules, late, strict=True) if kept], clock[late]
    params, tokens, loss = (columns[name][late] for name in ("params", "tokens", "loss"))
    read = [s.columns(t) for s, t in zip(schedules, clock.tolist(), strict=True)]
    x = {name: np.array([row[name] for row in read]) for name in (read[0] if read else ())}
    start, horizon = (np.array([getattr(s, name) for s in schedules]) for name in ("start", "horizon"))
    sizes, size = np.unique(params, return_inverse=True)
    if len(sizes) < 3:
        held = ", ".join(f"{value:g}" for value in sizes) or "none"
        raise UserError(
            f"column params: {held} with evaluations past the warm-up; a law of whole curves needs three sizes or "
            "more"
        )
    points = Points(
        {"params": params, "tokens": tokens, **x},
        loss,
        size,
        _runs(table),
        clock > start,
        clock >= AT_THE_END * horizon,
        horizon,
        tuple(schedules),
        table,
        tuple(left_out),
    )
    return points if len(points) <= MOST else _thinned(points)


def _thinned(points: Points) -> Points:
    """Keep all ends, and of the others as many at random as make MOST."""
    others = np.random.default_rng(0).permutation(np.flatnonzero(~points.ended))
    kept = points.ended.copy()
    kept[others[: max(MOST - int(kept.sum()), 0)]] = True
    gone = LeftOut(f"beyond {MOST} evaluations, ends first", tuple(points.table.index[~kept].tolist()))
    return replace(points.keep(kept), left_out=(*points.left_out, gone))


def schedule_of(said: Mapping[str, object], where: str) -> Schedule:
    """Make the schedule of one row from its columns' values; UserError names `where`."""

    def number(name: str) -> float:
        value = said.get(name)
        return np.nan if value is None else float(value)  # type: ignore[arg-type]

    warmup, horizon = np.nan_to_num(number("warmup_tokens")), number("horizon_tokens")
    kind = CONSTANT if said.get("kind") == "trunk" else str(said.get("schedule"))
    if kind == CONSTANT:
        return Schedule(warmup=float(warmup))
    if kind not in FALLS:
        raise UserError(f"{where}: schedule is {kind}; its fall is known for {', '.join(KINDS)}")
    start = number("decay_start_tokens")
    if FALLS[kind].whole:
        start = float(warmup)
    elif np.isnan(start):
        start = horizon * (1.0 - number("decay_share"))
    if not 0 <= start < horizon < np.inf:
        raise UserError(
            f"{where}: a fall from {start:g} to {horizon:g} tokens: horizon_tokens must be a number of tokens, and "
            "decay_start_tokens below it (or decay_share between 0 and 1)"
        )
    return Schedule(kind, float(warmup), float(start), horizon, float(np.nan_to_num(number("rate_floor"))))


def _schedules(table: pd.DataFrame) -> list[Schedule]:
    names = ("horizon_tokens", "warmup_tokens", "decay_start_tokens", "decay_share", "rate_floor")
    trunks = table["kind"].eq("trunk").all() if "kind" in table else False
    known = table["schedule"] if "schedule" in table else pd.Series(CONSTANT if trunks else None, table.index)
    falls = ~known.eq(CONSTANT) & ~(table["kind"].eq("trunk") if "kind" in table else False)
    missing = [] if "schedule" in table or trunks else ["schedule"]
    missing += ["horizon_tokens"] if falls.any() and "horizon_tokens" not in table else []
    missing += ["warmup_tokens"] if "warmup_tokens" not in table else []
    line = table[falls & known.eq("wsd")]
    if len(line) and not {"decay_share", "decay_start_tokens"} & set(table.columns):
        missing.append("decay_share")
    if missing:
        raise UserError(f"no column {', '.join(missing)}: {NEEDED}")
    there = {name: numbers(table, name) for name in names if name in table}
    words = {name: table[name] for name in ("kind", "schedule") if name in table}
    rows: list[dict[str, object]] = [
        {str(name): value for name, value in row.items()}
        for row in pd.DataFrame({**words, **there}).to_dict("records")
    ]
    return [
        schedule_of(row, row_name(table, label))
        for row, label in zip(rows, table.index.tolist(), strict=True)
    ]


def _value(name: str, value: str) -> str | float:
    if name not in (
        "schedule",
        "horizon_tokens",
        "warmup_tokens",
        "decay_start_tokens",
        "decay_share",
        "rate_floor",
    ):
        raise UserError(f"--schedule {name}={value}: no such column; {NEEDED}")
    try:
        return value if name == "schedule" else float(value)
    except ValueError:
        raise UserError(f"--schedule {name}={value}: not a number") from None


def _runs(table: pd.DataFrame) -> Int[np.ndarray, " n"]:
    """Number the runs: what shares a seed's first weights and order of data shares its luck."""
    by = (
        ["params", "seed"]
        if "seed" in table
        else ["params", *[n for n in ("group", "run_id") if n in table][:1]]
    )
    return table.groupby(by, dropna=False, sort=True).ngroup().to_numpy()


def _check_science(table: pd.DataFrame) -> None:
    """UserError where runs differ in more than the fields of their schedule."""
    about = table.attrs.get("sciences", {})
    labels: list[str] = table[COLUMN].dropna().unique().tolist() if COLUMN in table else []
    besides = {
        frozenset((k, v) for k, v in about.get(label, {"": label}).items() if not k.startswith("schedule."))
        for label in labels
    }
    if len(besides) > 1:
        check_one_science(table)
