"""The plans by name: which rungs a sweep trains, for how long, at which rates.

No jax and no tokens. A new plan is a function `(PlanConfig, Ladder) -> Chosen` and an entry of `PLANS`;
`plan=NAME` selects it.
"""

from collections.abc import Callable
from typing import NamedTuple

from lmscale.plans import files, horizons
from lmscale.plans.config import PlanConfig
from lmscale.plans.rungs import Chosen, Ladder


class Entry(NamedTuple):
    """A way to choose runs. reads: the fields of PlanConfig that it reads; the others stay at their defaults."""

    choose: Callable[[PlanConfig, Ladder], Chosen]
    reads: tuple[str, ...] = ()


PLANS: dict[str, Entry] = {
    "grid": Entry(horizons.grid),
    "isoflop": Entry(horizons.isoflop, ("budgets",)),
    "ratio": Entry(horizons.ratio, ("tokens_per_param", "params")),
    "tune": Entry(horizons.tune, ("factors", "batches")),
    "from_fit": Entry(files.from_fit, ("fit", "budget", "params")),
    "design": Entry(files.design, ("file",)),
}
