"""Weights & Biases: a run a run, grouped by trunk, in the project of the experiment's name."""

import os
from pathlib import Path
from typing import Any

import wandb

from lmscale.trackers.points import News


def opened(folder: Path, experiment: str, online: bool) -> "Wandb":
    """Open the tracker; offline, its folders lie in `folder` until `wandb sync` sends them."""
    os.environ["WANDB_MODE"] = "online" if online else "offline"
    os.environ["WANDB_DIR"] = str(folder.parent)  # it adds wandb/
    if not online:
        os.environ["WANDB_ERROR_REPORTING"] = "false"
    return Wandb(experiment)


class Wandb:
    """Runs are open while they train; the step is a value beside the others, so that one may come again."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.runs: dict[str, Any] = {}

    def send(self, news: News) -> None:
        """Log the points; finish a run that has ended."""
        run = self.runs.get(news.run_id) or self._begin(news)
        for step, values in news.points.items():
            run.log({"step": step, **values})
        if news.outcome:
            run.summary["outcome"] = news.outcome
            self.runs.pop(news.run_id).finish(exit_code=0 if news.outcome == "done" else 1)

    def _begin(self, news: News) -> Any:
        run = self.runs[news.run_id] = wandb.init(
            project=self.project,
            id=news.run_id,
            name=news.name,
            group=str(news.config["group"]),
            config=dict(news.config),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
            ),
        )
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return run

    def close(self) -> None:
        """End what is open: it goes on at the next start."""
        for run in self.runs.values():
            run.finish()
