"""What a person says of a law's irreducible loss (and of chinchilla6's outer power); `known` puts it into a fit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.errors import UserError
from analysis.laws.law import Form

KINDS = ("free", "prior", "shared", "known")
POWERS = ("free", "prior")


@dataclass(frozen=True)
class Floor:
    """The irreducible loss E of a fit, in nats: `known` to be `value`, a normal `prior` of `value` +- `error`,
    `shared` by groups of rows, or `free`; of the last two, `value` and `error` are what was found.

    UserError names what a kind lacks, or what it has no use for.
    """

    kind: str = "free"
    value: float | None = None
    error: float | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"floor = {self.kind}: choose one of {', '.join(KINDS)}")
        if self.kind not in ("prior", "known"):
            return
        if self.value is None or not 0.0 <= self.value < math.inf:
            raise UserError(
                f"floor = {self.kind} (--floor {self.kind}): floor_value = {self.value}; give the irreducible "
                "loss, zero or more, in the table's units (--floor_value NATS)"
            )
        if not (self.source or "").strip():
            raise UserError(
                f"floor = {self.kind} (--floor {self.kind}): floor_source is missing; say where "
                f'{self.value:g} comes from (--floor_source "TEXT"): the answer prints it'
            )
        if self.kind == "prior" and (self.error is None or not 0.0 < self.error < math.inf):
            raise UserError(
                f"floor = prior (--floor prior): floor_error = {self.error}; give the prior's standard deviation, "
                "a positive number in the table's units (--floor_error NATS), or floor = known for none"
            )
        if self.kind == "known" and self.error is not None:
            raise UserError(
                f"floor = known (--floor known): floor_error = {self.error:g}: a known floor has none; "
                "give floor = prior"
            )

    def __str__(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.3g}"
        value = "" if self.value is None else f", {self.value:.5g}{error}"
        return f"{self.kind}{value} ({self.source})"

    def to_json(self) -> dict[str, Any]:
        """Make the `floor` of a JSON."""
        return dict(self.__dict__)


# As the prior of k: half the range of published fits as its standard deviation.
K_PRIOR = Floor("prior", 0.38, 0.07, "published fits of the outer power: 0.31 to 0.45")


def forms_with(forms: Sequence[Form], floor: Floor, power: str) -> list[Form]:
    """Keep the forms that the floor can be given to; UserError where none is, or where a prior of k has no k."""
    able = [form for form in forms if floor.kind == "free" or form.floor is not None]
    if not able:
        raise UserError(
            f"floor = {floor.kind} (--floor {floor.kind}): {forms[0].name} has no irreducible loss E of its own; "
            "choose power_const, chinchilla, chinchilla6, tied, data_constrained or moe, or leave the floor free"
        )
    if power not in POWERS:
        raise UserError(f"k = {power} (--k {power}): choose one of {', '.join(POWERS)}")
    if power == "prior" and not any(has_power(form) for form in able):
        raise UserError(
            f"k = prior (--k prior): {able[0].name} has no outer power k; choose chinchilla6, or k = free"
        )
    return able


def has_power(form: Form) -> bool:
    """True where the law's outer power k is a parameter of its own."""
    return form.structure is not None and form.structure.outer == "k" and "k" in form.names
