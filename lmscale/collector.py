"""Python's garbage collector while a process starts: it rests, and never walks what is there afterwards."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def resting() -> Iterator[None]:
    """Keep the collector off until `wake`, or the end of the body.

    Imports and traces make a million objects and little garbage: walking them took a tenth of a start.
    """
    gc.collect()  # what an earlier pack left must not be frozen with the rest
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def wake() -> None:
    """End the rest, if there is one: the start is over, and what it made stays until the process ends."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
