"""The list for an accelerator (benchmarks/gpu.py): lines are kept and gone on with, in miniature on a CPU."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, gpu_right
from benchmarks.gpu_right import Item


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


@pytest.mark.slow
def test_the_cpu_agrees_with_itself(tmp_path: Path) -> None:
    """All lines of `right` but the killed run, which tests/test_restart.py has many of."""
    lines = {item.name: item.measure() for item in gpu_right.right(tmp_path) if item.series != "resume"}
    assert len(lines) == 4 and all(row["agrees"] for row in lines.values()), lines
