"""Score registered forecasts against the runs they were of: error, coverage, CRPS, and whether each still stands.

A forecast *changed* where its file, the log or the rows it was made of are no longer what they were; it was *late*
where its target had begun before it was registered. Both count apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import binomtest

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.result import html_of
from analysis.forecasting.promise import LEVELS, PROBABILITIES, row_hashes, same_run
from analysis.forecasting.registry import Registered, registered, time_of
from analysis.shown import Shown, drawn
from analysis.tables.begun import first_steps
from analysis.tables.finished import finished_rows
from analysis.tables.load import is_run_folder, load_table, tasks_of
from analysis.tables.science import COLUMN
from analysis.tables.where import no_such_column

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STANDINGS = ("registered", "late", "changed")
# A budget's best loss is flat in its size: a run of the same compute within this ratio of the size is the target.
# It costs (alpha + beta) s d^2 / 2 nats, s the slope of a term over log size, d = log 1.15: .001 where s is .1.
SAME_BUDGET, NEAR_SIZE = 0.01, 0.15
Source = Callable[[Mapping[str, str]], tuple[pd.DataFrame, pd.DataFrame | None] | None]
KEYS = tuple(f"{level:g}" for level in LEVELS)


@dataclass(frozen=True)
class Score:
    """One forecast against one run of its target. `error` is forecast / measured - 1, `crps` in nats, `pit` the
    share of the forecast's members below what was measured. `first`: of the runs of this target the one that
    calibration counts, for its others share the forecast's error."""

    id: str
    target: Mapping[str, Any]
    run: str
    forecast: float
    measured: float
    error: float
    inside: Mapping[str, bool]
    crps: float
    pit: float
    standing: str
    why: str
    components: Mapping[str, Mapping[str, Any]]
    tasks: tuple[Mapping[str, Any], ...]
    first: bool

    def to_json(self) -> dict[str, Any]:
        """Make one entry of `scores`."""
        return {**self.__dict__, "tasks": list(self.tasks)}


