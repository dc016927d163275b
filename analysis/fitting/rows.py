"""The finished rows of a table that a law may use: no empty ones, ends of schedules, the best of each sweep.

What a run's end is where the table says so is `tables.finished`' business; here is what nobody wrote down.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from analysis.errors import Code, Warn
from analysis.tables.finished import LeftOut, horizon_of

# Columns that place a run on a law; runs that agree in all of them differ by a seed or by a setting.
PLACE = ("params", "params_active", "tokens", "unique_tokens")
# Columns that tell equal runs apart without being a setting, and those that say what a row is.
SEED = re.compile(r"(^|[_ ./])(seed|replicate|repeat|trial|fold|rng)s?($|[_ ./])", re.IGNORECASE)
NO_SETTING = frozenset(
    {"loss", "weight", "group", "flops", "final", "outcome", "kind", "science", "run_id", "skipped_steps"}
)
# Settings that people tune; a column of another name is one where every size has the same values of it.
SETTING = re.compile(
    r"(^|[_ ./])(lr|learning[_ ]?rate|batch([_ ]?size)?|bs|warmup|wd|weight[_ ]?decay|beta[12]?|momentum|clip|"
    r"dropout|eps|init[_ ]?(std|scale)?)($|[_ ./])|^(total|num|n|max|train|training)_steps$",
    re.IGNORECASE,
)
STEP = frozenset(
    {"step", "steps", "iter", "iters", "iteration", "iterations", "global_step", "_step", "checkpoint"}
)
# Rows of one size that are checkpoints: FEW of a run's at several steps, FEW_EVEN of one name at even distances,
# EVEN without a name, MANY of one name at several steps, DENSE of anything.
FEW, FEW_EVEN, EVEN, MANY, DENSE = 3, 5, 8, 12, 25
# The largest distance between neighbours over the smallest: even distances, and rounding.
SPACING = 1.3
# Rows that are looked through for settings: a design shows itself early.
MOST_LOOKED_AT = 50_000
# Relative spreads of loss at one place: less is as of seeds; more is more than seeds differ.
LIKE_SEEDS, UNLIKE_SEEDS = 0.02, 0.05


@dataclass(frozen=True)
class Rows:
    """The rows that count, what was left out and what is to be said; `run` names the column of rows that are
    checkpoints of one run, where they had to be kept."""

    table: pd.DataFrame
    left_out: tuple[LeftOut, ...]
    warnings: tuple[Warn, ...]
    run: str | None = None


def usable_rows(table: pd.DataFrame, reads: Sequence[str], parameters: int) -> Rows:
    """Choose the rows for a law of so many `parameters` that reads the columns `reads`."""
    left_out: list[LeftOut] = []
    needed = [name for name in (*(reads or PLACE), "loss") if name in table]
    empty = table[needed].isna().all(axis=1).to_numpy(bool)
    if needed and empty.any() and not empty.all():
        left_out.append(LeftOut("the row is empty", tuple(table.index[empty].tolist())))
        table = table[~empty]
    place = [name for name in dict.fromkeys((*PLACE, *reads)) if _is_numeric(table, name) and name != "flops"]
    place = place or [name for name in reads if _is_numeric(table, name)]
    if not place or not _is_numeric(table, "loss"):
        return Rows(table, tuple(left_out), ())
    run = _checkpointed_by(table)
    if run is None:
        worse, why, warnings = _worse_settings(table.reset_index(drop=True), place)
        if worse.any():
            left_out.append(LeftOut(why, tuple(table.index[worse].tolist())))
        return Rows(table[~worse], tuple(left_out), warnings)
    order = np.argsort(table["tokens"].to_numpy(np.float64), kind="stable")
    ends = np.empty(len(table), dtype=bool)
    ends[order] = ~table[run].iloc[order].duplicated(keep="last").to_numpy(bool)
    if _carries(table[ends], reads, parameters):
        reason = f"a checkpoint in the middle of a schedule (many rows of one {run})"
        left_out.append(LeftOut(reason, tuple(table.index[~ends].tolist())))
        return Rows(table[ends], tuple(left_out), ())
    warning = Warn(
        Code.CHECKPOINTS,
        f"many rows of one {run}, at rising tokens: they look like checkpoints of {int(ends.sum())} "
        "schedules, and a checkpoint before the end of its schedule is no run of that length; the ends alone "
        "cannot carry this law: train other horizons, or fit the ends with a law of fewer parameters",
    )
    return Rows(table, tuple(left_out), (warning,), run)


def _is_numeric(table: pd.DataFrame, name: str) -> bool:
    column = table.get(name)
    return isinstance(column, pd.Series) and pd.api.types.is_numeric_dtype(column)


def _checkpointed_by(table: pd.DataFrame) -> str | None:
    """Name the column whose equal values are one run's checkpoints: most rows at even distances in tokens."""
    says = {"final", "kind"} & set(table.columns)
    if says or not (_is_numeric(table, "params") and _is_numeric(table, "tokens")):
        return None
    steps = any(str(name).lower() in STEP for name in table.columns)
    names = [name for name in table.columns if not pd.api.types.is_float_dtype(table[name])]
    for name in [n for n in names if n not in ("tokens", "loss", "params") and str(n).lower() not in STEP]:
        run = "run" in str(name).lower()
        if not run and pd.api.types.is_numeric_dtype(table[name]):
            continue
        # A run of several steps is its checkpoints; a model's name may stand for several runs.
        even, many = (FEW, FEW) if run and steps else (FEW_EVEN, MANY if steps else len(table) + 1)
        if _is_checkpointed(table, name, even, many):
            return str(name)
    return "params" if _is_checkpointed(table, "params", FEW_EVEN if steps else EVEN, DENSE) else None


