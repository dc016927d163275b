"""Two recipes whose runs are compared: the rows of each, what tells them apart, and whether that may be compared.

Nothing is fitted jointly here; each recipe's own law says which of its rows count and how far off such a law is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import Code, UserError, Warn
from analysis.fitting.fit import fit
from analysis.fitting.observations import Observations, observe
from analysis.fitting.result import Member
from analysis.forecasting.cost import cost_model
from analysis.forecasting.discrepancy import NONE, Discrepancy, discrepancy_of, hold_out
from analysis.forecasting.rate_curves import FEWEST_RATES
from analysis.forecasting.tune import tune
from analysis.tables.columns import numbers
from analysis.tables.finished import finished_rows
from analysis.tables.science import COLUMN
from analysis.tables.where import no_such_column

# Columns of a table and fields of a science that say what a loss is of: two recipes must agree in them.
OBJECTIVES = ("objective", "objective.kind", "data.objective", "family.objective")
LOSSES = (*OBJECTIVES, "data.primary", "metric", "loss_unit", "unit", "units")
TEXTS = ("tokenizer", "data.tokenizer", "vocab_size", "heldout_hash", "heldout", "eval_set", "validation")
# Fields of a science that are ranks among runs, not settings.
RANKS = ("rate_rule", "family")
SHAPE = ("n_layer", "d_model", "n_head", "d_head", "d_mlp")
# Bits over nats; a ratio of losses within 3% of it, alike over the runs, is a unit and no recipe.
BITS, LIKE = 1.0 / np.log(2.0), 0.03
# A law of size and tokens needs tokens per parameter that vary by this factor.
VARIES = 1.5
# Log Bayes factor of structure in residuals above which a law is off (log 20: Kass and Raftery 1995).
STRUCTURED = 3.0
FEWEST, FEW = 3, 9
# Caveats of a recipe's own law that are its table's.
OF_THE_TABLE = frozenset(
    [Code.MIXED_RUNS, Code.CHECKPOINTS, Code.REPEATED_RUNS, Code.RISING_LOSS, Code.PERPLEXITY, Code.UNITS,
     Code.DUPLICATE_ROWS, Code.FLOPS_HOLES]
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """The rows of one recipe that count: `rows` of its table (with seed, ... where known), in one order.

    `wrong`: its own law has structure in its residuals or a bend, and is off beyond them by `discrepancy`.
    `linear, root` are its FLOPs per token, linear x N + root x sqrt(N).
    """

    name: str
    rows: pd.DataFrame
    observations: Observations
    wrong: bool
    discrepancy: Discrepancy
    linear: float
    root: float
    fields: Mapping[str, str]
    warnings: tuple[Warn, ...]


def refuse_unlike(tables: Mapping[str, pd.DataFrame]) -> None:
    """Raise UserError where the losses of two tables are not of one thing."""
    (a, first), (b, second) = tables.items()
    for names, what in ((LOSSES, "losses"), (TEXTS, "tokenizers or held-out texts")):
        for name in names:
            values = [_values(table, name) for table in (first, second)]
            # What one table says and the other does not is unlike only where silence means the default.
            said = all(values) or (name in OBJECTIVES and any(values))
            if said and values[0] != values[1]:
                shown = [", ".join(sorted(v))[:40] or "not said" for v in values]
                raise UserError(
                    f"unlike {what}: {name} is {shown[0]} in {a} and {shown[1]} in {b}; compare losses of one kind "
                    "on one text (tasks can be compared: analysis emergence)"
                )
    hashes = [_values(table, "data.content_hash") for table in (first, second)]
    if (
        all(hashes)
        and hashes[0] != hashes[1]
        and not all(_values(t, "heldout_hash") for t in (first, second))
    ):
        raise UserError(
            f"unlike held-out texts: {a} and {b} are of other data (data.content_hash {min(hashes[0])[:12]} and "
            f"{min(hashes[1])[:12]}), and no heldout_hash says that their losses are of the same text"
        )


def _values(table: pd.DataFrame, name: str) -> set[str]:
    """The values of a column, or of a field of the table's sciences."""
    if name in table:
        return {f"{v:g}" if isinstance(v, float) else str(v) for v in table[name].dropna().unique()}
    labels = set(table[COLUMN].dropna()) if COLUMN in table else set()
    about = table.attrs.get("sciences", {})
    return {said[name] for label, said in about.items() if label in labels and name in said}


