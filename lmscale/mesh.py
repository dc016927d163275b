"""Devices that train one run together, of one process or of several: the mesh, and which part of an array each has.

Axes: `data` splits a batch's rows, and to keep them the parameters and the optimiser's memory (ZeRO, Rajbhandari et
al. 2020); `model` splits matrices (Shoeybi et al. 2019). A plan imports this, so jax is imported late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmscale.errors import UserError
from lmscale.typed import at_least

if TYPE_CHECKING:
    import jax
    from jax.sharding import Mesh

    from lmscale.shape import Shape

DATA, MODEL = "data", "model"


@dataclass(frozen=True)
class MeshConfig:
    """How many devices train a pack: data x model. A run's rows are split over `data`, its matrices over both; the
    lanes of a pack that has several are split over all devices instead. How a run is computed, not what it is."""

    data: int = 1
    model: int = 1

    def __post_init__(self) -> None:
        for name in (DATA, MODEL):
            at_least(f"mesh.{name}", getattr(self, name), 1)

    def __str__(self) -> str:
        return f"mesh={{data: {self.data}, model: {self.model}}}"

    @property
    def size(self) -> int:
        """The number of devices."""
        return self.data * self.model


def check_divides(mesh: MeshConfig, shape: Shape, rows: int) -> None:
    """Raise UserError where the devices cannot have a run's parts: rows of a batch, channels and heads."""
    parts = {DATA: {"rows of a batch": rows}, MODEL: {"d_model": shape.d_model, "n_head": shape.n_head}}
    for axis, sizes in parts.items():
        count = getattr(mesh, axis)
        for what, size in sizes.items():
            if size % count:
                fits = [n for n in range(1, size + 1) if size % n == 0]
                raise UserError(
                    f"mesh.{axis}={count}: the {what} of dial {shape.d_model}, {size}, cannot be divided by it; "
                    f"numbers that fit: {fits}"
                )


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device]) -> Mesh:
    """Make the mesh of the first of these devices. UserError where they are too few."""
    import jax

    if config.size > len(devices):
        raise UserError(
            f"{config}: {config.size} devices are asked for, jax has {len(devices)} here; give a mesh of at most "
            "as many (on a CPU, to try a mesh out, XLA_FLAGS=--xla_force_host_platform_device_count=8 makes eight)"
        )
    axes = (
        jax.sharding.AxisType.Auto,
    ) * 2  # by default a mesh's axes are explicit, and types have shardings
    return jax.make_mesh(
        (config.data, config.model), (DATA, MODEL), axis_types=axes, devices=devices[: config.size]
    )


def parameter_shardings(shapes: Any, mesh: Mesh) -> Any:
    """Say where the arrays of one run lie: a pytree of anything with a shape -> NamedShardings.

    A matrix is split on its last axis over `model` and on the one before over `data`, each where it divides; axes
    before these (experts, kept averages) are not split, nor are vectors.
    """
    from jax.sharding import NamedSharding, PartitionSpec

    def axes(shape: tuple[int, ...]) -> list[str | None]:
        if len(shape) < 2:
            return []
        split = [
            axis if mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0 else None
            for size, axis in zip(shape[-2:], (DATA, MODEL), strict=True)
        ]
        return [None] * (len(shape) - 2) + split

    import jax

    return jax.tree.map(lambda leaf: NamedSharding(mesh, PartitionSpec(*axes(leaf.shape))), shapes)
