"""Hydra's submitit launcher for packs: what each needs from the plan, arrays no larger than SLURM takes, jobs
that are found again by a second start, and that outlive the process that submitted them.

Hydra imports this at every start: submitit is imported when jobs are submitted.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lmscale import scheduler, stopping
from lmscale.errors import UserError
from lmscale.outcomes import needs_work
from lmscale.packs import read_pack
from lmscale.speeds import speeds_of

STOPS = ("ask", "leave", "cancel")
SOONEST, LATEST = 2.0, 15.0  # seconds between two questions to squeue
IN_VAIN = 3  # jobs that ended with a person's or a machine's error, none having succeeded, end the waiting


class SlurmLauncher(Launcher):
    """stop: what becomes of the jobs when this process is stopped: ask (on a terminal; else leave), leave or
    cancel. params: those of Hydra's submitit_slurm, where mem_gb and timeout_min may be null: as the plan
    says."""

    def __init__(self, stop: str = "ask", **params: Any) -> None:
        self.stop = stop
        self.params: dict[str, Any] = {
            k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in params.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config
        self.folder = Path(config.runs) / config.name

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the packs that have no job yet, wait for all, and return what those that ended gave back."""
        asked = {overrides[0].removeprefix("job=pack_"): overrides for overrides in job_overrides}
        there = {pack: job.job_id for pack, job in scheduler.active(self.folder).items() if pack in asked}
        if there:
            print(f"attached to jobs of an earlier start: {scheduler.together(there.values())}", flush=True)
        return self._wait(
            there | self._submit({pack: its for pack, its in asked.items() if pack not in there})
        )

    def _submit(self, asked: dict[str, Sequence[str]]) -> dict[str, str]:
        """Submit an array for each kind of need, in parts that SLURM takes; {pack id: job id}."""
        speeds = speeds_of(self.folder.parent)
        alike: dict[tuple[int, int], list[str]] = {}
        for pack in asked:
            alike.setdefault(scheduler.needs(read_pack(self.folder, pack)[0], speeds), []).append(pack)
        executors = {need: self._executor(*need) for need in alike}
        for executor in executors.values():  # all, before any is queued
            script = executor._executor._make_submission_file_text("true", "test")
            if said := scheduler.refusal(script):
                raise UserError(f"SLURM refuses the jobs: {said}")
        jobs: dict[str, str] = {}
        most = scheduler.array_size() if alike else 1
        for need, packs in alike.items():
            for at in range(0, len(packs), most):
                part = {pack: asked[pack] for pack in packs[at : at + most]}
                try:
                    jobs |= self._array(executors[need], part)
                except UserError as error:
                    if not jobs:
                        raise
                    print(f"{error}; the {len(jobs)} before these are waited for first", flush=True)
                    return jobs
        if jobs:
            print(f"submitted {len(jobs)} jobs: {scheduler.together(jobs.values())}", flush=True)
        return jobs

    def _executor(self, memory_gb: int, minutes: int) -> Any:
        import submitit

        params = dict(self.params)
        memory_is_said = any(params.get(name) for name in ("mem_gb", "mem_per_cpu", "mem_per_gpu"))
        params |= {} if memory_is_said else {"mem_gb": memory_gb}
        params["timeout_min"] = params.get("timeout_min") or minutes
        folder, timeouts = params.pop("submitit_folder"), params.pop("max_num_timeout")
        plain = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"}
        plain.add("stderr_to_stdout")
        executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=timeouts)
        named = {k if k in plain else f"slurm_{k}": v for k, v in params.items() if v is not None}
        executor.update_parameters(**named)
        return executor

    def _array(self, executor: Any, asked: dict[str, Sequence[str]]) -> dict[str, str]:
        """Submit one array: noted first, so that its jobs are found however this process ends."""
        from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as OfHydra

        job = OfHydra(**self.params)
        job.setup(hydra_context=self.context, task_function=self.task, config=self.config)
        submission = scheduler.note(self.folder, list(asked))
        executor.update_parameters(name=f"{self.params['name']}.{submission.token}")
        state = Singleton.get_state()
        calls = [(list(o), "hydra.sweep.dir", i, f"job_{i}", state) for i, o in enumerate(asked.values())]
        try:
            jobs = executor.map_array(job, *zip(*calls, strict=True))
        except Exception as error:  # submitit raises what sbatch said
            scheduler.forget(self.folder, submission.token)
            said = " ".join(str(error).replace("sbatch: error: ", "").split())[:300]
            raise UserError(f"SLURM refuses the jobs: {said}") from error
        ids = [job.job_id for job in jobs]
        scheduler.keep(self.folder, dataclasses.replace(submission, job_id=ids[0].partition("_")[0]))
        return dict(zip(asked, ids, strict=True))

    def _wait(self, jobs: dict[str, str]) -> list[JobReturn]:
        """Wait until each pack is trained or its job has ended. What a job gave back is read after its end."""
        packs = {pack: read_pack(self.folder, pack)[0] for pack in jobs}
        left = dict(jobs)
        returns: list[JobReturn] = []
        cancelled: list[str] = []  # the last that ended
        pause, asked, answers, trained = SOONEST, time.monotonic(), True, 0
        while left:
            time.sleep(max(1.0, len(left) / 500))  # a file a run is looked at
            left = {pack: job for pack, job in left.items() if needs_work(self.folder, packs[pack])}
            if len(jobs) - len(left) - len(returns) > trained:
                trained, cancelled = len(jobs) - len(left) - len(returns), []
            if time.monotonic() - asked < pause:
                continue
            asked, pause = time.monotonic(), min(LATEST, 1.3 * pause)
            try:
                alive, answers = scheduler.active(self.folder), True
            except UserError as error:
                if answers:
                    print(f"{error}; the jobs go on, and squeue is asked again", flush=True)
                answers = False
                continue
            for pack in [pack for pack in left if pack not in alive]:
                state = scheduler.ended_as(left[pack])
                cancelled = [*cancelled, left[pack]] if state.startswith("CANCELLED") else []
                returns.append(self._return(left.pop(pack), state))
            bad = [r for r in returns if isinstance(r._return_value, UserError)]
            runs = any(alive[pack].state == "RUNNING" for pack in left)
            if left and not runs and not trained and len(bad) == len(returns) >= IN_VAIN:
                scheduler.cancel(left.values())
                return returns
            if left and all(alive[pack].is_hopeless for pack in left):
                scheduler.cancel(left.values())
                reasons = ", ".join(sorted({alive[pack].reason for pack in left}))
                raise UserError(
                    f"SLURM would never start jobs {scheduler.together(left.values())} ({reasons}), so they are "
                    "cancelled: give less, hydra.launcher.timeout_min=... or mem_gb=..., or another partition"
                )
        if cancelled:
            raise UserError(
                f"jobs {scheduler.together(cancelled)} were cancelled (scancel), no other is left: the sweep ends "
                "here; what was saved stays, and the same command goes on from it"
            )
        return returns

    def _return(self, job_id: str, state: str) -> JobReturn:
        """What a job gave back; that it gave back nothing is said."""
        import submitit

        paths = submitit.SlurmJob(folder=self.params["submitit_folder"], job_id=job_id).paths
        try:
            outcome, value = submitit.core.utils.pickle_load(paths.result_pickle)
        except (OSError, EOFError):
            print(f"job {job_id} ended: {state or 'how is not known'}; its log: {paths.stderr}", flush=True)
            return JobReturn(status=JobStatus.UNKNOWN)
        except Exception as error:  # of a package that is not on this machine
            outcome, value = "error", repr(error)
        if outcome == "success":
            return value
        last = " ".join([line for line in str(value).splitlines() if line.strip()][-1:])
        if "UncompletedJobError" in last:  # its time was up before it could say more
            return JobReturn(status=JobStatus.UNKNOWN)
        why = UserError(f"job {job_id} could not begin: {last}; its log: {paths.stderr}")
        return JobReturn(status=JobStatus.FAILED, _return_value=why)


def farewell(folder: Path, stop: str) -> None:
    """Leave the jobs of this folder in the queue, or cancel them, and say which they are and what can be done."""
    jobs = [job.job_id for job in scheduler.active(folder).values()]
    if not jobs:
        return
    named = scheduler.together(jobs)
    if stop == "cancel" or (stop == "ask" and stopping.asked_by_hand() and _yes(named)):
        scheduler.cancel(jobs)
        print(f"lmscale: scancel sent to {named}; what trains saves its state first", file=sys.stderr)
        return
    numbers = " ".join(sorted({job.partition("_")[0] for job in jobs}))
    print(
        f"lmscale: these jobs stay in the queue: {named}; the same command attaches to them, action=status shows "
        f"them, and this ends them: scancel {numbers}",
        file=sys.stderr,
    )


def _yes(named: str) -> bool:
    """Ask whether to cancel; only a yes is one."""
    try:
        return input(f"cancel the jobs {named}? [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False
