"""One source of defaults: Hydra composes the dataclasses' own, and of sweeps/ what makes a variant."""

import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf

from hydra_plugins.lmscale_sweeper.lmscale_sweeper import _plain
from lmscale.config import SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.jsonfiles import plain
from lmscale.plan import make_plan
from lmscale.typed import build

SWEEPS = Path(__file__).resolve().parents[1] / "sweeps"
GROUPS = sorted(path.relative_to(SWEEPS) for path in SWEEPS.glob("*/*.yaml"))
NEEDED = {"data/huggingface.yaml": ["data.dataset=some/set"], "tasks/bigbench.yaml": ["tasks.path=some"]}
NEEDED |= {"data/text.yaml": ["data.files=[some.txt]"], "data/mixture.yaml": ["+data.mixture.stdlib=1"]}
NEEDED |= {"data/tokens.yaml": ["data.files=[train.bin]"], "tasks/full.yaml": ["experiment=full"]}


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_module("sweeps", version_base="1.3"):
        return _plain(compose("config", list(overrides)))


def config(*overrides: str) -> SweepConfig:
    return build(SweepConfig, composed(*overrides))


def dataclasses_of(kind: Any) -> set[Any]:
    """A configuration's dataclass and all those within."""
    inner = [hint for hint in typing.get_type_hints(kind).values() if dataclasses.is_dataclass(hint)]
    return {kind}.union(*(dataclasses_of(hint) for hint in inner))


def test_every_dataclass_is_built_from_nothing_and_is_what_hydra_composes_without_a_variant() -> None:
    for kind in dataclasses_of(SweepConfig) - {SweepConfig}:
        assert kind() == build(kind, {}), kind
    assert config("~experiment", "~tasks", "name=x") == SweepConfig(name="x")
    groups = ("experiment", "tasks", "family", "data", "optim", "schedule", "transfer", "pack")
    assert config(*(f"~{group}" for group in groups), "name=x") == SweepConfig(name="x")


@pytest.mark.parametrize("path", GROUPS, ids=str)
def test_every_group_composes_and_holds_only_what_makes_its_variant(path: Path) -> None:
    group, name = path.parent.name, path.stem
    found = config(f"{group}={name}", *NEEDED.get(str(path), []))
    values = yaml.safe_load((SWEEPS / path).read_text())
    default = dataclasses.asdict(SweepConfig(name="x"))
    if group == "experiment":
        assert found.name == name
        values.pop("defaults", None)
    else:
        values = {group: values}
    same = []
    for key, value in values.items():
        if isinstance(value, dict):
            # what a group selects is said, be it the default; so are the ladder and horizons that an experiment is
            said = ("kind", "name", "lanes")
            if group == "experiment":
                said = tuple(value) * (key == "horizon")
            same += [
                f"{key}.{k}"
                for k, v in value.items()
                if k in default[key] and v == default[key][k] and k not in said
            ]
        elif value == plain(default[key]) and key not in ("dial", "seed"):
            same.append(key)
    assert not same, f"{path} says again what config.py says"


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("experiment/*.yaml")), ids=lambda path: path.stem)
def test_every_part_of_an_experiment_can_be_planned(path: Path) -> None:
    experiment = f"experiment={path.stem}"
    parts = [config(experiment, *overrides) for overrides in config(experiment).parts.values()]
    assert parts or path.stem not in ("ladders", "law")
    plans = [make_plan([part], [draft_manifest(part.data, part.tasks)], "cpu") for part in parts]
    assert all(plan.runs for plan in plans)


def test_without_its_group_a_field_is_as_with_the_default_variant() -> None:
    """`~transfer` once changed the rate of every rung, and no word of it."""
    for group in ("transfer", "optim", "schedule", "family", "pack", "data"):
        assert config(f"~{group}") == config()


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optim.b2=.95", lambda c: c.optim.b2 == 0.95),
        ("transfer.rate=.5", lambda c: c.transfer.rate == 0.5),
        ("schedule=cosine", lambda c: c.schedule.kind == "cosine"),
        ("data.unique_tokens=1e6", lambda c: c.data.unique_tokens == 10**6),
        ("retry=true", lambda c: c.retry),
        ("pack.tries=1", lambda c: c.pack.tries == 1),
        (
            "tasks=cpu +tasks.weights.copy=1",
            lambda c: c.tasks.weights["copy"] == 1 and len(c.tasks.weights) == 9,
        ),
    ],
)
def test_every_field_can_be_overridden(override: str, value: Any) -> None:
    assert value(config(*override.split()))


def test_a_persons_own_experiment_file_wins_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /schedule: cosine\nname: mine\nruns: elsewhere\n"
        "retry: true\ncorpora: there\noptim: {b1: 0.8}\nhydra: {sweep: {subdir: below}}\n"
    )
    with initialize_config_module("sweeps", version_base="1.3"):
        found = compose(
            "config",
            ["experiment=mine", f"hydra.searchpath=[file://{tmp_path}]"],
            return_hydra_config=True,
        )
    assert (found.runs, found.retry, found.corpora, found.optim.b1) == ("elsewhere", True, "there", 0.8)
    assert found.schedule.kind == "cosine" and found.hydra.sweep.subdir == "below"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data=huggingface"], "data.dataset=None: it must be a dataset's name"),
        (["data=text"], "data.files="),
        (["tasks=bigbench"], "tasks.path=: it must be a task.json or a folder"),
        (["~experiment"], "name: missing"),
    ],
)
def test_what_a_variant_asks_for_is_named_where_it_is_missing(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        config(*overrides)


def test_a_misspelt_key_is_no_new_key() -> None:
    with pytest.raises(HydraException, match=r"horizon\.token"):
        composed("horizon.token=1")
    with pytest.raises(UserError, match=r"optim\.beta=1: unknown key"):
        config("+optim.beta=1")


def test_the_composed_configuration_can_be_written_down() -> None:
    """As `--cfg job` does."""
    with initialize_config_module("sweeps", version_base="1.3"):
        text = OmegaConf.to_yaml(compose("config", ["experiment=smoke"]))
    assert "rate: 0.3" in text and "warmup_steps: 10" in text and "kind: adamw" in text
