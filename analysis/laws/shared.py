"""One law for each of several groups of rows, with one irreducible loss for all of them."""

import copyreg
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.laws.law import FLOOR, Form, Named

# The column that holds the number of a row's group.
SHARE = "share"


@dataclass(frozen=True)
class SharedForm(Form):
    """`base` for each of `groups`, which share E: the others of its parameters are `NAME[GROUP]`."""

    base: Form = None  # type: ignore[assignment]  # a subclass of a class with defaults has to have one
    groups: tuple[str, ...] = ()

    def own(self, group: str) -> list[int]:
        """List where the parameters of a group's law are among all, in the order of `base.names`."""
        return [self.names.index(_of(name, group)) for name in self.base.names]


def shared_form(base: Form, groups: tuple[str, ...]) -> SharedForm:
    """Share the floor of `base` (its first parameter) among `groups`, told apart by the column SHARE."""

    def law(p: Any, x: Any) -> Any:
        parts = []
        for group in groups:
            own = Named({name: getattr(p, _of(name, group)) for name in base.names})
            parts.append(base.law(own, x))
        return np.select([x.share == i for i in range(len(groups))], parts, np.nan)

    own = [replace(q, name=_of(q.name, group)) for group in groups for q in base.parameters[1:]]
    return SharedForm(
        name=base.name,
        equation=f"{base.equation}, one E",
        reference=base.reference,
        parameters=(FLOOR, *own),
        columns=(*base.columns, SHARE),
        law=law,
        base=base,
        groups=groups,
    )


def _of(name: str, group: str) -> str:
    return name if name == FLOOR.name else f"{name}[{group}]"


copyreg.pickle(SharedForm, lambda form: (shared_form, (form.base, form.groups)))
