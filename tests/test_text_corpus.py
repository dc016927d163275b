"""A corpus says what it holds, holds out the share requested, and leaves nothing behind; bad luck is one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmscale.config import LEAST_VOCAB, DataConfig, TasksConfig
from lmscale.data import Manifest, open_world, scan
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.text import bpe, staging
from lmscale.text import tokens as token_files

NO_TASKS = TasksConfig(weight=0)
TEXTS = [f"Story {i}: " + " ".join(f"word{(i * k) % 97}" for k in range(40)) for i in range(120)]


def own(path: Path, **options: Any) -> DataConfig:
    return DataConfig(kind="text", files=(str(path),), **{"heldout_rows": 8, **options})


def write(folder: Path, texts: list[Any], name: str = "a.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder / name


def words(count: int, line: int, seed: int = 0) -> str:
    """`count` bytes of prose in lines of about `line` bytes; 0: one line."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz    ", np.uint8)
    text = np.random.default_rng(seed).choice(letters, count)
    if line:
        text[line::line] = ord("\n")
    return bytes(text).decode()


@pytest.mark.parametrize(
    ("size", "line", "share"),
    [
        (70_000, 70, 0.05),
        (70_000, 0, 0.05),
        (70_000, 900, 0.05),
        (24_000, 60, 0.1),
        (300_000, 80, 0.02),
        (300_000, 200, 0.3),
        (1_000_000, 80, 0.05),
    ],
)
def test_a_small_text_holds_out_about_the_share_requested(
    tmp_path: Path, size: int, line: int, share: float
) -> None:
    """Row 11: 70 kB were cut into two pieces, and the larger was held out."""
    (tmp_path / "a.txt").write_text(words(size, line))
    manifest = scan(own(tmp_path / "a.txt", heldout_share=share), NO_TASKS, tmp_path / "corpus")
    achieved = manifest.heldout_tokens / (manifest.heldout_tokens + manifest.unique_tokens)
    assert share / 2 < achieved < 2 * share
    assert manifest.sources["heldout_share"] == achieved
    assert f"({achieved:.1%} of the text)" in manifest.summary()[0]


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ([words(60_000, 0), words(3000, 0, 1), words(3000, 0, 2)], {"seed": 5}),  # the long one is held out
        ([words(3000, 0, i) for i in range(3)], {}),
        ([words(400, 0, i) for i in range(40)] + [words(400_000, 0)], {"heldout_share": 0.3}),
    ],
)
def test_a_share_far_from_the_one_requested_is_refused(
    tmp_path: Path, texts: list[str], options: dict[str, Any]
) -> None:
    """Row 11: records are documents as they are, so few or unequal ones cannot be split so."""
    share = options.get("heldout_share", 0.05)
    with pytest.raises(UserError, match=rf"data\.heldout_share={share}: [\d.]+% of the text would") as caught:
        scan(own(write(tmp_path, texts), **options), NO_TASKS, tmp_path / "corpus")
    assert "\n" not in str(caught.value)


def test_copies_are_named_where_nothing_else_is_left(tmp_path: Path) -> None:
    """Row 24: three thousand equal documents are one."""
    with pytest.raises(
        UserError, match=r"1 different document\(s\), 2,999 copies of them left out.*different"
    ):
        scan(own(write(tmp_path, ["the same " * 9] * 3000)), NO_TASKS, tmp_path / "corpus")
    with pytest.raises(UserError, match=r"0 different document\(s\), 50 without text"):
        scan(own(write(tmp_path, [None] * 49 + [""])), NO_TASKS, tmp_path / "corpus")


def test_nulls_are_left_out_and_counted(tmp_path: Path) -> None:
    """Row 21."""
    with_nulls = [*TEXTS, None, None, "", TEXTS[0]]
    manifest = scan(own(write(tmp_path, with_nulls)), NO_TASKS, tmp_path / "corpus")
    assert {key: manifest.sources[key] for key in ("null_texts", "empty_texts", "duplicates")} == {
        "null_texts": 2,
        "empty_texts": 1,
        "duplicates": 1,
    }
    assert "  left out: 1 copies, 2 nulls, 1 empty texts" in manifest.summary()
    without = scan(own(write(tmp_path / "other", TEXTS)), NO_TASKS, tmp_path / "corpus")
    assert without.content_hash == manifest.content_hash


class FewPairs:
    """A tokenizer that found hardly any pairs."""

    def __init__(self, count: int):
        self.count = count

    def get_vocab_size(self) -> int:
        return self.count


