"""One's own text: every kind of file gives the same documents, and what is wrong with one is said."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmscale.data import DataConfig, TasksConfig, World, open_world, scan
from lmscale.errors import UserError
from lmscale.text import reading
from lmscale.text.classes import CLASSES, IDENTIFIER, classify
from lmscale.text.ngrams import count_ngrams, log_probabilities

NO_TASKS = TasksConfig(weight=0)
TEXTS = [f"Story {i}: " + " ".join(f"word{(i * k) % 97}" for k in range(40)) for i in range(120)]


def own(*files: Path, **options: object) -> DataConfig:
    return DataConfig(kind="text", files=tuple(map(str, files)), heldout_rows=8, **options)  # type: ignore[arg-type]


def tokens_of(world: World, split: str) -> list[bytes]:
    return (Path(world.folder) / f"{split}.bin").read_bytes().split(b"\0")[:-1]


def write_jsonl(path: Path, key: str = "text") -> Path:
    lines = "".join(json.dumps({"id": i, key: text}) + "\n" for i, text in enumerate(TEXTS))
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def write_parquet(path: Path) -> Path:
    pq.write_table(pa.table({"id": range(len(TEXTS)), "text": TEXTS}), path)
    return path


@pytest.mark.parametrize(
    ("make", "name"),
    [(write_jsonl, "a.jsonl"), (write_jsonl, "a.jsonl.gz"), (write_parquet, "a.parquet")],
)
def test_records_are_documents_split_as_wholes(
    tmp_path: Path, make: Callable[[Path], Path], name: str
) -> None:
    world = open_world(own(make(tmp_path / name)), NO_TASKS, tmp_path / "corpus")
    train, heldout = tokens_of(world, "train"), tokens_of(world, "heldout")
    assert sorted(train + heldout) == sorted(text.encode() for text in TEXTS)
    assert 1 <= len(heldout) < 30
    assert world.manifest.unique_tokens == sum(len(text) + 1 for text in train)
    batch = world.batches(0, 0, 3)
    assert batch.tokens.max() < 128


def test_plain_text_is_cut_at_line_ends(tmp_path: Path) -> None:
    lines = [f"line {i} " + "x" * (i % 50) for i in range(12_000)]
    for name, pack in (("a.txt", bytes), ("b.txt.gz", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack("\n".join(lines).encode() + b"\n"))
        world = open_world(own(path), NO_TASKS, tmp_path / name.replace(".", "-"))
        pieces = tokens_of(world, "train") + tokens_of(world, "heldout")
        assert len(pieces) > 4
        assert all(piece.endswith(b"\n") for piece in pieces)
        assert sorted(b"".join(pieces).split(b"\n")) == sorted([*"\n".join(lines).encode().split(b"\n"), b""])


def test_copies_are_dropped_and_never_in_both_splits(tmp_path: Path) -> None:
    path = tmp_path / "twice.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS + TEXTS[:50]))
    manifest = scan(own(path), NO_TASKS, tmp_path / "corpus")
    assert manifest.sources["duplicates"] == 50
    assert manifest.sources["train"]["documents"] + manifest.sources["heldout"]["documents"] == len(TEXTS)


def test_lines_that_both_splits_share_are_counted(tmp_path: Path) -> None:
    licence = "this line stands in every document"
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"{licence}\n{text}\nshort"}) + "\n" for text in TEXTS))
    sources = scan(own(path), NO_TASKS, tmp_path / "corpus").sources
    assert sources["heldout_lines_also_in_train"] == pytest.approx(1 / (sources["heldout"]["documents"] + 1))


def test_a_scan_is_used_again_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "a.jsonl")
    first = scan(own(path), NO_TASKS, tmp_path / "corpus")
    with monkeypatch.context() as patch:
        patch.setattr(reading, "documents", lambda data, meter: pytest.fail("the text was read again"))
        assert scan(own(path), NO_TASKS, tmp_path / "corpus") == first
    path.write_text(json.dumps({"text": "something else, and more of it " * 20}) + "\n" + path.read_text())
    assert scan(own(path), NO_TASKS, tmp_path / "corpus").content_hash != first.content_hash


def test_passes_over_the_text_are_counted(tmp_path: Path) -> None:
    manifest = scan(own(write_jsonl(tmp_path / "a.jsonl")), NO_TASKS, tmp_path / "corpus")
    assert manifest.passes(3 * manifest.unique_tokens) == pytest.approx(3)
    half = scan(
        own(tmp_path / "a.jsonl", rows=2),
        TasksConfig(weight=0.3, weights={"copy": 1.0}, rows=2),
        tmp_path / "corpus",
    )
    assert half.passes(half.unique_tokens) == pytest.approx(0.5)


def test_bpe_keeps_the_text_and_the_bytes_of_tasks(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    data = own(write_jsonl(tmp_path / "a.jsonl"), tokenizer="bpe", bpe_vocab=320)
    world = open_world(data, TasksConfig(weight=0.3, weights={"copy": 1.0}, items=20), tmp_path / "corpus")
    assert world.vocab_size == 320
    assert len(world.token_bytes) == 320
    text = b"".join(world.token_bytes[token] for token in np.asarray(world._train))
    assert set(text.split(b"\0")[:-1]) < {text.encode() for text in TEXTS}
    assert world.manifest.unique_tokens < len(text)
    batch = world.batches(0, 0, 1)
    task = batch.tokens[0, world.component_of_row() == 1]
    assert bytes(task[0, 1:6].astype(np.uint8)) == b"copy "
    assert (world.heldout_classes() < len(CLASSES)).all()


def test_a_dataset_is_streamed_from_local_files_and_read_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    load, streamed = datasets.load_dataset, []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *args, **kw: streamed.append(kw["streaming"]) or load(*args, **kw)
    )
    path = write_jsonl(tmp_path / "a.jsonl", key="body")
    data = DataConfig(kind="huggingface", dataset="json", files=(str(path),), field="body", heldout_rows=8)
    world = open_world(data, NO_TASKS, tmp_path / "corpus")
    assert sorted(tokens_of(world, "train") + tokens_of(world, "heldout")) == sorted(
        t.encode() for t in TEXTS
    )
    assert streamed == [True]
    with monkeypatch.context() as patch:
        patch.setattr(reading, "documents", lambda data, meter: pytest.fail("the text was read again"))
        assert scan(data, NO_TASKS, tmp_path / "corpus") == world.manifest
    path.write_text(json.dumps({"body": "one line more " * 20}) + "\n" + path.read_text())
    assert scan(data, NO_TASKS, tmp_path / "corpus").content_hash != world.content_hash


def bad(name: str, content: bytes) -> Callable[[Path], DataConfig]:
    def make(folder: Path) -> DataConfig:
        (folder / name).write_bytes(content)
        return own(folder / name)

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: own(folder / "nowhere.txt"), r"data\.files=.*nowhere\.txt: no such file"),
        (bad("a.jsonl", b'{"body": "x"}\n'), r"data\.field=text: .*line 1 has body"),
        (bad("a.jsonl", b'{"text": "x"}\nnot json\n'), r"line 2 is not JSON"),
        (bad("a.jsonl", b'{"text": 7}\n'), r"line 1 holds int, not text"),
        (bad("a.txt.gz", b"plain"), r"not a whole gzip file"),
        (bad("a.parquet", b"plain"), r"not a Parquet file"),
        (bad("a.txt", b"one line\n"), r"1 different document\(s\); two are needed"),
        (lambda folder: DataConfig(kind="text"), r"data\.files=\[\]"),
        (lambda folder: DataConfig(kind="huggingface"), r"data\.dataset=None"),
        (lambda folder: DataConfig(tokenizer="words"), r"data\.tokenizer=words"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, make: Callable[[Path], DataConfig], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        scan(make(tmp_path), NO_TASKS, tmp_path / "corpus")
    assert "\n" not in str(caught.value)


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"data\.field=body: .* has the columns id, text"):
        scan(own(path, field="body"), NO_TASKS, tmp_path / "corpus")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("clean", [(), ("dedup",)])
def test_a_corpus_larger_than_the_memory_allowed_is_scanned(tmp_path: Path, clean: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "large.txt"
    with path.open("wb") as stream:
        for _ in range(16):
            stream.write(rng.choice(np.frombuffer(b"abcdefgh \n", np.uint8), 32 << 20).tobytes())
    code = (
        "from pathlib import Path\n"
        "from lmscale.data import DataConfig, TasksConfig, open_world\n"
        f"data = DataConfig(kind='text', files=({str(path)!r},), clean={clean!r})\n"
        f"world = open_world(data, TasksConfig(weight=0), Path({str(tmp_path / 'corpus')!r}))\n"
        "world.batches(0, 0, 64)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(world.manifest.unique_tokens, status.split('VmHWM:')[1].split()[0])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    tokens, peak = map(int, ended.stdout.split())
    size = path.stat().st_size
    assert 0.9 * size < tokens < size
    assert 1024 * peak < 0.75 * size


def test_kinds_of_text_agree_with_pythons_own_tokenizer() -> None:
    import io
    import keyword
    import tokenize

    source = Path(tokenize.__file__).read_bytes()
    lines = source.splitlines(keepends=True)
    start = np.concatenate([[0], np.cumsum([len(line) for line in lines])])
    expected = np.full(len(source), -1)
    names = {tokenize.COMMENT: "comment_word", tokenize.STRING: "string", tokenize.NUMBER: "digit"}
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        kind = names.get(token.type)
        if token.type == tokenize.NAME:
            kind = "keyword" if keyword.iskeyword(token.string) else "identifier_first"
        elif token.type == tokenize.OP:
            kind = "punctuation"
        if kind:
            place = slice(start[token.start[0] - 1] + token.start[1], start[token.end[0] - 1] + token.end[1])
            expected[place] = CLASSES.index(kind)
    found = classify(source, python=True)
    checked = (expected >= 0) & (found != CLASSES.index("white_space"))
    assert checked.sum() > 5000
    np.testing.assert_array_equal(found[checked], expected[checked])
    assert IDENTIFIER in found


def test_kneser_ney_probabilities_sum_to_one_and_match_a_hand_count() -> None:
    text = np.frombuffer(b"abracadabra abracadabra", np.uint8)
    ngrams = count_ngrams(text, 260)
    before = np.array([[ord("a"), ord("b")], [ord("z"), ord("z")], [-1, ord("a")]])
    shape = (3, 260)
    logs = log_probabilities(
        ngrams,
        np.broadcast_to(before[:, None], (*shape, 2)),
        np.broadcast_to(np.arange(260), shape),
    )
    np.testing.assert_allclose(np.exp(logs).sum(axis=-1), 1, rtol=1e-12)
    # by hand: after `ab` always `r`, four times; one discount is kept back for lower orders
    level = ngrams.raw[2]
    continuations = {(text[i], text[i + 1]) for i in range(len(text) - 1)}
    bigrams = {(text[i], text[i + 1], text[i + 2]) for i in range(len(text) - 2)}
    after_b = [triple for triple in bigrams if triple[1] == ord("b")]
    lower = ngrams.lower[1]
    ending = sum(pair[1] == ord("r") for pair in continuations)
    one = ngrams.lower[0]
    kinds = len({pair[1] for pair in continuations})
    p1 = (ending - one.discount + one.discount * kinds / 260) / len(continuations)
    p2 = (len([t for t in after_b if t[2] == ord("r")]) - lower.discount + lower.discount * p1) / len(after_b)
    p3 = (4 - level.discount + level.discount * p2) / 4
    assert np.exp(logs[2, 0, ord("r")]) == pytest.approx(p3, rel=1e-12)
