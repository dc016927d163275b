"""Write what the numbers of a report rest on: conventions of N and C, versions, and the commands that made it."""

import platform
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.fitting.options import FitOptions
from analysis.report import html
from analysis.report.cite import trained_with, versions
from analysis.report.findings import Findings
from analysis.report.source import Source

_LIBRARIES = ("lmscale", "numpy", "scipy", "pandas", "pyarrow", "matplotlib")


def conventions_section(found: Findings, written: date) -> html.Section:
    """Say which N and C, how seeds differ, which versions, and how to make each part again."""
    said = [_counts(found), *_exact_compute(found), *_unique(found)]
    if found.noise is not None:
        said.append(
            f"Seeds of one size and horizon differ by {found.noise:.2%} of the loss (standard deviation)."
        )
    said.append(
        f"Forecasts: form={found.recipe.form}, regime={found.recipe.regime}, floor={found.recipe.floor}; "
        "the defaults otherwise."
    )
    said.append(f"Written on {written:%-d %B %Y} with {_versions()}{_trained_with(found)}.")
    inner = html.joined(html.bullets(said), html.codes(_commands(found)))
    return html.Section("Conventions, versions, commands", inner)


def _counts(found: Findings) -> str:
    params, tokens = found.source.column("params"), found.source.column("tokens")
    every = f": {found.source.size_name}" if found.source.is_folder else ""
    without = " Sizes of tasks and components are counted like N." if found.source.is_folder else ""
    return (
        f"N: the column {params}{every}. D: the column {tokens}, tokens of a run. C: {found.compute}. "
        f"Loss: {found.units.axis}{found.units.also}.{without}"
    )


def _exact_compute(found: Findings) -> list[str]:
    rows = found.rows
    if not (
        {"flops_6nd", "params_nonembedding"} <= set(rows.columns) and found.source.is_folder and len(rows)
    ):
        return []
    ratio = rows["flops"] / rows["flops_6nd"]
    share = rows["params_nonembedding"] / rows["params"]
    without = f"Parameters without embeddings are {share.min():.0%} to {share.max():.0%} of N. "
    return [
        "Exact C is three times the forward pass's matrix products; here it is "
        f"{ratio.min():.2f} to {ratio.max():.2f} times 6ND, N with embeddings. {without * bool(share.min() < 1)}"
        "Exponents change with the convention: the table has all of them (flops_6nd, flops_6nd_nonembedding, "
        "params_nonembedding, ...)."
    ]


def _unique(found: Findings) -> list[str]:
    if "unique_tokens" not in found.rows.columns:
        return []
    unique = pd.to_numeric(found.rows["unique_tokens"], errors="coerce")
    unique = unique[np.isfinite(unique) & (unique > 0)]
    if unique.empty:
        return []
    repeats = (found.rows["tokens"] / unique).max()
    return [
        f"Unique tokens: {style.count(float(unique.max()))}; the longest run draws {repeats:.2g} times as many "
        "(all components together)."
    ]


def _commands(found: Findings) -> list[tuple[str, str]]:
    """The commands that make this page and what stands on it, each with what it is for."""
    source = found.source
    commands = [
        (source.command("report", out=True), "This page"),
        (source.command("plots", out=True), "Every picture, as SVG and PNG"),
    ]
    if len(found.rows):
        budget = f"{3 * float(found.rows['flops'].max()):.3g}"
        asked = source.command("extrapolate", *_options(found.recipe), "--budget", budget)
        commands.append((asked, "The law of all runs, at three times the largest run's compute"))
    if source.is_folder:
        # The sizes of this page's tasks are its N; the verb's own are parameters without embeddings.
        sized = "size=params" if source.counts_embeddings else ""
        commands.append((Source(source.path, sized).command("emergence"), "The classes of the tasks"))
    return commands


def _options(recipe: FitOptions) -> list[str]:
    """The options of the verbs that make this recipe."""
    floor = {
        name: value
        for name, value in asdict(recipe).items()
        if name.startswith("floor") and value is not None
    }
    chosen = {"regime": recipe.regime, "form": recipe.form} | (floor if recipe.floor != "free" else {})
    return [word for name, value in chosen.items() for word in (f"--{name}", str(value))]


def _versions() -> str:
    said = {"Python": platform.python_version(), **versions(*_LIBRARIES)}
    return ", ".join(f"{name} {version}" for name, version in said.items())


def _trained_with(found: Findings) -> str:
    """Say what the runs were trained with, each different answer once."""
    seen = trained_with(Path(found.source.path)) if found.source.is_folder else {}
    said = "; ".join(f"{count} runs on {what}" for what, count in seen.items())
    return f". Trained: {said}" if said else ""
