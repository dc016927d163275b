"""What a reader of a format gives: runs as their tracker kept them, or a table that is one already."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class TrackedRun:
    """One run as its tracker kept it.

    config: its settings, flat, with dotted keys. history: one row a logged step in the order of the file, rows
    that a restart repeats still in it; a column "step" and one a metric, under the source's own name, NaN where it
    was not logged. finished: whether it ended, None where the source does not say. notes: what a person should know
    of how it was read, as sentences.
    """

    name: str
    config: Mapping[str, object]
    history: pd.DataFrame
    finished: bool | None
    group: str = ""
    notes: tuple[str, ...] = ()


def told_apart(runs: Iterable[TrackedRun]) -> list[TrackedRun]:
    """Give every run a name of its own: the second of one name is NAME#2."""
    seen: Counter[str] = Counter()
    apart = []
    for run in runs:
        seen[run.name] += 1
        again = seen[run.name]
        apart.append(run if again == 1 else replace(run, name=f"{run.name}#{again}"))
    return apart


@dataclass(frozen=True)
class Source:
    """A format by its `kind`; `what` is a line for --help and the docs.

    `recognises` looks at the content of a file or folder; it is cheap and never raises. `read` gives runs, or a
    DataFrame where the rows are a table already (task scores); it raises UserError, one line that names the file.
    """

    kind: str
    what: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], list[TrackedRun] | pd.DataFrame]
