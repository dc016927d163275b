"""Rows of several groups whose laws share an irreducible loss: told apart, put together, and taken apart again."""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.fitting.floor import Floor
from analysis.fitting.observations import Observations
from analysis.fitting.problem import Problem
from analysis.fitting.result import Fit, finite
from analysis.laws.shared import SHARE, SharedForm
from analysis.tables.where import no_such_column


def groups_of(table: pd.DataFrame, share: str) -> tuple[dict[str, pd.DataFrame], str]:
    """Split a table as `share` = "COLUMN=VALUE" says; besides, the group VALUE, whose law is wanted."""
    column, _, wanted = (part.strip() for part in share.partition("="))
    if column not in table.columns:
        raise no_such_column(column, table.columns, f"share = {share} (--share COLUMN=VALUE)")
    missing = table[column].isna().to_numpy(bool)
    if missing.any():
        raise UserError(
            f"share = {share} (--share): row {table.index[int(np.argmax(missing))]} has no {column}; give every "
            "row a group"
        )
    values = table[column].astype(str)
    groups = {str(value): table[values == value] for value in values.unique()}
    if len(groups) < 2:
        raise UserError(
            f"share = {share} (--share): {column} has one value; a shared floor needs two groups or more"
        )
    if wanted not in groups:
        have = ", ".join(f"{column}={name}" for name in list(groups)[:8])
        raise UserError(f"share = {share} (--share): say whose law is wanted: {have}")
    return groups, wanted


def together(groups: Mapping[str, Observations]) -> Observations:
    """Join the rows of groups, with the number of each row's group as the column SHARE.

    Their flops are shares of the largest of their own group: hold-outs then take the most expensive runs of each.
    """
    parts = list(groups.values())
    names = [name for name in parts[0].x if all(name in part.x for part in parts)]
    # Rows that are resampled together stay so; no such group spans two of these.
    first = np.cumsum([0, *(int(part.group.max()) + 1 for part in parts)])
    return Observations(
        x={
            **{name: np.concatenate([part.x[name] for part in parts]) for name in names},
            SHARE: np.repeat(np.arange(len(parts), dtype=np.float64), [len(part) for part in parts]),
        },
        x_name=parts[0].x_name,
        loss=np.concatenate([part.loss for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        group=np.concatenate([part.group + at for part, at in zip(parts, first[:-1], strict=True)]),
        group_source=" and ".join(dict.fromkeys(part.group_source for part in parts)),
        flops=np.concatenate([part.size / part.size.max() for part in parts]),
        flops_source=" and ".join(dict.fromkeys(part.flops_source for part in parts)),
        labels=np.concatenate([part.labels for part in parts]),
        seed=parts[0].seed,
        left_out=reduce(lambda a, b: (*a, *b), (part.left_out for part in parts)),
    )


def own_fit(joint: Fit, group: str, rows: Observations) -> Fit:
    """Take the law of one group out of a joint fit: its rows, parameters and draws; what follows holds the floor.

    Draw r of every group is of the same resample, with the same E.
    """
    form = joint.form
    assert isinstance(form, SharedForm)
    params = [joint.params[form.names[i]] for i in form.own(group)]
    floor = params[0]
    return replace(
        joint,
        problem=Problem(form.base, rows, joint.objective, held=((0, floor),)),
        params=dict(zip(form.base.names, params, strict=True)),
        draws=joint.draws[:, form.own(group)],
        provenance={**joint.provenance, "columns": list(form.base.columns), "flops": rows.flops_source},
        floor=Floor("shared", floor, finite(joint.bse["E"]), f"fitted together with {_others(form, group)}"),
    )


def _others(form: SharedForm, group: str) -> str:
    return ", ".join(name for name in form.groups if name != group)
