"""The run that a sweep forecasts before it is trained: the order of its packs, and no science."""

from dataclasses import dataclass

from lmscale.errors import UserError
from lmscale.typed import at_least, positive


@dataclass(frozen=True)
class TargetConfig:
    """The target of a ladder's forecast: the rung `dial` at `tokens` (null: its longest horizon), first seed.

    A rung or a horizon that the ladder lacks is added to it. The whole rung is trained after the forecast is
    registered, and so is what the forecast may not use. cuts: a forecast for each, from runs of at most 1/cut of
    the target's compute; none: one forecast from all other rungs. options: more of `python -m analysis forecast`,
    such as its law and its rows (--where). Without a dial nothing is forecast or waits.
    """

    dial: int | None = None
    tokens: float | None = None
    cuts: tuple[float, ...] = ()
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.tokens is not None:
            positive("target.tokens", self.tokens)
            if self.dial is None:
                raise UserError(f"target.tokens={self.tokens:g}: give its rung too, target.dial=...")
        for cut in self.cuts:
            at_least("target.cuts", cut, 1)
