"""The parts of an experiment: ladders in one plan, one folder and one report. A part is a label, and no science."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lmscale.durable import make_folder
from lmscale.errors import UserError
from lmscale.jsonfiles import read_json, write_json
from lmscale.plan import Plan
from lmscale.typed import nearest

FILE = "parts.json"  # {run id: part}, beside the runs: a report calls its ladders so


class Part(NamedTuple):
    """The overrides that make a ladder: `before` those of the command line for all, and `after` them."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def parts_of(parts: Mapping[str, Sequence[str]], typed: Sequence[str], only: str | None) -> list[Part]:
    """List the parts to compose, one without a name where the experiment has none.

    parts: the experiment's. typed: `NAME.OVERRIDE` for one part alone. only: the part that is asked for. UserError
    for a part that there is not, or that has no overrides.
    """
    of_one: dict[str, list[str]] = {}
    for argument in typed:
        name, _, override = argument.partition(".")
        _check(f"parts.{name}", name, parts)
        of_one.setdefault(name, []).append(override)
    if only is not None:
        _check(f"part={only}", only, parts)
    for name, overrides in parts.items():
        if not overrides:
            raise UserError(
                f"parts.{name}=[]: give what makes this part, such as [data=known_entropy,tasks=none]"
            )
    found = [Part(name, tuple(before), tuple(of_one.get(name, ()))) for name, before in parts.items()]
    return [part for part in found if only in (None, part.name)] or [Part("", (), ())]


def _check(given: str, name: str, parts: Mapping[str, Sequence[str]]) -> None:
    if name not in parts:
        known = nearest("", name, parts) if parts else "the experiment has no parts"
        raise UserError(f"{given}: no such part; {known}")


def write_parts(folder: Path, plan: Plan) -> None:
    """Write which part each run belongs to, beside what earlier plans wrote of theirs."""
    if not plan.part_of:
        return
    path = folder / FILE
    before = read_json(path) if path.is_file() else {}
    if {**before, **plan.part_of} != before:
        make_folder(folder)
        write_json(path, {**before, **plan.part_of})
