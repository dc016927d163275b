"""MLflow: a run a run, in the experiment of ours, by default in an SQLite store beside the runs."""

import itertools
import os
import time
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it is read at the import, and sends by the network

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from lmscale.trackers.config import SERVER
from lmscale.trackers.points import News

MOST = 1000  # metrics of a call
TAG = "lmscale.run_id"


def opened(folder: Path, experiment: str, online: bool) -> "Mlflow":
    """Open the tracker: the store in `folder`, or the server that the environment names."""
    store = os.environ[SERVER] if online else f"sqlite:///{(folder / 'mlflow.db').resolve()}"
    client = MlflowClient(tracking_uri=store)
    found = client.get_experiment_by_name(experiment)
    artifacts = None if online else (folder / "artifacts").resolve().as_uri()
    return Mlflow(client, found.experiment_id if found else client.create_experiment(experiment, artifacts))


class Mlflow:
    """Runs are found again by a tag, so a restart goes on in the same ones."""

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self.client, self.experiment = client, experiment
        self.runs: dict[str, str] = {}

    def send(self, news: News) -> None:
        """Log the points and the state of the run."""
        run = self.runs.get(news.run_id) or self._begin(news)
        now = int(1000 * time.time())
        metrics = (Metric(k, v, now, step) for step, values in news.points.items() for k, v in values.items())
        while batch := list(itertools.islice(metrics, MOST)):
            self.client.log_batch(run, metrics=batch)
        if news.outcome:
            self.client.set_terminated(run, "FINISHED" if news.outcome == "done" else "FAILED")

    def _begin(self, news: News) -> str:
        found = self.client.search_runs([self.experiment], f"tags.`{TAG}` = '{news.run_id}'", max_results=1)
        if found:
            run = found[0].info.run_id
            self.client.update_run(run, status="RUNNING")
        else:
            tags = {TAG: news.run_id, "report": str(news.config["report"])}
            run = self.client.create_run(self.experiment, tags=tags, run_name=news.name).info.run_id
        # the place of the report may change, and a parameter never
        params = [Param(name, str(value)) for name, value in news.config.items() if name != "report"]
        self.client.log_batch(run, params=params)
        self.runs[news.run_id] = run
        return str(run)

    def close(self) -> None:
        """Nothing is open."""
