"""Fit whole loss curves, try the fit on what it has not seen, predict schedules that were not trained.

Which law: the one whose forecasts of held-out horizons err least. Whether to use it: where that is less than a law
of the ends alone errs on the same runs. Both are in the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.curves.collapse import Collapse, collapse
from analysis.curves.fitted import (
    ENDS_ALONE,
    CurveFit,
    HeldOut,
    at_sizes,
    best_law,
    fit_curves,
    held_out,
    missed,
    overall,
)
from analysis.curves.laws import CURVE_LAWS
from analysis.curves.points import WARMUPS, Points, read_points, schedule_of
from analysis.curves.residual import NAMES
from analysis.curves.schedule import CONSTANT, Schedule
from analysis.errors import Code, Status, UserError, Warn, status_of
from analysis.fitting.observations import FEWEST_GROUPS
from analysis.fitting.options import check_level, check_seed
from analysis.fitting.result import finite, html_of, notes, percentiles
from analysis.shown import Shown, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A target this many times beyond the data is far beyond what hold-outs try, which is a factor of two or so.
FAR = 10.0
# Draws behind an interval.
MANY = 4000


@dataclass(frozen=True)
class CurvePrediction:
    """The end of one run that was not made: its loss and the interval of one run, its seed's luck included
    (less what is known of the luck of this `seed`)."""

    params: float
    tokens: float
    schedule: Schedule
    seed: float | None
    loss: float
    lower: float
    upper: float

    def to_json(self, level: float) -> dict[str, Any]:
        """Make its entry of `predictions`."""
        decay = self.schedule.horizon - self.schedule.start
        return {
            "params": self.params,
            "tokens": self.tokens,
            "schedule": self.schedule.kind,
            "decay_share": None if self.schedule.kind == CONSTANT else decay / self.schedule.horizon,
            "seed": self.seed,
            "loss": self.loss,
            "lower": self.lower,
            "upper": self.upper,
            "level": level,
        }


@dataclass(frozen=True, repr=False)
class Curves(Shown):
    """The answer: the law that was chosen, its trials, its predictions, and the collapse of normalised curves."""

    points: Points
    fitted: CurveFit
    trials: tuple[HeldOut, ...]
    predictions: tuple[CurvePrediction, ...]
    collapse: Collapse | None
    level: float
    warnings: tuple[Warn, ...]

    @property
    def status(self) -> Status:
        """The trust that its warnings leave it."""
        return status_of(self.warnings)

    @property
    def helps(self) -> bool:
        """False where ends alone forecast what was held out better than whole curves."""
        return not _worse(self.trials, self.fitted.law.name)

    def to_json(self) -> dict[str, Any]:
        """Make the JSON of `python -m analysis curves`."""
        law, tail = self.fitted.law, 50.0 * (1.0 - self.level)
        low, high = percentiles(self.fitted.draws, [tail, 100.0 - tail])
        return {
            "law": law.name,
            "equation": law.equation,
            "reference": law.reference,
            "params": self.fitted.params,
            "conf_int": {n: [float(a), float(b)] for n, a, b in zip(law.names, low, high, strict=True)},
            "noise": dict(zip(NAMES, self.fitted.noise.deviations.tolist(), strict=True)),
            "held_out": [
                {
                    "what": t.what,
                    "ends": t.ends,
                    "errors": {name: finite(t.mean_error(name)) for name in t.errors},
                }
                for t in self.trials
            ],
            "helps": self.helps,
            "predictions": [p.to_json(self.level) for p in self.predictions],
            "collapse": None
            if self.collapse is None
            else {
                "horizon_tokens": self.collapse.horizon,
                "floor": self.collapse.floor,
                "rungs": [
                    {
                        "params": r.params,
                        "runs": r.runs,
                        "deviation": r.deviation,
                        "noise": r.noise,
                        "left": r.left,
                    }
                    for r in self.collapse.rungs
                ],
            },
            "level": self.level,
            "status": self.status,
            "warnings": [{"code": warn.code, "message": warn.message} for warn in self.warnings],
            "n": len(self.points),
            "rows_left_out": [left.to_json() for left in self.points.left_out],
        }

    def to_frame(self) -> pd.DataFrame:
        """Make a table of the law's parameters with their intervals."""
        tail = 50.0 * (1.0 - self.level)
        low, high = percentiles(self.fitted.draws, [tail, 100.0 - tail])
        values = pd.Series(self.fitted.params)
        return pd.DataFrame({"value": values, "lower": low, "upper": high})

    def plot(self, ax: Any = None) -> "Figure":
        """Draw every evaluation, the law along each schedule and what was predicted.

        Returns matplotlib's Figure; `ax`: axes of it, in place of new ones.
        """
        return drawn("curves.plot_curves", self, ax)

    def _repr_html_(self) -> str:
        headline = self.summary().splitlines()[:2]
        return html_of(headline, self.to_frame(), self.points.left_out, self.warnings)

    def summary(self) -> str:
        """Write the answer for a person."""
        law = self.fitted.law
        runs = len(np.unique(self.points.run))
        lines = [
            f"{law.name}: L = {law.equation}",
            f"{len(self.points)} evaluations of {runs} runs; {self.status}",
            "  ".join(f"{name} {value:.4g}" for name, value in self.fitted.params.items()),
            "noise of log loss, %: "
            + "  ".join(
                f"{n} {100 * v:.2f}" for n, v in zip(NAMES, self.fitted.noise.deviations, strict=True)
            ),
        ]
        names = [*(law.name for law in CURVE_LAWS), ENDS_ALONE.name]
        if self.trials:
            lines.append(
                f"{'held out':>20} {'ends':>5}  mean error, %: {'  '.join(names[:-1])}  {names[-1]} of ends"
            )
        for trial in self.trials:
            tried = [trial.mean_error(name) for name in names]
            errors = "  ".join("-" if np.isnan(error) else f"{100 * error:.2f}" for error in tried)
            lines.append(f"{trial.what:>20} {trial.ends:>5}  {errors}")
        for p in self.predictions:
            whose = "" if p.seed is None else f", seed {p.seed:g}"
            lines.append(
                f"{p.params:.5g} params, {p.tokens:.5g} tokens, {p.schedule.kind}{whose}: {p.loss:.4f} "
                f"[{p.lower:.4f}, {p.upper:.4f}] ({100 * self.level:g}% of runs)"
            )
        for rung in self.collapse.rungs if self.collapse else ():
            lines.append(
                f"{rung.params:>14,.0f} params: {100 * rung.deviation:+6.2f}% from the collapse, "
                f"noise {100 * rung.noise:.2f}%{'  <- left it' if rung.left else ''}"
            )
        return "\n".join([*lines, *notes(self.points.left_out, self.warnings)])


