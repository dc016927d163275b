"""A corpus without opening it: counts, hashes and components. No jax, no tokens."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmscale.jsonfiles import digest

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

    unique_tokens: U, training tokens of the primary component. sources: names, versions, sizes, hashes, the share
    that is held out, what was left out; tokenizer and bytes_per_token, the bytes of text behind a held-out target;
    of a text of known entropy floor and floor_heldout (`known_entropy.floors`); of a mixture the training tokens of
    each source (segments) and their shares; of cleaned text what was removed (clean, `cleaning.clean`).
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

    @property
    def unit(self) -> dict[str, Any]:
        """The fields of spec.json's `data` that say what a loss is per: none for bytes; else the `tokenizer` and
        `bytes_per_token`, by which nats per token are divided to give nats per byte, where it is known."""
        if self.sources.get("tokenizer", "bytes") == "bytes":
            return {}
        return {name: self.sources[name] for name in ("tokenizer", "bytes_per_token") if name in self.sources}

    @property
    def floor(self) -> dict[str, float]:
        """The fields of spec.json's `data` that say how low the loss of the text can be, nats a token: none where
        nobody knows; `floor` in expectation, and `floor_heldout` on the held-out windows themselves."""
        return {name: self.sources[name] for name in ("floor", "floor_heldout") if name in self.sources}

    @property
    def heldout(self) -> dict[str, str]:
        """The field of spec.json's `data` that says on which text a loss is measured: equal for recipes that may be
        compared. None before the corpus is scanned."""
        if "heldout" not in self.sources:
            return {}
        fixed = [self.sources["heldout"]["sha256"], self.sources["heldout_rows"], self.context]
        return {"heldout_hash": digest(fixed)}

    def passes(self, tokens: float) -> float:
        """Count how often a run of so many tokens (all components) has seen each unique token of the text."""
        return passes(tokens, self.to_json())

    def summary(self) -> list[str]:
        """Say in a few lines what the text holds and what was left out of it."""
        sources = self.sources
        lines = [
            f"{self.name}: {self.unique_tokens:,} training tokens, {self.heldout_tokens:,} held out "
            f"({sources['heldout_share']:.1%} of the text), content {self.content_hash}"
        ]
        if "bytes_per_token" in self.unit:
            unknown = f"; {share:.2%} of it unknown to it" if (share := sources.get("unknown_share")) else ""
            lines.append(
                f"  a token is {sources['bytes_per_token']:.3f} bytes of held-out text "
                f"({sources['tokenizer']}{unknown})"
            )
        elif self.unit:
            lines.append(
                "  losses are in nats a token: bytes cannot be counted, for data.tokenizer names no tokenizer.json"
            )
        if self.floor:
            lines.append(
                f"  a sample of its Markov chain with {sources['markov_order']} bytes of context: no loss below "
                f"{sources['floor']:.4f} nats in windows of {self.context} ({sources['floor_heldout']:.4f} on the "
                "held-out ones)"
            )
        for source, tokens in sources.get("segments", {}).items():
            lines.append(
                f"  {sources['mixture'][source]:.1%} of the text rows from {source}: {tokens:,} tokens"
            )
        counts = {"copies": "duplicates", "nulls": "null_texts", "empty texts": "empty_texts"}
        left_out = [f"{sources[key]:,} {name}" for name, key in counts.items() if sources.get(key)]
        if left_out:
            lines.append(f"  left out: {', '.join(left_out)}")
        if "left_out" in sources:
            what = "16-bit tokens" if sources["kind"] == "tokens" else "text"
            lines.append(_unread(sources["left_out"], f"{sources['bytes']:,} bytes of {what}"))
        if "clean" in sources:
            lines += _cleaned(sources["clean"])
        return lines

    @property
    def tasks_left_out(self) -> list[str]:
        """A sentence for each task of a folder that cannot be scored."""
        found: list[str] = self.sources["tasks_left_out"]
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what manifest.json holds."""
        return dataclasses.asdict(self)


def _unread(left: Mapping[str, int], read: str) -> str:
    """A line on what data.most_bytes left unread."""
    begun = f"  data.most_bytes stopped the reading after {read}: "
    if not left:
        return begun + "a stream, which does not say how much it has besides"
    parts = [f"{left['files']:,} files"] * (left["files"] > 0) + ["the rest of one"] * left["files_in_part"]
    return (
        f"{begun}{' and '.join(parts)} not read, {left['bytes']:,} bytes on disk; files are read by name, so this "
        "is no sample of all"
    )


def _cleaned(report: Mapping[str, Any]) -> list[str]:
    """Lines on what was removed from the training text."""
    before, after = report["before"], report["after"]
    lines = [
        f"  cleaned ({', '.join(report['steps'])}): {after['documents']:,} of {before['documents']:,} training "
        f"documents stay, {after['bytes'] / before['bytes']:.1%} of the bytes"
    ]
    for reason, part in report["removed"].items():
        lines.append(f"    {reason}: {part['documents']:,} documents, {part['bytes']:,} bytes removed")
    if "quality" in report["steps"]:
        quality = report["steps"]["quality"]
        lines.append(
            f"    the classifier puts good text above raw with probability {quality['auc']:.3f} "
            f"({quality['examples']:,} pieces of each; {quality['classifier'][:16]})"
        )
    return lines


def passes(tokens: float, data: Mapping[str, Any]) -> float:
    """Count `Manifest.passes` by what a run's spec says of its data."""
    rows = {component["name"]: component["rows"] for component in data["components"]}
    return float(tokens * rows[data["primary"]] / sum(rows.values()) / data["unique_tokens"])
