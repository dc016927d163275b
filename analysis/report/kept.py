"""Hold the forecasts registered in a folder beside the ladder that each is of: what it said and what came.

Scoring is `forecasting.score`'s; here each forecast's law is fitted again, for its lines and the interval of its E.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import Code, UserError, Warn
from analysis.fitting.options import FitOptions
from analysis.fitting.result import Fit
from analysis.forecasting.defaults import RECIPE
from analysis.forecasting.forecast import Prediction, extrapolate
from analysis.forecasting.promise import SAME, row_hashes
from analysis.forecasting.registry import registered
from analysis.forecasting.score import Score, Verification, verify_table
from analysis.forecasting.target import law_rows
from analysis.report.source import Source
from analysis.tables.load import load_table, tasks_of

FOLDER = "forecasts"
# A law that is fitted again to the same rows gives what was registered within this; else it is another law.
AGAIN = 1e-4
# Sizes whose law is drawn: a plane of many says no more.
_MOST_LINES = 40


@dataclass(frozen=True)
class Kept:
    """A registered forecast of one run, and the scores of the runs of its target (none: not measured yet).

    `prediction` bounds one new run at 90%. `recipe` are the options of its law, `columns` the columns of the table
    under the names that its law reads, such as which parameters N counts. `used` [rows of the ladder], `fitted` and
    `lines` are its rows, its law (of several that are weighed, the first) and its losses along each size, fitted
    again; None and none where these rows are gone, or the law is not the one that was registered.
    """

    id: str
    cut: float | None
    prediction: Prediction
    content: Mapping[str, Any]
    scores: tuple[Score, ...]
    recipe: FitOptions
    columns: str
    used: np.ndarray | None = None
    fitted: Fit | None = None
    lines: Mapping[float, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def of_target(self) -> str:
        """Say in a word how far below its target its runs end."""
        return f"C/{self.cut:g}" if self.cut else "all runs"

    @property
    def runs(self) -> set[str]:
        """The runs that say which ladder this is of: the planned one, one that was used, those measured."""
        target = self.content["targets"][0]
        return {str(target[name]) for name in ("run_id", "like") if name in target} | {
            score.run for score in self.scores
        }

    @property
    def warnings(self) -> tuple[Warn, ...]:
        """Its warnings, as far as this version knows their words."""
        known = {code.value: code for code in Code}
        said = self.content.get("warnings", ())
        return tuple(Warn(known[w["code"]], w["message"]) for w in said if w["code"] in known)


def kept_forecasts(source: Source) -> tuple[tuple[Kept, ...], Verification | None]:
    """Read and score the forecasts registered in a folder of runs; none for a file, whose name says no ladder."""
    folder = Path(source.path) / FOLDER
    if not (source.is_folder and folder.is_dir()):
        return (), None
    try:
        found = registered(folder)
        # A filter leaves runs out of a report; a forecast's rows are there all the same.
        scored = verify_table(source.path, load_table(source.path, columns=source.columns), folder)
    except UserError:
        return (), None
    kept = []
    for one in found:
        mine = tuple(score for score in scored.scores if score.id == one.id)
        try:
            kept.append(_kept(one.id, one.content, mine))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, UserError):
            continue  # edited: the notes of `scored` name it
    return tuple(kept), scored


def _kept(name: str, content: Mapping[str, Any], scores: tuple[Score, ...]) -> Kept:
    data, recipe = content["data"], replace(RECIPE, **content.get("recipe", {}))
    columns = str(data["source"].get("columns", ""))
    return Kept(name, data["cut"], _prediction(content), content, scores, recipe, columns)


def _prediction(content: Mapping[str, Any]) -> Prediction:
    (said,) = content["targets"]
    low, high = (float(value) for value in said["intervals"]["0.9"])
    loss, ratio = float(said["loss"]), float(content["flops_ratio"])
    params, tokens, flops = (float(said[name]) for name in ("params", "tokens", "flops"))
    return Prediction(params, tokens, flops, loss, low, high, 0.9, ratio)


def of_ladder(kept: Sequence[Kept], table: pd.DataFrame) -> tuple[Kept, ...]:
    """Choose the forecasts of the largest target among those of the runs in `table`, nearest cut first, the last
    registered of each cut."""
    runs = set(table["run_id"].astype(str)) if "run_id" in table.columns else set()
    mine = [one for one in kept if one.runs & runs]
    if not mine:
        return ()
    top = max(one.prediction.flops or 0.0 for one in mine)
    by_cut = {one.cut: one for one in mine if (one.prediction.flops or 0.0) >= top * (1 - SAME)}
    return tuple(by_cut[cut] for cut in sorted(by_cut, key=lambda cut: cut or 0.0))


def with_law(one: Kept, table: pd.DataFrame, source: Source) -> Kept:
    """Fit the law of a forecast again to its rows of `table`, whose columns have the names that it reads."""
    data, (said,) = one.content["data"], one.content["targets"]
    point = {name: float(said[name]) for name in ("params", "tokens", "flops")}
    hashed = table.assign(row_hash=row_hashes(table, tasks_of(source.path), data["hashed"]))
    rows = law_rows(hashed).rows
    used = rows["row_hash"].isin(data["rows"]).to_numpy()
    if used.sum() < len(data["rows"]):
        return one
    target = pd.DataFrame([point])
    ends = pd.concat([target.assign(tokens=rows["tokens"].min()), target])
    ends["flops"] *= ends["tokens"] / point["tokens"]
    apart = (rows["params"] / point["params"] - 1).abs() > SAME
    grid = pd.concat([target, *along_tokens(pd.concat([rows[apart], ends], ignore_index=True))])
    try:
        law = extrapolate(
            rows[used].drop(columns="row_hash").reset_index(drop=True), targets=grid, **asdict(one.recipe)
        )
    except UserError:
        return one
    losses = np.asarray([said.loss for said in law.predictions])
    if abs(losses[0] / one.prediction.loss - 1) > AGAIN:
        return replace(one, used=used)
    return replace(one, used=used, fitted=law.fit, lines=by_size(grid.assign(loss=losses)[1:]))


def by_size(grid: pd.DataFrame) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Return the compute and the loss of each size of a grid."""
    sizes: list[float] = grid["params"].unique().tolist()
    drawn = [grid[grid["params"].eq(size)] for size in sizes]
    return {s: (d["flops"].to_numpy(), d["loss"].to_numpy()) for s, d in zip(sizes, drawn, strict=True)}


def along_tokens(rows: pd.DataFrame, points: int = 24) -> list[pd.DataFrame]:
    """Each size that was trained at several horizons, along tokens: where the law is drawn."""
    parts = []
    sizes = rows.groupby("params")["tokens"].agg(["min", "max"])
    several = sizes.index[sizes["max"] > 1.05 * sizes["min"]]
    # Of very many sizes some, evenly: more lines are a surface.
    for size in several[:: -(-len(several) // _MOST_LINES) or 1].tolist():
        group = rows[rows["params"] == size]
        low, high = group["tokens"].min(), group["tokens"].max()
        tokens = np.geomspace(low / 1.2, high * 1.15, points)
        per_token = float((group["flops"] / group["tokens"]).mean())
        parts.append(pd.DataFrame({"params": size, "tokens": tokens, "flops": per_token * tokens}))
    return parts
