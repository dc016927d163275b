"""A training loop without a model: what `train` does to the disk, in a tenth of a second. Run as a program:
toy_loop.py FOLDER. Exit 0 at the end or where another process is at it, 2 with one line for a UserError,
3 where the claim was lost.
"""

import os
import resource
import sys
from pathlib import Path

import numpy as np

from lmscale import checkpoint, jsonfiles, records
from lmscale.claim import LostClaim
from lmscale.errors import UserError
from lmscale.ledger import Ledger

LANES = ["run-a", "run-b"]
META = {"lanes": LANES, "seed": 5}
STEPS, EVALUATE, SAVE, PIN = 24, 3, 4, 12


def main(folder: Path) -> None:
    claim = Ledger(folder, lease=float(os.environ.get("LEASE", "60"))).claim("pack", {"lanes": LANES})
    if claim is None:
        return
    runs = [folder / lane for lane in LANES]
    for run, lane in zip(runs, LANES, strict=True):
        run.mkdir(parents=True, exist_ok=True)
        jsonfiles.write_json(run / "spec.json", {"lane": lane}, claim)
    found = checkpoint.load(claim.folder, META)
    claim.freeze()
    start = found.step if found else 0
    for run in runs:
        records.truncate_after(run / "records.jsonl", start if found else None, claim)
    state = found.arrays["x"] if found else np.zeros((len(LANES), 4096), np.float32)
    for step in range(start + 1, STEPS + 1):
        noise = np.stack(
            [np.random.default_rng([step, lane]).normal(size=4096) for lane in range(len(LANES))]
        )
        state = (0.9 * state + noise).astype(np.float32)
        if step % EVALUATE == 0 or step == STEPS:
            for lane, run in enumerate(runs):
                record = {"step": step, "loss": {"total": float(np.abs(state[lane]).mean())}}
                records.append(run / "records.jsonl", record, claim)
        if step % SAVE == 0:
            checkpoint.save(claim.folder, step, {"x": state}, META, pinned=step == PIN, fence=claim)
    for run in runs:
        jsonfiles.write_json(run / "outcome.json", {"outcome": "done", "step": STEPS}, claim)
    claim.finish()


if __name__ == "__main__":
    if "FILE_LIMIT" in os.environ:
        limit = int(os.environ["FILE_LIMIT"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if "AS_USER" in os.environ:
        os.setuid(int(os.environ["AS_USER"]))
    try:
        main(Path(sys.argv[1]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except LostClaim as error:
        print(error, file=sys.stderr)
        sys.exit(3)
