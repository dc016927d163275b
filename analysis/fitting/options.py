"""The options of a fit: their defaults, their help and what makes each of them wrong."""

from dataclasses import dataclass, field
from typing import Any

from analysis.errors import UserError
from analysis.fitting.floor import K_PRIOR, KINDS, Floor
from analysis.fitting.objective import LOSSES, SCALES, Objective
from analysis.laws.catalogue import FORMS, get_form
from analysis.laws.law import Form

REGIMES = ("all", "auto")


def _said(help: str, metavar: str | None = None, kind: type = str) -> dict[str, Any]:
    """Describe an option to the command line; `kind` is its type where its default is None."""
    return {"help": help, "metavar": metavar, "type": kind}


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

    floor: str = field(default="free", metadata=_said(f"irreducible loss E: {', '.join(KINDS)}", "KIND"))
    floor_value: float | None = field(
        default=None, metadata=_said("E of a known floor, or the prior's mean", "NATS", float)
    )
    floor_error: float | None = field(
        default=None, metadata=_said("the prior's standard deviation", "NATS", float)
    )
    floor_source: str | None = field(default=None, metadata=_said("where that comes from", "TEXT"))
    share: str | None = field(
        default=None, metadata=_said("whose law is fitted, of the groups that share a floor", "COLUMN=VALUE")
    )
    k: str = field(
        default="free", metadata=_said(f"chinchilla6's outer power: free, or prior ({K_PRIOR})", "KIND")
    )

    def __post_init__(self) -> None:
        _ = self.objective
        check_level(self.level)
        if self.bootstrap < 0 or self.bootstrap == 1:
            raise UserError(f"bootstrap = {self.bootstrap}: 0 for none, or at least 2 resamples")
        check_seed(self.seed)
        if self.regime not in REGIMES:
            raise UserError(f"regime = {self.regime}: choose one of {', '.join(REGIMES)}")
        if self.floor not in ("known", "prior"):
            for name in ("floor_value", "floor_error", "floor_source"):
                if getattr(self, name) is not None:
                    raise UserError(
                        f"{name} = {getattr(self, name)} (--{name}): floor = {self.floor} has no use for it; "
                        "give floor = known or prior (--floor)"
                    )
        _ = self.given_floor
        if (self.floor == "shared") != (self.share is not None):
            raise UserError(
                f"floor = {self.floor}, share = {self.share}: a shared floor (--floor shared) needs the groups "
                "that share it and the one whose law is wanted (--share COLUMN=VALUE); no other does"
            )
        if self.share is not None and self.k != "free":
            raise UserError(f"k = {self.k} (--k): laws that share a floor have no prior of k; leave it free")
        # A file is run when it is needed, once.
        if isinstance(self.form, str) and self.form != "auto" and ":" not in self.form:
            get_form(self.form)

    @property
    def objective(self) -> Objective:
        """The objective that the options name."""
        return Objective(self.loss, self.scale, self.delta)

    @property
    def given_floor(self) -> Floor:
        """What is known of the floor."""
        return Floor(self.floor, self.floor_value, self.floor_error, self.floor_source)

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
