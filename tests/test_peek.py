"""What people look at shows every component and variant, with the marks under the right bytes."""

from pathlib import Path

import pytest

from lmscale.data import DataConfig, TasksConfig, open_world
from lmscale.peek import peek


def test_every_component_and_variant_is_shown_with_its_answers_marked(tmp_path: Path) -> None:
    weights = {"copy": 1.0, "labels": 1.0, "parity_chain": 2.0}
    tasks = TasksConfig(weight=0.3, weights=weights, items=20, variants="all")
    world = open_world(DataConfig(), tasks, tmp_path)
    text = peek(world)
    assert "text: 70.0% of the loss, 6 row(s)" in text
    for name, task in world.families.items():
        assert f"\n{name}: " in text
        for variant in task.variants:
            assert f"\n  {variant.name} (" in text
    lines = text.split("\n")
    (place,) = (i for i, line in enumerate(lines) if line.startswith("  direct"))
    shown, marks = lines[place + 1], lines[place + 2]
    answer = "".join(letter for letter, mark in zip(shown, marks, strict=False) if mark == "^")
    asked = [part.split(">")[0] for part in shown.strip(" |_").split("⏎")[:-1]]
    assert answer == "".join(part.removeprefix("copy ") for part in asked)
    assert len(answer) == pytest.approx(24)