def _is_checkpointed(table: pd.DataFrame, name: str, even: int, many: int) -> bool:
    """Tell whether most rows lie in groups of one size and rising tokens: `even` of them evenly, or `many`."""
    sizes = table[name].value_counts()
    inside = 0
    for value in sizes.index[sizes >= even]:
        group = table[table[name] == value]
        distance = np.diff(np.sort(group["tokens"].to_numpy(np.float64)))
        if group["params"].nunique() == 1 and (distance > 0).all():
            evenly = distance.max() <= SPACING * distance.min()
            inside += len(group) if evenly or len(group) >= many else 0
    return inside > len(table) / 2


def _carries(ends: pd.DataFrame, reads: Sequence[str], parameters: int) -> bool:
    """Tell whether the ends of schedules alone can carry a law."""
    if len(ends) < 2 * parameters:
        return False
    if any(ends[name].nunique() < 3 for name in reads if name in ends):
        return False
    ratio = (ends["tokens"] / ends["params"]).to_numpy(np.float64)
    return not {"params", "tokens"} <= set(reads) or bool(ratio.max() > 1.5 * ratio.min())


def _worse_settings(
    table: pd.DataFrame, place: Sequence[str]
) -> tuple[Bool[np.ndarray, " n"], str, tuple[Warn, ...]]:
    """Mark the rows that another setting beats at their place, and say why; warn of runs that differ otherwise.

    `table` is numbered from zero.
    """
    worse = np.zeros(len(table), dtype=bool)
    if {"tokens", "horizon_tokens"} <= set(table.columns):  # skipped steps leave runs of one horizon apart
        table = table.assign(tokens=horizon_of(table))
    where = table.groupby(list(place), dropna=False, sort=False).ngroup()
    again = where[where.duplicated(keep=False) & table["loss"].gt(0)]
    if again.empty or _only_seeds(table, where):
        return worse, "", ()
    repeated = table.loc[again.index]
    losses = repeated["loss"].groupby(again)
    spread = float((losses.max() / losses.min() - 1.0).median())
    tuned, worded = _settings(repeated, again, place)
    if worded and spread > LIKE_SEEDS:
        values = ", ".join(map(repr, repeated[worded[0]].dropna().unique()[:3]))
        warning = Warn(
            Code.MIXED_RUNS,
            f"runs of the same {', '.join(place)} differ in {worded[0]} ({values}): a law is of one kind of runs; "
            f"keep the rows of one (--where), or name what must agree (--same {worded[0]})",
        )
        return worse, "", (warning,)
    if tuned:
        settings = [repeated[name] for name in tuned]
        level = np.log(repeated["loss"]).groupby([again, *settings], dropna=False).transform("mean")
        best = level <= level.groupby(again).transform("min") + 1e-12
        # Of settings that are equally good the first.
        which = repeated.groupby(tuned, dropna=False).ngroup()
        beaten = which != which.where(best).groupby(again).transform("min")
        worse[beaten.index[beaten]] = True
        return worse, f"another {' and '.join(tuned)} is better at the same {', '.join(place)}", ()
    if spread > UNLIKE_SEEDS and len(losses) > 1:
        warning = Warn(
            Code.REPEATED_RUNS,
            f"{len(again)} runs share their {', '.join(place)} with others, and their losses differ by "
            f"{100 * spread:.2g}%, more than seeds do: if they differ in a setting (a rate, a batch), keep the "
            "best at each place",
        )
        return worse, "", (warning,)
    return worse, "", ()


def _only_seeds(table: pd.DataFrame, where: "pd.Series[int]") -> bool:
    """Tell whether a column of seeds tells all runs of one place apart."""
    seeds = [name for name in table.columns if SEED.search(str(name))]
    return any(not pd.concat([where, table[name]], axis=1).duplicated().any() for name in seeds)


def _settings(
    repeated: pd.DataFrame, where: "pd.Series[int]", place: Sequence[str]
) -> tuple[list[str], list[str]]:
    """List the columns in which runs of one place differ by design: numbers that are tuned, and words."""
    tuned: list[str] = []
    worded: list[str] = []
    if len(repeated) > MOST_LOOKED_AT:
        repeated, where = repeated.iloc[:MOST_LOOKED_AT], where.iloc[:MOST_LOOKED_AT]
    for name in repeated.columns:
        if name in NO_SETTING or name in place or SEED.search(str(name)) or str(name).lower() in STEP:
            continue
        sets = pd.Series([frozenset(values.dropna()) for _, values in repeated[name].groupby(where)])
        vary = sets[sets.map(len) > 1]
        # By design: most places have the same values; what is measured has others everywhere.
        crossed = len(vary) > max(1, len(sets) / 2) and vary.value_counts().iloc[0] * 2 > len(vary)
        if not pd.api.types.is_numeric_dtype(repeated[name]):
            worded += [str(name)] if crossed else []
        elif len(vary) and (crossed or SETTING.search(str(name))):
            tuned.append(str(name))
    return tuned, worded
