"""A law is of one science: runs of another corpus, schedule or optimiser are told apart, never called seeds.

The science of a run is what its spec.json holds besides what a ladder varies: the rung's shape, its rate and
batch, the seed and the horizon. Two rules of shape or rate show where one rung has two values.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.tables.where import no_such_column

COLUMN = "science"
# What a ladder varies, what only describes, and what is measured: no part of a science.
_OF_A_RUN = frozenset(
    [
        "kind",
        "trunk",
        "dial",
        "n_layer",
        "d_model",
        "n_head",
        "d_head",
        "d_mlp",
        "shape",
        "seed",
        "order_seed",
        "horizon_tokens",
        "horizon_steps",
        "decay_start",
        "batch_multiple",
        "batch_tokens",
        "learning_rate",
        "weight_decay",
        "params",
        "params_active",
        "tasks",
        "evaluation",
    ]
)
_SAID = frozenset({"data.name", "data.heldout_hash"})
_ON = frozenset({"qk_norm", "positions"})  # what is on where a spec does not say it: off is a science
_RENAMED = {"optim.name": "optim.kind", "schedule.name": "schedule.kind"}
_SHAPE = ("n_layer", "d_model", "n_head", "d_head", "d_mlp")
_RULES = ("learning_rate", "weight_decay", "batch_multiple")
_LABEL = re.compile(r"[0-9a-f]{6}|[^=]+=.*", re.DOTALL)
# Horizons that round to whole steps of another batch differ by less than this, as a ratio.
_ALIKE = 1.02
_MOST_SHOWN = 4

Sciences = dict[str, dict[str, str]]


def label_sciences(specs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, str], Sciences]:
    """Return the science of each run, and what each science is: {label: {field: value}}.

    `specs` are spec.json by run id. A field that is off (null, false, 0, none) reads as one that is absent, so
    that a new axis makes no science of old runs. A trunk has the science of its branches, where they have one.
    """
    fields = {run: dict(_fields(spec)) for run, spec in specs.items()}
    for said in fields.values():
        for old, new in _RENAMED.items():
            if old in said:
                said.setdefault(new, said.pop(old))
    recipes: dict[str, list[str]] = {}
    for run, said in fields.items():
        if specs[run].get("kind") != "trunk":
            recipes.setdefault(json.dumps(said, sort_keys=True), []).append(run)
    for runs in recipes.values():
        for run, rule in _rules({run: specs[run] for run in runs}).items():
            fields[run] |= rule
    labels = {run: _label(said) for run, said in fields.items()}
    branches: dict[str, set[str]] = {}
    for run, spec in specs.items():
        if isinstance(trunk := spec.get("trunk"), str):
            branches.setdefault(trunk, set()).add(labels[run])
    labels |= {t: next(iter(of)) for t, of in branches.items() if t in labels and len(of) == 1}
    of_branches = {labels[run]: fields[run] for run in specs if specs[run].get("kind") != "trunk"}
    return labels, {labels[run]: fields[run] for run in specs} | of_branches


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The fields of a spec that make a science, by dotted name, as text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            name = f"{path}.{key}" if path else str(key)
            if key not in _OF_A_RUN or (key == "kind" and path):
                yield from _fields(inner, name)
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) and "name" in v for v in value):
        for part in value:
            rest = {key: inner for key, inner in part.items() if key != "name"}
            yield from _fields(rest, f"{path}.{part['name']}")
    elif path not in _SAID and (path in _ON or value not in (None, False, 0, "", "none", [])):
        yield path, value if isinstance(value, str) else json.dumps(value)


def _label(fields: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:6]


def _rules(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Find what tells runs of one recipe apart where a rung has two shapes, or two rates: {run: {field: value}}.

    The rules themselves are no part of a spec. One that is used at every rung is found by its rank among the
    values of a rung; a rung with fewer values gives them to the rules whose line over the dial passes nearest.
    """
    found: dict[str, dict[str, str]] = {run: {} for run in specs}
    if not all(_number(spec, "dial") for spec in specs.values()):
        return found
    for names in (_SHAPE, _RULES):
        by_place: dict[tuple[Any, ...], dict[tuple[float, ...], list[str]]] = {}
        for run, place in _places(specs, with_horizon=names is _RULES).items():
            key = (*place, *sorted(found[run].items()))
            by_place.setdefault(key, {}).setdefault(_numbers(specs[run], names), []).append(run)
        most = max(len(values) for values in by_place.values())
        if most == 1:
            continue
        field = "family" if names is _SHAPE else "rate_rule"
        several = [list(zip(*values, strict=True)) for values in by_place.values() if len(values) > 1]
        vary = [name for i, name in enumerate(names) if any(len(set(values[i])) > 1 for values in several)]
        for run, rank in _ranks(by_place, most).items():
            found[run][field] = f"{rank + 1} of {most}: {' and '.join(_shown(specs[run], vary))}"
        _share_names(found, field)
    return found


