"""What surviving costs: saving a checkpoint, and a resumed start against a cold one.

    python -m benchmarks.survive [DIAL ...]      rungs of experiment cpu (the largest and the least unless said)
    python -m benchmarks.survive RUNS            the share of saving in a sweep that was trained, runs/cpu

A start is that of a process that plans and trains (hydra/launcher=basic). It is timed from outside, from the
process's birth to where its first steps are handed to the device, compiled; there a fault kills it. Resumed: a
checkpoint and the compiled programs. Cold: the corpus, but no compiled program. From nothing: no corpus either.
Each is the least of three, cold and resumed in turns, with Python's bytecode where Python keeps it.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import default
from lmscale import checkpoint
from lmscale.config import PackConfig
from lmscale.faults import VARIABLE

REPEATS = 3


def start(runs: Path, corpora: Path, dial: int, fault: str, *overrides: str) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of a sweep of one rung up to where `fault` kills it."""
    command = [sys.executable, "-m", "lmscale.launch", "experiment=cpu", "hydra/launcher=basic"]
    command += [f"dial=[{dial}]", "seed=[0]", "one_seed=[]", "horizon.multiples=[1.0]"]
    command += [f"runs={runs}", f"corpora={corpora}", *overrides]
    environment = os.environ | {VARIABLE: fault}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each start would compile these packages' sources again
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode != -9:
        raise SystemExit(f"{' '.join(command)} ended by itself, with {ended.returncode}: {ended.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def starts(dial: int, folder: Path) -> None:
    """Print how long a cold and a resumed process take to their first step."""
    runs, corpora = folder / "runs", folder / "corpora"
    whole = start(runs, corpora, dial, "train.stepped=kill")
    cold, resumed = [], []
    for _ in range(REPEATS):
        shutil.rmtree(runs)
        cold.append(start(runs, corpora, dial, "train.stepped=kill"))
        start(runs, corpora, dial, "train.stepped:4=kill", "pack.checkpoint_seconds=0.001")
        resumed.append(start(runs, corpora, dial, "train.stepped=kill"))
    for what, index in (("wall", 0), ("CPU", 1)):
        slow, fast = min(times[index] for times in cold), min(times[index] for times in resumed)
        print(
            f"dial {dial}: to the first step, {what} seconds: from nothing {whole[index]:.1f}, cold {slow:.1f}, "
            f"resumed {fast:.1f}: {whole[index] / fast:.1f} x and {slow / fast:.1f} x"
        )
    path = max(runs.glob("cpu/packs/*/step-*.ckpt"))
    saving(dial, path, folder)


def saving(dial: int, example: Path, folder: Path) -> None:
    """Print what a save of this rung's state takes in all, and how much of that training waits for."""
    header = json.loads((example.parent / "pack.json").read_text())
    meta = {"lanes": header["execution"]["lanes"], "execution": header["execution"]}
    found = checkpoint.load(example.parent, meta)
    assert found is not None
    waits, wholes = [], []
    with checkpoint.Saver() as saver:
        for step in range(20):
            began = time.perf_counter()
            copies = {name: np.array(array) for name, array in found.arrays.items()}
            saver.save(folder / "saves", step, copies, meta)
            waits.append(time.perf_counter() - began)
            saver.wait()
            wholes.append(time.perf_counter() - began)
    interval = PackConfig().checkpoint_seconds
    size = sum(array.nbytes for array in found.arrays.values())
    print(
        f"dial {dial}: a save of {size / 1e6:.2f} MB takes {np.median(wholes) * 1e3:.1f} ms "
        f"({max(wholes) * 1e3:.1f} at worst), training waits {np.median(waits) * 1e3:.2f} ms: "
        f"at one every {interval:.0f} s "
        f"{np.median(wholes) / interval:.3%} of the wall time if nothing overlapped"
    )


def share(folder: Path) -> None:
    """Print the share of a trained sweep's time that went to saving, pinned checkpoints included."""
    lines = [path.read_text().splitlines()[-1] for path in folder.glob("*/timing.jsonl")]
    ends = [json.loads(line) for line in lines]
    whole, saved = sum(end["seconds"] for end in ends), sum(end["saving_seconds"] for end in ends)
    print(
        f"{folder}: {len(ends)} runs, {whole:.0f} s of training, {saved:.1f} s of it saving: {saved / whole:.2%}"
    )


if __name__ == "__main__":
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_dir():
        share(Path(sys.argv[1]))
    else:
        dials = default.config().dial
        for argument in sys.argv[1:] or (max(dials), min(dials)):
            with tempfile.TemporaryDirectory() as name:
                starts(int(argument), Path(name))
