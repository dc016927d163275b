"""The device that jax has here. jax is asked, in a process that is thrown away: a file under /dev says that there
is a card and not that this jax can use it, and a flag that XLA does not know aborts the process that asks.

The answers, one for each set of versions, environment and machine, are kept in the runs folder. A plan, which has
no time to ask and writes nothing, guesses where there is no answer, and says so. No jax is imported here.
"""

import contextlib
import functools
import importlib.util
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lmscale.durable import disk_error
from lmscale.errors import UserError
from lmscale.jsonfiles import digest, read_json, write_json

KEPT = ".device.json"
MOST_KEPT = 64  # machines and environments
PATIENCE = 300.0  # seconds after which jax is said to hang
MORE_MEMORY = (
    "it needs more memory: free some, raise the limit (ulimit -v), or train fewer packs at a time "
    "(hydra.launcher.n_jobs=1)"
)
_ASK = """
import json, jax, jax.numpy as jnp
jax.jit(lambda x: x + 1)(jnp.zeros(8)).block_until_ready()
print(json.dumps({"platform": jax.default_backend(), "kind": jax.devices()[0].device_kind}))
"""
_LACKS_MEMORY = re.compile(
    r"MemoryError|RESOURCE_EXHAUSTED|[Oo]ut of memory|bad_alloc|[Cc]annot allocate memory|failed to map segment"
    r"|start new thread|pthread_create|Resource temporarily unavailable"
)
_ERROR = re.compile(r"[\w.]*(Error|Exception|Exit)\b|[FE]\d{4} |terminate called")
_VARIABLES = ("JAX_", "XLA_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "TPU_", "LD_", "TF_")
_FILES = ("nvidia[0-9]*", "dxg", "kfd", "accel[0-9]*", "vfio/[0-9]*")
_LIMITS = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_STACK")


@dataclass(frozen=True)
class Device:
    """platform: cpu, gpu or tpu. kind: jax's name of it. said: False for a guess. elsewhere: it is expected of
    other machines, each of which is asked before it trains."""

    platform: str
    kind: str = ""
    said: bool = True
    elsewhere: bool = False


def lacks_memory(text: str) -> bool:
    """Say if an error's text is one of those that a lack of memory, or of threads, leaves."""
    return bool(_LACKS_MEMORY.search(text))


def expected(requested: str, runs: Path) -> Device:
    """Tell the device for a plan, at once: as requested (pack.device), as jax said before, or else a guess."""
    if requested != "auto":
        return Device(requested)
    return _kept(runs, requested) or _guess()


def found(requested: str, runs: Path) -> Device:
    """Ask jax for the device that training will have: some seconds, once for each set of versions and settings.
    Raises UserError where jax does not start, or does not have the device that is requested."""
    kept = _kept(runs, requested)
    device = kept or _ask(requested)
    if requested not in ("auto", device.platform):
        raise UserError(
            f"pack.device={requested}: jax has only the {device.platform} here; leave pack.device out, or "
            f"{_remedy(requested)}"
        )
    if kept is None:
        with contextlib.suppress(OSError, UserError):  # the answer is needed, its keeping is not
            runs.mkdir(parents=True, exist_ok=True)
            answers = _answers(runs) | {_key(requested): [device.platform, device.kind]}
            write_json(runs / KEPT, dict(list(answers.items())[-MOST_KEPT:]))
    return device


def forget(runs: Path) -> None:
    """Ask anew at the next start."""
    with contextlib.suppress(OSError):
        (runs / KEPT).unlink(missing_ok=True)


def unused_card(requested: str, device: Device) -> str | None:
    """Give a sentence where there is a card that this jax does not use, and nobody said that it should not."""
    cards = [name for name in _device_files() if name.startswith(("nvidia", "dxg"))]
    if not cards or device.platform != "cpu" or requested != "auto" or os.environ.get("JAX_PLATFORMS"):
        return None
    return (
        f"/dev/{cards[0]} is here, but the jax that is installed cannot use it: training on the CPU; "
        f"{_remedy('gpu')}"
    )


def _remedy(platform: str) -> str:
    return {
        "gpu": "for an NVIDIA card: pip install 'lmscale[cuda]' ('lmscale[cuda12]' for drivers before 580)",
        "tpu": "for a TPU: pip install 'lmscale[tpu]'",
        "cpu": "take JAX_PLATFORMS out of the environment",
    }[platform]


def _guess() -> Device:
    """The device as far as it shows in what is installed and what stands under /dev."""
    named = os.environ.get("JAX_PLATFORMS", "").lower().split(",")[0]
    if named:
        return Device(named if named in ("cpu", "tpu") else "gpu", said=named == "cpu")
    plugins, tpu = importlib.util.find_spec("jax_plugins"), importlib.util.find_spec("libtpu")
    folders = plugins.submodule_search_locations if plugins else None
    names = [path.name for folder in folders or () for path in Path(folder).glob("*")]
    if not names and not tpu:
        return Device("cpu")  # a jax without plugins has nothing else
    files = _device_files()
    gpu = any("cuda" in name or "rocm" in name for name in names)
    if gpu and any(file.startswith(("nvidia", "dxg", "kfd")) for file in files):
        return Device("gpu", said=False)
    tpu_here = tpu and any(file.startswith(("accel", "vfio")) for file in files)
    return Device("tpu" if tpu_here else "cpu", said=False)


def _device_files() -> list[str]:
    dev = Path("/dev")
    return sorted(str(path.relative_to(dev)) for pattern in _FILES for path in dev.glob(pattern))


def _kept(runs: Path, requested: str) -> Device | None:
    answer = _answers(runs).get(_key(requested))
    return Device(answer[0], answer[1]) if answer else None


def _answers(runs: Path) -> dict[str, list[str]]:
    """What jax said before: {key: [platform, kind]}, the oldest first; none where the file is damaged."""
    try:
        kept = read_json(runs / KEPT)
        return {key: answer for key, answer in kept.items() if isinstance(answer, list) and len(answer) == 2}
    except (UserError, ValueError, AttributeError):
        return {}


@functools.cache
def _key(requested: str) -> str:
    """A hash of all that decides what jax answers, as far as it can be seen from outside."""
    jax = importlib.util.find_spec("jax")
    installed = Path(jax.origin).parents[1] if jax and jax.origin else Path()
    packages = [
        path.name for name in ("jax", "libtpu", "nvidia") for path in installed.glob(f"{name}*.dist-info")
    ]
    boot = Path("/proc/sys/kernel/random/boot_id")
    return digest(
        {
            "requested": requested,
            "python": [sys.executable, sys.version],
            "packages": sorted(packages),
            "environment": {k: v for k, v in os.environ.items() if k.startswith(_VARIABLES)},
            "machine": [socket.gethostname(), boot.read_text() if boot.exists() else "", _device_files()],
            "limits": [resource.getrlimit(getattr(resource, name)) for name in _LIMITS],
            "user": os.getuid(),
        }
    )


def _ask(requested: str) -> Device:
    variables = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}  # another sweep may be at work there
    if requested == "cpu":
        variables["JAX_PLATFORMS"] = "cpu"
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"jax does not start here: no answer within {PATIENCE:.0f} s; {_TRY}") from None
    except OSError as error:
        raise disk_error(error, Path(error.filename or sys.executable), "start") from error
    try:
        answer = json.loads(asked.stdout.splitlines()[-1])
        return Device(str(answer["platform"]), str(answer["kind"]))
    except (IndexError, ValueError, KeyError, TypeError):
        raise UserError(_why(asked)) from None


_TRY = "python -c 'import jax; jax.devices()' must work first; JAX_PLATFORMS=cpu leaves accelerators alone"


def _why(asked: subprocess.CompletedProcess[str]) -> str:
    """The reason why jax did not start, from what it wrote as it ended."""
    flag = re.search(r"Unknown flags? in XLA_FLAGS: *(.+)", asked.stderr)
    if flag:
        return f"XLA_FLAGS: the jaxlib that is installed does not know {flag[1].strip()}; take it out of XLA_FLAGS"
    lines = [line.strip() for line in asked.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    end = f"status {asked.returncode}"
    if asked.returncode < 0:
        with contextlib.suppress(ValueError):
            end = signal.Signals(-asked.returncode).name
    last = (errors or lines or [f"it ended by {end}, without a word"])[-1][:300]
    limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    memory = lacks_memory(asked.stderr) or end == "SIGKILL" or (asked.returncode < 0 and limited)
    return f"jax does not start here: {last}; {MORE_MEMORY if memory else _TRY}"
