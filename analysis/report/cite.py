"""What a paper that uses a fit must state: conventions, law, search, resamples, caveats, versions, sources."""

import importlib.metadata
import json
import platform
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import Code
from analysis.fitting.fit import fit
from analysis.fitting.result import Fit, html_of
from analysis.forecasting.defaults import RECIPE
from analysis.laws.bibliography import bibtex
from analysis.report.source import Source
from analysis.report.units import units_of
from analysis.shown import Shown

_LIBRARIES = ("lmscale", "numpy", "scipy", "pandas")
EXACT = "exact count: three times the matrix products of the forward pass"


@dataclass(frozen=True, repr=False)
class Citation(Shown):
    """What a paper must state of a fit, by topic, and the BibTeX of the law's sources."""

    stated: Mapping[str, Any]
    bibtex: str

    def to_json(self) -> dict[str, Any]:
        """Make the JSON of `python -m analysis cite`."""
        return {**self.stated, "bibtex": self.bibtex}

    def to_frame(self) -> pd.DataFrame:
        """Make a table of it, one row a topic."""
        return pd.DataFrame(list(self.lines()), columns=["topic", "stated"])

    def lines(self) -> Iterator[tuple[str, str]]:
        """Give each topic and what is stated of it, as text."""
        for topic, said in self.stated.items():
            yield topic.replace("_", " "), _text(said)

    def summary(self) -> str:
        """Write it for a person, the BibTeX last."""
        said = "\n".join(f"{topic}: {text}" for topic, text in self.lines() if text)
        return f"{said}\n\n{self.bibtex}".strip()

    def _repr_html_(self) -> str:
        return html_of([], self.to_frame(), (), ())


def cite(table: pd.DataFrame, source: Source | None = None, **options: Any) -> Citation:
    """Fit a law to `table` and say what a paper that uses it must state.

    `options` are those of `fit`, with the report's defaults. `source` says how the table was asked for; a table of
    `load_table` knows its file.

    >>> from analysis import cite
    >>> runs = [(n, d, 1.7 + 400 / n**0.34 + 410 / d**0.28) for n in (1e6, 4e6, 2e7) for d in (2e7, 1e8, 6e8)]
    >>> said = cite(pd.DataFrame(runs, columns=["params", "tokens", "loss"]), bootstrap=20)
    >>> said.stated["law"]["form"], said.bibtex.splitlines()[0]
    ('chinchilla', '@misc{hoffmann2022,')
    """
    chosen = {"form": RECIPE.form, "regime": RECIPE.regime, "level": RECIPE.level} | options
    fitted = fit(table, **chosen)
    return citation(fitted, table, source or Source(str(table.attrs.get("source", ""))))


def citation(fitted: Fit, table: pd.DataFrame, source: Source) -> Citation:
    """Say what a paper must state of `fitted`, which was fitted to rows of `table`, as `source` asked for it."""
    objective, made = fitted.objective, fitted.provenance
    interval, errors = fitted.conf_int(), fitted.bse
    several = any(warn.code == Code.MULTI_BASIN for warn in fitted.warnings)
    folder = source.is_folder
    every = " (all parameters, embeddings included)" if folder and source.column("params") == "params" else ""
    stated: dict[str, Any] = {
        "table": {
            "name": source.name if source.path else "a table in memory",
            "runs_fitted": len(fitted.observations),
            "rows_left_out": {left.reason: len(left.rows) for left in fitted.observations.left_out},
            "seeds": int(table["seed"].nunique()) if "seed" in table.columns else None,
            "columns": source.columns,
            "where": source.where,
        },
        "counts": {
            "N": f"column {source.column('params')}{every}",
            "D": f"column {source.column('tokens')}: tokens of a run, repeats counted",
            "C": EXACT if folder and made["flops"] == "flops" else made["flops"],
        },
        "loss": units_of(table, source).axis,
        "law": {"form": fitted.form.name, "equation": fitted.form.equation, "source": fitted.form.reference},
        "params": {
            name: {"value": value, "std_error": errors[name], "interval": list(interval[name])}
            for name, value in fitted.params.items()
        },
        "floor": str(fitted.floor),
        "prior_of_k": made.get("k"),
        "objective": {
            "loss": objective.loss,
            "scale": objective.scale,
            "delta": objective.delta if objective.loss == "huber" else None,
            "reduction": "sum",
            "value": fitted.value,
        },
        "search": {
            "starts_polished": made["starts"],
            "at_the_optimum": made["at_the_optimum"],
            "basins": "several minima within 1% of the best" if several else "one within 1% of the best",
        },
        "resamples": {
            "count": made["resamples"],
            "of": made["resampled_by"],
            "by": made["resampled_with"],
            "seed": made["seed"],
            "level": fitted.level,
        },
        "rolling_error_of_hold_outs": {c["form"]: c["rolling_error"] for c in fitted.candidates},
        "status": str(fitted.status),
        "warnings": {str(warn.code): warn.message for warn in fitted.warnings},
        "analysed_with": {"python": platform.python_version(), **versions(*_LIBRARIES), "commit": _commit()},
    }
    if folder:
        stated["trained_with"] = trained_with(Path(source.path))
    return Citation(stated, bibtex(fitted.form.reference))


def trained_with(folder: Path) -> dict[str, int]:
    """Count the runs of a folder by device, versions and commit, as their execution and the ledger's claims say."""
    seen: Counter[str] = Counter()
    for path in sorted(folder.glob("*/execution.json")):
        execution = _read(path)
        versions = _mapping(execution.get("versions"))
        said = [str(execution.get("device")), *(f"{name} {v}" for name, v in sorted(versions.items()))]
        claims = sorted((folder / "packs" / str(execution.get("pack_id")) / "claims").glob("*[0-9].json"))
        about = _mapping(_read(claims[-1]).get("about")) if claims else {}
        said += [f"{name} {about[key]}" for key, name in _ABOUT.items() if about.get(key)]
        seen[", ".join(said)] += 1
    return dict(seen.most_common(5))


_ABOUT = {"device_kind": "on", "version": "lmscale", "commit": "commit"}


def _read(path: Path) -> dict[str, Any]:
    try:
        return _mapping(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}


def _mapping(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def versions(*names: str) -> dict[str, str]:
    """Return the versions of these packages, as far as they are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """Return the commit of the checkout that this file is of, if it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _text(said: Any) -> str:
    if isinstance(said, Mapping):
        return "; ".join(
            f"{name.replace('_', ' ')} {_text(v)}" for name, v in said.items() if v not in (None, "", {})
        )
    if isinstance(said, list):
        return "[" + ", ".join(_text(v) for v in said) + "]"
    return "" if said is None else f"{said:.5g}" if isinstance(said, float) else str(said)
