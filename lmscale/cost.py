"""What training costs on a device that need not be here: its peak rate, and the hours that FLOPs take. No jax."""

from dataclasses import dataclass
from typing import NamedTuple

from lmscale.errors import UserError
from lmscale.typed import among, positive


class Accelerator(NamedTuple):
    """peak: FLOP/s of dense bfloat16 matrix products, without sparsity. memory: bytes."""

    peak: float
    memory: float


# The makers' data sheets: NVIDIA A100, H100 SXM, H200 SXM, HGX B200; AMD Instinct MI300X; Google Cloud TPU
# ("System architecture" of each version).
ACCELERATORS = {
    "a100": Accelerator(312e12, 80e9),
    "h100": Accelerator(989e12, 80e9),
    "h200": Accelerator(989e12, 141e9),
    "b200": Accelerator(2250e12, 180e9),
    "mi300x": Accelerator(1307e12, 192e9),
    "v4": Accelerator(275e12, 32e9),
    "v5e": Accelerator(197e12, 16e9),
    "v5p": Accelerator(459e12, 95e9),
    "v6e": Accelerator(918e12, 32e9),
}


@dataclass(frozen=True)
class CostConfig:
    """What `make plan` says of a target that is not here; no science.

    device: an entry of `ACCELERATORS`, or any name with peak_flops, its FLOP/s (null: no bill). utilisation: the
    share of the peak that training reaches, by exact FLOPs. ahead: dials whose step is compiled ahead of time, for
    as many forced devices as `mesh` has.
    """

    device: str | None = None
    peak_flops: float | None = None
    utilisation: float = 0.4
    ahead: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise UserError(f"cost.utilisation={self.utilisation}: must be above 0 and at most 1")
        if self.peak_flops is not None:
            positive("cost.peak_flops", self.peak_flops)
            if self.device is None:
                raise UserError(f"cost.peak_flops={self.peak_flops:g}: name the device too, cost.device=...")
        elif self.device is not None and self.device not in ACCELERATORS:
            try:
                among("cost.device", self.device, ACCELERATORS)
            except UserError as error:
                raise UserError(f"{error}; of another one give the FLOP/s: cost.peak_flops=...") from None

    @property
    def peak(self) -> float:
        """FLOP/s of the device."""
        assert self.device
        return self.peak_flops or ACCELERATORS[self.device].peak

    @property
    def memory(self) -> float | None:
        """Bytes of the device, where they are known."""
        known = ACCELERATORS.get(self.device or "")
        return known.memory if known else None

    def device_hours(self, flops: float) -> float:
        """Compute the hours of one device that so many FLOPs take at this utilisation."""
        return flops / (self.peak * self.utilisation) / 3600
