"""From runs as a tracker kept them to a table of runs (docs/tables.md), by the rules of docs/imports.md."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.sources import names
from analysis.sources.losses import ended, loss_metric, loss_series
from analysis.sources.models import params_of
from analysis.sources.names import matching
from analysis.sources.numbers import number
from analysis.sources.run import TrackedRun
from analysis.sources.tokens import ENDED, counted, horizon_steps, tokens_at
from analysis.sources.units import other_unit
from analysis.sources.values import clock, product_at, value_at

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
class RunsTable:
    """One row a run and evaluation; `took` says what was taken for what, `problems` what was wrong."""

    table: pd.DataFrame
    took: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Rows:
    """The rows of one run: a value for all or one a row, and the rule by which each column was found."""

    run: TrackedRun
    columns: Mapping[str, object]
    rules: Mapping[str, str]
    loss: Float[Array, " n"]


class _Unknown(Exception):
    """A run of which a column cannot be known."""


def runs_table(
    runs: Sequence[TrackedRun], asked: Mapping[str, str] | None = None, loss_at: str = "last"
) -> RunsTable:
    """Make the table of runs. `asked` is {column: name in the source, or a product of names and numbers}.

    `loss_at` is the loss of a run's final row: its last, its least (`min`), or the mean of its last K evaluations
    (`mean:K`). UserError, in one line with the option that answers, where params, tokens or loss cannot be known.
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
                raise _Unknown(f"it has no {metric}")
            columns, rules = _columns(run, step, asked)
        except _Unknown as reason:
            left_out.setdefault(str(reason), []).append(run.name)
            continue
        repeated += twice
        if columns["outcome"] == "done":
            loss = np.append(loss[:-1], ended(loss, loss_at))
        found.append(_Rows(run, columns, rules, loss))
    if not found:
        reason, left = next(iter(left_out.items()))
        raise UserError(f"{_some(left)}: {reason}")
    problems = [
        f"{len(left)} of {len(runs)} runs left out: {_some(left)}: {why}" for why, left in left_out.items()
    ]
    problems += dict.fromkeys(note for run in runs for note in run.notes)
    if repeated:
        problems.append(
            f"{repeated} rows of {metric} were written again by a restart: the last written counts"
        )
    problems += _unfinished(found)
    table = _assembled(found)
    problems += _units(table, metric, "loss" in asked)
    unit = {"bits": " (bits)", "perplexity": " (the logarithm of it)"}.get(names.unit_of(metric) or "", "")
    how = {"last": "the last of each run", "min": "the least of each run"}.get(
        loss_at, f"the mean of the last {loss_at[5:]} of each run"
    )
    smoothed = ", smoothed over steps by its name" if names.is_smoothed(metric) else ""
    took = [f"took {metric}{unit} for loss: {how}{smoothed}", *also]
    for column in dict.fromkeys(name for rows in found for name in rows.rules):
        rules_ = Counter(rows.rules[column] for rows in found if column in rows.rules)
        parts = [
            rule if n == len(found) else f"{rule} ({n} of {len(found)} runs)" for rule, n in rules_.items()
        ]
        took.append(f"took {', '.join(parts)} for {column}")
    return RunsTable(table, tuple(took), tuple(problems))


def _some(runs: Sequence[str]) -> str:
    more = f" and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else ""
    return f"run{'s' * (len(runs) > 1)} {', '.join(runs[:_SHOWN])}{more}"


def _columns(
    run: TrackedRun, steps: Float[Array, " n"], asked: Mapping[str, str]
) -> tuple[dict[str, object], dict[str, str]]:
    """Find the columns of a run at these steps of its tracker, and the rule of each."""
    columns: dict[str, object] = {}
    rules: dict[str, str] = {}

    def take(column: str, values: object, rule: str) -> None:
        columns[column], rules[column] = values, rule

    for column, name in asked.items():
        if column != "loss":
            value = product_at(run, name, steps)
            given = run.config.get(name) if value is None else value
            if given is None and name != "run_id":
                raise _Unknown(f"it has no {name} (--columns {column}={name})")
            take(column, run.name if given is None else given, name)
    if "params" not in asked:
        _take_params(run, steps, take)
    if "tokens" not in asked:
        tokens, how = tokens_at(run, steps)
        if tokens is None:
            raise _Unknown(
                f'tokens cannot be known ({how}): say --columns "tokens=METRIC", or "tokens=step*524288" with the '
                "tokens of a step"
            )
        take("tokens", tokens, how)
    if "flops" not in asked and (name := counted(run, names.FLOPS)):
        take("flops", value_at(run, name, steps), name)
    for column, endings in (("seed", names.SEED), ("learning_rate", names.RATE)):
        settings = [name for name in matching(run.config, endings) if number(run.config[name]) is not None]
        if column not in asked and settings:
            take(column, number(run.config[settings[0]]), settings[0])
    columns["step"] = value_at(run, clock(run), steps)
    if run.group and "group" not in asked:
        take("group", run.group, "the tracker's group")
    return columns | {"outcome": _outcome(run, columns)}, rules


def _take_params(
    run: TrackedRun, steps: Float[Array, " n"], take: Callable[[str, object, str], None]
) -> None:
    """Find params and params_nonembedding: what the run says of itself, or what its shape comes to."""
    said = {
        column: next(
            (
                (value, name)
                for name in matching([*run.config, *run.history.columns], endings)
                if (value := value_at(run, name, steps[-1:])) is not None and value[0] > 0
            ),
            None,
        )
        for column, endings in (("params", names.PARAMS), ("params_nonembedding", names.NONEMBEDDING))
    }
    for column, pair in said.items():
        if pair:
            take(column, float(pair[0][0]), pair[1])
    if said["params"]:
        return
    if shape := params_of(run.config):
        take("params", shape[0], f"the shape of a {shape[2]}")
        if not said["params_nonembedding"]:
            take("params_nonembedding", shape[1], f"the shape of a {shape[2]}")
    elif pair := said["params_nonembedding"]:
        take("params", float(pair[0][0]), f"{pair[1]}, which leaves out the embeddings,")
    else:
        raise _Unknown(
            "params cannot be known (no setting counts them, nor gives the shape of a known model): say --columns "
            '"params=NAME", a product of names and numbers, or params=size_in_name where run names hold one (70m)'
        )


def _outcome(run: TrackedRun, columns: Mapping[str, object]) -> str:
    """Say done or unfinished: by `--columns final=1`, by the tracker's word, by the steps that were to be done."""
    if "final" in columns:
        return "done" if np.all(columns["final"]) else "unfinished"
    if run.finished is not None:
        return "done" if run.finished else "unfinished"
    horizon, step = horizon_steps(run.config), np.asarray(columns["step"])
    return "unfinished" if horizon and step[-1] < ENDED * horizon[0] else "done"


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
            f"{len(going)} of {len(found)} runs have not finished and have no final row: {_some(going)}"
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
        columns["group"] = pd.Series(columns["group"]).fillna(pd.Series(columns["run_id"]))
    columns["final"] = last & (np.asarray(columns["outcome"]) == "done")
    columns["loss"] = np.concatenate([rows.loss for rows in found])
    for name, values in _settings([rows.run.config for rows in found]).items():
        if name not in columns:
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
