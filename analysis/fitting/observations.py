"""The rows a law is fitted to: which of a table's rows count, and everything that is wrong with them.

Reading files is `tables.load`' business; here a table becomes columns of positive numbers or an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import Code, UserError, Warn
from analysis.laws.law import Form
from analysis.tables.columns import positive_numbers
from analysis.tables.finished import LeftOut, finished_rows

# Beyond this many rows, intervals come from subsets of rows (`analysis.uncertainty`).
LARGE = 20_000


@dataclass(frozen=True)
class Observations:
    """n rows as columns: `x` by name, `loss` and `weight` [n], `group` [n] (rows resampled together).

    `flops` [n] is the table's own, or 6 x params x tokens (`flops_source` says which; NaN where neither
    can be had). `labels` [n] are the table's index.
    """

    x: Mapping[str, Array]
    loss: Array
    weight: Array
    group: np.ndarray
    group_source: str
    flops: Array
    flops_source: str
    labels: np.ndarray
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[Warn, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.loss)

    def keep(self, mask: np.ndarray, reason: str = "") -> "Observations":
        """The rows where `mask`; with a reason the others are noted as left out."""
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


def observe(
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    x: str | None = None,
    group: str | None = None,
    weight: str = "weight",
) -> Observations:
    """The rows of `table` that a law of `columns` (params, tokens, ...; `x` stands for the column `x`) sees.

    Of a ladder's table only last evaluations of finished runs count. UserError names the row and the value
    for text, NaN, infinite, zero or negative entries.
    """
    if not isinstance(table, pd.DataFrame):
        raise UserError(f"table is a {type(table).__name__}: give a pandas DataFrame, one row a run")
    table, left_out = finished_rows(table)
    data: dict[str, Array] = {}
    for name in columns:
        if name == "x":
            source = x or "flops"
            if x is None and "flops" not in table and {"params", "tokens"} <= set(table.columns):
                data["x"] = 6.0 * positive_numbers(table, "params") * positive_numbers(table, "tokens")
            else:
                data["x"] = positive_numbers(table, source)
        else:
            data[name] = positive_numbers(table, name)
    for name in ("params", "tokens"):
        # Wanted for budgets and predictions even where the law does not read them; bad entries then wait.
        if name not in data and name in table and pd.api.types.is_numeric_dtype(table[name]):
            data[name] = table[name].to_numpy(np.float64)
    loss = positive_numbers(table, "loss")
    n = len(loss)
    if n == 0:
        raise UserError("the table has no finished run to fit: nothing is left after leaving out the others")
    weights = positive_numbers(table, weight) if weight in table else np.ones(n)
    if "flops" in table:
        flops, flops_source = positive_numbers(table, "flops"), "flops"
    elif {"params", "tokens"} <= set(data):
        flops, flops_source = 6.0 * data["params"] * data["tokens"], "6ND"
    else:
        flops, flops_source = np.full(n, np.nan), "none"
    groups, group_source = _groups(table, group)
    warnings = []
    twice = int(pd.DataFrame({**data, "loss": loss}).duplicated().sum())
    if twice:
        warnings.append(
            Warn(
                Code.DUPLICATE_ROWS,
                f"{twice} of {n} rows repeat another exactly (same inputs, same loss): "
                "they count twice, and intervals are too narrow if they are one run",
            )
        )
    if n > LARGE:
        warnings.append(
            Warn(
                Code.LARGE_TABLE,
                f"{n:,} rows: the fit uses them all, its intervals come from subsets of rows, rescaled",
            )
        )
    return Observations(
        data,
        loss,
        weights,
        groups,
        group_source,
        flops,
        flops_source,
        table.index.to_numpy(),
        left_out,
        tuple(warnings),
    )


def _groups(table: pd.DataFrame, group: str | None) -> tuple[np.ndarray, str]:
    """Integer labels of rows that are resampled together; the column `group` is used where it is there."""
    if group is not None and group not in table:
        raise UserError(
            f"--group {group}: no such column (there are {', '.join(map(str, table.columns[:12]))})"
        )
    name = group or ("group" if "group" in table else None)
    if name is None:
        return np.arange(len(table)), "rows"
    if (missing := table[name].isna().to_numpy()).any():
        raise UserError(
            f"--group {name}: row {table.index[int(np.argmax(missing))]} has none ({int(missing.sum())} such); "
            "give every row a group, one of its own if it has no kin"
        )
    codes = pd.factorize(table[name].astype(str))[0]
    if len(np.unique(codes)) < 2:
        raise UserError(
            f"--group {name}: every row has the same value {table[name].iloc[0]!r}; resampling needs several"
        )
    return codes, str(name)


def check_enough(observations: Observations, form: Form) -> tuple[Warn, ...]:
    """Refuse what no fit can decide (fewer rows than parameters, a column of one value); warn if thin."""
    n, p = len(observations), len(form.names)
    if n < p + 1:
        raise UserError(
            f"{n} rows for the {p} parameters of {form.name} ({', '.join(form.names)}): "
            f"give at least {p + 1} runs, or a form with fewer parameters"
        )
    if np.ptp(observations.loss) == 0:
        raise UserError(
            f"column loss: every row has the value {observations.loss[0]:g}: there is nothing to explain; is it "
            "the right column?"
        )
    warnings = list(observations.warnings)
    for name in form.columns:
        distinct = len(np.unique(observations.x[name]))
        if distinct < 2:
            raise UserError(
                f"column {name}: every row has the value {observations.x[name][0]:g}, "
                f"so {form.name} cannot tell its effect from a constant; vary it, or choose a form without it"
            )
        if distinct < 3:
            warnings.append(
                Warn(
                    Code.FEW_BUDGETS,
                    f"only {distinct} values of {name}: an exponent and a floor cannot both be told",
                )
            )
    if n < 2 * p:
        warnings.append(Warn(Code.TOO_FEW_RUNS, f"{n} runs for {p} parameters: twice as many are a minimum"))
    flops = observations.flops
    if np.isfinite(flops).all():
        budgets = np.unique(np.round(np.log(flops) / 0.1))
        if len(budgets) < 3 and len(form.columns) > 1:
            warnings.append(
                Warn(
                    Code.FEW_BUDGETS, f"{len(budgets)} compute budget(s): growth with compute is hardly seen"
                )
            )
    if {"params", "tokens"} <= set(form.columns):
        ratio = np.log(observations.x["tokens"] / observations.x["params"])
        if np.ptp(ratio) < np.log(1.5):
            warnings.append(
                Warn(
                    Code.CONSTANT_RATIO,
                    f"tokens per parameter hardly vary "
                    f"({np.exp(ratio.min()):.3g} to {np.exp(ratio.max()):.3g}): "
                    "the effects of params and tokens cannot be told apart",
                )
            )
    return tuple(warnings)
