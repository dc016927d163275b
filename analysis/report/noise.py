"""Tell where the noise of a ladder comes from: seeds, initialisation, order of the data, the held-out windows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.arrays import Array
from analysis.figures import style
from analysis.report import html
from analysis.tables.finished import horizon_of

_BLOCK = "loss_block_"
_LEVEL = 0.9


@dataclass(frozen=True)
class RungNoise:
    """Standard deviations of one size's losses, as shares of the loss, pooled over its horizons.

    run: between runs of one size and horizon; lower, upper: its 90% interval (chi-square with `free` degrees of
    freedom). initialisation, order, interplay: its components, where seed and order_seed are crossed. windows: what
    of it is due to the held-out windows being few (runs differ otherwise on other windows). shared: how far the
    windows, which all runs share, may put all losses off together. None: the table cannot tell.
    """

    params: float
    horizons: int
    free: int
    run: float
    lower: float
    upper: float
    initialisation: float | None
    order: float | None
    interplay: float | None
    windows: float | None
    shared: float | None


def two_way(values: Array) -> tuple[float, float, float]:
    """Estimate the variances of rows, columns and the rest of a table [R, C] without repeats (Searle, Casella and
    McCulloch 1992, section 4.3); an estimate below 0 is 0."""
    rows, columns = values.shape
    centred = values - values.mean()
    of_rows, of_columns = centred.mean(axis=1), centred.mean(axis=0)
    rest = centred - of_rows[:, None] - of_columns
    left = float((rest**2).sum() / ((rows - 1) * (columns - 1)))
    row = float(columns * (of_rows**2).sum() / (rows - 1))
    column = float(rows * (of_columns**2).sum() / (columns - 1))
    return max(0.0, (row - left) / columns), max(0.0, (column - left) / rows), left


def noise_by_rung(rows: pd.DataFrame) -> list[RungNoise]:
    """Estimate the components of variance of each size that has several runs of one horizon and rate.

    Rows that share a seed as well (five learning rates of one seed, in a column that is not known) differ by more
    than seeds: none then.
    """
    if "seed" not in rows.columns:
        return []
    rows = rows.assign(horizon_tokens=horizon_of(rows))
    known = [name for name in ("learning_rate", "order_seed") if name in rows.columns]
    if rows.duplicated(["params", "horizon_tokens", "seed", *known]).any():
        return []
    place = ["horizon_tokens", *[name for name in known if name == "learning_rate"]]
    found = []
    for params, rung in rows.groupby("params"):
        places = [p for _, p in rung.groupby(place) if len(p) > 1]
        if places:
            found.append(_rung(float(str(params)), places))
    return found


def seed_noise(rows: pd.DataFrame) -> float | None:
    """Pool the standard deviation of log loss between seeds over all sizes; None without seeds."""
    rungs = noise_by_rung(rows)
    free = sum(rung.free for rung in rungs)
    return float(np.sqrt(sum(rung.free * rung.run**2 for rung in rungs) / free)) if rungs else None


def _rung(params: float, places: list[pd.DataFrame]) -> RungNoise:
    logs = [np.log(place["loss"].to_numpy(np.float64)) for place in places]
    free = sum(len(log) - 1 for log in logs)
    squares = float(sum(((log - log.mean()) ** 2).sum() for log in logs))
    tails = stats.chi2.ppf([0.5 + _LEVEL / 2, 0.5 - _LEVEL / 2], free)
    lower, upper = np.sqrt(squares / tails)
    crossed = [two_way(np.log(table)) for place in places if (table := _crossed(place)) is not None]
    blocked = [two_way(table) for place in places if (table := _blocks(place)) is not None]
    initialisation, order, interplay = np.sqrt(np.mean(crossed, axis=0)) if crossed else (None, None, None)
    blocks = sum(name.startswith(_BLOCK) for name in places[0].columns)
    shared, windows = np.sqrt(np.mean(blocked, axis=0)[1:] / blocks) if blocked else (None, None)
    return RungNoise(
        params,
        len(places),
        free,
        float(np.sqrt(squares / free)),
        float(lower),
        float(upper),
        *(None if v is None else float(v) for v in (initialisation, order, interplay, windows, shared)),
    )


def _crossed(place: pd.DataFrame) -> Array | None:
    """The losses [seeds, orders] of a place where each seed was trained with each order."""
    if "order_seed" not in place.columns:
        return None
    table = place.pivot_table("loss", "seed", "order_seed").to_numpy(np.float64)
    return table if min(table.shape, default=0) > 1 and np.isfinite(table).all() else None


def _blocks(place: pd.DataFrame) -> Array | None:
    """The losses [runs, blocks] on each block of the held-out windows, as shares of the place's loss."""
    names = [name for name in place.columns if name.startswith(_BLOCK)]
    table = place[names].to_numpy(np.float64) / place["loss"].mean()
    return table if min(table.shape) > 1 and np.isfinite(table).all() else None


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2g}"


def noise_section(rows: pd.DataFrame) -> html.Section | None:
    """Show by how much runs that differ in their seed alone differ, and what of it comes from where."""
    rungs = noise_by_rung(rows)
    if not rungs:
        return None
    crossed = any(rung.order is not None for rung in rungs)
    blocked = [rung for rung in rungs if rung.windows is not None and rung.shared is not None]
    said = [
        "Standard deviations in % of the loss between runs of one size, horizon and rate, with 90% intervals."
    ]
    if not crossed:
        said.append(
            "A seed decides initialisation and order of the data together; data.order_seed parts them."
        )
    if blocked:
        shared = 100 * float(np.median([rung.shared for rung in blocked if rung.shared is not None]))
        said.append(
            "Windows: what of it comes from the held-out windows being few. All runs share them; as many others "
            f"would move all losses together by {shared:.2g}%."
        )
    header = ["N", "horizons", "degrees of freedom", "between runs", "90% interval"]
    header += ["initialisation", "order", "interplay"] * crossed + ["windows"] * bool(blocked)
    cells = []
    for rung in rungs:
        row = [style.count(rung.params), rung.horizons, rung.free, _share(rung.run)]
        row.append(f"{_share(rung.lower)} to {_share(rung.upper)}")
        row += [_share(v) for v in (rung.initialisation, rung.order, rung.interplay)] * crossed
        row += [_share(rung.windows)] * bool(blocked)
        cells.append(row)
    inner = html.joined(html.paragraph(*said), html.table(header, cells))
    return html.Section("Where the noise comes from", inner)
