"""Checkpoints: what is loaded is what was saved, bit for bit, or it is not loaded."""

import os
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lmscale import checkpoint, processes
from lmscale.durable import DiskError

META = {"spec": {"seed": 1, "optim": {"b1": 0.9, "b2": 0.98}}, "lanes": ["a", "b"]}


def state(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {
        "params/w": rng.normal(size=(3, 5)).astype(np.float32),
        "params/b": rng.normal(size=7).astype(ml_dtypes.bfloat16),
        "step": np.int32(step),
        "empty": np.zeros((0, 4), np.float64),
        "flags": rng.random(9) < 0.5,
    }


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(
        np.asarray(left[k]).dtype == right[k].dtype
        and np.shape(left[k]) == right[k].shape
        and np.asarray(left[k]).tobytes() == right[k].tobytes()
        for k in left
    )


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, META) is None
    checkpoint.save(tmp_path, 10, state(10), META)
    found = checkpoint.load(tmp_path, META)
    assert found is not None and (found.step, found.meta, found.problems) == (10, META, ())
    assert same(state(10), found.arrays)
    found.arrays["params/w"][0, 0] = 1.0  # the loop may write into them


NAMES = st.text(max_size=20)
DTYPES = st.sampled_from(["f4", "f8", "i4", "u2", "u1", "?", "c8", ">f4"])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0))


