"""The list for an accelerator (benchmarks/gpu.py): lines are kept and gone on with, in miniature on a CPU."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import default, gpu, gpu_ladder, gpu_profile, gpu_right
from benchmarks.gpu_profile import Kernel
from benchmarks.gpu_right import Item
from lmscale import sweep
from lmscale.device import Device

pytestmark = pytest.mark.alone


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], list[str]]:
    """Install a part of lines by name; returns the list of those that are measured."""
    measured: list[str] = []

    def install(lines: dict[str, Any]) -> list[str]:
        def item(name: str) -> Item:
            def measure() -> dict[str, Any]:
                measured.append(name)
                if isinstance(lines[name], Exception):
                    raise lines[name]
                return {"tokens a second": lines[name]}

            return Item(name, name.split()[0], measure)

        def items(_: Path) -> Iterator[Item]:
            yield from map(item, lines)

        monkeypatch.setitem(gpu.PARTS, "packs", items)
        return measured

    return install


def test_a_fall_and_a_full_memory_end_their_series_alone(part: Any, tmp_path: Path) -> None:
    full = RuntimeError("RESOURCE_EXHAUSTED: out of memory")
    measured = part({"a 1": 5.0, "a 4": 9.0, "a 16": 8.0, "a 64": 1.0, "b 1": full, "b 4": 2.0, "c 1": 3.0})
    rows = gpu.run("packs", tmp_path / "kept.json", 60.0)["rows"]
    assert measured == ["a 1", "a 4", "a 16", "b 1", "c 1"]
    assert rows["a 64"] == {"skipped": "fewer were already slower than fewer still"}
    assert rows["b 1"] == {"skipped": "out of memory"}
    assert rows["b 4"] == {"skipped": "fewer ran out of memory"}
    assert json.loads((tmp_path / "kept.json").read_text())["rows"] == rows


def test_what_is_there_is_not_measured_again_and_what_went_wrong_is(part: Any, tmp_path: Path) -> None:
    kept = tmp_path / "results" / "kept.json"
    part({"a 1": 5.0, "a 4": ValueError("no such kernel")})
    assert gpu.run("packs", kept, 60.0)["rows"]["a 4"] == {"again": "ValueError: no such kernel"}
    measured = part({"a 1": 1.0, "a 4": 6.0})
    measured.clear()
    rows = gpu.run("packs", kept, 60.0)["rows"]
    assert measured == ["a 4"] and rows["a 1"] == {"tokens a second": 5.0}


def test_when_the_time_is_over_the_rest_is_left(
    part: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = part({"a 1": 5.0})
    assert gpu.run("packs", tmp_path / "kept.json", -1.0)["rows"] == {} and not measured
    assert "a 1" in capsys.readouterr().out


def test_compiling_ahead_measures_nothing_and_survives_what_does_not_compile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def broken() -> None:
        raise ValueError("no such kernel")

    lines = [
        Item("a", "a", lambda: {"measured": done.append("measured")}, lambda: done.append("a")),
        Item("b", "b", dict, broken),
        Item("c", "c", dict),
    ]
    monkeypatch.setitem(gpu.PARTS, "mfu", lambda _: iter(lines))
    gpu.compile_ahead("mfu", tmp_path, 60.0)
    assert done == ["a"] and "ValueError: no such kernel" in capsys.readouterr().out
    gpu.compile_ahead("mfu", tmp_path, -1.0)
    assert done == ["a"]


def test_the_sweep_that_is_killed_on_an_accelerator_can_be_planned() -> None:
    """On a GPU only is it trained; its shortest horizon once lay within the warm-up, and it was refused there."""
    overrides = [text for text in gpu_right.resumed(tiny=False) if not text.startswith("hydra/")]
    config = default.config(*overrides)
    assert config.pack.device == "gpu"
    sweep.check(config, Device("gpu"))


def test_a_moment_of_two_streams_counts_once_and_kernels_are_told_apart() -> None:
    network = "jit(run)/while/body/jvp(Transformer)"
    kernels = [
        Kernel("nvjet_sm90_tst_128x128", "", 0.0, 10.0),
        Kernel("loop_add_fusion_3", f"{network}/mlp_0/add", 5.0, 20.0),
        Kernel("cudnn_generated_fort_native_sdpa_sm90_flash_fprop", "", 30.0, 40.0),
        Kernel("fusion_7", f"{network}/attention_0/mul", 40.0, 60.0),
        Kernel("loop_multiply_fusion", "jit(run)/while/body/mul", 60.0, 70.0),
        Kernel("MemcpyD2D", "", 70.0, 80.0),
    ]
    found = gpu_profile.shares(kernels)
    assert found.pop("longest") and found.pop("kernels") == 6 and found.pop("span, ms") == 80e-6
    assert found == {
        "attention, the rest": 0.25,
        "matrix products": 0.125,
        "network, elementwise and sums": 0.125,
        "attention, cuDNN": 0.125,
        "optimiser, guard, loss": 0.125,
        "copies": 0.125,
        "idle": 0.125,
    }


def test_a_scope_is_found_by_the_name_that_its_kernel_has() -> None:
    text = '  %loop_add_fusion.3 = f32[2]{0} fusion(%x), kind=kLoop, metadata={op_name="jit(run)/add" id=1}\n'
    assert gpu_profile._scopes(text) == {"loop_add_fusion_3": "jit(run)/add"}


def test_no_forecast_once_its_target_was_begun_and_nothing_after_a_step_that_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ladder = gpu_ladder.Ladder(tmp_path, [], lambda: 60.0)
    monkeypatch.setattr(ladder, "_begun", lambda: True)
    with pytest.raises(RuntimeError, match="was begun before its forecast"):
        ladder.forecast()
    ladder.broken = True
    for step in (ladder.forecast, ladder.train):
        with pytest.raises(RuntimeError, match="a step before it failed"):
            step()


@pytest.mark.slow
def test_the_cpu_agrees_with_itself(tmp_path: Path) -> None:
    """All lines of `right` but the killed run, which tests/test_restart.py has many of."""
    lines = {item.name: item.measure() for item in gpu_right.right(tmp_path) if item.series != "resume"}
    assert len(lines) == 4 and all(row["agrees"] for row in lines.values()), lines