def refuse_other_units(first: Recipe, second: Recipe) -> None:
    """Raise UserError where the losses of one are those of the other in bits."""
    a, b = first.observations, second.observations
    order = np.argsort(a.flops)
    inside = (b.flops >= a.flops.min()) & (b.flops <= a.flops.max())
    if inside.sum() < FEWEST:
        return
    apart = np.log(b.loss[inside]) - np.interp(
        np.log(b.flops[inside]), np.log(a.flops[order]), np.log(a.loss[order])
    )
    off = float(np.median(apart))
    if abs(abs(off) - np.log(BITS)) < LIKE and np.median(np.abs(apart - off)) < LIKE:
        names = (second.name, first.name) if off > 0 else (first.name, second.name)
        raise UserError(
            f"unlike losses: those of {names[0]} are {np.exp(abs(off)):.3g} times those of {names[1]} at equal "
            "compute, as bits are to nats: give both in one unit"
        )


def of_compute(tables: Mapping[str, pd.DataFrame]) -> bool:
    """Tell whether the recipes' laws are of compute alone: sizes and tokens are missing, or rose together."""
    for table in tables.values():
        rows = finished_rows(table)[0]
        if not {"params", "tokens"} <= set(rows.columns):
            return True
        ratio = np.log(numbers(rows, "tokens") / numbers(rows, "params"))
        places = rows.groupby(["params", "tokens"]).ngroups
        if not np.ptp(ratio) >= np.log(VARIES) or rows["params"].nunique() < 2 or places < 4:
            return True
    return False


def read_recipe(name: str, table: pd.DataFrame, *, alone: bool, seed: int) -> Recipe:
    """Choose the rows of a recipe and judge its own law; `alone`: of compute, not of size and tokens."""
    columns, form = (("x",), "power_const") if alone else (("params", "tokens"), "chinchilla")
    parameters = 3 if alone else 5
    observations = observe(table, columns, seed=seed, parameters=parameters)
    warnings = list(observations.warnings)
    if len(observations) < FEWEST:
        raise UserError(f"{name}: {len(observations)} finished runs; a comparison needs {FEWEST} or more")
    if not np.isfinite(observations.flops).all():
        raise UserError(
            f"{name}: no column flops, and no params and tokens to count them by; add one of these"
        )
    if len(observations) < FEW:
        said = f"{name} has {len(observations)} runs: what is believed beforehand decides much"
        warnings.append(Warn(Code.FEW_RUNS, said))
    wrong, discrepancy = False, NONE
    if len(observations) >= parameters + 4:
        own = fit(table, form, regime="auto", bootstrap=0, seed=seed)
        observations, bent, structure = own.observations, bool(own.provenance["bent"]), own.structure
        warnings += [warn for warn in own.warnings if warn.code in OF_THE_TABLE]
        if wrong := bent or structure > STRUCTURED:
            discrepancy = discrepancy_of(hold_out([Member(own, 1.0)], seed), bent=bent, structure=structure)
            said = f"the rows of {name} have a structure that its law has not"
            said += f": off by {100 * discrepancy.slope:.2g}% of loss at a factor e beyond them"
            warnings.append(Warn(Code.MISFIT, said))
    linear, root = (0.0, 0.0)
    if not alone:
        cost = cost_model(observations)
        linear, root = cost.linear / cost.experts, cost.root / np.sqrt(cost.experts)
        if not np.isfinite(linear):
            linear, root = float(np.exp(np.mean(np.log(observations.flops / _place(observations)[1])))), 0.0
    rows = table.loc[observations.labels]
    return Recipe(
        name,
        rows,
        observations,
        wrong,
        discrepancy,
        linear,
        root,
        _fields(rows),
        tuple(dict.fromkeys(warnings)),
    )


def _place(rows: Observations) -> tuple[Array, Array]:
    return rows.x["params"], rows.x["params"] * rows.x["tokens"]


def _fields(rows: pd.DataFrame) -> dict[str, str]:
    about = rows.attrs.get("sciences", {})
    label = str(rows[COLUMN].iloc[0]) if COLUMN in rows else ""
    return {name: value for name, value in about.get(label, {}).items() if name not in RANKS}


def without_rate_rules(table: pd.DataFrame) -> pd.DataFrame:
    """Take runs that differ in their rates alone for one science: the best rate of each place then counts."""
    about = table.attrs.get("sciences", {})
    if not table.index.is_unique:
        table = table.reset_index(drop=True)
    if COLUMN not in table or not about:
        return table
    plain = {
        label: json.dumps({k: v for k, v in said.items() if k != "rate_rule"}, sort_keys=True)
        for label, said in about.items()
    }
    first: dict[str, str] = {}
    names = {label: first.setdefault(said, label) for label, said in plain.items()}
    found = table.assign(**{COLUMN: table[COLUMN].map(lambda label: names.get(label, label))})
    found.attrs = table.attrs
    return found