@given(st.dictionaries(NAMES, ARRAYS, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_arrays_come_back(arrays: dict[str, np.ndarray]) -> None:
    with TemporaryDirectory() as folder:
        checkpoint.save(Path(folder), 1, arrays, {})
        found = checkpoint.load(Path(folder), {})
    assert found is not None
    little = {name: array.astype(array.dtype.newbyteorder("<")) for name, array in arrays.items()}
    assert same(little, found.arrays)


def test_the_same_state_makes_the_same_file(tmp_path: Path) -> None:
    first = checkpoint.save(tmp_path / "a", 3, state(3), META).read_bytes()
    assert checkpoint.save(tmp_path / "b", 3, state(3), META).read_bytes() == first


def test_kept_by_count_and_pins_stay(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        checkpoint.save(tmp_path, step, state(step), META, pinned=step == 20)
    kept = [(step, pinned) for step, pinned, _ in checkpoint.saved(tmp_path)]
    assert kept == [(20, True), (40, False), (50, False)]
    found = checkpoint.load(tmp_path, META, step=20)
    assert found is not None and same(state(20), found.arrays)
    assert checkpoint.newest_step(tmp_path) == 50
    checkpoint.remove(tmp_path)
    assert [step for step, _, _ in checkpoint.saved(tmp_path)] == [20]


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


class Bomb:
    """What a pickle can do; a checkpoint must not."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("harm",)


DAMAGE = {
    "empty": lambda content: b"",
    "cut in its magic": lambda content: content[:5],
    "cut in its header": lambda content: content[:50],
    "cut in its arrays": lambda content: content[: len(content) // 2],
    "without its last byte": lambda content: content[:-1],
    "with a byte too many": lambda content: content + b"\0",
    "zeros, as after a power failure": lambda content: bytes(len(content)),
    "a flipped bit in its header": lambda content: flip(content, 40),
    "a flipped bit in its arrays": lambda content: flip(content, len(content) - 100),
    "a flipped bit in its checksum": lambda content: flip(content, len(content) - 3),
    "a pickle": lambda content: pickle.dumps(Bomb()),
    "a text": lambda content: b"this is no checkpoint" * 20,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_one_is_named_set_aside_and_the_one_before_used(
    tmp_path: Path, damage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint.save(tmp_path, 10, state(10), META)
    path = checkpoint.save(tmp_path, 20, state(20), META)
    path.write_bytes(damage(path.read_bytes()))
    found = checkpoint.load(tmp_path, META)
    assert found is not None and found.step == 10 and same(state(10), found.arrays)
    assert len(found.problems) == 1 and str(path) in found.problems[0]
    assert found.problems[0] in caplog.text
    assert not path.exists() and path.with_name(path.name + ".bad").exists()
    assert not Path("harm").exists()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_flipped_bit_goes_unseen(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = checkpoint.save(Path(folder), 1, state(1), META)
        content = bytearray(path.read_bytes())
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        assert checkpoint.load(Path(folder), META) is None


def test_one_under_another_step_s_name_is_foreign(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 10, state(10), META)
    path = checkpoint.save(tmp_path, 20, state(20), META)
    path.rename(path.with_name("step-000000000030.ckpt"))
    found = checkpoint.load(tmp_path, META)
    assert found is not None and found.step == 10
    assert "step 20" in found.problems[0]


def test_one_of_another_spec_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 10, state(10), META)
    other = {"spec": {"seed": 2, "optim": {"b1": 0.9, "b2": 0.95}}, "lanes": ["a", "b"]}
    with pytest.raises(checkpoint.CheckpointMismatch) as refusal:
        checkpoint.load(tmp_path, other)
    said = str(refusal.value)
    assert "spec.seed is 2 now, 1 in" in said and "spec.optim.b2 is 0.95 now, 0.98 in" in said
    assert "b1" not in said and "\n" not in said
    assert checkpoint.load(tmp_path, META) is not None  # and it was left alone


def test_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'who' holds Python objects"):
        checkpoint.save(tmp_path, 1, {"who": np.array([Bomb()])}, META)
    assert checkpoint.saved(tmp_path) == []


def test_a_saver_saves_soon_and_raises_what_went_wrong_at_the_next_call(
    tmp_path: Path,
) -> None:
    with checkpoint.Saver() as saver:
        saver.save(tmp_path, 10, state(10), META)
        saver.save(tmp_path, 20, state(20), META)
        assert [step for step, _, _ in checkpoint.saved(tmp_path)][:1] == [10]
    assert [step for step, _, _ in checkpoint.saved(tmp_path)] == [10, 20]
    with pytest.raises(DiskError, match="cannot make the folder"), checkpoint.Saver() as saver:
        saver.save(tmp_path / "step-000000000010.ckpt", 30, state(30), META)
    with pytest.raises(ZeroDivisionError), checkpoint.Saver() as saver:
        saver.save(tmp_path / "step-000000000010.ckpt", 30, state(30), META)
        raise ZeroDivisionError  # the first trouble is the one that counts


def save_as(number: int, monkeypatch: pytest.MonkeyPatch, folder: Path, step: int, claim: int = 1) -> Path:
    """Save as one of two processes: the first has rows 0 to 3 of `w`, the other the rest."""
    whole = np.arange(12, dtype=np.float32).reshape(6, 2) + step
    arrays = {f"w@{3 * number},0": whole[3 * number :][:3]} | (
        {"step": np.int32(step)} if number == 0 else {}
    )
    for name, answer in (("joined", True), ("leads", number == 0), ("count", 2), ("index", number)):
        monkeypatch.setattr(processes, name, lambda answer=answer: answer)
    monkeypatch.setattr(processes, "wrote", lambda *_: None)
    monkeypatch.setattr(processes, "all_wrote", lambda _: None)
    try:
        return checkpoint.save(folder, step, arrays, META, keep=1, claim=claim)
    finally:
        monkeypatch.undo()


def test_a_part_alone_is_no_checkpoint_and_the_first_process_makes_it_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_as(1, monkeypatch, tmp_path, 10, claim=1)
    assert checkpoint.load(tmp_path, META) is None and checkpoint.newest_step(tmp_path) == -1
    save_as(1, monkeypatch, tmp_path, 10, claim=2)  # the first try was killed here
    save_as(0, monkeypatch, tmp_path, 10, claim=2)
    found = checkpoint.load(tmp_path, META)
    assert found is not None and found.meta == META
    assert sorted(found.arrays) == ["step", "w@0,0", "w@3,0"] and found.arrays["w@3,0"][0, 0] == 16
    save_as(1, monkeypatch, tmp_path, 20, claim=2)
    save_as(0, monkeypatch, tmp_path, 20, claim=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000000020.000002.1.part",
        "step-000000000020.ckpt",
    ]
    checkpoint.remove(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "another's"])
def test_a_damaged_part_sets_its_checkpoint_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    checkpoint.save(tmp_path, 5, state(5), META, pinned=True)
    part = save_as(1, monkeypatch, tmp_path, 10)
    save_as(0, monkeypatch, tmp_path, 10)
    content = part.read_bytes()
    part.unlink()
    if damage == "cut":
        part.write_bytes(content[:50])
    elif damage == "flipped":
        part.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    elif damage == "another's":
        save_as(1, monkeypatch, tmp_path, 11).rename(part)
    found = checkpoint.load(tmp_path, META)
    assert found is not None and found.step == 5
    assert f"its part {part.name}" in found.problems[0]
