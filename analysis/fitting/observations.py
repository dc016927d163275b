"""The rows a law is fitted to: which of a table's rows count, and everything that is wrong with them.

Reading files is `tables.load`' business; here a table becomes columns of positive numbers or an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from analysis.arrays import Array
from analysis.errors import Code, UserError, Warn
from analysis.fitting.rows import usable_rows
from analysis.tables.columns import BEYOND, numbers, positive_numbers
from analysis.tables.finished import LeftOut, finished_rows

# Beyond this many rows, a random subset of LARGE_ROWS is searched, resampled and held out.
LARGE, LARGE_ROWS = 20_000, 5000
# Of k groups there are (2k - 1) choose k different resamples: 3 of two, 35 of four, 6,435 of eight.
FEWEST_GROUPS = 8


@dataclass(frozen=True)
class Observations:
    """n rows as columns: `x` by name, `loss`, `weight` and `group` (a number shared by rows resampled together).

    `x_name` is the column that a law of one variable reads. `flops` is the table's own, or 6 x active params x
    tokens (`flops_source` says which; NaN where neither can be had). `labels` are the table's index. `seed` names
    the subset of a large table.
    """

    x: Mapping[str, Float[Array, " n"]]
    x_name: str
    loss: Float[Array, " n"]
    weight: Float[Array, " n"]
    group: Int[np.ndarray, " n"]
    group_source: str
    flops: Float[Array, " n"]
    flops_source: str
    labels: Shaped[np.ndarray, " n"]
    seed: int = 0
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[Warn, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def size(self) -> Float[Array, " n"]:
        """The scale that rows are held out along: their compute, or the one variable where there is none."""
        return self.flops if np.isfinite(self.flops).all() else self.x.get("x", self.flops)

    def keep(self, mask: Bool[np.ndarray, " n"], reason: str = "") -> "Observations":
        """Keep the rows where `mask`; with a reason the others are noted as left out."""
        noted = self.left_out
        if reason and not mask.all():
            noted = (*noted, LeftOut(reason, tuple(self.labels[~mask].tolist())))
        return replace(
            self,
            x={name: column[mask] for name, column in self.x.items()},
            loss=self.loss[mask],
            weight=self.weight[mask],
            # Numbered anew: resamples are drawn of the groups that are left.
            group=np.unique(self.group[mask], return_inverse=True)[1],
            flops=self.flops[mask],
            labels=self.labels[mask],
            left_out=noted,
        )

    @property
    def small(self) -> "Observations":
        """A random subset of `LARGE_ROWS` rows of a large table; a smaller table as it is."""
        return self if len(self) <= LARGE else self._subset

    @cached_property
    def _subset(self) -> "Observations":
        mask = np.zeros(len(self), dtype=bool)
        mask[np.random.default_rng(self.seed).choice(len(self), LARGE_ROWS, replace=False)] = True
        return self.keep(mask)


def observe(
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    x: str | None = None,
    group: str | None = None,
    seed: int = 0,
    parameters: int = 1,
) -> Observations:
    """Read the rows of `table` that a law of `columns` (params, tokens, ...) and so many `parameters` sees.

    "x" stands for the column `x`, compute unless it is given. Of a ladder's table only last evaluations of finished
    runs count. UserError names the row and the value for text, NaN, infinite, zero or negative entries of what the
    law reads; in other columns they are no matter.
    """
    if not isinstance(table, pd.DataFrame):
        raise UserError(f"table is a {type(table).__name__}: give a pandas DataFrame, one row a run")
    given = table
    finished, unfinished = finished_rows(table)
    if finished.empty:
        raise UserError("the table has no finished run to fit: nothing is left after leaving out the others")
    x_name = x or "flops"
    made = x is None and "flops" not in given and {"params", "tokens"} <= set(given.columns)
    reads = [name for name in columns if name != "x"] + ([] if made or "x" not in columns else [x_name])
    rows = usable_rows(finished, reads, parameters)
    table, warnings = rows.table, list(rows.warnings)
    data = {name: positive_numbers(table, name) for name in columns if name != "x"}
    for name in ("params", "tokens", "params_active"):
        # Wanted for compute, budgets and predictions even where the law does not read them: no count is a hole.
        if name not in data and name in table and pd.api.types.is_numeric_dtype(table[name]):
            values = table[name].to_numpy(np.float64)
            data[name] = np.where((values > 0) & (values < BEYOND), values, np.nan)
    loss = positive_numbers(table, "loss")
    weights = positive_numbers(table, "weight") if "weight" in table else np.ones(len(loss))
    stated = None
    if "flops" in table:
        stated = np.asarray((positive_numbers if "flops" in reads else numbers)(table, "flops"))
    if "x" in columns and x_name != "flops":
        data["x"] = positive_numbers(table, x_name)
    flops, flops_source, said = _flops(stated, data, len(loss))
    if "x" in columns and x_name == "flops":
        data["x"] = flops
    groups, group_source, grouped = _groups(table, group, rows.run)
    twice = int(pd.DataFrame({**data, "loss": loss}).duplicated().sum())
    if twice:
        warnings.append(
            Warn(
                Code.DUPLICATE_ROWS,
                f"{twice} of {len(loss)} rows repeat another exactly (same inputs, same loss): "
                "they count twice, and intervals are too narrow if they are one run",
            )
        )
    if len(loss) > LARGE:
        warnings.append(
            Warn(
                Code.LARGE_TABLE,
                f"{len(loss):,} rows: the fit uses them all, its intervals come from subsets of rows, rescaled",
            )
        )
    return Observations(
        x=data,
        x_name=x_name,
        loss=loss,
        weight=weights,
        group=groups,
        group_source=group_source,
        flops=flops,
        flops_source=flops_source,
        labels=table.index.to_numpy(),
        seed=seed,
        left_out=(*unfinished, *rows.left_out),
        warnings=(*warnings, *said, *grouped),
    )


def _flops(
    stated: Float[Array, " n"] | None, data: Mapping[str, Float[Array, " n"]], n: int
) -> tuple[Float[Array, " n"], str, list[Warn]]:
    """Count the compute of n rows: what the table states, 6 x active params x tokens where it states none, or NaN.

    A hole in what is stated is filled by that count, in the proportion of the other rows.
    """
    active = data.get("params_active", data.get("params"))
    counted = None
    if active is not None and "tokens" in data:
        # A model of which nothing is said is dense.
        counted = 6.0 * np.where(np.isfinite(active), active, data.get("params", active)) * data["tokens"]
    if stated is None:
        if counted is None or not np.isfinite(counted).all():
            return np.full(n, np.nan), "none", []
        return counted, "6 N_active D" if "params_active" in data else "6ND", []
    there = np.isfinite(stated) & (stated > 0)
    if there.all():
        return stated, "flops", []
    holes = f"{int((~there).sum())} of {n} rows have no flops"
    if counted is None or not (np.isfinite(counted).all() and there.any()):
        said = Warn(Code.FLOPS_HOLES, f"{holes}: the column is left aside, for the law does not read it")
        return np.full(n, np.nan), "none", [said]
    ratio = float(np.exp(np.mean(np.log(stated[there] / counted[there]))))
    said = Warn(
        Code.FLOPS_HOLES, f"{holes}: {ratio:.3g} x 6 x params x tokens stands in, as in the other rows"
    )
    return np.where(there, stated, ratio * counted), "flops", [said]


def _groups(
    table: pd.DataFrame, group: str | None, run: str | None
) -> tuple[Int[np.ndarray, " n"], str, list[Warn]]:
    """Number the rows that are resampled together: `group`, else the column `group` where it tells any apart, else
    the checkpoints of one `run`."""
    name = group or ("group" if "group" in table else run)
    if name is None:
        return np.arange(len(table)), "rows", []
    if name not in table:
        have = ", ".join(map(str, table.columns[:12]))
        raise UserError(f"group = {name} (--group {name}): no such column (there are {have})")
    missing = table[name].isna().to_numpy(bool)
    if missing.any() and group is not None:
        raise UserError(
            f"group = {name} (--group {name}): row {table.index[int(np.argmax(missing))]} has none "
            f"({int(missing.sum())} such); give every row a group, one of its own if it belongs to none"
        )
    codes = pd.factorize(table[name].astype(str))[0]
    # A row without a group is one of its own.
    codes = np.unique(np.where(missing, len(codes) + np.arange(len(codes)), codes), return_inverse=True)[1]
    alone = f"; the {int(missing.sum())} rows without one stand alone" if missing.any() else ""
    count = int(codes.max()) + 1
    whole = codes[~missing]
    if len(whole) == 0 or (whole == whole[0]).all():
        if group is not None:
            raise UserError(
                f"group = {name} (--group {name}): every row has the same value {table[name].iloc[0]!r}; "
                "resampling needs several"
            )
        said = f"the column {name} has one value: rows are resampled one by one, as if it were not there"
        return np.arange(len(table)), "rows", [Warn(Code.GROUP_COLUMN, said)]
    if count < FEWEST_GROUPS:
        said = f"{count} groups ({name}) are resampled: intervals need {FEWEST_GROUPS} or more{alone}"
        return codes, str(name), [Warn(Code.FEW_GROUPS, said)]
    said = f"rows are resampled by {name}{alone}"
    return codes, str(name), [Warn(Code.GROUP_COLUMN, said)] if alone else []
