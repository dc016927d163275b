"""One side of the contract: the golden run folder is what lmscale's own writers make, byte for byte.

The other side is test_golden_read.py. Where this fails, the run folder's format has changed: if that is meant,
teach analysis/tables/run_folder.py, then write a new folder with `python tests/test_golden_write.py` and leave
those before to test_golden_read.py and test_identity.py: every later version reads them, under their ids.
golden: written before the shape was nested in spec.json (22 November 2026). golden_2: as it is written now.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from lmscale import jsonfiles, records
from lmscale.spec import RunSpec, spec_of, written

GOLDEN = Path(__file__).parent / "golden_2"
COMPONENTS = [
    {"name": "text", "rows": 8, "weight": 0.75, "counted": "all"},
    {"name": "parity", "rows": 1, "weight": 0.25, "counted": "answer"},
]
PARITY = {
    "about": "parity of 10 bits, at once and by steps",
    "ceiling": 1.0,
    "chance": 0.5,
    "heldout": 0.25,
    "intended_class": "flat",
    "metric": "correct",
    "variants": {
        "direct": {"chance": 0.5, "intended_class": "flat"},
        "chain": {"chance": 0.25, "intended_class": "emergent"},
    },
    "version": 1,
}
SPEC: dict[str, Any] = {
    "science_version": 1,
    "kind": "trunk",
    "trunk": None,
    "dial": 8,
    "shape": {
        "n_layer": 2,
        "d_model": 8,
        "n_head": 1,
        "d_head": 8,
        "d_mlp": 32,
        "context": 64,
        "vocab_size": 260,
    },
    "seed": 3,
    "horizon_tokens": None,
    "horizon_steps": None,
    "decay_start": None,
    "batch_multiple": 1,
    "batch_tokens": 500,
    "learning_rate": 0.08,
    "weight_decay": 0.0,
    "schedule": {"kind": "wsd", "decay_share": 0.2, "floor": 0.0, "warmup_steps": 10},
    "optim": {"kind": "adamw", "b1": 0.9, "b2": 0.98, "eps": 1e-8, "clip_norm": 1.0},
    "evaluation": {"first_tokens": 5e4, "per_doubling": 1.0, "heldout_rows": 192, "items": 60},
    "params": {"embedding": 2080, "unembedding": 2080, "attention": 512, "mlp": 1024, "norm": 72},
    "data": {
        "name": "stdlib",
        "content_hash": "0123456789abcdef",
        "primary": "text",
        "unique_tokens": 9187024,
        "components": COMPONENTS,
    },
    "tasks": {"parity": PARITY},
}


def evaluation(spec: RunSpec, step: int, text: float, parity: float, skipped: int = 0) -> dict[str, Any]:
    """A record as the loop makes it."""
    tokens = (step - skipped) * spec.batch_tokens
    direct = {"n": 60, "correct": 31, "nll": 0.6931471805599453, "brier": 0.5, "byte_accuracy": 31 / 60}
    chain = {"n": 60, "correct": 12, "nll": 4.5, "brier": None, "byte_accuracy": 0.85}
    return {
        "step": step,
        "tokens": tokens,
        "flops": tokens * spec.flops_per_token,
        "skipped_steps": skipped,
        "loss": {
            "total": 0.75 * text + 0.25 * parity,
            "text": text,
            "parity": parity,
            "text.letter": 0.625 * text,
            "text.other": 0.375 * text,
        },
        "tasks": {"parity": {"direct": direct, "chain": chain}},
    }


def specs() -> list[RunSpec]:
    """A trunk, a branch of it, and a branch of it with another horizon."""
    trunk = spec_of(SPEC)

    def branch(steps: int) -> RunSpec:
        changes = {"kind": "branch", "trunk": trunk.run_id, "horizon_steps": steps}
        ends = {"horizon_tokens": steps * trunk.batch_tokens, "decay_start": steps * 4 // 5}
        return dataclasses.replace(trunk, **changes, **ends)

    return [trunk, branch(100), branch(200)]


def write(folder: Path) -> None:
    """The golden runs: a trunk that ended, a branch that is done, one that diverged after its first record."""
    trunk, done, diverged = specs()
    spiked = "64 steps in a row were not finite or spiked; the last was step 190"
    runs = (
        (trunk, [(100, 2.5, 0.75, 0), (200, 2.25, 0.7, 2)], ("done", None, 200, 99_000)),
        (done, [(50, 2.75, 0.8, 0), (100, 2.375, 0.72, 1)], ("done", None, 100, 49_500)),
        (diverged, [(100, 2.5, 0.75, 0)], ("diverged", spiked, 190, 63_000)),
    )
    for spec, lines, (outcome, reason, step, tokens) in runs:
        run = folder / spec.run_id
        run.mkdir(parents=True)
        jsonfiles.write_json(run / "spec.json", written(spec))
        execution = {"lanes": [spec.run_id], "device": "cpu", "precision": "float32", "steps": 16}
        jsonfiles.write_json(run / "execution.json", {"pack_id": "golden", **execution})
        for at, text, parity, skipped in lines:
            record = evaluation(spec, at, text, parity, skipped)
            records.check_record(record, dataclasses.asdict(spec))
            records.append(run / "records.jsonl", record)
        if spec is done:
            items = {"correct": np.arange(60) < 31, "nll": np.linspace(0.1, 1.2, 60, dtype=np.float32)}
            items |= {"matched_bytes": np.ones(60, np.uint8), "answer_bytes": np.ones(60, np.uint8)}
            jsonfiles.write_npz(run / "items.npz", {f"parity/direct/{k}": v for k, v in items.items()})
        ended = {"outcome": outcome, "reason": reason, "step": step, "tokens": tokens}
        jsonfiles.write_json(run / "outcome.json", ended)


def test_the_writers_make_the_golden_folder(tmp_path: Path) -> None:
    write(tmp_path)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(GOLDEN) for path in GOLDEN.rglob("*") if path.is_file()}
    hint = "the run folder's format or a run's identity changed; see this file's first lines"
    assert made == kept, hint
    for path in made:
        if path.suffix == ".npz":
            with np.load(tmp_path / path) as new, np.load(GOLDEN / path) as old:
                assert new.files == old.files, hint
                assert all(np.array_equal(new[name], old[name]) for name in old.files), hint
        else:
            assert (tmp_path / path).read_bytes() == (GOLDEN / path).read_bytes(), f"{path}: {hint}"


if __name__ == "__main__":
    shutil.rmtree(GOLDEN, ignore_errors=True)
    write(GOLDEN)
