"""What a corpus holds, without opening it: counts, hashes and components. No jax, no tokens."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmscale.errors import UserError

FILE = "manifest.json"


@dataclass(frozen=True)
class Component:
    """A named share of the loss. rows: of a batch. counted: which targets count, "all" or "answer"."""

    name: str
    weight: float
    rows: int
    counted: str


@dataclass(frozen=True)
class Manifest:
    """A corpus as scanned. content_hash: of everything that fixes the tokens a run sees, given its seed.

    unique_tokens: U, training tokens of the primary component. sources: names, versions, sizes, hashes.
    tasks: what spec.json says of each task. text_key: the folder of the tokens, below the corpus's.
    """

    name: str
    content_hash: str
    primary: str
    unique_tokens: int
    heldout_tokens: int
    vocab_size: int
    context: int
    components: tuple[Component, ...]
    tasks: dict[str, dict[str, Any]]
    sources: dict[str, Any]
    text_key: str

    def passes(self, tokens: float) -> float:
        """How often a run of so many tokens (all components) has seen each unique token of the text."""
        return passes(tokens, self.to_json())

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def passes(tokens: float, data: Mapping[str, Any]) -> float:
    """`Manifest.passes`, by what a run's spec says of its data."""
    rows = {component["name"]: component["rows"] for component in data["components"]}
    return float(tokens * rows[data["primary"]] / sum(rows.values()) / data["unique_tokens"])


def from_json(value: dict[str, Any]) -> Manifest:
    """The inverse of `Manifest.to_json`."""
    return Manifest(**{**value, "components": tuple(Component(**c) for c in value["components"])})


def load_manifest(folder: Path) -> Manifest:
    """The manifest of the last scan into `folder`. UserError where there is none."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise UserError(f"data: {path} does not exist; make the corpus first: make data")
    return from_json(json.loads(path.read_text()))
