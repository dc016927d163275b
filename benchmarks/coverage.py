"""Misses of forecasts and coverage of their intervals on public tables: `python -m benchmarks.coverage`.

Every table is cut by compute (`benchmarks.splits`); the cheap runs are fitted, the most expensive predicted. Each
table counts once. `--settings` chooses the discrepancy's settings again, each publication judged by what the
others choose. `--made` is the same on laws with known parameters.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.fitting.fit import fit, fit_members
from analysis.fitting.options import FitOptions
from analysis.fitting.result import Member
from analysis.forecasting import discrepancy, interval
from analysis.forecasting.forecast import LEAST_WEIGHT
from analysis.laws.catalogue import get_form
from benchmarks.splits import PUBLISHED, Split, splits, tables

LEVEL = 0.9
FIXED = ("chinchilla", "chinchilla6")


@dataclass(frozen=True)
class Settings:
    """The discrepancy's settings (`forecasting.discrepancy`)."""

    PRIOR: float = discrepancy.PRIOR
    GROWTH: float = discrepancy.GROWTH


CHOICES = [
    Settings(prior, growth)
    for growth, priors in (
        (1.0, (0.0125, 0.01875, 0.028)),
        (4 / 3, (0.01, 0.015, 0.0225)),
        (2.0, (0.00625, 0.009375, 0.014)),
    )
    for prior in priors
]


@dataclass(frozen=True)
class Case:
    """One split, fitted: what its runs were, and everything an interval is made of."""

    split: Split
    members: list[Member]
    held_out: list[discrepancy.Missed]
    structure: float
    distance: Array
    misses: dict[str, float]
    residual_width: float


def prepare(split: Split, form: str = "auto", regime: str = "auto") -> Case:
    """Fit one split as `extrapolate` does, and with the fixed forms for comparison."""
    test = split.test.astype(np.float64)
    observed = np.log(test.loss.to_numpy())
    options = FitOptions(form=form, regime=regime, bootstrap=200, level=LEVEL)
    members = fit_members(split.train, options, least_weight=LEAST_WEIGHT, fractional=True)
    misses = {
        name: 100
        * float(np.mean(np.abs(np.log(fit(split.train, name, bootstrap=0).predict(test)) - observed)))
        for name in (FIXED if form == "auto" else ())
    }
    centre = np.sum([m.weight * np.log(m.fit.predict(test)) for m in members], axis=0)
    misses["auto"] = 100 * float(np.mean(np.abs(centre - observed)))
    bounds = interval.interval(members, test, np.zeros(len(test)), discrepancy.NONE, level=LEVEL, seed=0)
    return Case(
        split,
        members,
        discrepancy.hold_out(members, 0),
        members[0].fit.structure,
        discrepancy.distance_of(members[0].fit.observations, test),
        misses,
        float(np.median(bounds.upper - bounds.lower)),
    )


def coverage(case: Case, settings: Settings) -> tuple[float, float]:
    """Compute the share of held-out runs inside, and the median width of log loss."""
    saved = {name: getattr(discrepancy, name) for name in vars(settings)}
    for name, value in vars(settings).items():
        setattr(discrepancy, name, value)
    try:
        bent = bool(case.members[0].fit.provenance["bent"])
        test = case.split.test.astype(np.float64)
        posterior = discrepancy.discrepancy_of(case.held_out, bent=bent, structure=case.structure)
        found = interval.interval(case.members, test, case.distance, posterior, level=LEVEL, seed=0)
    finally:
        for name, value in saved.items():
            setattr(discrepancy, name, value)
    observed = np.log(test.loss.to_numpy())
    inside = (found.lower <= observed) & (observed <= found.upper)
    return float(inside.mean()), float(np.median(found.upper - found.lower))


def _public(rng: np.random.Generator) -> pd.DataFrame:
    """Take the runs of a public table."""
    designs = list(tables().values())
    return designs[rng.integers(len(designs))][1].astype(np.float64)


