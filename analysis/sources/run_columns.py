"""The columns of one run at its evaluations: params, tokens, flops, seed, rate, group and whether it ended."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array
from analysis.sources import names
from analysis.sources.models import params_of
from analysis.sources.names import matching
from analysis.sources.numbers import number
from analysis.sources.run import TrackedRun
from analysis.sources.tokens import ENDED, count_at, counted, horizon_steps, tokens_at
from analysis.sources.values import clock, product_at, value_at


class Unknown(Exception):
    """A run of which a column cannot be known, and the option that says it."""


def columns_of(
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
                raise Unknown(f"it has no {name} (--columns {column}={name})")
            take(column, run.name if given is None else given, name)
    if "params" not in asked:
        _take_params(run, steps, take)
    if "tokens" not in asked:
        tokens, how = tokens_at(run, steps)
        if tokens is None:
            raise Unknown(
                f'tokens cannot be known ({how}): say --columns "tokens=METRIC", or "tokens=step*524288" with the '
                "tokens of a step"
            )
        take("tokens", tokens, how)
    if "flops" not in asked:
        _take_flops(run, steps, columns["tokens"], take)
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
        raise Unknown(
            "params cannot be known (no setting counts them, nor gives the shape of a known model): say --columns "
            '"params=NAME", a product of names and numbers, or params=size_in_name where run names hold one (70m)'
        )


def _take_flops(
    run: TrackedRun, steps: Float[Array, " n"], tokens: object, take: Callable[[str, object, str], None]
) -> None:
    """Find flops: a metric that counts them, or those of a token times the tokens."""
    if name := counted(run, names.FLOPS):
        take("flops", count_at(run, name, steps), name)
    elif found := matching(run.config, names.FLOPS_PER_TOKEN):
        each = number(run.config[found[0]])
        if each:
            take("flops", each * np.asarray(tokens, dtype=np.float64), f"tokens x {found[0]}")


def _outcome(run: TrackedRun, columns: Mapping[str, object]) -> str:
    """Say done or unfinished: by `--columns final=1`, by the tracker's word, by the steps that were to be done."""
    if "final" in columns:
        return "done" if np.asarray(columns["final"], dtype=bool).all() else "unfinished"
    if run.finished is not None:
        return "done" if run.finished else "unfinished"
    horizon, step = horizon_steps(run.config), np.asarray(columns["step"])
    return "unfinished" if horizon and step[-1] < ENDED * horizon[0] else "done"
