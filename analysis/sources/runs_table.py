"""From runs as a tracker kept them to a table of runs (docs/tables.md), by the rules of docs/imports.md."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import UserError, shortened
from analysis.sources import names
from analysis.sources.losses import ended, loss_metric, loss_series
from analysis.sources.numbers import number
from analysis.sources.run import TrackedRun
from analysis.sources.run_columns import Unknown, columns_of
from analysis.sources.tokens import horizon_steps
from analysis.sources.units import other_unit

# Settings that differ between runs are kept as columns, so many at most.
MOST_SETTINGS = 60
_FIRST = (
    "run_id",
    "group",
    "outcome",
    "final",
    "seed",
    "params",
    "params_nonembedding",
    "tokens",
    "flops",
    "step",
)
_SHOWN = 3


@dataclass(frozen=True)
class _Rows:
    """The rows of one run: a value for all or one a row, and the rule by which each column was found."""

    run: TrackedRun
    columns: Mapping[str, object]
    rules: Mapping[str, str]
    loss: Float[Array, " n"]


def runs_table(
    runs: Sequence[TrackedRun], asked: Mapping[str, str] | None = None, loss_at: str = "last"
) -> pd.DataFrame:
    """Make the table of runs, a row a run and evaluation.

    `asked` is {column: name in the source, or a product of names and numbers}. `loss_at` is the loss of a run's
    final row: its last, its least (`min`), or the mean of its last K evaluations (`mean:K`). `attrs["took"]` and
    `attrs["problems"]` are sentences: what was taken for what, and what was wrong. UserError, in one line with the
    option that answers, where params, tokens or loss cannot be known.
    """
    asked = dict(asked or {})
    ended(np.ones(1), loss_at)
    metric, also = loss_metric(runs, asked.get("loss", ""))
    found: list[_Rows] = []
    left_out: dict[str, list[str]] = {}
    repeated = 0
    for run in runs:
        step, loss, twice = loss_series(run, metric)
        try:
            if len(step) == 0:
                raise Unknown(f"it has no {metric}")
            columns, rules = columns_of(run, step, asked)
        except Unknown as unknown:
            left_out.setdefault(str(unknown), []).append(run.name)
            continue
        repeated += twice
        if columns["outcome"] == "done":
            loss = np.append(loss[:-1], ended(loss, loss_at))
        found.append(_Rows(run, columns, rules, loss))
    if not found:
        reason, left = next(iter(left_out.items()))
        raise UserError(f"{_some(left)}: {reason}")
    problems = list(dict.fromkeys(note for run in runs for note in run.notes))
    problems += [
        f"{len(left)} of {len(runs)} runs left out: {_some(left)}: {why}" for why, left in left_out.items()
    ]
    if repeated:
        problems.append(
            f"{repeated} rows of {metric} were written again by a restart: the last written counts"
        )
    problems += _unfinished(found)
    table = _assembled(found)
    problems += _units(table, metric, "loss" in asked)
    took = [_loss_taken(metric, loss_at), *also, *_taken(found, set(table.columns))]
    table.attrs = {"took": took, "problems": problems}
    return table


def _loss_taken(metric: str, loss_at: str) -> str:
    unit = {"bits": " (bits)", "perplexity": " (the logarithm of it)"}.get(names.unit_of(metric) or "", "")
    mean = f"the mean of the last {loss_at.removeprefix('mean:')} of each run"
    how = {"last": "the last of each run", "min": "the least of each run"}.get(loss_at, mean)
    smoothed = ", smoothed over steps by its name" if names.is_smoothed(metric) else ""
    return f"took {metric}{unit} for loss: {how}{smoothed}"


def _taken(found: Sequence[_Rows], kept: set[str]) -> list[str]:
    """Say by which rule each column was found, and of how many runs where it is not all of them."""
    said = []
    for column in dict.fromkeys(name for rows in found for name in rows.rules):
        if column not in kept:
            continue
        rules = Counter(rows.rules[column] for rows in found if column in rows.rules)
        parts = [
            rule if n == len(found) else f"{rule} ({n} of {len(found)} runs)" for rule, n in rules.items()
        ]
        said.append(f"took {', '.join(parts)} for {column}")
    return said


def _some(runs: Sequence[str]) -> str:
    return f"run{'s' * (len(runs) > 1)} {shortened(runs, _SHOWN)}"


def _unfinished(found: Sequence[_Rows]) -> list[str]:
    """Say which runs have no final row, and how many did not say whether they ended."""
    said = []
    going = [rows.run.name for rows in found if rows.columns["outcome"] != "done"]
    if len(going) == len(found):
        last = found[0]
        horizon = horizon_steps(last.run.config)
        of = f" of {horizon[0]:g} ({horizon[1]})" if horizon else ""
        step = float(np.asarray(last.columns["step"])[-1])
        raise UserError(
            f"no run has finished: {last.run.name} stands at step {step:g}{of}; a law is of ends of schedules: "
            "wait for them, or take every last row for one with --columns final=1"
        )
    if going:
        said.append(
            f"not finished, and without a final row: {len(going)} of {len(found)} runs: {_some(going)}"
        )
    open_ = [r.run.name for r in found if r.run.finished is None and not horizon_steps(r.run.config)]
    if open_ and "final" not in found[0].columns:
        said.append(
            f"{len(open_)} of {len(found)} runs do not say whether they finished: their last rows are taken"
        )
    return said


def _assembled(found: Sequence[_Rows]) -> pd.DataFrame:
    """Put the rows of all runs below each other; what is one for a run is repeated."""
    lengths = [len(rows.loss) for rows in found]
    ids = [rows.run.name for rows in found]
    columns: dict[str, object] = {"run_id": np.repeat(np.array(ids, dtype=object), lengths)}
    last = np.zeros(sum(lengths), dtype=bool)
    last[np.cumsum(lengths) - 1] = True
    wanted = dict.fromkeys(name for rows in found for name in rows.columns)
    for name in wanted:
        values = [rows.columns.get(name) for rows in found]
        parts = [
            value
            if isinstance(value, np.ndarray)
            else np.full(n, np.nan if value is None else value, dtype=object)
            for value, n in zip(values, lengths, strict=True)
        ]
        columns[name] = pd.Series(np.concatenate(parts)).infer_objects()
    if "group" in columns:  # a run without one stands alone
        group = pd.Series(columns.pop("group")).fillna(pd.Series(columns["run_id"]))
        columns |= {"group": group} if group.nunique() > 1 else {}
    columns["final"] = last & (np.asarray(columns["outcome"]) == "done")
    columns["loss"] = np.concatenate([rows.loss for rows in found])
    used = {rule for rows in found for rule in rows.rules.values()}
    for name, values in _settings([rows.run.config for rows in found]).items():
        if name not in columns and name not in used:
            columns[name] = pd.Series(np.repeat(np.array(values, dtype=object), lengths)).infer_objects()
    table = pd.DataFrame(columns)
    return table[
        [name for name in _FIRST if name in table]
        + ["loss"]
        + [name for name in table if name not in (*_FIRST, "loss")]
    ]


def _settings(configs: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """Return the settings that tell runs apart, for --where and --same; no words that each run has its own of."""
    kept: dict[str, list[object]] = {}
    for name in dict.fromkeys(name for config in configs for name in config):
        values = [config.get(name) for config in configs]
        if not all(value is None or isinstance(value, str | bool | int | float) for value in values):
            continue
        different = {str(value) for value in values}
        words = any(isinstance(value, str) and number(value) is None for value in values)
        if len(different) > 1 and not (words and len(different) == len(values)) and len(kept) < MOST_SETTINGS:
            kept[name] = [str(value) if words and value is not None else value for value in values]
    return kept


def _units(table: pd.DataFrame, metric: str, asked: bool) -> list[str]:
    """Refuse two units in the column of losses, or say so where the person has named it."""
    ends = table[table["final"]]
    x = [
        pd.to_numeric(ends[name], errors="coerce").to_numpy(np.float64)
        for name in ("params", "tokens", "loss")
    ]
    usable = np.all([(values > 0) & np.isfinite(values) for values in x], axis=0)
    other = other_unit(*(values[usable] for values in x))
    if other is None:
        return []
    which = ends["run_id"][usable][other[0]].tolist()
    said = f"two units in {metric}: {_some(which)} {other[1]}"
    if not asked:
        raise UserError(
            f"{said}; leave them out of the export, or say that it is one with --columns loss={metric}"
        )
    return [said]
