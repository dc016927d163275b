"""The fields of a data recipe: what is cleaned away, by what quality is judged, which sources are mixed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lmscale.errors import UserError
from lmscale.typed import between, nearest

STEPS = ("quality", "dedup")  # of data.clean
BUILT_IN = ("stdlib", "packages")  # sources that need no files
LEAST_SHARE = 1 / 512  # of a source in a mixture: one row of a block


@dataclass(frozen=True)
class QualityConfig:
    """The classifier of data.clean=[quality] and how much it keeps.

    good: the source that documents should resemble. raw: the one that they should not (null: the training text
    itself). keep: the share of the training text, in bytes, that is kept, the best first.
    """

    good: str | None = None
    raw: str | None = None
    keep: float = 0.5

    def __post_init__(self) -> None:
        between("data.quality.keep", self.keep, 0, 1)


def check_recipe(
    clean: tuple[str, ...],
    quality: QualityConfig,
    threshold: float,
    mixture: Mapping[str, float],
    sources: Mapping[str, tuple[str, ...]],
) -> None:
    """Refuse steps, sources and weights that cannot be; each in one line."""
    for step in clean:
        if step not in STEPS:
            raise UserError(f"data.clean={list(clean)}: {step} is no step; there are {', '.join(STEPS)}")
    if len(set(clean)) < len(clean):
        raise UserError(f"data.clean={list(clean)}: a step stands twice")
    between("data.dedup_threshold", threshold, 0.2, 1)
    for name, files in sources.items():
        if name in BUILT_IN or not name.isidentifier():
            raise UserError(
                f"data.sources.{name}: a source is named by letters, digits and _, and not {' or '.join(BUILT_IN)}"
            )
        if not files:
            raise UserError(f"data.sources.{name}=[]: give its files, such as [texts/*.txt]")
    if "quality" in clean and quality.good is None:
        raise UserError(
            "data.quality.good=None: data.clean=[quality] needs a source of good text: stdlib, packages or a name "
            "of data.sources"
        )
    known = [*BUILT_IN, *sources]
    named = [("data.quality.good", quality.good), ("data.quality.raw", quality.raw)]
    for field, source in [*named, *(("data.mixture", name) for name in mixture)]:
        if source is not None and source not in known:
            where = f"give its files as data.sources.{source}; {nearest('', source, known)}"
            raise UserError(f"{field}={source}: no such source; {where}")
    if quality.good is not None and quality.good == quality.raw:
        raise UserError(
            f"data.quality.raw={quality.raw}: it is data.quality.good as well; name another source"
        )
    if mixture:
        _check_weights(mixture)


def _check_weights(mixture: Mapping[str, float]) -> None:
    if not math.isclose(sum(mixture.values()), 1, abs_tol=1e-6):
        raise UserError(
            f"data.mixture={dict(mixture)}: the weights sum to {sum(mixture.values()):.6g}; they must sum to 1"
        )
    for name, weight in mixture.items():
        if weight < LEAST_SHARE:
            raise UserError(
                f"data.mixture.{name}={weight}: must be at least {LEAST_SHARE:.2g}; leave a source out to drop it"
            )
