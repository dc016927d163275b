"""One module a verb, listed in `catalogue`: `add_arguments(parser)` and `run(table, args) -> Answer`.

The command line is their only caller; the work itself is in `analysis`, as functions. What computes (pandas, scipy,
matplotlib and all that imports them) is imported in `run`, so that --help and a mistake are answered at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The answer of a verb: the stable JSON, and the same for a person's eyes."""

    json: Mapping[str, Any]
    text: str
