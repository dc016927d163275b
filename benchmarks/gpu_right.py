"""Whether an accelerator computes what the CPU does: a step, lanes, an evaluation, a resumed run (`gpu right`)."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import default
from lmscale import model
from lmscale.config import OptimConfig, SweepConfig
from lmscale.data import open_world
from lmscale.evaluate import make_evaluator
from lmscale.family import FamilyConfig, shape_of
from lmscale.faults import VARIABLE
from lmscale.lanes import Lane
from lmscale.plan import DETERMINISTIC
from lmscale.shape import Shape
from lmscale.step import init_lane, pack_program


class Item(NamedTuple):
    """A line to be had: its name, the series in which a fall or a full memory ends what follows, and how.

    ahead: compiles what the line needs into jax's cache, for several can be at that at once.
    """

    name: str
    series: str
    measure: Callable[[], dict[str, Any]]
    ahead: Callable[[], Any] | None = None


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def right(folder: Path) -> Iterator[Item]:
    """Against the CPU in float32: within 1e-4; bfloat16 within 1e-2; a resumed run to the byte."""
    config = default.config("experiment=smoke" if on_cpu() else "experiment=gpu")
    shape = shape_of(
        config.family, config.dial[-1 if on_cpu() else 0], context=64 if on_cpu() else 256, vocab_size=260
    )
    for name, allowed in (("float32", 1e-4), ("bfloat16", 1e-2)):
        compare = functools.partial(_step_apart, shape, config.optim, jnp.dtype(name), allowed)
        yield Item(f"a step, {name}, against the CPU", "step", compare)
    if not on_cpu():  # before pack.attention=cudnn is believed
        for lanes in (1, 4):
            compare = functools.partial(_attention_apart, config.optim, lanes)
            yield Item(f"attention by cuDNN, bfloat16, {lanes} lanes, against XLA's", "attention", compare)
    yield Item("four lanes against each alone, float32", "lanes", lambda: _lanes_apart(shape, config.optim))
    yield Item(
        "an evaluation, float32, against the CPU", "evaluation", lambda: _evaluation_apart(config, folder)
    )
    yield Item("killed and resumed, deterministic operations", "resume", lambda: _resume(folder))


def random_batches(shape: Shape, lanes: int, steps: int, rows: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, shape.vocab_size, (steps, lanes, rows, shape.context + 1), dtype=np.int32)
    counted = np.ones((steps, lanes, rows, shape.context), bool)
    return tokens, counted, counted.astype(np.float32) / (rows * shape.context)


def lane_numbers(count: int) -> Lane:
    """Lanes that never end, at one rate."""
    never = np.int32(10**6)
    rate, decay, none = (np.full(count, value, np.float32) for value in (0.01, 0.1, 0.0))
    warmup, start, end = (np.full(count, value, np.int32) for value in (10, never, never + 1))
    return Lane(*map(jnp.asarray, (rate, decay, warmup, start, end, none, none, start)))


def program_of(shape: Shape, optim: OptimConfig, rows: int, dtype: Any, kernel: str | None = None) -> Any:
    return pack_program(shape, optim, np.zeros(rows, int), 1, dtype, kernel=kernel)


def _trained(
    shape: Shape,
    optim: OptimConfig,
    dtype: Any,
    seeds: Sequence[int],
    batches: Any,
    kernel: str | None = None,
) -> dict[str, np.ndarray]:
    """Loss and gradient norm of the last step and all parameters after it, a lane."""
    init = jax.jit(jax.vmap(functools.partial(init_lane, shape, optim)))
    steps, rows = batches[0].shape[0], batches[0].shape[2]
    program = program_of(shape, optim, rows, dtype, kernel)
    state, metrics = program(init(jnp.asarray(seeds)), lane_numbers(len(seeds)), batches, np.int32(steps))
    flat = [np.asarray(leaf).reshape(len(seeds), -1) for leaf in jax.tree.leaves(state.params)]
    named = {"loss": metrics.total, "gradient norm": metrics.gradient_norm}
    return {name: np.asarray(value) for name, value in named.items()} | {"params": np.concatenate(flat, 1)}


def _apart(here: dict[str, np.ndarray], there: dict[str, np.ndarray], allowed: float) -> dict[str, Any]:
    """The largest differences, as a share of the largest value."""
    apart = {
        name: float(np.abs(here[name] - there[name]).max() / np.abs(there[name]).max()) for name in there
    }
    return {**apart, "allowed": allowed, "agrees": max(apart.values()) <= allowed}


def _step_apart(shape: Shape, optim: OptimConfig, dtype: Any, allowed: float) -> dict[str, Any]:
    batches = random_batches(shape, 1, 1, 8)
    with jax.default_matmul_precision("highest"):
        here = _trained(shape, optim, dtype, [0], batches)
        with jax.default_device(jax.devices("cpu")[0]):
            there = _trained(shape, optim, jnp.float32, [0], batches)
    return _apart(here, there, allowed)


def _lanes_apart(shape: Shape, optim: OptimConfig) -> dict[str, Any]:
    batches = random_batches(shape, 4, 3, 8)
    with jax.default_matmul_precision("highest"):
        together = _trained(shape, optim, jnp.float32, range(4), batches)
        alone = [
            _trained(shape, optim, jnp.float32, [lane], [part[:, lane : lane + 1] for part in batches])
            for lane in range(4)
        ]
    return _apart(together, {name: np.concatenate([one[name] for one in alone]) for name in together}, 1e-4)


def _attention_apart(optim: OptimConfig, lanes: int) -> dict[str, Any]:
    """Three steps of heads of 64 channels at a context of 1,024, with both."""
    shape = shape_of(FamilyConfig(n_head=None, d_head=64), 256, context=1024, vocab_size=260)
    batches = random_batches(shape, lanes, 3, 8)
    cudnn, xla = (
        _trained(shape, optim, jnp.bfloat16, range(lanes), batches, kernel) for kernel in ("cudnn", None)
    )
    return _apart(cudnn, xla, 1e-2)


def _evaluation_apart(config: SweepConfig, folder: Path) -> dict[str, Any]:
    world = open_world(config.data, config.tasks, folder / "corpora")
    shape = shape_of(
        config.family,
        config.dial[-1 if on_cpu() else 0],
        context=world.context,
        vocab_size=world.manifest.vocab_size,
    )

    def losses() -> dict[str, np.ndarray]:
        params = jax.tree.map(lambda array: array[None], model.init(shape, jax.random.key(0)))
        (found,) = make_evaluator(world, model.forward(shape), model.decoder(shape))(params)
        return {"losses": np.array([value for value in found.loss.values() if value is not None])}

    with jax.default_matmul_precision("highest"):
        here = losses()
        with jax.default_device(jax.devices("cpu")[0]):
            there = losses()
    return _apart(here, there, 1e-4)


def _resume(folder: Path) -> dict[str, Any]:
    """A sweep whole, and one that is killed at its third and then at its tenth dispatch, byte by byte."""
    environment = dict(os.environ)
    if not on_cpu():
        flags = f"{os.environ.get('XLA_FLAGS', '')} --{DETERMINISTIC}=true"
        environment |= {"XLA_FLAGS": flags.strip(), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

    def start(name: str, fault: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "lmscale.launch", *resumed(on_cpu()), f"runs={folder / name}"]
        command += [f"corpora={folder / 'corpora' / name}"]
        given = environment | {VARIABLE: fault}
        return subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ended(child: subprocess.Popen[str]) -> int:
        said.append(child.communicate()[1].strip())
        return child.returncode

    said: list[str] = []
    undisturbed = start("whole")  # beside the other, which shares nothing with it
    codes = [ended(start("killed", f"train.stepped:{dispatch}=kill")) for dispatch in (3, 10)]
    codes = [ended(undisturbed), *codes, ended(start("killed"))]
    whole, killed = folder / "whole", folder / "killed"
    names = ("records.jsonl", "items.npz", "outcome.json")
    files = sorted(path.relative_to(whole) for name in names for path in whole.glob(f"*/*/{name}"))
    different = [str(path) for path in files if not _same(whole / path, killed / path)]
    agrees = bool(files) and not different and codes == [0, -9, -9, 0]
    row = {"files": len(files), "different": different, "exit codes": codes, "agrees": agrees}
    return row if agrees else row | {"said": [text[-1500:] for text in said if text]}


def resumed(tiny: bool) -> list[str]:
    """The sweep that is killed: on an accelerator a rung of experiment gpu, of some 13 dispatches a pack."""
    shared = ["hydra/launcher=basic", "seed=[0,1]", "pack.checkpoint_seconds=0.01"]
    if tiny:
        return ["experiment=smoke", *shared]
    short = [
        "horizon.tokens=1.5e6",
        "horizon.dial=64",
        "horizon.multiples=[0.5,1]",
        "schedule.warmup_steps=10",
    ]
    return ["experiment=gpu", "dial=[64]", "one_seed=[]", "pack.device=gpu", "pack.steps=8", *short, *shared]


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()
