"""Curves over size whose class is known by construction, and counts drawn from them."""

import json

import numpy as np
import pandas as pd

from analysis.detection.emergence import Emergence

SIZES = np.geomspace(1e6, 1e10, 12)
X = np.linspace(0, 1, 12)


def scores(
    curves: dict[str, np.ndarray], items: int = 1000, seed: int = 0, scatter: float = 0.0
) -> pd.DataFrame:
    """Binomial counts of the curves, one row a task and size."""
    rng = np.random.default_rng(seed)
    rows = []
    for task, curve in curves.items():
        p = np.clip(curve + rng.normal(0, scatter, len(curve)), 0, 1)
        for size, correct in zip(SIZES, rng.binomial(items, p), strict=True):
            rows.append({"task": task, "size": size, "correct": correct, "total": items, "chance": 0.25})
    return pd.DataFrame(rows)


CURVES = {
    "flat": np.full(12, 0.25),
    "flat_above": np.full(12, 0.6),
    "saturated": np.full(12, 0.98),
    "saturated_early": 0.25 + 0.5 * np.minimum(X / 0.2, 1),
    "smooth_line": 0.25 + 0.4 * X,
    "smooth_logistic": 0.25 + 0.5 / (1 + np.exp(-(X - 0.5) / 0.14)),
    "emergent_step": 0.25 + 0.4 * (X > 0.7),
    "emergent_last": 0.25 + 0.2 * (X > 0.95),
    "emergent_hinge": 0.25 + 0.6 * np.maximum(X - 0.6, 0) / 0.4,
    "inverse": 0.6 - 0.3 * X,
    "u_shaped": 0.3 + 0.3 * ((X - 0.5) / 0.5) ** 2,
}


def classes(found: Emergence) -> dict[str, str]:
    return {entry["task"]: entry["class"] for entry in json.loads(json.dumps(found.to_json()))["tasks"]}
