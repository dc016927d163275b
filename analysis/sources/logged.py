"""What the readers of trackers share: rows of single values made a history, and a run of its parts."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.sources.run import TrackedRun


def history_of(step: Sequence[int], metric: Sequence[str], value: Sequence[float]) -> pd.DataFrame:
    """Make a history of values in the order of the file: a row a step, and one more for each time that a metric
    comes again at a step."""
    long = pd.DataFrame(
        {"step": np.asarray(step, np.int64), "metric": pd.Series(metric, dtype="category"), "value": value}
    )
    if long.empty:
        return pd.DataFrame({"step": pd.Series(dtype=np.int64)})
    again = long.groupby(["step", "metric"], observed=True).cumcount()
    row, rows = pd.factorize(pd.MultiIndex.from_arrays([long["step"], again]))  # in the order of appearance
    names = long["metric"].cat.categories
    table = np.full((len(rows), len(names)), np.nan)
    table[row, long["metric"].cat.codes] = long["value"]
    metrics = pd.DataFrame(table, columns=names).drop(columns="step", errors="ignore")
    return pd.concat([pd.DataFrame({"step": rows.get_level_values(0)}), metrics], axis=1)


def run_of(
    name: str, config: Mapping[str, object], history: pd.DataFrame, ended: bool | None, note: str = ""
) -> TrackedRun:
    """Make a run of its parts. The trunk of a branched schedule (`kind: trunk`, as lmscale sends it) stops before
    its rate falls: that is no end of a run."""
    finished = ended and config.get("kind") != "trunk"
    return TrackedRun(name, config, history, finished, str(config.get("group", "")), (note,) if note else ())