def by_active(table: pd.DataFrame) -> pd.DataFrame:
    """Take for N what a token passes through, by which FLOPs go: of a mixture of experts its active parameters. Its
    total is another multiple of these at each width, so that no cost is linear in it."""
    if "params_active" not in table:
        return table
    found = table.assign(params=table["params_active"])
    found.attrs = table.attrs
    return found


def differences(first: Recipe, second: Recipe) -> list[str]:
    """List the fields in which two recipes differ: of their sciences, and of the shape at one dial."""
    names = dict.fromkeys([*first.fields, *second.fields])
    found = [name for name in names if first.fields.get(name) != second.fields.get(name)]
    for name in SHAPE:
        if all({"dial", name} <= set(r.rows.columns) for r in (first, second)):
            shapes = [r.rows.groupby("dial")[name].median() for r in (first, second)]
            both = pd.concat(shapes, axis=1, join="inner").dropna()
            if (both.iloc[:, 0] != both.iloc[:, 1]).any():
                found.append(name)
    return found


def about_differences(found: list[str], named: tuple[str, ...]) -> list[Warn]:
    """Warn of fields beyond those `named` (or by what stands before the dot); UserError for one that is equal."""
    for name in named:
        if found and not any(field == name or field.startswith(f"{name}.") for field in found):
            raise no_such_column(
                name, found, f"differs = {name} (--differs): the recipes do not differ in it"
            )
    more = [f for f in found if not any(f == name or f.startswith(f"{name}.") for name in named)]
    if any(field.startswith("family.") for field in found):
        more = [field for field in more if field not in SHAPE]  # the shape follows the kind of network
    if named and more:
        return [Warn(Code.DIFFERS_MORE, f"besides {', '.join(named)} the recipes differ in {_some(more)}")]
    if not named and len({field.split(".")[0] for field in more}) > 1:
        said = (
            f"the recipes differ in {_some(more)}: name what is compared (--differs), and make the rest equal"
        )
        return [Warn(Code.DIFFERS_MORE, said)]
    return []


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def tuned(
    name: str, table: pd.DataFrame, other: str, others: pd.DataFrame | None
) -> tuple[bool | None, list[Warn]]:
    """Say whether a recipe's rates were tuned (None: the table does not show it), and what is wrong with that.

    Where a size and horizon has three rates, they are a sweep. Without one, rates that are those of `others` (the
    other recipe's, None for the baseline) were nobody's choice for this recipe.
    """
    if "learning_rate" not in table or not {"params", "tokens", "loss"} <= set(table.columns):
        return None, []
    rates = table.groupby(
        [numbers(table, "params"), "horizon_tokens" if "horizon_tokens" in table else "tokens"]
    )
    if (rates["learning_rate"].nunique() >= FEWEST_RATES).any():
        try:
            found = tune(table)
        except UserError:
            return None, []
        swept = [rung for rung in found.rungs if len(rung.rates) >= FEWEST_RATES]
        edges = [rung for rung in swept if rung.edge]
        if not edges:
            return True, []
        said = f"{name}: at {len(edges)} of {len(swept)} rungs the best rate is the lowest or highest tried"
        return False, [Warn(Code.NOT_TUNED, said)]
    if others is None or "learning_rate" not in others or not {"params", "tokens"} <= set(others.columns):
        return None, []
    own, theirs = (t.groupby(numbers(t, "params"))["learning_rate"].median() for t in (table, others))
    # Variants of one rung may differ a little in size.
    at = np.abs(np.log(own.index.to_numpy()[:, None] / theirs.index.to_numpy()))
    near = at.min(axis=1) < 0.05
    ratio = own.to_numpy()[near] / theirs.to_numpy()[at.argmin(axis=1)][near]
    if not near.any() or np.abs(np.log(ratio)).max() > 0.01:
        return None, []
    said = f"{name} was trained at the learning rates of {other} and no others were tried at its sizes: "
    return False, [
        Warn(Code.NOT_TUNED, said + "plan=tune for both, at two rungs, before the answer is believed")
    ]


def with_seconds(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add the seconds of each run of a folder: its FLOPs over the median FLOPs per second of its pack."""
    if "seconds" in table or "run_id" not in table:
        return table
    speeds = {str(run): _speed(folder / str(run) / "timing.jsonl") for run in table["run_id"].unique()}
    found = table.assign(seconds=table["flops"] / table["run_id"].map(speeds))
    found.attrs = table.attrs
    return found if found["seconds"].notna().any() else table


def _speed(path: Path) -> float:
    try:
        lines = [json.loads(line).get("flops_per_second") for line in path.read_text().splitlines()]
    except (OSError, ValueError, AttributeError):
        return np.nan
    known = [float(value) for value in lines if isinstance(value, int | float) and value > 0]
    return float(np.median(known)) if known else np.nan
