"""TensorBoard event files as runs: made by TensorBoard's own writer, whole, restarted, cut off and damaged."""

import struct
from pathlib import Path

import numpy as np
import pytest

from analysis.errors import UserError
from analysis.sources import tensorboard
from analysis.sources.registry import read_source, source_of
from analysis.sources.run import TrackedRun

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed: its files are not tried")

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter


def write(folder: Path, rows: list[tuple[int, dict[str, float]]], config: dict | None = None) -> Path:
    """Write rows as events of one value each, as torch's SummaryWriter does; the file."""
    writer = EventFileWriter(str(folder))
    if config:
        writer.add_event(event_pb2.Event(summary=hparams_pb(config)))
    for step, values in rows:
        for tag, number in values.items():
            value = summary_pb2.Summary.Value(tag=tag, simple_value=number)
            writer.add_event(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=[value])))
    writer.close()
    return max(folder.glob("events*"), key=lambda path: int(path.name.rpartition(".")[2]))


def read(path: Path) -> list[TrackedRun]:
    source = source_of(path)
    assert source and source.kind == "tensorboard"
    runs = read_source(path, source)
    assert isinstance(runs, list)
    return runs


ROWS = [(step, {"train/loss": 9.0 / step, "val/loss": 10.0 / step}) for step in (1, 2, 3, 4)]


def test_scalars_and_settings(tmp_path: Path) -> None:
    config = {"params": 123_456_789, "lr": 3e-4, "name": "small", "tied": True}
    write(tmp_path / "a", ROWS, config)
    write(tmp_path / "b", ROWS[:2])
    a, b = read(tmp_path)
    assert (a.name, b.name) == ("a", "b")
    assert dict(a.config) == config
    assert a.history["step"].tolist() == [1, 2, 3, 4]
    assert a.history["val/loss"].tolist() == [float(np.float32(10.0 / step)) for step in (1, 2, 3, 4)]
    assert (a.finished, b.finished) == (False, None)  # a session began, and its end is not there


def test_values_in_tensors_are_exact(tmp_path: Path) -> None:
    writer = EventFileWriter(str(tmp_path))
    tensor = tensor_pb2.TensorProto(dtype=2, double_val=[1 / 3])  # DT_DOUBLE
    value = summary_pb2.Summary.Value(tag="loss", tensor=tensor)
    writer.add_event(event_pb2.Event(step=7, summary=summary_pb2.Summary(value=[value])))
    writer.close()
    assert read(tmp_path)[0].history.to_dict("list") == {"step": [7], "loss": [1 / 3]}


def test_files_of_restarts_are_one_run_in_their_order(tmp_path: Path) -> None:
    """The restart went back to step 2: both rows of it stay, the later below."""
    first = write(tmp_path, ROWS[:3])
    write(tmp_path, [(3, {"val/loss": 3.5}), (4, {"val/loss": 2.5})])
    first.rename(tmp_path / "z.tfevents.first")  # the time within decides, and no name
    (run,) = read(tmp_path)
    found = run.history[["step", "val/loss"]].dropna().to_dict("list")
    assert found == {
        "step": [1, 2, 3, 3, 4],
        "val/loss": [10.0, 5.0, float(np.float32(10 / 3)), 3.5, 2.5],
    }


def test_the_folders_of_keras_and_of_torchs_hparams_are_one_run(tmp_path: Path) -> None:
    write(tmp_path / "run" / "train", [(1, {"epoch_loss": 2.0})])
    write(tmp_path / "run" / "validation", [(1, {"epoch_loss": 3.0})])
    write(tmp_path / "run" / "1690000000.25", [], {"params": 5})
    (run,) = read(tmp_path)
    assert run.name == "run"
    assert run.history.to_dict("list") == {
        "step": [1],
        "train/epoch_loss": [2.0],
        "validation/epoch_loss": [3.0],
    }
    assert run.config["params"] == 5


def test_checksums_are_those_of_tensorboard() -> None:
    words = [b"", b"a", b"123456789", bytes(range(256)), b"a", b"z" * 999]
    sums = np.array([masked_crc32c(word) for word in words], np.uint32)
    assert tensorboard._good(words, sums).all()
    for place in range(len(words)):
        wrong = sums.copy()
        wrong[place] ^= 1
        assert np.flatnonzero(~tensorboard._good(words, wrong)).tolist() == [place]


@pytest.mark.parametrize("cut", [1, 3, 20, 50, 51, 52, 53, 100])
def test_a_file_that_is_cut_off_is_read_as_far_as_it_is_whole(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path, ROWS)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    (run,) = read(tmp_path)
    ends, at = [], 0
    while at < len(content):
        at += 16 + struct.unpack_from("<Q", content, at)[0]
        ends.append(at)
    whole = sum(end <= len(content) - cut for end in ends)
    values = run.history.drop(columns="step")
    assert values.count().sum() == whole - 1  # the first event is the version
    assert (
        values.stack().dropna().tolist()
        == [float(np.float32(v)) for _, row in ROWS for v in row.values()][: whole - 1]
    )
    assert run.notes == (f"{path}: cut off or damaged after event {whole}; what is whole is read",) or (
        run.notes == () and len(content) - cut in ends
    )


def test_a_flipped_bit_ends_what_is_believed(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    (run,) = read(tmp_path)
    assert run.notes[0].startswith(f"{path}: cut off or damaged after event ")
    kept = run.history.set_index("step")
    for step, values in ROWS:
        for tag, value in values.items():
            if step in kept.index and not np.isnan(kept.loc[step].get(tag, np.nan)):
                assert kept.loc[step, tag] == np.float32(value)
    assert 0 < len(kept) < 4


def test_a_file_without_a_whole_scalar_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(
        UserError, match=r"event files without a scalar; .*cut off or damaged after event 0; "
    ) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="no event file that begins as one"):
        read(tmp_path)