def _random(rng: np.random.Generator) -> pd.DataFrame:
    """Draw 25 to 160 runs anywhere."""
    n = int(rng.choice([25, 40, 80, 160]))
    params, tokens = 10 ** rng.uniform(7.5, 10.0, n), 10 ** rng.uniform(8.5, 11.5, n)
    return pd.DataFrame({"params": params, "tokens": tokens})


def _grid(rng: np.random.Generator) -> pd.DataFrame:
    """Four to eight sizes, each at four to seven ratios of tokens to params."""
    sizes = np.geomspace(3e7, 3e7 * 10 ** rng.uniform(1.3, 2.2), int(rng.integers(4, 9)))
    ratios = np.geomspace(5.0, 5.0 * 10 ** rng.uniform(0.9, 1.8), int(rng.integers(4, 8)))
    params = np.repeat(sizes, len(ratios))
    return pd.DataFrame({"params": params, "tokens": params * np.tile(ratios, len(sizes))})


def _isoflop(rng: np.random.Generator) -> pd.DataFrame:
    """Four to nine budgets, each split among five to ten sizes."""
    budgets = np.geomspace(1e18, 1e18 * 10 ** rng.uniform(1.5, 3.0), int(rng.integers(4, 10)))
    shapes = np.geomspace(1 / 6, 6.0, int(rng.integers(5, 11)))
    flops = np.repeat(budgets, len(shapes))
    params = np.sqrt(flops / 120.0) * np.tile(shapes, len(budgets))
    return pd.DataFrame({"params": params, "tokens": flops / (6.0 * params)})


DESIGNS = {"public": _public, "random": _random, "grid": _grid, "isoflop": _isoflop}


