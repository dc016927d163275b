"""Which run of a pack has which lane of its program, and which wait for a lane. No jax.

A lane whose run has ended is given to the next run of the pack, the longest first. Trunks go in rounds instead: a
state of theirs that branches start from is one file of all lanes at one step. A checkpoint's number grows with
the work: in round r of trunks it is r times `ROUND` and the step.
"""

from collections.abc import Collection, Sequence

from lmscale.plan import Pack
from lmscale.schedule import NEVER

ROUND = NEVER + 1  # no run has so many steps
NAME = "slots"  # of the array in a checkpoint


def rounds(pack: Pack) -> list[list[int]]:
    """List the runs that are trained one set after the other, each set in the order in which lanes are given."""
    runs, width = list(range(len(pack.runs))), pack.width
    if width == len(runs):
        return [runs]
    if pack.pins:
        return [runs[at : at + width] for at in range(0, len(runs), width)]
    steps = [end - start for start, end in zip(pack.start_steps, pack.end_steps, strict=True)]
    return [sorted(runs, key=lambda run: -steps[run])]


def round_at(pack: Pack, ended: Sequence[bool]) -> int:
    """Find the first round with a run that has not ended; the last where all have."""
    sets = rounds(pack)
    return next((n for n, runs in enumerate(sets) if not all(ended[run] for run in runs)), len(sets) - 1)


def first(pack: Pack, at: int, ended: Sequence[bool]) -> list[int]:
    """Give the lanes of a program out at the start of a round. Where fewer runs are left than it has lanes, the
    other lanes are padding: runs that have ended."""
    runs = rounds(pack)[at]
    if len(runs) > pack.width:
        runs = sorted(runs, key=lambda run: ended[run])
    elif len(runs) < pack.width:
        runs = runs + [run for run in range(len(pack.runs)) if run not in runs]
    return runs[: pack.width]


def refills(
    pack: Pack, slots: Sequence[int], free: Collection[int], ended: Sequence[bool]
) -> list[tuple[int, int]]:
    """List (lane, run) for the lanes that are free and the runs that wait, as far as there are both."""
    if pack.pins:
        return []
    taken = set(slots)
    waiting = [run for run in rounds(pack)[0] if not ended[run] and run not in taken]
    return list(zip(sorted(free), waiting, strict=False))


def pin_numbers(pack: Pack, at: int | None = None) -> set[int]:
    """List the numbers of the states that branches start from, of one round or of all."""
    sets = range(len(rounds(pack))) if at is None else [at]
    return {n * ROUND + pin for n in sets for pin in pack.pins}