def curves(
    table: pd.DataFrame,
    *,
    at: Sequence[Mapping[str, Any]] = (),
    schedule: Mapping[str, Any] | None = None,
    bootstrap: int = 100,
    seed: int = 0,
    level: float = 0.9,
) -> Curves:
    """Fit laws of whole curves to every evaluation of `table` (docs/curves.md names the columns).

    `at`: ends to predict: params, tokens, and schedule, decay_share, warmup_tokens, seed where they differ from
    the longest run's. `schedule`: columns that the table lacks, one value for all rows. `bootstrap`: resamples,
    drawn with `seed`. `level`: of the intervals. Raises UserError.

    >>> import pandas as pd
    >>> from analysis import curves
    >>> law = lambda n, d: 1.7 + 400 / n**0.34 + 410 / d**0.28
    >>> at = [(n, d) for n in (1e6, 4e6, 2e7) for d in (3e7, 1e8, 2e8, 3e8, 4e8)]
    >>> rows = [(f"{n:g}", n, d, law(n, d), 4e8) for n, d in at]
    >>> table = pd.DataFrame(rows, columns=["run_id", "params", "tokens", "loss", "horizon_tokens"])
    >>> found = curves(table, schedule={"schedule": "cosine", "warmup_tokens": 1e6}, bootstrap=5)
    >>> "alpha" in found.to_frame().index
    True
    """
    check_level(level)
    check_seed(seed)
    if bootstrap < 2:
        raise UserError(f"bootstrap = {bootstrap}: at least 2 resamples, for intervals")
    points = read_points(table, {name: str(value) for name, value in (schedule or {}).items()})
    wanted = [_target(points, target) for target in at]
    trials = tuple(held_out(points))
    law = best_law(trials)
    fitted = fit_curves(law, points, bootstrap, seed)
    found = collapse(points, fitted)
    warnings = [*_doubts(points, trials, law.name), *(found.warnings if found else ()), *_far(points, wanted)]
    predictions = tuple(_predict(points, fitted, trials, w, level, seed) for w in wanted)
    return Curves(points, fitted, trials, predictions, found, level, tuple(warnings))


@dataclass(frozen=True)
class _Wanted:
    """An end to predict; seed: whose run it is a branch of, or None for a new run."""

    params: float
    tokens: float
    schedule: Schedule
    seed: float | None


