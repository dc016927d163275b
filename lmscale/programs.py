"""Compiled programs on the disk: a process that resumes a run neither traces nor lowers its step again.

jax's compilation cache knows a program by its lowered form, which each process must first make anew. Here it is
known by all that it is made from. What is kept is the runtime's own bytes, with a checksum; no pickle.
"""

import hashlib
import logging
import os
import platform
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from lmscale import sources
from lmscale.durable import make_folder, replace
from lmscale.jsonfiles import canonical
from lmscale.plan import versions

_CACHE = "jax_compilation_cache_dir"  # the one setting of jax that says where, and not what
_log = logging.getLogger(__name__)


class Kept:
    """A jitted function whose compiled programs, one for each set of argument shapes, are kept in the folder of
    jax's compilation cache. Without one, and on anything but a CPU, it is the jitted function and no more.

    made_from: what decides the function besides the sources of lmscale, as JSON. returns: the arguments -> a
    pytree like what the function returns.
    """

    def __init__(self, jitted: Any, made_from: Mapping[str, Any], returns: Callable[..., Any]) -> None:
        self._jitted, self._made_from, self._returns = jitted, made_from, returns
        self._ready: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arguments))
        if shapes not in self._ready:
            self._ready[shapes] = self._program(arguments)
        return self._ready[shapes](*arguments)

    def _program(self, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        folder = jax.config.values[_CACHE]
        if folder is None or jax.default_backend() != "cpu":
            return self._jitted
        tree = jax.tree.structure(self._returns(*arguments))
        path = None
        try:
            path = Path(folder) / f"{key(self._made_from, arguments)}.program"
            return _load(path, len(jax.tree.leaves(arguments)), tree)
        except FileNotFoundError:
            pass
        except Exception as error:  # damaged, or no key, or a runtime that says no: as if it were not there
            _log.info("no kept program is used: %s", error)
        compiled: Callable[..., Any] = self._jitted.lower(*arguments).compile()
        try:
            if path:
                _save(path, compiled, tree)
        except Exception as error:  # a full disk will be said of what matters
            _log.info("%s is not kept: %s", path, error)
        return compiled


def key(made_from: Mapping[str, Any], arguments: Any) -> str:
    """A hash of everything that a compiled program depends on: the function's own numbers, its arguments' tree and
    shapes, the sources of lmscale, versions, jax's settings, XLA's flags, the processor and its cores here."""
    device = jax.devices()[0]
    settings = {name: repr(value) for name, value in jax.config.values.items() if name != _CACHE}
    parts = {
        "made_from": made_from,
        "arguments": str(jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), arguments)),
        "sources": sources.hashed(),
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
    """How many this process may use: work is cut into so many pieces when it is compiled."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _save(path: Path, compiled: Any, returns: Any) -> None:
    executable = compiled.runtime_executable()
    if compiled.out_tree != returns:
        raise ValueError(f"it returns {compiled.out_tree}, not {returns}")
    content = zlib.compress(executable.serialize(), 1)
    make_folder(path.parent)
    replace(path, (_checksum(path, content), content), kind="program")


def _checksum(path: Path, content: bytes | memoryview) -> bytes:
    """Of its name too: what stands under another program's name is not believed."""
    return hashlib.sha256(path.name.encode() + content).digest()


def _load(path: Path, n_arguments: int, returns: Any) -> Callable[..., Any]:
    # Here, where any of them may be missing: other versions of jax then compile as ever. All are looked up before
    # the first call, which takes its arguments' memory and could not be made again another way.
    from jaxlib import _jax, xla_client

    disassemble = _jax.ExecuteResults.disassemble_into_single_device_arrays
    content = memoryview(path.read_bytes())
    if _checksum(path, content[32:]) != content[:32]:
        raise ValueError(f"the checksum of {path} does not match")
    devices = jax.devices()[:1]
    executable = devices[0].client.deserialize_executable(
        zlib.decompress(content[32:]), xla_client.DeviceList(tuple(devices))
    )
    execute = executable.execute_sharded
    if len(executable.get_parameter_layouts()) != n_arguments:
        raise ValueError(f"{path} does not take all {n_arguments} arguments")

    def program(*arguments: Any) -> Any:
        leaves = jax.tree.leaves(arguments)
        there = [leaf if isinstance(leaf, jax.Array) else jax.device_put(leaf) for leaf in leaves]
        answers = disassemble(execute(there))
        return jax.tree.unflatten(returns, [array for (array,) in answers])

    return program
