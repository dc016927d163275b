"""The programs of this process: how many were compiled, how many read from a cache, and the seconds of both."""

import dataclasses
from typing import Any, Self

import jax


@dataclasses.dataclass(frozen=True)
class Programs:
    """Counts of programs. seconds: of compiling and of reading."""

    compiled: int = 0
    read: int = 0
    seconds: float = 0.0

    def since(self, before: Self) -> "Programs":
        """Return what came after `before`."""
        seconds = round(self.seconds - before.seconds, 3)
        return Programs(self.compiled - before.compiled, self.read - before.read, seconds)


_COMPILED = "/jax/core/compile/backend_compile_duration"  # also where jax's cache had it
_READ = "/jax/compilation_cache/cache_hits"
_programs = Programs()


def programs() -> Programs:
    """Return the counts so far, of jax and of what `compiled` keeps."""
    return _programs


def count(compiled: int = 0, read: int = 0, seconds: float = 0.0) -> None:
    """Count programs, or the seconds that one took."""
    global _programs
    _programs = Programs(_programs.compiled + compiled, _programs.read + read, _programs.seconds + seconds)


def _on_duration(event: str, duration_secs: float, **_: Any) -> None:
    if event == _COMPILED:
        count(compiled=1, seconds=duration_secs)


def _on_event(event: str, **_: Any) -> None:
    if event == _READ:
        count(compiled=-1, read=1)  # the duration that ends this call counts it as compiled


jax.monitoring.register_event_duration_secs_listener(_on_duration)
jax.monitoring.register_event_listener(_on_event)