@pytest.mark.parametrize(
    ("found", "advice"), [(288, "set data.tokenizer=bytes"), (300, "set data.bpe_vocab=304")]
)
def test_advice_on_a_small_alphabet_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: int, advice: str
) -> None:
    """Row 19: `at most 292` was no remedy where 300 is the least."""
    monkeypatch.setattr(bpe, "train_vocabulary", lambda texts, size: FewPairs(found))
    data = own(write(tmp_path, TEXTS), tokenizer="bpe")
    with pytest.raises(
        UserError, match=rf"data\.bpe_vocab=1024: the text gives only {found + 4} tokens; {advice}"
    ):
        scan(data, NO_TASKS, tmp_path / "corpus")
    name, value = advice.removeprefix("set data.").split("=")
    DataConfig(**{name: int(value) if value.isdigit() else value})
    assert LEAST_VOCAB == 300
    with pytest.raises(UserError):
        DataConfig(bpe_vocab=LEAST_VOCAB - 1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("tokenizers", {"tokenizer": "bpe"}), ("datasets", {"kind": "huggingface", "dataset": "json"})],
)
def test_advice_names_a_package_that_is_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any]
) -> None:
    """Row 27: anybody may call a package lmscale."""
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(UserError, match=f"needs the package {kind}; {sys.executable} -m pip install {kind}$"):
        scan(own(write(tmp_path, TEXTS), **{**options}), NO_TASKS, tmp_path / "corpus") if (
            "kind" not in options
        ) else scan(DataConfig(**options), NO_TASKS, tmp_path / "corpus")


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 10**30])
def test_a_seed_that_does_not_fit_is_named(seed: int) -> None:
    """Row 17."""
    with pytest.raises(UserError, match=rf"data\.seed={seed}: it must be from 0"):
        DataConfig(seed=seed)


def test_the_largest_seed_is_good_for_everything(tmp_path: Path) -> None:
    import jax

    tasks = TasksConfig(weight=0.3, weights={"parity_chain": 1.0}, items=20)
    world = open_world(own(write(tmp_path, TEXTS), seed=2**63 - 1), tasks, tmp_path / "corpus")
    assert world.batches(0, 0, 1).tokens.any()
    jax.random.key(2**63 - 1)  # as generation draws with it


@pytest.mark.parametrize(
    ("data", "tasks", "name"),
    [
        ({"context": 10**9}, {}, "data.context"),
        ({"rows": 10**12}, {}, "data.rows"),
        ({"heldout_rows": 10**12}, {}, "data.heldout_rows"),
        ({}, {"items": 10**12}, "tasks.items"),
        ({}, {"rows": 10**12}, "tasks.rows"),
    ],
)
def test_numbers_that_no_memory_holds_are_refused_at_once(
    data: dict[str, int], tasks: dict[str, int], name: str
) -> None:
    """Row 17."""
    with pytest.raises(UserError, match=rf"{name}=\d+: it must be at most"):
        draft_manifest(DataConfig(**data), TasksConfig(weight=0.3, weights={"copy": 1.0}, **tasks))  # type: ignore[arg-type]


def left_behind(corpora: Path) -> list[Path]:
    return sorted(corpora.glob(".*"))


def test_what_a_killed_scan_leaves_is_removed_at_the_next_start(tmp_path: Path) -> None:
    """Row 20: SIGKILL amid a scan, three times; then a scan of something else."""
    path = write(tmp_path, TEXTS)
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from lmscale.text import staging\n"
        "with staging.staging(Path(sys.argv[1]) / 'text-mine') as building:\n"
        "    (building / 'bucket0').write_bytes(b'x' * 1000)\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    corpora = tmp_path / "corpus"
    command = [sys.executable, "-c", code, str(corpora)]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        for builder in builders:
            assert builder.stdout and builder.stdout.readline() == "ready\n"
        for builder in builders[:3]:
            builder.send_signal(signal.SIGKILL)
            builder.wait()
        assert len(left_behind(corpora)) == 4
        scan(own(path), NO_TASKS, corpora)
        (alive,) = left_behind(corpora)  # of the one that lives
        assert (alive / "bucket0").is_file()
    finally:
        for builder in builders:
            builder.kill()
            builder.communicate()
    scan(own(path), NO_TASKS, corpora)
    assert not left_behind(corpora)


