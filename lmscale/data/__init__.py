"""The world that a run is trained on: a corpus with a manifest, and batches made from (seed, step) alone."""

from lmscale.config import DataConfig, TasksConfig
from lmscale.data.manifest import Component, Manifest
from lmscale.data.scan import scan
from lmscale.data.world import Batch, World, open_world
from lmscale.text.vocab import VOCAB_SIZE

__all__ = [
    "VOCAB_SIZE",
    "Batch",
    "Component",
    "DataConfig",
    "Manifest",
    "TasksConfig",
    "World",
    "open_world",
    "scan",
]
