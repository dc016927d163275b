"""A pack on several devices: where its state, its batches and its numbers lie, and how its programs are compiled.

One run: `mesh.parameter_shardings`, and XLA puts the communication in. Several lanes never talk: each device has
its own, and computes as one device does that has no others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lmscale.errors import UserError
from lmscale.mesh import DATA, MODEL, MeshConfig, make_mesh, parameter_shardings

LANES = "lanes"


@dataclass(frozen=True)
class Placement:
    """A mesh with the axes `data` and `model` for one run, or with `lanes` for several."""

    mesh: Mesh

    @property
    def of_lanes(self) -> bool:
        return LANES in self.mesh.axis_names

    def at(self, *axes: str | None) -> NamedSharding:
        """Split an array's first axes like this; `at()` is a copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def state(self, template: Any) -> Any:
        """Place a state, whose leaves have a leading lane axis. template: the tree of one lane's shapes."""
        if self.of_lanes:
            return jax.tree.map(lambda _: self.at(LANES), template)
        own = parameter_shardings(template, self.mesh)
        return jax.tree.map(lambda sharding: self.at(None, *sharding.spec), own)

    def evaluating(self, program: Callable[..., Any]) -> Any:
        """Compile (params with a leading lane axis, ...) -> what every device then has."""

        def run(params: Any, *rest: Any) -> Any:
            if not self.of_lanes:
                params = jax.tree.map(lambda array: array[None], self.whole(_alone(params)))
            return program(params, *rest)

        return jax.jit(run, out_shardings=self.at())

    def rows(self, array: np.ndarray, axis: int) -> jax.Array:
        """Put rows to evaluate where they belong: split over `data` where they divide."""
        n = self.mesh.shape.get(DATA, 1)
        divides = array.ndim > axis and array.shape[axis] % n == 0
        return put(array, self.at(*[None] * axis, DATA) if n > 1 and divides else self.at())

    @property
    def numbers(self) -> NamedSharding:
        """Place the numbers of the lanes [L]."""
        return self.at(LANES) if self.of_lanes else self.at()

    @property
    def batches(self) -> NamedSharding:
        """Place batches [S, L, B, ...]: by lanes, or by rows."""
        return self.at(None, LANES) if self.of_lanes else self.at(None, None, DATA)

    def kept(self, params: Any) -> Any:
        """Hold a run's parameters in their parts: an update would else start from the gathered ones."""
        if self.of_lanes:
            return params
        return jax.lax.with_sharding_constraint(params, parameter_shardings(params, self.mesh))

    def whole(self, params: Any) -> Any:
        """Gather what a forward pass of one run multiplies with: over `data` its parameters are split only to be
        kept. XLA does it array by array, where each is needed."""
        if self.of_lanes:
            return params
        kept = parameter_shardings(params, self.mesh)
        return jax.lax.with_sharding_constraint(
            self.kept(params),  # so that gradients come back in parts
            jax.tree.map(lambda s: self.at(*(axis if axis == MODEL else None for axis in s.spec)), kept),
        )

    def program(self, run: Callable[..., Any], template: Any) -> Any:
        """Compile (state, numbers, batches, count) -> (state, metrics); the state is donated."""
        if self.of_lanes:
            one, count, many = PartitionSpec(LANES), PartitionSpec(), PartitionSpec(None, LANES)
            run = jax.shard_map(
                run, mesh=self.mesh, in_specs=(one, one, many, count), out_specs=one, check_vma=False
            )
            return jax.jit(run, donate_argnums=0)
        state = self.state(template)
        return jax.jit(
            run,
            donate_argnums=0,
            in_shardings=(state, self.numbers, self.batches, self.at()),
            out_shardings=(state, self.at()),
        )


def _alone(params: Any) -> Any:
    return jax.tree.map(lambda array: array[0], params)


@functools.lru_cache(maxsize=8)
def placement_of(config: MeshConfig, n_lanes: int) -> Placement | None:
    """Place a pack on the devices that this process has or shares; None for one device. Of several lanes each
    device has as many: where they do not divide, devices are left idle."""
    if config.size == 1:
        return None
    mesh = make_mesh(config, jax.devices())
    if jax.process_count() > 1 and (n_lanes > 1 or config.size < jax.device_count()):
        raise UserError(
            f"{config} and {n_lanes} lanes: {jax.process_count()} processes train one run on all their "
            f"{jax.device_count()} devices; give a mesh of as many and pack.lanes=1"
        )
    if n_lanes == 1:
        return Placement(mesh)
    used = max(n for n in range(1, config.size + 1) if n_lanes % n == 0)
    return Placement(Mesh(mesh.devices.reshape(-1)[:used], (LANES,))) if used > 1 else None


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Put arrays of numpy, the same in every process, where they belong; each process only its part, as copies."""

    def one(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: np.array(array[index]))

    return jax.tree.map(one, tree)


def parts(name: str, array: jax.Array) -> dict[str, np.ndarray]:
    """Copy what this process has to keep of an array: all of it, or its parts as `name@START,START`, each in one
    process alone."""
    if array.is_fully_addressable:
        return {name: np.array(array)}
    own = [shard for shard in array.addressable_shards if shard.replica_id == 0]
    return {
        f"{name}@{','.join(str(part.start or 0) for part in shard.index)}": np.array(shard.data)
        for shard in own
    }


def cut(
    arrays: Mapping[str, np.ndarray],
    name: str,
    shape: tuple[int, ...],
    index: tuple[slice, ...] = (),
    copy: bool = False,
) -> np.ndarray:
    """Cut a block out of the array `name` of this shape, which may be there whole or in `parts`."""
    if name in arrays:
        block = arrays[name][index]
        return np.array(block) if copy else block
    index = index or (slice(None),) * len(shape)
    block_of = [part.indices(size) for part, size in zip(index, shape, strict=True)]
    found = {key: part for key, part in arrays.items() if key.rpartition("@")[0] == name}
    block = np.empty([stop - start for start, stop, _ in block_of], next(iter(found.values())).dtype)
    for key, part in found.items():
        starts = [int(start) for start in key.rpartition("@")[2].split(",") if start]
        there, here = [], []
        for (low, high, _), start, size in zip(block_of, starts, part.shape, strict=True):
            first, last = max(low, start), min(high, start + size)
            there.append(slice(first - start, max(first, last) - start))
            here.append(slice(first - low, max(first, last) - low))
        block[tuple(here)] = part[tuple(there)]
    return block
