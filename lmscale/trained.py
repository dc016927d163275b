"""The trained model of a finished run, opened: for an export, for a harness, for whoever goes on in JAX.

`results` keeps it, and `kept` knows the files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lmscale import kept, provenance
from lmscale.durable import explained
from lmscale.errors import UserError
from lmscale.jsonfiles import read_json
from lmscale.spec import RunSpec, spec_of


class Logits(Protocol):
    """tokens, whole numbers [B, T] -> logits of the token after each, float32 [B, T, V]. visible, bool
    [B, 1, T, T]: what each position sees, where that is not all up to it (objectives masked and prefix)."""

    def __call__(self, tokens: Any, visible: Any = None) -> Any: ...


class Trained(NamedTuple):
    """A model to go on with. config: all that its run depends on; config.shape is the network's. params: nested
    mappings of arrays, float32, for `lmscale.model.forward(config.shape)`. logits: that, compiled."""

    config: RunSpec
    params: dict[str, Any]
    logits: Logits


def find_run(run: str, runs: Path) -> Path:
    """Find the folder of a run: the folder that is named, or the one of this id in any experiment below `runs`."""
    there = [path for path in (Path(run).expanduser(), *sorted(runs.glob(f"*/{run}"))) if path.is_dir()]
    if not there:
        raise UserError(
            f"RUN={run}: no such folder, and no run of this id in {runs}/*; give a run's folder, such as "
            "runs/cpu/ID; make plan lists the ids"
        )
    if len(there) > 1:
        raise UserError(f"RUN={run}: {len(there)} folders have this id; give one: {there[0]}, {there[1]}")
    return there[0]


def finished(folder: Path) -> RunSpec:
    """Read the spec of a run that has a model; UserError where there is none, and why."""
    with explained(folder, "read"):
        names = {path.name for path in folder.iterdir()}
    if "spec.json" not in names:
        inner = sorted(folder.glob("*/spec.json"))
        remedy = (
            f"give one of its {len(inner)} runs, such as {inner[0].parent}"
            if inner
            else "give a run's folder"
        )
        raise UserError(f"RUN={folder}: not the folder of a run, it has no spec.json; {remedy}")
    if "outcome.json" not in names:
        raise UserError(f"RUN={folder}: the run is not finished; start its sweep again to finish it")
    outcome = read_json(folder / "outcome.json")
    if outcome["outcome"] != "done":
        raise UserError(f"RUN={folder}: the run {outcome['outcome']} ({outcome['reason']}); it has no model")
    if kept.MODEL not in names:
        why = (
            "this run was trained with pack.keep=none"
            if provenance.FILE in names
            else "this run was trained before models were kept"
        )
        raise UserError(
            f"RUN={folder}: {why}; remove its folder and start the sweep again to train it once more"
        )
    return spec_of(read_json(folder / "spec.json"))


def params_of(folder: Path, run: RunSpec, averaged: bool = False) -> dict[str, Any]:
    """Read a run's parameters, nested mappings of arrays; the averaged ones, where asked."""
    path = folder / (kept.AVERAGE if averaged else kept.MODEL)
    if averaged and not path.exists():
        raise UserError(
            f"{path}: no such file; only runs with evaluation.average=ema or last have averaged weights"
        )
    return kept.nested(kept.read(path, run))


def load_run(folder: Path, averaged: bool = False) -> Trained:
    """Load a finished run; see `lmscale.load`."""
    run = finished(folder)
    return opened(run, params_of(folder, run, averaged))


def opened(run: RunSpec, params: Mapping[str, Any]) -> Trained:
    """Compile the forward pass of a run's network for these parameters."""
    import jax
    import jax.numpy as jnp

    from lmscale.model import forward

    held = jax.device_put(dict(params))
    network = jax.jit(forward(run.shape))

    def logits(tokens: Any, visible: Any = None) -> Any:
        return network(held, jnp.asarray(tokens, jnp.int32), visible)

    return Trained(run, held, logits)
