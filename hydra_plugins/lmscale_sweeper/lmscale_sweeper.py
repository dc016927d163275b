"""A thin Hydra sweeper: composes and validates everything first, then one launcher call a wave. And the node that
the groups of sweeps/ are composed over: every field at the default of its dataclass.

Hydra imports its plugins at every start, so what does the work is imported when it is called.
"""

import copy
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

from hydra_plugins.lmscale_sweeper.slurm_launcher import STOPS, farewell
from lmscale.config import SweepConfig, base
from lmscale.errors import UserError
from lmscale.typed import is_list

TARGET = "hydra_plugins.lmscale_sweeper.lmscale_sweeper.LmscaleSweeper"
# Launchers whose jobs do not run on this machine: what it has says nothing of what they will have.
ELSEWHERE = ("SlurmLauncher", "RayLauncher", "RayAWSLauncher", "RQLauncher")
SLURM = "hydra_plugins.lmscale_sweeper.slurm_launcher.SlurmLauncher"


@dataclass
class LmscaleSweeperConf:
    """The node of `hydra/sweeper=lmscale`. params: axes as Hydra's own sweeper takes them from a file; those of the
    command line come after them. parts: what the command line overrides in one part alone (`launch.readable`)."""

    _target_: str = TARGET
    params: dict[str, Any] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)


ConfigStore.instance().store(
    group="hydra/sweeper", name="lmscale", node=LmscaleSweeperConf, provider="lmscale"
)
ConfigStore.instance().store(name="lmscale_base", node=base(), provider="lmscale")


class OnlySweeps(Callback):
    """Refuse to run without the sweeper, which names the pack that a job trains, before anything is written."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse: a single job was asked for."""
        _refuse("hydra.mode=RUN: a job trains the pack that a sweep names; leave hydra.mode at MULTIRUN")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse another sweeper, which would launch a job for each composition."""
        if config.hydra.sweeper.get("_target_") != TARGET:
            chosen = config.hydra.runtime.choices.get("hydra/sweeper")
            _refuse(f"hydra/sweeper={chosen}: packs are planned by hydra/sweeper=lmscale; leave it at that")


def _refuse(message: str) -> NoReturn:
    """End with one line. Hydra makes a warning of whatever else a callback raises."""
    print(f"lmscale: {message}", file=sys.stderr)
    raise SystemExit(2)


class LmscaleSweeper(Sweeper):
    """Hands the packs that still need work to whichever Hydra launcher is configured."""

    def __init__(self, params: Mapping[str, Any] | None = None, parts: Sequence[str] = ()) -> None:
        self.params = [f"{key}={value}" for key, value in (params or {}).items()]
        self.typed = parts

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.composed = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Compose every part and point of the axes, then let `lmscale.sweep` plan, launch and answer."""
        from lmscale import collector, stopping
        from lmscale.parts import parts_of
        from lmscale.sweep import run

        loader = self.context.config_loader
        composed: list[DictConfig] = []
        for name, before, after in parts_of(self.composed.parts, self.typed, self.composed.part):
            points = _points([*self.params, *before, *arguments, *after], loader)
            if points == [arguments]:  # composed by Hydra: nothing stands between commas
                composed.append(self.composed)
                continue
            found = [loader.load_sweep_config(self.composed, point) for point in points]
            for config in found:
                config.part = name or None
            composed += found
        for config in (self.composed, *composed):
            _at_home(config)
        if self.composed.hydra.launcher._target_.endswith("SlurmLauncher"):  # of Hydra's plugin
            self.composed.hydra.launcher._target_ = SLURM
        collector.wake()
        elsewhere = _device_elsewhere(self.composed)
        if not elsewhere:  # what the jobs will have, jax is asked with
            os.environ.update({k: str(v) for k, v in self.composed.hydra.job.env_set.items()})
        if self.composed.hydra.launcher._target_ == SLURM:
            folder, stop = (
                Path(self.composed.runs) / self.composed.name,
                self.composed.hydra.launcher.get("stop"),
            )
            stopping.farewell(lambda: farewell(folder, stop or "ask"))
        values = [_plain(config) for config in composed]
        typed = self.composed.hydra.overrides
        raise SystemExit(run(values, self._launch, elsewhere, [*typed.hydra, *typed.task]))

    def _launch(self, jobs: list[str]) -> list[Exception]:
        """One launcher call: a job a pack. What was raised in them; what became of them is in the ledger."""
        config = OmegaConf.masked_copy(self.composed, ["hydra", "runs", "name", "job"])
        with open_dict(config):
            config.hydra.job.chdir = False  # a job has no folder of its own, and paths are relative to ours
        cards = _cards(self.composed)
        if cards:
            asked = config.hydra.launcher.n_jobs
            config.hydra.launcher.n_jobs = min(asked, len(cards)) if asked > 0 else len(cards)
        _watch_the_parent(cards)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(cast(ConfigLoader, JobLoader()), self.context.callbacks),
            task_function=self.task,
            config=config,
        )
        try:
            returns = launcher.launch([[f"job={job}"] for job in jobs], initial_job_idx=0)
        except KeyboardInterrupt:
            if "RayLauncher" in str(config.hydra.launcher._target_):
                print(
                    "stopping: the packs on this machine save their states first; Ray ends those on others, which "
                    "go on from their last checkpoints",
                    file=sys.stderr,
                )
                _save_here(Path(config.runs) / config.name)
            raise
        values = [job._return_value for job in returns]  # the public property raises it
        return [value for value in values if isinstance(value, Exception)]


