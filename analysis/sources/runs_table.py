"""From runs as a tracker kept them to a table of runs (docs/tables.md), by stated rules (docs/imports.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.sources.run import TrackedRun


@dataclass(frozen=True)
class RunsTable:
    """One row a run and evaluation; `took` says what was taken for what, `problems` what was wrong."""

    table: pd.DataFrame
    took: tuple[str, ...]
    problems: tuple[str, ...]


def runs_table(
    runs: Sequence[TrackedRun], asked: Mapping[str, str] | None = None, loss_at: str = "last"
) -> RunsTable:
    """Make the table of runs. `asked` is {column: name in the source, or a product of names and numbers}."""
    raise NotImplementedError