@dataclass(frozen=True, repr=False)
class Verification(Shown):
    """The scores of the measured forecasts of a folder, the ids of those not measured yet, and notes."""

    scores: tuple[Score, ...]
    pending: tuple[str, ...]
    notes: tuple[str, ...]

    def of(self, standing: str) -> list[Score]:
        """Select the scores that calibration counts: one a forecast."""
        return [score for score in self.scores if score.first and score.standing == standing]

    def calibration(self) -> dict[str, Any]:
        """Sum up by standing: coverage with its 90% binomial interval, mean error, mean CRPS."""
        return {standing: _calibration(self.of(standing)) for standing in STANDINGS}

    def to_json(self) -> dict[str, Any]:
        """Make the JSON of `python -m analysis verify`."""
        return {
            "scores": [score.to_json() for score in self.scores],
            "pending": list(self.pending),
            "calibration": self.calibration(),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        return f"<Verification: {len(self.scores)} scores, {len(self.pending)} pending>"

    def to_frame(self) -> pd.DataFrame:
        """Make a table of the scores, one row a forecast and run of its target."""
        names = ("id", "run", "forecast", "measured", "error", "crps", "pit", "standing", "why", "first")
        return pd.DataFrame(
            [
                {**dict(s.target), **{name: getattr(s, name) for name in names}}
                | {f"inside_{level}": held for level, held in s.inside.items()}
                for s in self.scores
            ]
        )

    def plot(self, ax: Any = None) -> "Figure":
        """Draw how well the forecasts were calibrated.

        Returns matplotlib's Figure; `ax`: two axes of it, in place of new ones.
        """
        return drawn("calibration.plot_calibration", self, ax)

    def _repr_html_(self) -> str:
        return html_of(list(self.notes), self.to_frame(), (), ())

    def summary(self) -> str:
        """Write the scores as a table for a person."""
        lines = [
            f"{'forecast':>12} {'params':>9} {'tokens':>9} {'said':>8} {'measured':>8} {'error':>7}  50% 90%"
            "   CRPS  standing"
        ]
        for s in self.scores:
            held = "".join(f"{'in' if s.inside[key] else 'out':>4}" for key in KEYS)
            lines.append(
                f"{s.id:>12} {s.target['params']:9.4g} {s.target['tokens']:9.4g} {s.forecast:8.4f} "
                f"{s.measured:8.4f} {100 * s.error:+6.2f}% {held} {s.crps:7.4f}  {s.standing}"
                f"{f': {s.why}' if s.why else ''}"
            )
        for standing, found in self.calibration().items():
            if found["n"]:
                inside = found["inside"]["0.9"]
                lines.append(
                    f"{standing}: {found['n']} forecasts, {inside['count']} inside 90% "
                    f"({100 * inside['share']:.0f}%, binomial {100 * inside['interval'][0]:.0f} to "
                    f"{100 * inside['interval'][1]:.0f}%), mean error {100 * found['mean_absolute_error']:.2f}%, "
                    f"mean CRPS {found['mean_crps']:.4f}"
                )
        if self.pending:
            lines.append(f"not measured yet: {', '.join(self.pending)}")
        return "\n".join([*lines, *self.notes])


def verify(
    folder: Path,
    table: pd.DataFrame,
    *,
    tasks: pd.DataFrame | None = None,
    began: Mapping[str, float] | None = None,
    source: Source = lambda said: None,
) -> Verification:
    """Find the measured targets in `table` and score every forecast that is registered in `folder`.

    tasks: the table of their scores. began: when runs took their first step (seconds since 1970), by run id; a
    table may have a column `began_at` in its place. source: reads the table (and task scores) that a forecast
    was made of, where `table` lacks its rows. Raises UserError where none is registered, or the table lacks
    params, tokens or loss.

    >>> import tempfile
    >>> from analysis import verify
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     verify(Path(folder), pd.DataFrame({"params": [1e6], "tokens": [2e7], "loss": [4.1]}))
    Traceback (most recent call last):
    analysis.errors.UserError: FOLDER: no forecast is registered there
    """
    for name in ("params", "tokens", "loss"):
        if name not in table:
            raise UserError(
                f"{no_such_column(name, table.columns, f'column {name!r}')}; name it with --columns"
            )
    forecasts = registered(folder)
    finished, _ = finished_rows(table, mixed=True)
    finished = finished[pd.to_numeric(finished["loss"], errors="coerce").notna()]
    hashes: dict[tuple[str, ...], pd.Series] = {}
    scores: list[Score] = []
    pending, notes = [], []
    for one in forecasts:
        if one.altered:
            notes.append(f"forecast {one.id} counts apart: {one.altered}")
        try:
            data, targets = one.content["data"], one.content["targets"]
            key = tuple(data["hashed"])
            if key not in hashes:
                hashes[key] = pd.Series(row_hashes(table, tasks, key), table.index)
            altered = one.altered or _data_changed(data, hashes[key], source)
            sciences = _sciences(table, hashes[key].isin(data["rows"]))
            for target in targets:
                runs = finished[_is_of(finished, target) & _in(finished, sciences)]
                begun = _began(table[_is_of(table, target) & _in(table, sciences)], began or {})
                standing = _standing(altered, data, one.content["registered_at"], begun)
                rows = runs.sort_values("seed") if "seed" in runs else runs
                if rows.empty:
                    pending.append(one.id)
                for n, (label, row) in enumerate(rows.iterrows()):
                    scores.append(_score(one, target, row, str(label), tasks, standing, first=n == 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            notes.append(f"forecast {one.id} cannot be scored: {type(error).__name__}: {error}")
    return Verification(tuple(scores), tuple(pending), tuple(notes))


def verify_table(path: str, table: pd.DataFrame, folder: Path) -> Verification:
    """Score the forecasts of `folder` against `table`, which was read from `path`: a folder of runs or a file."""

    def source(said: Mapping[str, str]) -> tuple[pd.DataFrame, pd.DataFrame | None] | None:
        made_of = folder / said["table"] if "table" in said else None
        if made_of is None or not made_of.exists():
            return None
        rows = load_table(made_of, columns=said["columns"], where=said["where"], same=said["same"])
        return rows, tasks_of(str(made_of))

    began = first_steps(Path(path)) if is_run_folder(path) else {}
    return verify(folder, table, tasks=tasks_of(path), began=began, source=source)


def crps(members: Float[Array, " K"], measured: float) -> float:
    """Compute the continuous ranked probability score of equally likely members, in the unit of the loss.

    It is twice the mean pinball loss of the members as quantiles at (i - 1/2) / K: exactly the CRPS (Gneiting and
    Raftery 2007, JASA 102, 359, eq. 20) of the forecast that puts 1/K on each (Bröcker 2012, QJRMS 138, 1611).
    """
    values = np.sort(members)
    at = (np.arange(len(values)) + 0.5) / len(values)
    return float(2.0 * np.mean(((measured < values) - at) * (values - measured)))


def binomial(count: int, n: int, level: float = 0.9) -> tuple[float, float]:
    """Bound a share of `count` in `n` (Clopper and Pearson 1934, Biometrika 26, 404)."""
    interval = binomtest(count, n).proportion_ci(level)
    return float(interval.low), float(interval.high)


def _judged(said: Mapping[str, Any], measured: float) -> dict[str, Any]:
    """Judge one forecast loss; PIT of ties in the middle."""
    members = np.asarray(said["quantiles"], dtype=np.float64)
    if len(members) != len(PROBABILITIES):
        raise ValueError(f"{len(members)} quantiles, not {len(PROBABILITIES)}")
    inside = {key: said["intervals"][key][0] <= measured <= said["intervals"][key][1] for key in KEYS}
    return {
        "forecast": float(said["loss"]),
        "measured": measured,
        "error": float(said["loss"]) / measured - 1.0,
        "inside": inside,
        "crps": crps(members, measured),
        "pit": float(np.mean(members < measured) + np.mean(members <= measured)) / 2.0,
    }


def _score(
    one: Registered,
    target: Mapping[str, Any],
    row: "pd.Series[Any]",
    label: str,
    tasks: pd.DataFrame | None,
    standing: tuple[str, str],
    *,
    first: bool,
) -> Score:
    components = {}
    for name, said in target["components"].items():
        measured = row.get(f"loss_{name}", np.nan)
        if said["loss"] is not None and np.isfinite(measured) and measured > 0:
            components[name] = _judged(said, float(measured))
    run = str(row["run_id"]) if "run_id" in row else f"row {label}"
    return Score(
        id=one.id,
        target={name: target[name] for name in ("params", "tokens", "flops")},
        run=run,
        **_judged(target, float(row["loss"])),
        standing=standing[0],
        why=standing[1],
        components=components,
        tasks=_tasks(target["tasks"], tasks, run),
        first=first,
    )


def _tasks(
    said: Sequence[Mapping[str, Any]], tasks: pd.DataFrame | None, run: str
) -> tuple[Mapping[str, Any], ...]:
    """The accuracy of each task beside what was said of it."""
    if tasks is None:
        return ()
    mine = tasks[tasks["run_id"].eq(run)].drop_duplicates(["task", "variant"], keep="last")
    found = mine.set_index(["task", "variant"])
    scored = []
    for one in said:
        if (one["task"], one["variant"]) not in found.index:
            continue
        row = found.loc[(one["task"], one["variant"])]
        measured = float(row["correct"]) / float(row["total"])
        if not np.isfinite(measured):
            continue
        known = one["accuracy"] is not None
        inside = (
            {k: one["intervals"][k][0] <= measured <= one["intervals"][k][1] for k in KEYS} if known else None
        )
        named = {name: one[name] for name in ("task", "variant", "accuracy")}
        error = one["accuracy"] - measured if known else None
        scored.append({**named, "measured": measured, "error": error, "inside": inside})
    return tuple(scored)


def _is_of(rows: pd.DataFrame, target: Mapping[str, Any]) -> "pd.Series[bool]":
    if not target["from_budget"]:
        return same_run(rows, target)
    size = (pd.to_numeric(rows["params"], errors="coerce") / target["params"] - 1).abs() <= NEAR_SIZE
    flops = rows["flops"] if "flops" in rows else 6.0 * rows["params"] * rows["tokens"]
    return size & ((flops / target["flops"] - 1).abs() <= SAME_BUDGET)


def _sciences(table: pd.DataFrame, used: "pd.Series[bool]") -> set[str]:
    """The sciences of the rows that a forecast used; none where they are not told apart, or not there."""
    return set(table[COLUMN][used]) if COLUMN in table else set()


def _in(table: pd.DataFrame, sciences: set[str]) -> "pd.Series[bool]":
    every = pd.Series(True, table.index)
    return table[COLUMN].isin(sciences) if sciences and COLUMN in table else every


def _data_changed(
    data: Mapping[str, Any],
    hashes: "pd.Series[str]",
    source: Source,
) -> str:
    """Say how many of the rows that a forecast was made of are not there any more, or nothing; new ones may be."""
    wanted = set(data["rows"])
    missing = wanted - set(hashes)
    if not missing:
        return ""
    try:
        made_of = source(data["source"])
    except UserError:
        made_of = None
    if made_of is None:
        return f"{len(missing)} of the {len(wanted)} rows that it was made of are gone or differ"
    missing = wanted - set(row_hashes(*made_of, data["hashed"]))
    return (
        f"{len(missing)} of the {len(wanted)} rows that it was made of are gone or differ" if missing else ""
    )


def _began(rows: pd.DataFrame, began: Mapping[str, float]) -> float | None:
    """The time at which a run of the target took its first step: its trunk's, where it has one; None: unknown."""
    names = {str(name) for column in ("run_id", "group") if column in rows for name in rows[column]}
    times = [began[name] for name in names if name in began]
    said = rows.get("began_at", ())
    times += [time for value in said if (time := time_of(value)) is not None]
    return min(times, default=None)


def _standing(
    altered: str, data: Mapping[str, Any], registered_at: str, began: float | None
) -> tuple[str, str]:
    if altered:
        return "changed", altered
    if data["has_target"]:
        return "late", "the data it was made of had the target already"
    made = time_of(registered_at)
    if made is None:
        return "changed", f"registered_at is {registered_at!r}, no time"
    if began is not None and began <= made:
        return "late", "its target had begun to train before"
    return "registered", "" if began is not None else "when its run began is not known"


def _calibration(scores: Sequence[Score]) -> dict[str, Any]:
    n = len(scores)
    inside = {}
    for key in KEYS:
        count = sum(score.inside[key] for score in scores)
        share = count / n if n else None
        inside[key] = {"count": count, "share": share, "interval": list(binomial(count, n)) if n else None}
    return {
        "n": n,
        "inside": inside,
        "mean_absolute_error": float(np.mean([abs(s.error) for s in scores])) if n else None,
        "mean_crps": float(np.mean([s.crps for s in scores])) if n else None,
        "pit": [score.pit for score in scores],
    }
