"""Records: a line is there whole or not at all, a bad one costs itself only, the schema refuses nonsense."""

import copy
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmscale import jsonfiles, records
from lmscale.durable import DiskError

SPEC = {"data": {"components": [{"name": "text", "weight": 0.75}, {"name": "copy", "weight": 0.25}]}}


def record(step: int) -> dict:
    return {
        "step": step,
        "tokens": 100 * step,
        "flops": 1e6 * step,
        "skipped_steps": 0,
        "loss": {"text": 2.0, "copy": 1.0, "total": 1.75, "text.names": 1.5, "text.rest": 0.5},
        "tasks": {"copy": {"direct": {"n": 8, "correct": 3, "nll": 1.2, "brier": None}}},
    }


def test_append_and_read_give_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for step in (1, 2, 5):
        records.append(path, record(step))
    assert records.read_records(path) == ([record(1), record(2), record(5)], [])


def test_a_record_has_one_text() -> None:
    turned = dict(reversed(list(record(3).items())))
    assert jsonfiles.canonical(turned) == jsonfiles.canonical(record(3))
    said = jsonfiles.canonical({"a": np.float64(0.1), "b": np.int32(2), "c": math.nan})
    assert said == '{"a":0.1,"b":2,"c":null}'


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_last_line_is_reported_and_then_replaced(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "records.jsonl"
    records.append(path, record(1))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:cut])
    found, problems = records.read_records(path)
    assert found == [record(1)]
    assert len(problems) == 1 and "line 2" in problems[0] and "half-written" in problems[0]
    records.append(path, record(2))
    assert records.read_records(path) == ([record(1), record(2)], [])


BAD_LINES = {
    "not JSON": b"{nonsense}",
    "two lines run together": b'{"step":1}{"step":2}',
    "a NaN": b'{"step": 2, "loss": {"total": NaN}}',
    "not text": b"\xff\xfe\x00",
    "an array": b"[1, 2]",
    "no step": b'{"tokens": 5}',
    "a step in words": b'{"step": "two"}',
    "true for a step": b'{"step": true}',
    "nested beyond reason": b"[" * 100_000,
    "empty": b"",
    "an old step again": b'{"step": 1}',
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_costs_that_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "records.jsonl"
    good = [(jsonfiles.canonical(record(step)) + "\n").encode() for step in (1, 3)]
    path.write_bytes(good[0] + line + b"\n" + good[1])
    found, problems = records.read_records(path)
    assert found == [record(1), record(3)]
    assert len(problems) == 1 and f"{path} line 2" in problems[0]


STEPS = st.lists(st.integers(1, 50), unique=True, min_size=1).map(sorted)


@given(STEPS, st.integers(0, 55), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_truncate_then_write_again_gives_the_same_bytes(steps: list[int], checkpoint: int, torn: int) -> None:
    """However far the file had got, and torn wherever: cut at the checkpoint, go on, and nobody can tell."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "records.jsonl")
        for step in steps:
            records.append(path, record(step))
        whole = path.read_bytes()
        first_after = sum(len(jsonfiles.canonical(record(step))) + 1 for step in steps if step <= checkpoint)
        path.write_bytes(whole[: first_after + torn])  # the lines up to a checkpoint are synced before it
        records.truncate_after(path, checkpoint)
        for step in steps:
            if step > checkpoint:
                records.append(path, record(step))
        assert path.read_bytes() == whole


def test_truncate_keeps_and_names_a_bad_line_among_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    good = [(jsonfiles.canonical(record(step)) + "\n").encode() for step in (1, 3, 9)]
    path.write_bytes(good[0] + b"damaged\n" + good[1] + b"also damaged\n" + good[2])
    problems = records.truncate_after(path, 3)
    assert path.read_bytes() == good[0] + b"damaged\n" + good[1]
    assert len(problems) == 1 and "line 2" in problems[0]


def test_truncate_always_puts_a_new_file_in_place(tmp_path: Path) -> None:
    """The fence of `append` stands on this: a late writer's open file is no longer the one at the path."""
    path = tmp_path / "records.jsonl"
    records.append(path, record(1))
    with path.open("ab") as late:
        records.truncate_after(path, 1)
        late.write(b"too late\n")
    assert records.read_records(path) == ([record(1)], [])
    records.truncate_after(path, None)
    assert path.read_bytes() == b""


def test_reading_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"cannot read .*absent\.jsonl"):
        records.read_records(tmp_path / "absent.jsonl")


def test_a_good_record_passes_and_so_does_one_that_is_not_finite() -> None:
    records.check_record(record(4), SPEC)
    broken = record(4)
    broken["loss"] = dict.fromkeys(broken["loss"])
    records.check_record(broken, SPEC)


BAD_FIELDS = {
    "a total that is not the sum": (("loss", "total"), 1.75 * (1 + 3e-6)),
    "a total that is not a number": (("loss", "total"), math.nan),
    "a null among numbers": (("loss", "total"), None),
    "classes that do not add up": (("loss", "text.rest"), 0.6),
    "an unknown component": (("loss", "txet"), 1.0),
    "text for a loss": (("loss", "text"), "2.0"),
    "a negative count": (("tokens",), -1),
    "true for a count": (("skipped_steps",), True),
    "more right than asked": (("tasks", "copy", "direct", "correct"), 9),
    "nothing asked": (("tasks", "copy", "direct", "n"), 0),
    "a negative score": (("tasks", "copy", "direct", "nll"), -0.1),
    "an unknown field": (("clock",), 12.0),
}


@pytest.mark.parametrize(("where", "value"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_record_that_breaks_the_schema_is_refused(where: tuple[str, ...], value: object) -> None:
    broken = copy.deepcopy(record(4))
    inner = broken
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(records.RecordError, match=where[-1].split(".")[0]):
        records.check_record(broken, SPEC)


def test_the_total_is_held_to_a_millionth() -> None:
    close = record(4)
    close["loss"]["total"] *= 1 + 5e-7
    records.check_record(close, SPEC)


def test_write_json_is_read_by_anything(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    jsonfiles.write_json(path, {"b": [np.float32(1.5)], "a": None})
    assert json.loads(path.read_text()) == {"a": None, "b": [1.5]}
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_make_the_same_bytes_and_hold_no_objects(tmp_path: Path) -> None:
    arrays = {"copy/direct/correct": np.arange(9) % 2 == 0, "copy/direct/nll": np.ones(9, np.float32)}
    for name in ("a.npz", "b.npz"):
        jsonfiles.write_npz(tmp_path / name, arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert set(found) == set(arrays) and found["copy/direct/nll"].dtype == np.float32
    with pytest.raises(TypeError, match="who"):
        jsonfiles.write_npz(tmp_path / "c.npz", {"who": np.array([object()])})
