"""A thin Hydra sweeper: composes and validates everything first, then one launcher call a wave.

Hydra imports its plugins at every start, so what does the work is imported when it is called.
"""

import copy
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

# Launchers whose jobs do not run on this machine: what it has says nothing of what they will have.
ELSEWHERE = ("SlurmLauncher", "RayAWSLauncher", "RQLauncher")


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
        from lmscale import collector
        from lmscale.sweep import run

        points = _points(arguments)
        composed = [self.composed]  # by Hydra, which is all where nothing stands between commas
        if points != [arguments]:
            loader = self.context.config_loader
            composed = [loader.load_sweep_config(self.composed, point) for point in points]
        for config in (self.composed, *composed):
            _at_home(config)
        collector.wake()
        launcher = str(self.composed.hydra.launcher._target_)
        here = not launcher.endswith(ELSEWHERE)
        status = run([_plain(config) for config in composed], self._launch, here)
        raise SystemExit(status)

    def _launch(self, jobs: list[str]) -> list[Exception]:
        """One launcher call: a job a pack. What was raised in them; what became of them is in the ledger."""
        config = OmegaConf.masked_copy(self.composed, ["hydra", "runs", "name", "job"])
        with open_dict(config):
            config.hydra.job.chdir = False  # a job has no folder of its own, and paths are relative to ours
        _watch_the_parent()
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(cast(ConfigLoader, JobLoader()), self.context.callbacks),
            task_function=self.task,
            config=config,
        )
        returns = launcher.launch([[f"job={job}"] for job in jobs], initial_job_idx=0)
        values = [job._return_value for job in returns]  # the public property raises it
        return [value for value in values if isinstance(value, Exception)]


class JobLoader:
    """What a launcher wants of Hydra's loader. A job differs from its sweep in the pack's name alone, so that
    it need not be composed from its files and checked once more: a twentieth of a second a pack."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of the job that `sweep_overrides`, one `job=NAME`, asks for."""
        config = copy.deepcopy(master_config)
        with open_dict(config):
            config.job = sweep_overrides[0].removeprefix("job=")
            config.hydra.overrides.task = sweep_overrides
        return config


def _watch_the_parent() -> None:
    """Have joblib's workers end with their parent from their first moment on: one that is never given a job would
    wait for five minutes."""
    from joblib import parallel

    from lmscale import stopping

    loky = parallel.BACKENDS.get("loky")
    if loky is None or loky.__name__ == "WatchingBackend":  # without semaphores joblib has none
        return
    parent = os.getpid()

    class WatchingBackend(loky):  # type: ignore[misc, valid-type]
        def configure(self, *arguments: Any, **options: Any) -> Any:
            given = {"initializer": stopping.follow, "initargs": (parent,)}
            return super().configure(*arguments, **{**given, **options})

    parallel.register_parallel_backend("loky", WatchingBackend)


def _at_home(config: DictConfig) -> None:
    """Read ~ in the folders as the home folder, as a shell would."""
    from lmscale.errors import UserError

    for name in ("runs", "corpora"):
        value = config[name]
        try:
            if isinstance(value, str) and value.startswith("~"):
                config[name] = str(Path(value).expanduser())
        except RuntimeError as error:
            raise UserError(f"{name}={value}: {error}; give a path") from error


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