class JobLoader:
    """The part of Hydra's loader that a launcher calls. A job differs from its sweep in the pack's name alone: it
    need not be composed from its files and checked once more: a twentieth of a second a pack."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of the job that `sweep_overrides`, one `job=NAME`, asks for."""
        config = copy.deepcopy(master_config)
        with open_dict(config):
            config.job = sweep_overrides[0].removeprefix("job=")
            config.hydra.overrides.task = sweep_overrides
        return config


def _device_elsewhere(config: DictConfig) -> str:
    """Tell the device that the launcher's jobs will have, as far as it is known, where they run on other
    machines; '' where they run on this one. Refuse what could not submit any."""
    launcher = config.hydra.launcher
    if not str(launcher._target_).endswith(ELSEWHERE):
        return ""
    if launcher._target_ == SLURM and config.action in ("sweep", "verify"):
        if importlib.util.find_spec("submitit") is None:
            raise UserError("hydra/launcher=slurm: submitit is not installed; pip install 'lmscale[slurm]'")
        if launcher.get("stop", "ask") not in STOPS:
            raise UserError(f"hydra.launcher.stop={launcher.stop}: it must be one of {', '.join(STOPS)}")
        if shutil.which("sbatch") is None:
            raise UserError(
                "hydra/launcher=slurm: no sbatch here; start the sweep on a machine from which jobs are submitted, "
                "mostly a login node"
            )
    asked = {
        **launcher,
        **launcher.get("additional_parameters", {}),
        **launcher.get("ray", {}).get("remote", {}),
    }
    wanted = [
        str(v) for k, v in asked.items() if ("gpu" in k or k == "gres") and v and not k.endswith("_per_gpu")
    ]
    return "gpu" if any(k != "0" for k in wanted) else "cpu"


def _cards(config: DictConfig) -> list[str]:
    """List the cards of this machine that joblib's workers share, one for each; none where they train on cores, or
    where a mesh trains a pack on several."""
    from lmscale.cores import cards
    from lmscale.device import expected

    joblib = str(config.hydra.launcher._target_).endswith("JoblibLauncher")
    if not joblib or config.mesh.data * config.mesh.model > 1:
        return []
    return cards() if expected(config.pack.device, Path(config.runs)).platform == "gpu" else []


def _save_here(folder: Path) -> None:
    """Have Ray's workers of this machine save and give their claims back: with their driver Ray would kill them."""
    from lmscale.ledger import Ledger
    from lmscale.stopping import LAST

    def pids() -> list[int]:
        holders = [
            (row.holder or "").rpartition(":") for row in Ledger(folder).status() if row.state == "running"
        ]
        here = [Path(f"/proc/{pid}/cmdline") for host, _, pid in holders if host == socket.gethostname()]
        return [
            int(path.parent.name) for path in here if path.exists() and path.read_bytes().startswith(b"ray::")
        ]

    for pid in pids():
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + LAST
    while pids() and time.monotonic() < until:
        time.sleep(0.2)


def _begin(parent: int, cards: list[str]) -> None:
    """Begin a worker of joblib's."""
    from lmscale.cores import take_card
    from lmscale.stopping import follow

    follow(parent)
    if len(cards) > 1:
        take_card(cards)


def _watch_the_parent(cards: list[str]) -> None:
    """Have joblib's workers end with their parent from their first moment on: one that is never given a job would
    wait for five minutes. And give each a card of its own, where there are several."""
    from joblib import parallel

    loky = parallel.BACKENDS.get("loky")
    if loky is None or loky.__name__ == "WatchingBackend":  # without semaphores joblib has none
        return
    parent = os.getpid()

    class WatchingBackend(loky):  # type: ignore[misc, valid-type]
        def configure(self, *arguments: Any, **options: Any) -> Any:
            given = {"initializer": _begin, "initargs": (parent, cards)}
            return super().configure(*arguments, **{**given, **options})

    parallel.register_parallel_backend("loky", WatchingBackend)


def _at_home(config: DictConfig) -> None:
    """Read ~ in the folders as the home folder, as a shell would."""
    for name in ("runs", "corpora"):
        value = config[name]
        try:
            if isinstance(value, str) and value.startswith("~"):
                config[name] = str(Path(value).expanduser())
        except RuntimeError as error:
            raise UserError(f"{name}={value}: {error}; give a path") from error


def _points(arguments: list[str], loader: ConfigLoader) -> list[list[str]]:
    """The overrides of every point of Hydra's comma syntax: their product. One key's last values count."""
    axes: dict[str, list[str]] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(arguments):
        key, line = override.get_key_element(), override.input_line or ""
        if not override.is_sweep_override():
            axes[key] = [line]
            continue
        if not override.is_discrete_sweep():
            raise UserError(f"{line}: an interval cannot be enumerated; list its values: {key}=.1,.2,.4")
        values = list(override.sweep_string_iterator())
        if is_list(SweepConfig, key) and not all(value.startswith("[") for value in values):
            raise UserError(
                f"{line}: {key} is a list, which one sweep trains; write {key}=[{','.join(values)}]"
            )
        axes[key] = [f"{key}={value}" for value in values]
    return [list(point) for point in itertools.product(*axes.values())]


def _plain(config: DictConfig) -> dict[str, Any]:
    missing = sorted(key for key in OmegaConf.missing_keys(config) if not key.startswith("hydra"))
    if missing:
        raise UserError(f"{missing[0]}: missing; give a value: {missing[0]}=...")
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "hydra"}
