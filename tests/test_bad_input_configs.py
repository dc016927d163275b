"""Configurations that a person may get wrong: each is one line that names the field, its value and what would
be right, exit code 2, before any work and with nothing written. `test_sweep` asks the same of real processes."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from lmscale import launch, sweep

MISSING = object()

# (the field, what a person wrote, what must stand in the answer besides the field)
CASES: list[tuple[str, Any, list[str]]] = [
    ("name", "../../out", ["../../out", "letters, digits"]),
    ("name", "a/b", ["a/b"]),
    ("name", ".hidden", [".hidden"]),
    ("name", "", ["must be letters"]),
    ("name", "x" * 100, ["must be letters"]),
    ("name", "line\nbreak", ["must be letters"]),
    ("name", 7, ["text"]),
    ("name", MISSING, ["missing"]),
    ("action", "destroy", ["destroy", "sweep, data, plan"]),
    ("runs", None, ["text"]),
    ("retry", "perhaps", ["perhaps", "yes or no"]),
    ("surprise", 1, ["unknown key"]),
    ("dail", [8], ["unknown key", "did you mean dial"]),
    ("dial", [], ["at least one"]),
    ("dial", 8, ["list"]),
    ("dial", [8, 8], ["twice"]),
    ("dial", [8, "eight"], ["eight", "whole number"]),
    ("dial", [8.5], ["8.5", "whole number"]),
    ("dial", [0], ["0", "at least 2"]),
    ("dial", [-8], ["-8"]),
    ("dial", [7], ["7"]),
    ("seed", [], ["at least one"]),
    ("seed", [-1], ["-1", "from 0"]),
    ("seed", [2**31], ["2147483648"]),
    ("seed", [True], ["whole number"]),
    ("one_seed", [99], ["99", "dial"]),
    ("family", "dense", ["group of keys"]),
    ("family.n_head", 3, ["3", "not divisible"]),
    ("family.n_kv_head", 3, ["4 query heads of dial", "not divisible", "[1, 2, 4]"]),
    ("family.n_kv_head", 0, ["must be positive"]),
    ("family.n_layer", 0, ["0"]),
    ("family.d_head", -4, ["-4"]),
    ("family.mlp_ratio", 0, ["0"]),
    ("family.d_head", 16, ["family.n_head=4, family.d_head=16", "give one of them"]),
    ("family.aspect", 8, ["family.n_layer=2, family.aspect=8", "give one of them"]),
    ("family.layers", 2, ["unknown key"]),
    ("optim.b1", 1.0, ["1.0", "between"]),
    ("optim.b2", math.nan, ["finite number"]),
    ("optim.b2", 1 - 1e-12, ["0.999999999999", "between"]),
    ("optim.eps", 0, ["between"]),
    ("optim.eps", 1e-300, ["1e-300", "between"]),
    ("optim.clip_norm", -1, ["-1", "above 0"]),
    ("optim.b1", "high", ["high", "number"]),
    ("schedule.kind", "linear", ["linear", "wsd, cosine"]),
    ("schedule.name", "cosine", ["unknown key", "it is called schedule.kind"]),
    ("optim.kind", "adam", ["optim.kind=adam: no such kind", "did you mean adamw?"]),
    ("optim.name", "lion", ["unknown key", "it is called optim.kind"]),
    ("family.kind", "dens", ["no such kind", "did you mean dense?"]),
    ("family.norm", "layr", ["no such norm", "did you mean layer?", "rms, layer"]),
    ("family.positions", "rope", ["no such positions", "rotary, learned, sinusoidal, alibi, none"]),
    ("family.qk_norm", "perhaps", ["yes or no"]),
    ("transfer.kind", "guess", ["guess", "inverse_width, constant"]),
    ("transfer.batch_rule", "guess", ["no such batch_rule", "power_of_params"]),
    ("schedule.warmup_steps", -1, ["-1", "at least 0"]),
    ("schedule.warmup_steps", 10**6, ["shorter than warm-up"]),
    ("schedule.decay_share", 1.5, ["1.5", "between"]),
    ("schedule.decay_share", 1e-6, ["1e-06", "decay", "needs"]),
    ("schedule.floor", 1, ["1.0", "below 1"]),
    ("transfer.rate", 0, ["above 0"]),
    ("transfer.rate", math.inf, ["finite number"]),
    ("transfer.rate_rule", "constant", ["unknown key", "it is called transfer.kind"]),
    ("transfer.weight_decay", -0.1, ["-0.1"]),
    ("horizon.tokens", 0, ["above 0"]),
    ("horizon.tokens", "many", ["many", "number"]),
    ("horizon.tokens", 10, ["warm-up", "horizon.tokens of "]),
    ("horizon.multiples", [], ["at least one"]),
    ("horizon.multiples", [-1.0], ["-1.0", "above 0"]),
    ("horizon.tokens", 1e15, ["1e+15", "at most 1,073,741,823 steps", "fewer tokens"]),
    ("horizon.tokens", 1e300, ["1e+300", "steps"]),
    ("horizon.multiples", [1e12], ["1000000000000.0", "fewer tokens"]),
    ("horizon.multiples", [1e-308], ["1e-308", "shorter than warm-up"]),
    ("horizon.exponent", 1e6, ["1000000.0", "between"]),
    ("horizon.dial", 10**9, ["1000000000", "at most 1048576"]),
    ("dial", [10**9], ["1000000000", "at most 1048576"]),
    ("dial", [10**30], ["64 bits"]),
    ("dial", [1e300], ["1e+300", "64 bits"]),
    ("seed", [2**70], ["64 bits"]),
    ("family.n_layer", 10**9, ["1000000000", "more than 4096"]),
    ("family.mlp_ratio", 10**12, ["1000000000000", "at most 1024"]),
    ("schedule.warmup_steps", 10**400, ["64 bits"]),
    ("transfer.rate", 1e-300, ["1e-300", "float32"]),
    ("transfer.weight_decay", 1e300, ["1e+300", "float32"]),
    ("transfer.batch", 10**12, ["1000000000000", "at most 1,048,576"]),
    ("transfer.batch_exponent", 1000, ["1000.0", "between"]),
    ("transfer.batch_reference_params", 1e-300, ["1e-300", "at least 1"]),
    ("data.seed", -1, ["-1", "from 0"]),
    ("data.seed", 2**64, ["64 bits"]),
    ("tasks.weights", {"copy": 1e308, "parity": 1e308}, ["beyond floating point"]),
    ("tasks.path", "", ["a task.json or a folder"]),
    ("one_seed", [64, 88], ["[64, 88]", "not among", "one_seed=[]"]),
    ("evaluation.per_doubling", 1e9, ["1000000000.0", "at most 100"]),
    ("evaluation.per_doubling", 1e-9, ["1e-09", "at least 0.01"]),
    ("evaluation.first_tokens", 1e300, ["1e+300", "at most 1e+18"]),
    ("evaluation.first_tokens", 1e-300, ["1e-300", "at least 1"]),
    ("evaluation.first_tokens", 0, ["above 0"]),
    ("evaluation.per_doubling", -1, ["-1", "above 0"]),
    ("pack", None, ["group of keys"]),
    ("pack.lanes", 0, ["0", "at least 1"]),
    ("pack.lanes", "many", ["many", "auto"]),
    ("pack.steps", 0, ["at least 1"]),
    ("pack.steps", 10**9, ["1000000000", "at most 65536"]),
    ("pack.steps", 1.5, ["1.5", "whole number"]),
    ("pack.device", "abacus", ["abacus", "cpu, gpu, tpu"]),
    ("pack.checkpoint_seconds", 0, ["above 0"]),
    ("pack.checkpoints", 0, ["at least 1"]),
    ("pack.tries", 0, ["at least 1"]),
    ("mesh", 8, ["group of keys"]),
    ("mesh.data", 0, ["mesh.data=0", "at least 1"]),
    ("mesh.rows", 2, ["unknown key", "mesh.data"]),
    ("mesh.data", 7, ["mesh.data=7", "rows of a batch", "numbers that fit: [1, "]),
    ("mesh.model", 3, ["mesh.model=3", "d_model of dial 8, 8", "numbers that fit: [1, 2, 4, 8]"]),
    ("data.kind", "web", ["web", "stdlib"]),
    ("data.context", 8, ["8", "at least 32"]),
    ("data.rows", 0, ["at least 1"]),
    ("data.heldout_share", 0.9, ["0.9"]),
    ("data.heldout_rows", 0, ["at least 1"]),
    ("data.unique_tokens", 10, ["10", "above"]),
    ("data.colour", "red", ["unknown key"]),
    ("data.clean", ["polish"], ["polish is no step", "quality, dedup"]),
    ("data.clean", ["quality"], ["data.quality.good=None", "a source of good text"]),
    ("data.clean", "dedup", ["dedup", "list"]),
    ("data.dedup_threshold", 1.5, ["1.5", "between"]),
    ("data.quality.keep", 0, ["0", "between"]),
    ("data.quality.good", "mine", ["no such source", "data.sources.mine"]),
    ("data.sources", {"mine": []}, ["data.sources.mine", "give its files"]),
    ("data.mixture", {"stdlib": 1.0}, ["data.kind=stdlib", "mixture"]),
    ("data.mixture", {"stdlib": 0.7, "packages": 0.2}, ["sum to 0.9"]),
    ("data.objective", "mask", ["mask", "did you mean masked?"]),
    ("data.mask_share", 0, ["0", "between"]),
    ("tasks.weight", 1.0, ["1.0", "below 1"]),
    ("tasks.weights.copy", -1, ["-1"]),
    ("tasks.weights.juggling", 1.0, ["juggling"]),
    ("tasks.weights", {}, ["give both"]),
    ("tasks.items", 1, ["at least 20"]),
    ("tasks.rows", 0, ["at least 1"]),
]


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    """A composed configuration that is right."""
    with initialize_config_module("sweeps", version_base="1.3"):
        composed = OmegaConf.to_container(compose("config", ["experiment=smoke"]), resolve=True)
    assert isinstance(composed, dict)
    return composed


def answer(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of the application, Hydra left out."""

    def app() -> None:
        raise SystemExit(sweep.run([values], lambda jobs: []))

    monkeypatch.setattr(launch, "app", app)
    monkeypatch.setattr("lmscale.stopping.lead", lambda: None)
    try:
        return launch.main()
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.mark.parametrize(("field", "value", "said"), CASES, ids=[f"{f}={v!r:.20}" for f, v, _ in CASES])
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    good: dict[str, Any],
    field: str,
    value: Any,
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    values = copy.deepcopy(good)
    *groups, key = field.split(".")
    inner = values
    for group in groups:
        inner = inner[group]
    if value is MISSING:
        del inner[key]
    else:
        inner[key] = value
    assert answer(values, monkeypatch) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("lmscale: ") and err.count("\n") == 1
    assert [part for part in [field.split(".")[-1], *said] if part not in err] == []
    assert list(tmp_path.iterdir()) == []


def test_axes_that_cannot_be_axes(
    good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "app", lambda: sweep.run([good, {**good, "name": "b"}], lambda jobs: []))
    monkeypatch.setattr("lmscale.stopping.lead", lambda: None)
    assert launch.main() == 2
    assert "name: cannot be an axis" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.lr=.1", "optim.lr: unknown key; known are optim.b1, "),
        ("horizon.token=1e6", "horizon.token: unknown key; did you mean horizon.tokens?"),
        (
            "tasks.weights.modadd_97=1",
            "use +tasks.weights.modadd_97=1",
        ),  # a mapping: to append is what was meant
    ],
)
def test_a_field_that_hydra_does_not_find(
    override: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def app() -> None:
        with initialize_config_module("sweeps", version_base="1.3"):
            compose("config", ["experiment=smoke", override])

    monkeypatch.setattr(launch, "app", app)
    monkeypatch.setattr("lmscale.stopping.lead", lambda: None)
    assert launch.main() == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and said in err


def test_a_file_where_the_runs_should_go(
    good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("in the way")
    assert answer({**good, "action": "sweep"}, monkeypatch) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "runs" in err and "Not a directory" in err
