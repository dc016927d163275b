"""Where a run's numbers come from: what trained it, that no science and no execution says.

A claim's file is the source; a finished run has a copy beside its model, which goes where that goes.
"""

import contextlib
import functools
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmscale import __version__
from lmscale.claim import Claim, past_claims
from lmscale.jsonfiles import write_json
from lmscale.plan import versions

FILE = "provenance.json"


def of_process(overrides: Sequence[str]) -> dict[str, Any]:
    """Describe this process for the file of its claim. The commit is that of the code."""
    from jax import devices

    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{job}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if job else os.environ.get("SLURM_JOB_ID")
    return {
        "version": __version__,
        "commit": _commit(),
        "device_kind": devices()[0].device_kind,
        "job": job,
        "overrides": list(overrides),
        "versions": {"python": platform.python_version(), **versions()},
    }


@functools.cache
def _commit() -> str | None:
    """The commit of a checkout that this package is used from, with a + where files differ; None elsewhere."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(git, capture_output=True, text=True, timeout=10)
        return asked.stdout.strip() or None
    return None


def write(folder: Path, claim: Claim) -> None:
    """Write into a run's folder what the claim that ends it says of its holder; in `before` what each earlier claim
    on its pack says, whose states it may have gone on from."""
    *before, last = (
        {"claim": past.number, "at": past.at, "host": past.holder.get("host"), **past.about}
        for past in past_claims(claim.folder)
        if past.number <= claim.number
    )
    write_json(folder / FILE, {**last, "before": before}, claim)
