"""An experiment of several ladders: composed in turn, planned as one, and told apart in tables by their part."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from test_sweeper import composed  # noqa: F401

from analysis.tables.load import load_table
from lmscale.config import HorizonConfig, SweepConfig, TasksConfig
from lmscale.data import Manifest
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.ladder import run_specs
from lmscale.parts import FILE, parts_of, write_parts
from lmscale.plan import Plan, make_plan
from lmscale.tables import plan_table, status_table
from lmscale.target import TargetConfig
from lmscale.typed import build

GOLDEN = Path(__file__).resolve().parent / "golden"
OWN = """# @package _global_
defaults:
  - override /tasks: smoke
name: own
seed: [7]
parts:
  known:
    - data.markov_order=3
    - tasks=none
    - dial=[8,16]
  both: ["transfer.rate=.1,.2", "data.rows=8"]
"""


@pytest.fixture
def ladders(composed: Any, tmp_path: Path) -> Any:  # noqa: F811
    """(arguments) -> what is composed of an experiment with two parts, or its exit status."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text(OWN)
    return lambda *typed: composed("experiment=own", f"hydra.searchpath=[file://{tmp_path / 'mine'}]", *typed)


def told(configs: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (c["part"], c["data"]["markov_order"], c["tasks"]["weight"], c["dial"], c["transfer"]["rate"])
        for c in configs
    ]


def test_each_part_is_composed_with_its_own_overrides(ladders: Any) -> None:
    default = list(SweepConfig(name="x").dial)
    found = ladders()
    assert told(found) == [
        ("known", 3, 0.0, [8, 16], 0.3),
        ("both", None, 0.3, default, 0.1),
        ("both", None, 0.3, default, 0.2),
    ]
    assert {c["name"] for c in found} == {"own"} and {tuple(c["seed"]) for c in found} == {(7,)}
    assert {tuple(build(SweepConfig, c).parts) for c in found} == {("known", "both")}


def test_the_command_line_is_of_all_parts_and_with_a_prefix_of_one(ladders: Any) -> None:
    assert told(ladders("dial=[24]", "transfer.rate=.5")) == [
        ("known", 3, 0.0, [24], 0.5),
        ("both", None, 0.3, [24], 0.5),
    ]
    found = ladders("dial=[24]", "parts.known.dial=[8,48]", "parts.both.transfer.rate=.4", "tasks=none")
    assert told(found) == [("known", 3, 0.0, [8, 48], 0.3), ("both", None, 0.0, [24], 0.4)]
    (one,) = ladders("part=known", "parts.known.data.files=[a b(c).txt]", "+parts.known.tasks.weights.copy=1")
    assert one["data"]["files"] == ["a b(c).txt"] and one["tasks"]["weights"] == {"copy": 1}
    assert [c["part"] for c in ladders("part=both", "transfer.rate=.1")] == ["both"]
    assert [c["part"] for c in ladders("~parts.known", "transfer.rate=.1")] == ["both"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["parts.knwon.dial=[8]"], "parts.knwon: no such part; did you mean known?"),
        (["part=third"], "part=third: no such part; known are both, known"),
        (["parts.known=[]"], "parts.known=[]: give what makes this part"),
        (["parts.known.dail=[8]"], "dail: unknown key; did you mean dial?"),
        (["parts.known.dial=8,16"], "write dial=[8,16]"),
        (["experiment=smoke", "part=known"], "part=known: no such part; the experiment has no parts"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_part_that_cannot_be_is_one_line(
    ladders: Any, capsys: pytest.CaptureFixture, typed: list[str], said: str
) -> None:
    assert ladders(*typed) == [{"status": 2}]
    err = capsys.readouterr().err
    assert err.startswith("lmscale: ") and err.count("\n") == 1 and said in err


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"parts\.a b: a part's name"):
        SweepConfig(name="x", parts={"a b": ("tasks=none",)})


def test_without_parts_there_is_one_ladder_without_a_name() -> None:
    assert parts_of(OmegaConf.create({}), (), None) == [("", (), ())]


def planned(*parts: tuple[str, dict[str, Any]]) -> tuple[Plan, list[SweepConfig]]:
    base = SweepConfig(name="x", dial=(8, 16), seed=(0,))
    configs = [dataclasses.replace(base, part=name or None, **changes) for name, changes in parts]
    return make_plan(configs, [manifest_of(c) for c in configs], "cpu"), configs


