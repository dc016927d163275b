"""Compiled programs on the disk: a process that resumes a run neither traces nor lowers its step again.

jax's compilation cache knows a program by its lowered form, which each process must first make anew. Here it is
known by all that it is made from. Nothing is trusted before it has run: `serialize` of a program that jax read from
its own cache gives one without its functions, and that shows when it runs, not when it is read.
"""

import contextlib
import hashlib
import logging
import os
import platform
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lmscale import compilations, source_stamp
from lmscale.durable import make_folder, replace
from lmscale.jsonfiles import canonical
from lmscale.plan import versions

_CACHE = "jax_compilation_cache_dir"  # the one setting of jax that says where, and not what
_log = logging.getLogger(__name__)
Program = Callable[..., Any]
Trees = tuple[Any, Any]  # of the arguments with their (no) keywords, and of what is returned; not in the file


class KeptFunction:
    """A jitted function whose compiled programs, one for each set of argument shapes, are kept in the folder of
    jax's compilation cache. Without one, and on anything but a CPU, it is the jitted function and no more.

    made_from: what decides the function besides the sources of lmscale, as JSON; None for one on several
    devices, which is not kept. returns: the arguments -> a pytree like what the function returns. shorten: the
    arguments -> those of a shorter call of the same shapes that still executes every part, which is how a program
    is tried.
    """

    def __init__(
        self,
        jitted: Any,
        made_from: Mapping[str, Any] | None,
        returns: Callable[..., Any],
        shorten: Callable[..., tuple[Any, ...]] = lambda *arguments: arguments,
    ) -> None:
        self._jitted, self._made_from = jitted, made_from
        self._returns, self._shorten = returns, shorten
        self._ready: dict[Any, Program] = {}
        self._read: list[Path] = []  # the files that are in use
        self._uses_disk = True
        self._making = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        return self._made(arguments, self._program)(*arguments)

    def prepare(self, *arguments: Any) -> None:
        """Compile for arguments of these shapes, in whatever thread: a call that comes meanwhile waits for it."""
        self._made(arguments, lambda arguments: self._jitted.lower(*arguments).compile())

    def _made(self, arguments: tuple[Any, ...], make: Callable[[tuple[Any, ...]], Program]) -> Program:
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arguments))
        if shapes not in self._ready:
            with self._making:
                if shapes not in self._ready:
                    self._ready[shapes] = make(arguments)
        return self._ready[shapes]

    def distrust(self) -> bool:
        """Delete the programs that were read from the disk, and leave all compiling to jax from now on. Returns
        False where none was read: then no failure is theirs."""
        if not self._read:
            return False
        for path in self._read:
            _delete(path)
        self._read.clear()
        self._ready.clear()
        self._uses_disk = False
        return True

    def _program(self, arguments: tuple[Any, ...]) -> Program:
        path = self._path(arguments)
        if path is None:
            return self._jitted
        trees = jax.tree.structure((arguments, {})), jax.tree.structure(self._returns(*arguments))
        return self._from_disk(path, trees, arguments) or self._compiled(path, trees, arguments)

    def _path(self, arguments: tuple[Any, ...]) -> Path | None:
        folder = jax.config.values[_CACHE]
        if not self._uses_disk or self._made_from is None or folder is None or jax.default_backend() != "cpu":
            return None
        try:
            return Path(folder) / f"{key(self._made_from, arguments)}.program"
        except Exception as error:
            _log.info("no compiled program is kept: %s", error)
            return None

    def _from_disk(self, path: Path, trees: Trees, arguments: tuple[Any, ...]) -> Program | None:
        """Read a program and try it. What is damaged or cannot run is deleted."""
        began = time.perf_counter()
        try:
            program = _unpack(path, path.read_bytes(), trees)
            self._try(program, arguments)
        except FileNotFoundError:
            return None
        except Exception as error:
            _log.info("%s is deleted and compiled again: %s", path, error)
            _delete(path)
            return None
        self._read.append(path)
        compilations.count(read=1, seconds=time.perf_counter() - began)
        return program

    def _compiled(self, path: Path, trees: Trees, arguments: tuple[Any, ...]) -> Program:
        """Compile, and keep what a later process would read where it answers as the program itself does."""
        compiled: Program = self._jitted.lower(*arguments).compile()
        try:
            content = _pack(path, compiled, trees)
            if self._try(_unpack(path, content, trees), arguments) != self._try(compiled, arguments):
                raise ValueError("it gives other numbers when it is read again")
            make_folder(path.parent)
            replace(path, [content], kind="program")
        except Exception as error:
            # Mostly jax read it from its own cache. A full disk will be said of what matters.
            _log.info("%s is not kept: %s", path, error)
        return compiled

    def _try(self, program: Program, arguments: tuple[Any, ...]) -> list[bytes]:
        """Run a short call on copies, for a program may take its arguments' memory; return the answer's bytes."""
        copies = jax.device_put(self._shorten(*arguments), may_alias=False)
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(program(*copies))]


def key(made_from: Mapping[str, Any], arguments: Any) -> str:
    """A hash of everything that a compiled program depends on: the function's own numbers, its arguments' tree and
    shapes, the sources of lmscale, versions, jax's settings, XLA's flags, the processor and its cores here."""
    device = jax.devices()[0]
    settings = {name: repr(value) for name, value in jax.config.values.items() if name != _CACHE}
    parts = {
        "made_from": made_from,
        "arguments": str(jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), arguments)),
        "sources": source_stamp.source_hash(),
        "versions": {"python": sys.version, **versions()},
        "settings": settings,
        "flags": {name: os.environ[name] for name in os.environ if name.startswith(("XLA_", "JAX_"))},
        "device": [device.device_kind, device.client.platform_version, jax.device_count()],
        "host": [platform.platform(), _processor(), _cores()],
    }
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def _processor() -> str:
    """Its name and what it can do, which decides the instructions that are compiled for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU ")))


def _cores() -> int:
    """Count the cores that this process may use: work is cut into so many pieces when it is compiled."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pack(path: Path, compiled: Any, trees: Trees) -> bytes:
    # Imported here and below, where any failure only means to compile as ever.
    from jax.experimental.serialize_executable import serialize

    content, *found = serialize(compiled)
    if tuple(found) != trees:
        raise ValueError(f"its trees are {found}, not {trees}")
    packed = zlib.compress(content, 1)
    return _checksum(path, packed) + packed


def _unpack(path: Path, content: bytes, trees: Trees) -> Program:
    from jax.experimental.serialize_executable import deserialize_and_load

    packed = memoryview(content)[32:]
    if _checksum(path, packed) != content[:32]:
        raise ValueError("its checksum does not match")
    program: Program = deserialize_and_load(zlib.decompress(packed), *trees)
    return program


def _checksum(path: Path, packed: bytes | memoryview) -> bytes:
    """Hash the file's name too: what stands under another program's name is not believed."""
    return hashlib.sha256(path.name.encode() + packed).digest()


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is tried again, or not looked at any more
        path.unlink()
