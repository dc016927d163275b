"""The fields of a tracker and the trackers by name. No part of any run's identity."""

import importlib.util
import os
from dataclasses import dataclass

from lmscale.errors import UserError
from lmscale.typed import among

# By kind: how to look at what was sent; {folder} is where it lies. Each is a module of this package and an extra.
TRACKERS = {
    "tensorboard": "tensorboard --logdir {folder}",
    "wandb": "wandb sync {folder}/offline-run-*",
    "mlflow": "mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db",
}

SERVER = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class TrackerConfig:
    """Where curves go besides the run folders.

    kind: an entry of `TRACKERS`, or none. online: send to the server that the tracker's own environment variables
    name; otherwise all stays in the experiment's folder and nothing uses the network.
    """

    kind: str = "none"
    online: bool = False

    def __post_init__(self) -> None:
        among("tracker.kind", self.kind, ("none", *TRACKERS))
        if self.online and self.kind not in ("wandb", "mlflow"):
            raise UserError(
                f"tracker.online=true: {self.kind} has no server; take tracker=wandb or tracker=mlflow"
            )


def check_tracker(config: TrackerConfig) -> None:
    """Raise UserError where the tracker's library is not installed, or its server has no address. A folder of the
    library's name is no library."""
    if config.kind == "none":
        return
    spec = importlib.util.find_spec(config.kind)
    if spec is None or spec.origin is None:
        raise UserError(f"tracker={config.kind}: it is not installed; pip install 'lmscale[{config.kind}]'")
    if config.online and config.kind == "mlflow" and not os.environ.get(SERVER):
        raise UserError(f"tracker.online=true: {SERVER} is not set; give the address of the MLflow server")