def test_a_folder_without_a_lock_goes_when_it_is_old(tmp_path: Path) -> None:
    """Row 20: those of earlier versions, and of file systems without locks."""
    for name, age in (("old", 2 * staging.UNLOCKED), ("new", 0.0)):
        building = tmp_path / f".text-{name}.0123"
        building.mkdir()
        (building / "bucket0").write_bytes(b"x")
        for path in (building / "bucket0", building):
            os.utime(path, (time.time() - age, time.time() - age))
        file = tmp_path / "text-done" / f".ngrams.json.{name}.tmp"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
        os.utime(file, (time.time() - age, time.time() - age))
    staging.remove_abandoned(tmp_path)
    assert [path.name for path in left_behind(tmp_path / "text-done")] == [".ngrams.json.new.tmp"]
    assert [path.name for path in left_behind(tmp_path)] == [".text-new.0123"]


def test_a_failed_scan_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        scan(own(write(tmp_path, [*TEXTS, 7])), NO_TASKS, tmp_path / "corpus")
    assert not left_behind(tmp_path / "corpus") and not list((tmp_path / "corpus").glob("text-*"))


def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be written, as in a folder of another user; root may write everywhere."""

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    opens = os.open
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(
        os,
        "open",
        lambda path, flags, *more, **named: (
            refuse() if flags & (os.O_WRONLY | os.O_RDWR) else opens(path, flags, *more, **named)
        ),
    )


def test_a_corpus_that_others_own_is_read_without_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 16: all of it is there; or another experiment was scanned last; or something is missing."""
    data, tasks = own(write(tmp_path, TEXTS)), TasksConfig(weight=0.3, weights={"copy": 1.0}, items=20)
    other = own(tmp_path / "a.jsonl", rows=3)
    made = [scan(one, tasks, tmp_path / "corpus") for one in (data, other)]
    with monkeypatch.context() as patch:
        frozen(patch)
        assert [scan(one, tasks, tmp_path / "corpus") for one in (data, other)] == made
        for missing in (own(tmp_path / "a.jsonl", seed=1), own(tmp_path / "a.jsonl", heldout_rows=9)):
            with pytest.raises(UserError, match="Permission denied") as caught:
                scan(missing, tasks, tmp_path / "corpus")
            assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match="Permission denied"):
            scan(data, tasks, tmp_path / "elsewhere")


def test_a_folder_that_may_not_be_looked_into_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 16."""

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(UserError, match=r"cannot read .*corpus: Permission denied"):
        scan(DataConfig(), NO_TASKS, tmp_path / "corpus")


def manifest_of(sources: dict[str, Any]) -> Manifest:
    return Manifest("mine", "0", "text", 9, 9, 260, 64, (), {}, sources, "text-0")


def test_a_spec_states_what_a_loss_is_per_unless_it_is_a_byte() -> None:
    """Row 14: byte corpora keep their specs, and with them the ids of their runs."""
    assert manifest_of({}).unit == manifest_of({"tokenizer": "bytes", "bytes_per_token": 1.0}).unit == {}
    assert manifest_of({"tokenizer": "bpe", "bytes_per_token": 2.5, "kind": "text"}).unit == {
        "tokenizer": "bpe",
        "bytes_per_token": 2.5,
    }


def test_bytes_per_token_are_counted_on_the_windows_that_are_measured(tmp_path: Path) -> None:
    """Row 14: a vocabulary of our own making, so that the count is known."""
    texts = [bytes([byte]) for byte in range(256)] + [b""] * 4 + [b"ab"] + [b""] * 39
    (tmp_path / "vocab.json").write_text(json.dumps([text.hex() for text in texts]))
    heldout = np.array([97, 260, 260, 10] * 40, np.uint16)
    heldout.tofile(tmp_path / "heldout.bin")
    data = DataConfig(context=32, heldout_rows=5)
    windows = token_files.heldout_windows(heldout, data)[:, 1:]
    expected = sum(len(texts[token]) for token in windows.ravel()) / windows.size
    assert token_files.bytes_per_token(data, tmp_path, 300) == pytest.approx(expected)
    assert expected == pytest.approx(1.5, abs=0.05)
    assert token_files.bytes_per_token(data, tmp_path, 260) == 1


def test_bits_per_byte_of_bpe_can_be_computed_from_the_spec(tmp_path: Path) -> None:
    """Row 14, with a tokenizer that was trained."""
    pytest.importorskip("tokenizers")
    data = own(write(tmp_path, TEXTS), tokenizer="bpe", bpe_vocab=320)
    world = open_world(data, NO_TASKS, tmp_path / "corpus")
    targets = world.heldout_text().tokens[:, 1:]
    count = sum(len(world.token_bytes[token]) for token in targets.ravel())
    assert world.manifest.unit == {"tokenizer": "bpe", "bytes_per_token": pytest.approx(count / targets.size)}
    assert world.manifest.unit["bytes_per_token"] > 1.5
    shutil.rmtree(tmp_path / "corpus")
