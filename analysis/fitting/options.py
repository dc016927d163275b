"""The options of a fit: their defaults, their help and what makes each of them wrong."""

from dataclasses import dataclass, field
from typing import Any

from analysis.errors import UserError
from analysis.fitting.objective import LOSSES, SCALES, Objective
from analysis.laws.catalogue import FORMS, get_form
from analysis.laws.law import Form

REGIMES = ("all", "auto")


def _said(help: str, metavar: str | None = None) -> dict[str, Any]:
    """Describe an option to the command line."""
    return {"help": help, "metavar": metavar}


@dataclass(frozen=True)
class FitOptions:
    """The options of a fit: keywords in Python, options of the same names on the command line.

    UserError names an option that is wrong, its value and what would be right.
    """

    form: str | Form = field(
        default="chinchilla", metadata=_said(f"{', '.join(FORMS)}, auto, or FILE.py:NAME", "NAME")
    )
    loss: str = field(default="huber", metadata=_said(", ".join(LOSSES), "NAME"))
    scale: str = field(default="log", metadata=_said(", ".join(SCALES), "NAME"))
    delta: float = field(default=1e-3, metadata=_said("width of the Huber loss"))
    bootstrap: int = field(default=1000, metadata=_said("resamples", "N"))
    group: str | None = field(
        default=None, metadata=_said("rows to resample together (group, where there is one)", "COLUMN")
    )
    regime: str = field(default="all", metadata=_said("all, or auto: leave out a bend", "NAME"))
    seed: int = field(default=0, metadata=_said("of the resamples"))
    level: float = field(default=0.95, metadata=_said("of the intervals"))
    x: str | None = field(default=None, metadata=_said("what a one-variable form reads (flops)", "COLUMN"))

    def __post_init__(self) -> None:
        _ = self.objective
        check_level(self.level)
        if self.bootstrap < 0 or self.bootstrap == 1:
            raise UserError(f"bootstrap = {self.bootstrap}: 0 for none, or at least 2 resamples")
        check_seed(self.seed)
        if self.regime not in REGIMES:
            raise UserError(f"regime = {self.regime}: choose one of {', '.join(REGIMES)}")
        # A file is run when it is needed, once.
        if isinstance(self.form, str) and self.form != "auto" and ":" not in self.form:
            get_form(self.form)

    @property
    def objective(self) -> Objective:
        """The objective that the options name."""
        return Objective(self.loss, self.scale, self.delta)

    @property
    def forms(self) -> list[Form]:
        """The form that is named; none where `auto` has to look at the table."""
        return [] if self.form == "auto" else [get_form(self.form)]


def check_level(level: float) -> None:
    """UserError unless it is a level of an interval."""
    if not 0 < level < 1:
        raise UserError(f"level = {level}: a probability between 0 and 1")


def check_seed(seed: int) -> None:
    """UserError unless numpy's generators take the seed."""
    if not 0 <= seed < 2**32:
        raise UserError(f"seed = {seed}: a whole number from 0 to {2**32 - 1}")
