"""The first fits of a ladder that still trains: one at a time in the background, again when more have ended."""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd

from analysis.errors import UserError
from analysis.forecasting.forecast import Forecast, Prediction, extrapolate
from analysis.forecasting.target import FEWEST, RECIPE, law_rows
from analysis.tables.finished import finished_rows
from analysis.tables.run_folder import read_runs
from analysis.tables.science import largest_science
from analysis.watch.follow import Run

# A first look needs no third digit of an interval.
RESAMPLES = 100
# Of its time, what the fits may take from those that train on the same machine.
SHARE = 0.1


@dataclass(frozen=True)
class FirstFit:
    """The law of a part's finished runs (a sentence where there is none yet), and what it says of `target`.

    `widths` are that forecast's, by how many runs it rested on.
    """

    part: str
    runs: int
    forecast: Forecast | str
    target: str = ""
    widths: tuple[tuple[int, Prediction], ...] = ()


@dataclass
class FirstFits:
    """The newest fit of each part; `version` counts them."""

    folder: Path
    found: dict[str, FirstFit] = field(default_factory=dict)
    version: int = 0
    _seen: frozenset[str] = frozenset()
    _next: float = 0.0
    _thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """True while a fit is at work."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, runs: Sequence[Run]) -> None:
        """Fit in the background if more runs have ended than the last fits knew, and enough time has gone by."""
        ended = frozenset(run.run_id for run in runs if run.state == "done")
        if not ended or ended == self._seen or self.busy or time.monotonic() < self._next:
            return
        self._seen = ended
        plans = [(run.part, run.params, run.planned_in_all, run.ended) for run in runs]
        self._thread = threading.Thread(target=self._fit, args=(sorted(ended), plans), daemon=True)
        self._thread.start()

    def _fit(self, ended: list[str], plans: list[tuple[str, float, float, bool]]) -> None:
        began = time.monotonic()
        try:
            self._fit_parts(ended, plans)
        except Exception as error:  # of a thread nobody would see it
            self.found[""] = FirstFit("", 0, f"no fit: {error!r}.")
        self._next = time.monotonic() + (time.monotonic() - began) / SHARE
        self.version += 1

    def _fit_parts(self, ended: list[str], plans: list[tuple[str, float, float, bool]]) -> None:
        table = read_runs([self.folder / run_id for run_id in ended]).runs
        parts = table["part"].fillna("") if "part" in table else pd.Series("", table.index)
        for part in sorted(parts.unique()):
            rows = table[parts == part].reset_index(drop=True)
            waiting = [(n, d) for mine, n, d, over in plans if mine == part and not over and n > 0 and d > 0]
            before = self.found.get(part)
            self.found[part] = first_fit(part, rows, waiting, before.widths if before else ())


def first_fit(
    part: str,
    table: pd.DataFrame,
    waiting: Sequence[tuple[float, float]],
    widths: tuple[tuple[int, Prediction], ...] = (),
) -> FirstFit:
    """Fit the law to the finished runs of a part, and forecast the largest of those that are waited for.

    `waiting` are their params and tokens; where none is, ten times the largest run's compute.
    """
    try:
        rows = law_rows(largest_science(table, finished_rows(table, mixed=True)[0])[0]).rows
    except UserError as error:
        return FirstFit(part, 0, f"{error}.")
    count = len(rows)
    if count < FEWEST:
        return FirstFit(part, count, f"{count} finished runs can carry a law; {FEWEST} are needed.")
    if rows["params"].nunique() < 2 or rows.groupby("params")["tokens"].nunique().max() < 2:
        return FirstFit(part, count, "a law needs two sizes and two horizons of a size.")
    params, tokens = max(waiting, key=lambda run: run[0] * run[1], default=(0.0, 0.0))
    try:
        asked = asdict(replace(RECIPE, bootstrap=RESAMPLES))
        if params:
            target = pd.DataFrame({"params": [params], "tokens": [tokens]})
            forecast = extrapolate(rows, targets=target, **asked)
        else:
            forecast = extrapolate(rows, budgets=[10 * float(rows["flops"].max())], **asked)
    except UserError as error:
        return FirstFit(part, count, f"no law could be fitted to {count} runs: {error}.")
    said = "the largest run that is planned" if params else "ten times the largest run's compute"
    prediction = forecast.predictions[0]
    same = tuple(one for one in widths if one[1].params == prediction.params and one[0] != count)
    return FirstFit(part, count, forecast, said, (*same, (count, prediction))[-6:])
