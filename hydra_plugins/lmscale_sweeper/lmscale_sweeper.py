"""A thin Hydra sweeper: composes and validates everything first, then one launcher call a wave. And the node that
the groups of sweeps/ are composed over: every field at the default of its dataclass.

Hydra imports its plugins at every start, so what does the work is imported when it is called.
"""

import copy
import gc
import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from lmscale.config import SweepConfig, base
from lmscale.errors import UserError
from lmscale.typed import is_list

TARGET = "hydra_plugins.lmscale_sweeper.lmscale_sweeper.LmscaleSweeper"


@dataclass
class LmscaleSweeperConf:
    """The node of `hydra/sweeper=lmscale`. params: axes as Hydra's own sweeper takes them from a file; those of the
    command line come after them."""

    _target_: str = TARGET
    params: dict[str, Any] | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="lmscale", node=LmscaleSweeperConf, provider="lmscale"
)
ConfigStore.instance().store(name="lmscale_base", node=base(), provider="lmscale")


class OnlySweeps(Callback):
    """Refuse to run without the sweeper, which names the pack that a job trains, before anything is written."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """A single job was asked for."""
        _refuse("hydra.mode=RUN: a job trains the pack that a sweep names; leave hydra.mode at MULTIRUN")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Another sweeper would launch a job for each composition."""
        if config.hydra.sweeper.get("_target_") != TARGET:
            chosen = config.hydra.runtime.choices.get("hydra/sweeper")
            _refuse(f"hydra/sweeper={chosen}: packs are planned by hydra/sweeper=lmscale; leave it at that")


def _refuse(message: str) -> NoReturn:
    """End with one line. Hydra makes a warning of whatever else a callback raises."""
    print(f"lmscale: {message}", file=sys.stderr)
    raise SystemExit(2)


class LmscaleSweeper(Sweeper):
    """Hands the packs that still need work to whichever Hydra launcher is configured."""

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = [f"{key}={value}" for key, value in (params or {}).items()]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.composed = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Compose every point of the axes, then let `lmscale.sweep` plan, launch and answer."""
        from lmscale.sweep import run

        loader = self.context.config_loader
        points = _points([*self.params, *arguments], loader)
        composed = [self.composed]  # by Hydra, which is all where nothing stands between commas
        if points != [arguments]:
            composed = [loader.load_sweep_config(self.composed, point) for point in points]
        for config in (self.composed, *composed):
            _at_home(config)
        gc.freeze()  # what is there stays: `lmscale.launch` had the collector rest
        gc.enable()
        status = run([_plain(config) for config in composed], self._launch)
        raise SystemExit(status)

    def _launch(self, jobs: list[str]) -> list[Exception]:
        """One launcher call: a job a pack. What was raised in them; what became of them is in the ledger."""
        config = OmegaConf.masked_copy(self.composed, ["hydra", "runs", "name", "job"])
        config.hydra.job.chdir = False  # the folders of a sweep are relative to where it was started
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


def _points(arguments: list[str], loader: ConfigLoader) -> list[list[str]]:
    """The overrides of every point of Hydra's comma syntax: their product. One key's last values count."""
    axes: dict[str, list[str]] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(arguments):
        key, line = override.get_key_element(), override.input_line or ""
        if not override.is_sweep_override():
            axes[key] = [line]
            continue
        if not override.is_discrete_sweep():
            raise UserError(
                f"{line}: an interval has no end of values; list those to train, such as {key}=1,2,3"
            )
        values = list(override.sweep_string_iterator())
        if is_list(SweepConfig, key) and not all(value.startswith("[") for value in values):
            raise UserError(
                f"{line}: {key} is a list, which one sweep trains; write {key}=[{','.join(values)}]"
            )
        axes[key] = [f"{key}={value}" for value in values]
    return [list(point) for point in itertools.product(*axes.values())]


def _at_home(config: DictConfig) -> None:
    """Folders that begin with ~ are the person's own; a shell does not always see to it (runs='~/x')."""
    for key in ("runs", "corpora"):
        if isinstance(config[key], str) and config[key].startswith("~"):
            try:
                config[key] = str(Path(config[key]).expanduser())
            except RuntimeError as error:
                raise UserError(f"{key}={config[key]}: {error}") from error


def _plain(config: DictConfig) -> dict[str, Any]:
    missing = sorted(key for key in OmegaConf.missing_keys(config) if not key.startswith("hydra"))
    if missing:
        raise UserError(f"{missing[0]}: missing; give a value: {missing[0]}=...")
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "hydra"}
