"""The default experiment as a benchmark composes it."""

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from lmscale.config import SweepConfig
from lmscale.typed import build


def config(*overrides: str) -> SweepConfig:
    """Compose experiment cpu, with Hydra overrides."""
    with initialize_config_module("sweeps", version_base=None):
        values = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    assert isinstance(values, dict)
    return build(SweepConfig, values)  # type: ignore[arg-type]
