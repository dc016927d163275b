"""Whatever becomes of a run folder's files, reading them gives a table or a sentence, never a traceback."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import UserError, load_table
from analysis.forecasting.target import choose_target, law_rows
from analysis.tables.finished import finished_rows

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(p.relative_to(GOLDEN) for p in GOLDEN.rglob("*") if p.suffix in (".json", ".jsonl"))
_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**20), 10**20),
        st.floats(allow_nan=False),
        st.sampled_from(["", "done", "text", "../..", "<b>", "1e400"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["text", "weight", "direct"]), inner)
    ),
    max_leaves=3,
)


def _read(folder: Path) -> None:
    try:
        table = load_table(folder)
        rows = law_rows(table).rows
        assert np.isfinite(rows["params"]).all()
        choose_target(table)
        finished_rows(load_table(folder, kind="tasks"), longest=True)
    except UserError as error:
        assert "\n" not in str(error)


def _damaged(file: Path, content: bytes) -> None:
    # Hundreds of tables are synced to disk here: in memory, where the system has a place for it.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        folder = Path(shutil.copytree(GOLDEN, Path(place) / "golden"))
        (folder / file).write_bytes(content)
        _read(folder)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _changed(value[path[0]], path[1:], new)
    return copy


def _bytes_lost_or_turned(file: Path, data: st.DataObject) -> None:
    content = bytearray((GOLDEN / file).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        _damaged(file, bytes(content[:at]))
    else:
        content[at] ^= data.draw(st.integers(1, 255))
        _damaged(file, bytes(content))


def _values_that_nobody_meant(file: Path, data: st.DataObject) -> None:
    lines = (GOLDEN / file).read_text().splitlines() if file.suffix == ".jsonl" else []
    texts = lines or [(GOLDEN / file).read_text()]
    which = data.draw(st.integers(0, len(texts) - 1))
    value = json.loads(texts[which])
    place = data.draw(st.sampled_from(_places(value)))
    texts[which] = json.dumps(_changed(value, place, data.draw(_VALUES)))
    _damaged(file, "\n".join(texts).encode() + b"\n")


KINDS = pytest.mark.parametrize("damage", [_bytes_lost_or_turned, _values_that_nobody_meant])


@KINDS
@pytest.mark.slow
def test_a_damaged_folder_gives_a_table_or_a_sentence(damage: Callable[..., None]) -> None:
    settings(max_examples=60, deadline=None)(given(st.sampled_from(FILES), st.data())(damage))()


@pytest.mark.slow
@KINDS
def test_it_does_so_at_length(damage: Callable[..., None]) -> None:
    settings(max_examples=1000, deadline=None)(given(st.sampled_from(FILES), st.data())(damage))()