def _share_names(found: dict[str, dict[str, str]], field: str) -> None:
    """One name for all runs of a rule: that of its first run, for the values differ from rung to rung."""
    first: dict[str, str] = {}
    for run in sorted(found):
        rank = found[run][field].split(":")[0]
        found[run][field] = first.setdefault(rank, found[run][field])


def _shown(spec: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{name} {spec[name]:.4g}" for name in names if _is_number(spec.get(name))]


def _places(specs: Mapping[str, Mapping[str, Any]], with_horizon: bool) -> dict[str, tuple[float, ...]]:
    """The rung of each run, and the rank of its horizon among those of its rung."""
    tokens: dict[float, set[float]] = {}
    for spec in specs.values():
        tokens.setdefault(_number(spec, "dial"), set()).add(_number(spec, "horizon_tokens"))
    ranks: dict[tuple[float, float], float] = {}
    for dial, horizons in tokens.items():
        rank, before = 0, 0.0
        for value in sorted(horizons):
            rank += value > _ALIKE * before
            ranks[dial, value], before = float(rank), value
    places = {run: (_number(spec, "dial"), _number(spec, "horizon_tokens")) for run, spec in specs.items()}
    return {run: (place[0], ranks[place] if with_horizon else 0.0) for run, place in places.items()}


def _ranks(
    by_place: Mapping[tuple[Any, ...], Mapping[tuple[float, ...], list[str]]], most: int
) -> dict[str, int]:
    full = {place: sorted(values) for place, values in by_place.items() if len(values) == most}
    dials = np.log([max(place[0], 1.0) for place in full])
    ranks: dict[str, int] = {}
    for place, values in by_place.items():
        if place in full:
            ranks |= {run: full[place].index(value) for value, runs in values.items() for run in runs}
            continue
        at = float(np.log(max(place[0], 1.0)))
        lines = [
            _line(dials, np.log(np.maximum([full[p][rank] for p in full], 1e-12)), at) for rank in range(most)
        ]
        for value, runs in values.items():
            apart = [float(np.abs(np.log(np.maximum(value, 1e-12)) - line).sum()) for line in lines]
            ranks |= dict.fromkeys(runs, int(np.argmin(apart)))
    return ranks


def _line(x: np.ndarray, y: np.ndarray, at: float) -> np.ndarray:
    """Straight lines through y [n, k] over x [n] at one place; their means where x does not vary."""
    if np.ptp(x) == 0:
        return np.asarray(y.mean(axis=0))
    centred = x - x.mean()
    slope = centred @ (y - y.mean(axis=0)) / (centred @ centred)
    return np.asarray(y.mean(axis=0) + slope * (at - x.mean()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _number(spec: Mapping[str, Any], name: str) -> float:
    value = spec.get(name)
    return float(value) if _is_number(value) and value > 0 else 0.0  # type: ignore[arg-type, operator]


def _numbers(spec: Mapping[str, Any], names: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(f"{_number(spec, name):.9g}") for name in names)


def with_science(table: pd.DataFrame, same: str) -> pd.DataFrame:
    """Return the table with what must agree as its science: the columns that `same` names (`lr,arch`)."""
    if not same.strip():
        return table
    names = [name.strip() for name in same.split(",")]
    for name in names:
        if name not in table.columns:
            raise no_such_column(name, table.columns, f"--same {same}")
    parts = [table[name].map(lambda value, name=name: f"{name}={value}") for name in names]
    label = parts[0]
    for part in parts[1:]:
        label = label + ", " + part
    return table.assign(**{COLUMN: label})


def check_one_science(rows: pd.DataFrame) -> None:
    """Raise UserError where finished rows are of several sciences: how many, in what they differ, how to choose."""
    counts = _counts(rows)
    if len(counts) > 1:
        raise UserError(
            f'{_told(rows, counts)}; a law is of one: choose it with --where "{_choice(rows, counts)}", or say '
            "with --same COLUMN,... what must agree instead"
        )


def largest_science(table: pd.DataFrame, finished: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the rows of the science with the most of the `finished` rows, and a sentence on the others.

    For a report, which shows one; `finished_rows` refuses a mixture unless it may be `mixed`.
    """
    counts = _counts(finished)
    if len(counts) < 2:
        return table, ""
    first = next(iter(counts))
    rest = "the other is" if len(counts) == 2 else "the others are"
    return (
        table[table[COLUMN].eq(first)],
        f"{_told(finished, counts)}; {first} is shown here, {rest} left out; "
        f"choose another with --where \"science == '{list(counts)[1]}'\"",
    )


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    """Finished runs (rows, where the table has no runs) by science, most first."""
    if COLUMN not in rows.columns or rows.empty:
        return {}
    labels = rows[COLUMN].fillna("").astype(str)
    if not labels.map(lambda label: bool(_LABEL.fullmatch(label))).all():
        # A column of this name that somebody else's table happens to have.
        return {}
    runs = rows["run_id"] if "run_id" in rows.columns else pd.Series(rows.index, rows.index)
    counts = runs.groupby(labels).nunique()
    return {str(k): int(v) for k, v in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))}


def _choice(rows: pd.DataFrame, counts: Mapping[str, int]) -> str:
    """The filter that chooses the science of the most runs: by the name of its ladder, where that is all of it."""
    first = next(iter(counts))
    mine = rows[COLUMN].eq(first)
    parts = rows["part"][mine].dropna().unique().tolist() if "part" in rows else []
    whole = len(parts) == 1 and not rows["part"][~mine].isin(parts).any()
    return f"part == '{parts[0]}'" if whole else f"science == '{first}'"


def _told(rows: pd.DataFrame, counts: Mapping[str, int]) -> str:
    what = "runs" if "run_id" in rows.columns else "rows"
    shown = [f"{label} ({count} {what})" for label, count in list(counts.items())[:_MOST_SHOWN]]
    more = f" and {len(counts) - _MOST_SHOWN} more" if len(counts) > _MOST_SHOWN else ""
    differ = _differences(rows.attrs.get("sciences", {}), list(counts))
    return f"{len(counts)} sciences among {sum(counts.values())} finished {what}: {', '.join(shown)}{more}{differ}"


def _differences(about: Mapping[str, Mapping[str, str]], labels: Sequence[str]) -> str:
    """In which fields the sciences differ, with the values of the first few."""
    known = [about[label] for label in labels if label in about][:_MOST_SHOWN]
    if len(known) < 2:
        return ""
    names = list(dict.fromkeys(name for said in known for name in said))
    differing = [name for name in names if len({said.get(name) for said in known}) > 1]
    # A hash says that there is a difference, and not which.
    differing.sort(key=lambda name: name.endswith("hash"))
    shown = [
        f"{name} ({', '.join(said.get(name, 'none')[:40] for said in known)})"
        for name in differing[:_MOST_SHOWN]
    ]
    more = f" and {len(differing) - _MOST_SHOWN} more fields" if len(differing) > _MOST_SHOWN else ""
    return f"; they differ in {', '.join(shown)}{more}"