def manifest_of(config: SweepConfig) -> Manifest:
    return dataclasses.replace(draft_manifest(config.data, config.tasks), unique_tokens=10**6)


def test_horizons_that_cost_too_much_are_left_out_but_for_the_target() -> None:
    horizon = HorizonConfig(tokens=1.6e6, exponent=0, multiples=(0.25, 0.5, 1.0))
    base = SweepConfig(name="x", dial=(8, 16), seed=(0,), horizon=horizon)
    every = {spec.run_id for spec in run_specs(base, manifest_of(base)) if spec.kind == "branch"}
    costs = {s.run_id: s.flops for s in run_specs(base, manifest_of(base)) if s.kind == "branch"}
    most = sorted(costs.values())[-2]
    less = dataclasses.replace(base, horizon=dataclasses.replace(horizon, most_flops=1.01 * most))
    kept = {spec.run_id for spec in run_specs(less, manifest_of(less)) if spec.kind == "branch"}
    assert every - kept == {max(costs, key=costs.__getitem__)}
    aimed = dataclasses.replace(less, target=TargetConfig(dial=64))
    longest = [
        spec for spec in run_specs(aimed, manifest_of(aimed)) if spec.dial == 64 and spec.horizon_tokens
    ]
    assert longest and max(spec.horizon_tokens or 0 for spec in longest) == pytest.approx(1.6e6, rel=0.01)
    few = dataclasses.replace(base, horizon=dataclasses.replace(horizon, most_flops=1e9))
    with pytest.raises(
        UserError, match=r"horizon\.most_flops=1e\+09: the shortest horizon of the rung of dial 8"
    ):
        run_specs(few, manifest_of(few))


def test_a_part_is_no_science_and_all_parts_are_one_plan(tmp_path: Path) -> None:
    tasks = TasksConfig(weight=0.3, weights={"copy": 1.0})
    plan, configs = planned(("text", {}), ("tasks", {"tasks": tasks, "seed": (0, 1)}))
    alone, _ = planned(("", {}))
    text = {run for run, part in plan.part_of.items() if part == "text"}
    assert text == set(alone.runs) and not alone.part_of
    assert set(plan.part_of) == set(plan.runs) and len(plan.runs) == 3 * len(text)
    for config in configs:
        for spec in run_specs(config, manifest_of(config)):
            assert plan.part_of[spec.run_id] == config.part
    shown = plan_table(plan, tmp_path, {}).splitlines()
    assert shown[0].startswith("part   wave") and {line.split()[0] for line in shown[1:25]} == {
        "text",
        "tasks",
    }
    assert any(line.startswith("tasks: 16 runs, ") for line in shown)
    states = status_table(plan, tmp_path).splitlines()
    assert states[0].startswith("part   dial  kind") and "tasks     8  branch  6 planned" in states
    assert "part" not in plan_table(alone, tmp_path, {}) + status_table(alone, tmp_path)


def test_a_table_says_which_part_a_run_is_of(tmp_path: Path) -> None:
    """parts.json keeps what earlier plans said, and a table that was kept is made again when it changes."""
    for run in GOLDEN.iterdir():
        if run.is_dir():
            shutil.copytree(run, tmp_path / run.name)
    first, *others = sorted(path.parent.name for path in tmp_path.glob("*/spec.json"))
    assert "part" not in load_table(tmp_path)
    plan = make_plan([], [], "cpu")
    write_parts(tmp_path, plan)
    assert not (tmp_path / FILE).exists()
    write_parts(tmp_path, dataclasses.replace(plan, part_of={first: "law"}))
    write_parts(tmp_path, dataclasses.replace(plan, part_of=dict.fromkeys(others, "tasks")))
    assert json.loads((tmp_path / FILE).read_text()) == {first: "law", **dict.fromkeys(others, "tasks")}
    for kind in ("runs", "tasks"):
        table = load_table(tmp_path, kind)  # type: ignore[arg-type]
        assert (table["part"] == table["run_id"].map(lambda run: "law" if run == first else "tasks")).all()
    assert set(load_table(tmp_path, where="part == 'law'")["run_id"]) == {first}
