"""A run keeps its id, and so its folder, whatever is added to lmscale: ids of 22 November 2026 are held here.

Where this fails, every user's finished runs would be trained again. If results did change, SCIENCE_VERSION moves
and the ids below are new ones; if they did not, make the new field's default mean what was.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module

from hydra_plugins.lmscale_sweeper.lmscale_sweeper import _plain
from lmscale import jsonfiles, train
from lmscale.config import SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.ladder import run_specs
from lmscale.spec import RunSpec, spec_of, written
from lmscale.typed import build

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = sorted(
    path for name in ("golden", "golden_2") for path in (ROOT / "tests" / name).iterdir() if path.is_dir()
)
# Of unscanned text (`draft_manifest`), as the version of 22 November 2026 made them.
IDS = {
    ("experiment=smoke",): [
        "23f4457679b1",
        "2f1f096cb165",
        "70d69337bdb4",
        "8b4890d3e09a",
        "8cef8855de3b",
        "a7b1e7529a63",
    ],
    ("experiment=smoke", "schedule=cosine"): ["202cd7c1213d", "22809bdb8a37", "9075fb532830", "d796cacbcc3a"],
}


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_module("sweeps", version_base="1.3"):
        return _plain(compose("config", list(overrides)))


def specs(values: dict[str, Any]) -> list[RunSpec]:
    config = build(SweepConfig, values)
    return run_specs(config, draft_manifest(config.data, config.tasks))


def ids(*overrides: str) -> list[str]:
    return sorted(spec.run_id for spec in specs(composed(*overrides)))


@pytest.mark.parametrize("overrides", IDS, ids=" ".join)
def test_the_runs_of_a_sweep_are_where_they_were(overrides: tuple[str, ...]) -> None:
    assert ids(*overrides) == IDS[overrides]


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_spec_of_any_layout_is_the_run_that_its_folder_is_called_after(folder: Path) -> None:
    spec = spec_of(json.loads((folder / "spec.json").read_text()))
    assert spec.run_id == folder.name
    assert spec_of(json.loads(jsonfiles.canonical(written(spec)))) == spec
    train.lane_numbers(spec, 100)  # it can be gone on with


# What somebody might add one day, before these fields: in the file, the line, and a value that is not the default.
NEW_FIELDS = {
    "shape.py": ('    mlp: str = "dense"', "    window: int | None = None\n    gates: tuple[int, ...] = ()"),
    "optim.py": ("    clip_norm: float = 1.0", "    nesterov: bool = False"),
    "schedule.py": ("    floor: float = 0.0", "    power: float = 1.0"),
    "config.py": ("    per_doubling: float = 0.5", "    often: bool = False"),
    "data/manifest.py": ("    counted: str", "    masked: bool = False"),
    "spec.py": ("    tasks: dict[str, Any]", "    teacher: str | None = None"),
}
ASKED = """
import dataclasses, json, sys
from lmscale.config import SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.ladder import run_specs
from lmscale.spec import spec_of, written
from lmscale.typed import build

asked = json.load(sys.stdin)
found = {"golden": [spec_of(spec).run_id for spec in asked["golden"]], "composed": []}
for values in asked["composed"]:
    config = build(SweepConfig, values)
    found["composed"].append(run_specs(config, draft_manifest(config.data, config.tasks)))
spec = found["composed"][0][-1]
others = [
    dataclasses.replace(spec, shape=dataclasses.replace(spec.shape, window=8)),
    dataclasses.replace(spec, optim=dataclasses.replace(spec.optim, nesterov=True)),
    dataclasses.replace(spec, schedule={**spec.schedule, "power": 2.0}),
    dataclasses.replace(spec, teacher="another"),
]
found["new"] = [spec.run_id for spec in others]
found["again"] = [spec_of(json.loads(json.dumps(written(spec)))).run_id for spec in others]
found["fields"] = [sorted(written(spec)), sorted(written(spec)["shape"])]
found["composed"] = [sorted(spec.run_id for spec in specs) for specs in found["composed"]]
json.dump(found, sys.stdout)
"""


def test_a_new_field_moves_no_run(tmp_path: Path) -> None:
    """A field is added to the network, the optimiser, the schedule, the evaluation, a component and the run: by
    its line alone, in a copy of lmscale. Every old run is where it was; a run with another value is elsewhere."""
    copy = shutil.copytree(
        ROOT / "lmscale", tmp_path / "lmscale", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, (line, new) in NEW_FIELDS.items():
        text = (copy / name).read_text()
        assert text.count(f"{line}\n") == 1, f"{name}: {line}"
        (copy / name).write_text(text.replace(f"{line}\n", f"{line}\n{new}\n"))
    golden = [json.loads((folder / "spec.json").read_text()) for folder in GOLDEN]
    asked = {"golden": golden, "composed": [composed(*overrides) for overrides in IDS]}
    ended = subprocess.run(
        [sys.executable, "-c", ASKED],
        input=json.dumps(asked),
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["golden"] == [folder.name for folder in GOLDEN]
    assert found["composed"] == list(IDS.values())
    old = {run_id for runs in IDS.values() for run_id in runs}
    assert len(set(found["new"])) == len(found["new"]) and not old & set(found["new"])
    assert found["again"] == found["new"]
    # a run that does not use a new field says nothing of it: to a report it is of the old runs' science
    spec = specs(composed(*next(iter(IDS))))[-1]
    assert found["fields"] == [sorted(written(spec)), sorted(written(spec)["shape"])]


def test_a_label_is_no_science() -> None:
    assert ids("experiment=smoke", "data.name=mine", "name=another") == IDS["experiment=smoke",]


def test_a_name_selects_and_an_unknown_one_is_refused_with_the_known_ones() -> None:
    values = composed("experiment=smoke")
    for group, known in (
        ("optim", "there are adamw"),
        ("schedule", "there are wsd, cosine"),
        ("transfer", "there are inverse_width, constant"),
        ("family", "there are dense"),
    ):
        changed = {**values, group: {**values[group], "kind": "nonesuch"}}
        with pytest.raises(UserError, match=rf"{group}\.kind=nonesuch: no such kind; {known}"):
            specs(changed)
        labelled = {**values, group: {**values[group], "name": "nonesuch"}}
        with pytest.raises(
            UserError, match=rf"{group}\.name=nonesuch: unknown key; it is called {group}\.kind"
        ):
            specs(labelled)


def test_a_spec_of_a_kind_that_is_gone_is_refused_by_name() -> None:
    spec = json.loads((GOLDEN[0] / "spec.json").read_text())
    with pytest.raises(UserError, match=r"optim\.kind=gone"):
        spec_of({**spec, "optim": {**spec["optim"], "name": "gone"}})


def test_only_what_a_run_depends_on_is_in_its_schedule() -> None:
    trunk, *branches = specs(composed("experiment=smoke"))[:3]
    assert set(trunk.schedule) == {"kind", "warmup_steps"}
    assert all(set(b.schedule) == {"kind", "warmup_steps", "decay_share", "floor"} for b in branches)