def _target(points: Points, target: Mapping[str, Any]) -> _Wanted:
    """Read one of `at`; UserError for what cannot be predicted."""
    said = "--at " + ",".join(f"{name}={value}" for name, value in target.items())
    known = ("params", "tokens", "schedule", "decay_share", "warmup_tokens", "rate_floor", "seed")
    values: dict[str, Any] = {}
    for name, value in target.items():
        if name not in known:
            raise UserError(f"{said}: no {name}; choose of {', '.join(known)}")
        try:
            values[name] = str(value) if name == "schedule" else float(value)
        except (TypeError, ValueError):
            raise UserError(f"{said}: {name} is {value!r}, not a number") from None
    for name in ("params", "tokens"):
        if not 0 < values.get(name, 0.0) < np.inf:
            raise UserError(f"{said}: give {name}, a positive number")
    usual = _usual(points)
    share = 1.0 - usual.start / usual.horizon if usual.kind == "wsd" else np.nan
    filled = {
        "schedule": usual.kind,
        "warmup_tokens": usual.warmup,
        "rate_floor": usual.floor,
        "decay_share": share,
    }
    made = schedule_of({**filled, **values, "horizon_tokens": values["tokens"]}, said)
    if values["tokens"] < WARMUPS * made.warmup:
        raise UserError(f"{said}: within {WARMUPS:g} warm-ups of the beginning; ask for more tokens")
    if _run_of(points, values["params"], values.get("seed")) is None:
        raise UserError(f"{said}: no run of this size has this seed; leave seed out for a new run")
    return _Wanted(values["params"], values["tokens"], made, values.get("seed"))


def _usual(points: Points) -> Schedule:
    """Take the schedule of the longest run that ended; a constant rate where none did."""
    ended = np.flatnonzero(points.ended)
    return points.schedules[ended[np.argmax(points.horizon[ended])] if len(ended) else 0]


def _run_of(points: Points, params: float, seed: float | None) -> int | None:
    """Find the number of a run: -1 for a new one, None where there is no such seed."""
    if seed is None:
        return -1
    if "seed" not in points.table:
        return None
    rows = np.flatnonzero((points.x["params"] == params) & points.table["seed"].eq(seed).to_numpy(bool))
    return int(points.run[rows[0]]) if len(rows) else None


def _predict(
    points: Points, fitted: CurveFit, trials: Sequence[HeldOut], wanted: _Wanted, level: float, seed: int
) -> CurvePrediction:
    x = {"params": wanted.params, **wanted.schedule.columns(wanted.tokens)}
    size = at_sizes(np.array([wanted.params]), points)
    run = np.array([_run_of(points, wanted.params, wanted.seed)])
    logs, deviation = fitted.predict({name: np.array([value]) for name, value in x.items()}, size, run)
    deviation = deviation * missed(trials, fitted.law.name, new_size=bool(size[0] < 0))
    rng = np.random.default_rng(seed)
    drawn = rng.choice(logs[1:, 0], MANY) + deviation * rng.standard_normal(MANY)
    tail = 50.0 * (1.0 - level)
    low, high = np.exp(percentiles(drawn, [tail, 100.0 - tail]))
    return CurvePrediction(
        wanted.params,
        wanted.tokens,
        wanted.schedule,
        wanted.seed,
        float(np.exp(logs[0, 0])),
        float(low),
        float(high),
    )


def _worse(trials: Sequence[HeldOut], law: str) -> bool:
    return overall(trials, law, ENDS_ALONE.name) > overall(trials, ENDS_ALONE.name)


def _doubts(points: Points, trials: Sequence[HeldOut], law: str) -> list[Warn]:
    """List the caveats on the fit: hold-outs that could not be made, or that ends alone pass better; few runs."""
    found = []
    runs = len(np.unique(points.run))
    if runs < FEWEST_GROUPS:
        found.append(
            Warn(Code.FEW_GROUPS, f"{runs} runs are resampled: intervals need {FEWEST_GROUPS} or more")
        )
    if not trials:
        found.append(
            Warn(Code.UNTESTED, "too few sizes, horizons or ends to hold some out and try the law on them")
        )
    elif _worse(trials, law):
        found.append(
            Warn(
                Code.CURVES_WORSE,
                f"held-out ends are forecast to {100 * overall(trials, law, ENDS_ALONE.name):.2g}% by {law}, to "
                f"{100 * overall(trials, ENDS_ALONE.name):.2g}% by the ends alone: use `extrapolate`",
            )
        )
    return found


def _far(points: Points, wanted: Sequence[_Wanted]) -> list[Warn]:
    """Warn of targets far beyond the data, and of schedules of which there is no run."""
    found = []
    kinds = {s.kind for s in points.schedules}
    for w in wanted:
        said = f"{w.params:g} params, {w.tokens:g} tokens"
        beyond = max(w.params / points.x["params"].max(), w.tokens / points.x["tokens"].max())
        if beyond > FAR:
            found.append(Warn(Code.FAR_BEYOND_TESTED, f"{said}: {beyond:.3g} times beyond the evaluations"))
        if w.schedule.kind not in kinds:
            found.append(Warn(Code.UNSEEN_SCHEDULE, f"{said}: no run has the schedule {w.schedule.kind}"))
    return found