def made(count: int, seed: int = 1) -> Iterator[Split]:
    """Make tables of four designs in turn with the losses of a known law, and noise alone besides."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        design = list(DESIGNS)[i % len(DESIGNS)]
        table = DESIGNS[design](rng)
        if "flops" not in table:
            table = table.assign(flops=6.0 * table.params * table.tokens)
        form = get_form(FIXED[i // len(DESIGNS) % 2])
        truth = {
            "E": rng.uniform(1.4, 2.0), "A": rng.uniform(200, 800), "B": rng.uniform(400, 3000),
            "alpha": rng.uniform(0.28, 0.4), "beta": rng.uniform(0.28, 0.4),
        }  # fmt: skip
        if form.name == "chinchilla6":
            truth["k"] = rng.uniform(0.7, 1.3)
        loss = form.predict(truth, {name: table[name].to_numpy() for name in ("params", "tokens")})
        noise = rng.choice([0.001, 0.003, 0.01]) * (loss / loss.min()) ** rng.choice([0, 1])
        table = table.assign(loss=loss * np.exp(noise * rng.standard_normal(len(table))))
        factor = float(rng.choice([3.0, 10.0, 30.0]))
        low = table.flops <= table.flops.max() / factor * (1 + 1e-9)
        if low.sum() >= 12 and (~low).any():
            yield Split(f"{form.name} {seed} {i}", design, factor, table[low], table[~low])


def show(cases: list[Case]) -> None:
    """Print misses and coverage by table, and their means."""
    rows = []
    for case in cases:
        inside, width = coverage(case, Settings())
        s, fitted = case.split, case.members[0].fit
        rows.append(
            {
                "table": s.table[:44], "source": s.source, "factor": s.factor, "kept": len(fitted.observations),
                "of": len(s.train), "held out": len(s.test), **case.misses, "inside": 100 * inside,
                "width %": 100 * width, "x residual": width / case.residual_width,
            }
        )  # fmt: skip
    frame = pd.DataFrame(rows)
    by_table = frame.drop(columns="source").groupby("table", sort=False).mean()
    if len(by_table) < 50:
        print(by_table.to_string(float_format="%.2f"))
    names = [name for name in (*FIXED, "auto") if name in frame]
    if len(names) == 3:
        frame["oracle of the two"] = frame[list(FIXED)].min(axis=1)
        names.append("oracle of the two")
    print(f"\nmean absolute error of loss, %, over {len(frame)} splits:")
    print(frame[names].mean().to_string(float_format="%.2f"))
    print("each publication once:")
    print(frame.groupby("source")[names].mean().mean().to_string(float_format="%.2f"))
    error = by_table.inside.std() / np.sqrt(len(by_table))
    print(
        f"90% intervals hold {by_table.inside.mean():.1f}% of held-out runs (each table once; standard error "
        f"{error:.1f})"
    )
    print(f"rows were left out as another regime in {100 * (frame.kept < frame['of']).mean():.0f}% of splits")
    few = by_table[by_table["of"] < 60].inside
    print(f"{few.mean():.1f}% of those of the {len(few)} tables of fewer than 60 rows fitted")
    print(frame.groupby("source").inside.mean().round(1).to_string())
    print(
        f"median width {by_table['width %'].median():.2f}%, {frame['x residual'].median():.2f} x residual noise's"
    )


def choose_settings(cases: list[Case]) -> None:
    """Choose the settings nearest to 90% (of those within 1% the narrowest) on the others, and judge them here."""
    found = {
        settings: pd.DataFrame(
            [(c.split.table, c.split.source, *coverage(c, settings)) for c in cases],
            columns=["table", "source", "inside", "width"],
        )
        for settings in CHOICES
    }
    for source in sorted({c.split.source for c in cases}):

        def others(frame: pd.DataFrame, source: str = source) -> tuple[float, float]:
            rest = frame[frame.source != source]
            inside = rest.groupby("table").inside.mean().mean()
            return max(abs(inside - 0.9), 0.01), float(rest.width.median())

        best = min(CHOICES, key=lambda settings: others(found[settings]))
        here = found[best][found[best].source == source]
        print(f"{source:12} {best}: {100 * here.groupby('table').inside.mean().mean():.1f}% inside")
    for settings in CHOICES:
        inside = 100 * found[settings].groupby("table").inside.mean().mean()
        print(f"{settings}: {inside:.1f}% inside, median width {100 * found[settings].width.median():.2f}%")


def olmo() -> None:
    """Predict the run 202 x beyond the ladder's 16 small ones."""
    from analysis.forecasting.forecast import extrapolate

    _, table = tables()["olmo"]
    found = extrapolate(table, at=[{"params": 13202396160.0, "tokens": 5000088518656.0}], level=LEVEL)
    p = found.predictions[0]
    print(f"\nOLMo 13B: predicted {p.loss:.4f} [{p.lower:.4f}, {p.upper:.4f}], real 2.4379")
    print([warn.code for warn in found.warnings])


def run(found: Iterable[Split], form: str = "auto", regime: str = "auto") -> list[Case]:
    """Prepare the splits, and say how long that took."""
    start = time.perf_counter()
    cases = [prepare(split, form, regime) for split in found]
    print(f"{len(cases)} splits in {time.perf_counter() - start:.0f} s")
    return cases


def main() -> None:
    """Print what the module promises; without the published tables, say so and stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", action="store_true", help="choose the settings again")
    parser.add_argument(
        "--made", type=int, default=0, metavar="N", help="N made tables in place of public ones"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the made tables")
    parser.add_argument("--form", default="auto", help="with --made: true fits the form that made the table")
    args = parser.parse_args()
    if not PUBLISHED.is_dir():
        print(f"the published tables are not at {PUBLISHED}: nothing is measured")
        return
    found = made(args.made, args.seed) if args.made else splits()
    if args.made and args.form == "true":
        cases = [prepare(split, split.table.split()[0], "all") for split in found]
    else:
        cases = run(found)
    show(cases)
    if args.settings:
        choose_settings(cases)
    if not args.made:
        olmo()


if __name__ == "__main__":
    main()
