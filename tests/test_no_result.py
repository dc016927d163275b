"""A run that went through all its steps and ended far above a guess is no result: it diverged, and it says why."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmscale import jsonfiles
from lmscale.config import PackConfig
from lmscale.ledger import Ledger
from lmscale.packs import Job
from lmscale.plan import Pack
from lmscale.results import finish
from lmscale.schedule import BRANCH
from lmscale.spec import RunSpec, spec_of

GOLDEN = Path(__file__).parent / "golden_2"
GUESS = math.log(260)


def ended(folder: Path, losses: list[float | None], kind: str = BRANCH) -> dict[str, Any]:
    """The outcome of a run with these text losses, none of whose steps was skipped."""
    specs = [spec_of(json.loads((path / "spec.json").read_text())) for path in sorted(GOLDEN.iterdir())]
    spec: RunSpec = next(spec for spec in specs if spec.kind == kind)
    run = folder / spec.run_id
    run.mkdir(parents=True)
    lines = [{"step": 10 * i, "loss": {"total": loss, "text": loss}} for i, loss in enumerate(losses, 1)]
    (run / "records.jsonl").write_text("".join(jsonfiles.canonical(line) + "\n" for line in lines))
    pack = Pack(1, {"lanes": [spec.run_id]}, (spec,))
    claim = Ledger(folder).claim(pack.pack_id, pack.execution)
    assert claim is not None
    job = Job(pack, PackConfig(keep="none"), folder, claim)
    guard = SimpleNamespace(skipped=[0], skipped_in_row=[0])
    finish(job, SimpleNamespace(guard=guard, step=[100]), 0, spec)  # type: ignore[arg-type]
    claim.finish()
    return json.loads((run / "outcome.json").read_text())


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([2e6, 1.5e6, 1.4e6], "its last loss is 1.4e+06 nats a token, the least on the way 1.4e+06"),
        ([3.0, 2.5, 40.0], "its last loss is 40 nats a token, the least on the way 2.5"),
        ([3.0, None, None], "its last loss is not finite"),
    ],
)
def test_a_last_loss_far_above_a_guess_is_diverged(
    tmp_path: Path, losses: list[float | None], reason: str
) -> None:
    outcome = ended(tmp_path, losses)
    assert outcome["outcome"] == "diverged" and outcome["reason"].startswith(reason)
    if losses[-1]:
        assert "ln 260 = 5.56" in outcome["reason"] and "transfer.rate" in outcome["reason"]


@pytest.mark.parametrize("losses", [[5.6, 3.0, 2.4], [9.0, 7.0, GUESS + 0.1], [2.5], []])
def test_a_run_that_learned_little_is_a_result(tmp_path: Path, losses: list[float | None]) -> None:
    assert ended(tmp_path, losses) == {"outcome": "done", "reason": None, "step": 100, "tokens": 50_000}


def test_a_trunk_is_not_judged_by_its_rate(tmp_path: Path) -> None:
    assert ended(tmp_path, [3.0, 40.0], kind="trunk")["outcome"] == "done"
