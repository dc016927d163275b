"""A thin Hydra sweeper: composes and validates everything first, then one launcher call a wave.

Hydra imports its plugins at every start, so what does the work is imported when it is called.
"""

import gc
import itertools
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class LmscaleSweeperConf:
    """What `hydra/sweeper=lmscale` instantiates."""

    _target_: str = "hydra_plugins.lmscale_sweeper.lmscale_sweeper.LmscaleSweeper"


ConfigStore.instance().store(
    group="hydra/sweeper", name="lmscale", node=LmscaleSweeperConf, provider="lmscale"
)


class LmscaleSweeper(Sweeper):
    """Hands the packs that still need work to whichever Hydra launcher is configured."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.composed = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Compose every point of the axes, then let `lmscale.sweep` plan, launch and answer."""
        from lmscale.sweep import run

        points = _points(arguments)
        composed = [self.composed]  # by Hydra, which is all where nothing stands between commas
        if points != [arguments]:
            loader = self.context.config_loader
            composed = [loader.load_sweep_config(self.composed, point) for point in points]
        gc.enable()  # `lmscale.launch` had it rest
        status = run([_plain(config) for config in composed], lambda jobs: self._launch(points[0], jobs))
        raise SystemExit(status)

    def _launch(self, overrides: list[str], jobs: list[str]) -> list[Exception]:
        """One launcher call: a job a pack. What was raised in them; what became of them is in the ledger."""
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.composed
        )
        returns = launcher.launch([[*overrides, f"job={job}"] for job in jobs], initial_job_idx=0)
        values = [job._return_value for job in returns]  # the public property raises it
        return [value for value in values if isinstance(value, Exception)]


def _points(arguments: list[str]) -> list[list[str]]:
    """The overrides of every point of Hydra's comma syntax: their product."""
    axes = []
    for override in OverridesParser.create().parse_overrides(arguments):
        if override.is_sweep_override():
            key = override.get_key_element()
            axes.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            axes.append([override.input_line or ""])
    return [list(point) for point in itertools.product(*axes)]


def _plain(config: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "hydra"}
