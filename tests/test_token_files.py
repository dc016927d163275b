"""Token files as nanoGPT, llm.c and levanter write them: read rightly, or refused in one line. And a tokenizer.json
of one's own, whose bytes are counted rightly."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_tokens import END, TEXTS, prepare, prepare_letters, write_cache, write_text, write_tokenizers

from lmscale.config import DataConfig, TasksConfig
from lmscale.data import World, open_world, scan
from lmscale.errors import UserError
from lmscale.text import token_files
from lmscale.text.classes import CLASSES
from lmscale.text.documents import documents

NO_TASKS = TasksConfig(weight=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizers(tmp_path_factory.mktemp("tokenizers"))


def own(files: Path | str, **options: Any) -> DataConfig:
    return DataConfig(files=(str(files),), **{"kind": "tokens", "heldout_rows": 8, **options})


def decoded(world: World, split: str) -> list[bytes]:
    """The documents of a split by the table of tokens, one after the other."""
    tokens = np.fromfile(world.folder / f"{split}.bin", np.uint16)
    return b"".join(world.token_bytes[token] for token in tokens).split(b"\0")[:-1]


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_nanogpt_tokens_are_the_documents_that_they_were_made_from(
    tmp_path: Path, made: Path, kind: Any
) -> None:
    prepare(tmp_path / "train.bin", made / "gpt.json", kind=kind)
    data = own(tmp_path / "train.bin", tokenizer=str(made / "gpt.json"))
    world = open_world(data, NO_TASKS, tmp_path / "corpus")
    found = decoded(world, "train") + decoded(world, "heldout")
    assert sorted(found) == sorted(text.encode() for text in TEXTS)
    # one of 401 numbers of theirs ends a document, as a NUL does here, and 256 are bytes
    assert world.vocab_size == 260 + 400 - 1 - 256 == len(world.token_bytes)
    assert world.manifest.sources["tokenizer_specials"] == {END: 0}
    assert (world.heldout_classes() < len(CLASSES)).all()


def test_tokens_and_the_text_that_they_were_made_from_are_one_corpus(tmp_path: Path, made: Path) -> None:
    """Two ways to the same tokens: nanoGPT's, and our own from the text. Only the order of documents differs."""
    prepare(tmp_path / "train.bin", made / "gpt.json")
    given = str(made / "gpt.json")
    by_file = open_world(own(tmp_path / "train.bin", tokenizer=given), NO_TASKS, tmp_path / "one")
    by_text = open_world(own(write_text(tmp_path), kind="text", tokenizer=given), NO_TASKS, tmp_path / "two")

    def split(world: World) -> list[bytes]:
        tokens = [np.fromfile(world.folder / f"{name}.bin", np.uint16) for name in ("train", "heldout")]
        joined = np.concatenate(tokens)
        return sorted(part.tobytes() for part in np.split(joined, np.flatnonzero(joined == 0) + 1))

    assert split(by_file) == split(by_text)
    assert by_file.vocab_size == by_text.vocab_size


def test_bits_per_byte_count_the_bytes_of_the_text(tmp_path: Path, made: Path) -> None:
    """For every kind of tokenizer, and for token files: the widths of a held-out text's tokens sum to its bytes,
    white space that a tokenizer drops and letters that it lowers included."""
    prepare(tmp_path / "train.bin", made / "gpt.json")
    text = write_text(tmp_path)
    cases = [(text, "text", name) for name in ("gpt", "sentence", "piece")]
    for files, kind, name in [*cases, (tmp_path / "train.bin", "tokens", "gpt")]:
        data = own(files, kind=kind, tokenizer=str(made / f"{name}.json"))
        world = open_world(data, NO_TASKS, tmp_path / "corpus")
        width = np.fromfile(world.folder / "widths.bin", np.uint32)
        tokens = np.fromfile(world.folder / "heldout.bin", np.uint16)
        ends = np.flatnonzero(tokens == 0)
        sizes = np.diff(np.cumsum(width)[ends], prepend=0) - 1  # without the NUL
        assert set(sizes) <= {len(text.encode()) for text in TEXTS}, name
        assert len(ends) == world.manifest.sources["heldout"]["documents"]
        targets = np.linspace(0, len(tokens) - data.context - 1, 8).astype(int)[:, None] + 1 + np.arange(64)
        assert world.manifest.unit == {
            "tokenizer": "json-" + hashlib.sha256((made / f"{name}.json").read_bytes()).hexdigest()[:16],
            "bytes_per_token": pytest.approx(width[targets].mean(), rel=1e-12),
        }


def test_a_special_token_that_stands_in_a_text_is_text(tmp_path: Path, made: Path) -> None:
    data = own(write_text(tmp_path), kind="text", tokenizer=str(made / "gpt.json"))
    world = open_world(data, NO_TASKS, tmp_path / "corpus")
    assert all(text.endswith(b" <|endoftext|> is text\n") for text in decoded(world, "train"))


def test_a_tokenizer_is_part_of_a_corpus_by_its_content(tmp_path: Path, made: Path) -> None:
    """Another path is no other corpus; another tokenizer is one, even if it gives the same tokens on this text."""
    text = write_text(tmp_path)
    copied = Path(shutil.copy(made / "gpt.json", tmp_path / "elsewhere.json"))
    first, second = (
        scan(own(text, kind="text", tokenizer=str(path)), NO_TASKS, tmp_path / "corpus")
        for path in (made / "gpt.json", copied)
    )
    assert first == second
    assert len(list((tmp_path / "corpus").glob("text-*"))) == 1
    told = json.loads(copied.read_text())
    told["added_tokens"][0]["lstrip"] = True
    copied.write_text(json.dumps(told))
    other = scan(own(text, kind="text", tokenizer=str(copied)), NO_TASKS, tmp_path / "corpus")
    assert other.sources["train"] == first.sources["train"]
    assert other.content_hash != first.content_hash


def test_tokens_without_a_tokenizer_are_said_to_be_in_nats_a_token(tmp_path: Path) -> None:
    prepare_letters(tmp_path / "train.bin", "".join(TEXTS))
    world = open_world(own(tmp_path / "train.bin"), NO_TASKS, tmp_path / "corpus")
    ids = np.concatenate(
        [np.fromfile(world.folder / f"{split}.bin", np.uint16) for split in ("train", "heldout")]
    )
    count = len(set("".join(TEXTS)))
    assert set(ids[ids > 0]) == set(range(260, 260 + count))
    assert 260 + count <= world.vocab_size < 260 + count + 4
    assert world.manifest.unit == {"tokenizer": "unknown"}
    assert "losses are in nats a token" in "\n".join(world.manifest.summary())
    assert set(np.unique(world.heldout_classes())) <= {
        CLASSES.index(name) for name in ("white_space", "identifier_first", "identifier_repeated")
    }
    assert world.batches(3, 5, 2).tokens.max() < world.vocab_size
    with pytest.raises(UserError, match=r"data\.tokenizer: .*name its tokenizer\.json"):
        world.encode(b"text")


def test_batches_of_tokens_are_a_function_of_seed_and_step(tmp_path: Path, made: Path) -> None:
    prepare(tmp_path / "train.bin", made / "gpt.json")
    data = own(tmp_path / "train.bin", tokenizer=str(made / "gpt.json"))
    tasks = TasksConfig(weight=0.3, weights={"copy": 1.0}, items=20)
    one, two = (open_world(data, tasks, tmp_path / "corpus") for _ in range(2))
    together = one.batches(1, 0, 6)
    np.testing.assert_array_equal(together.tokens[4:6], two.batches(1, 4, 2).tokens)


HEADERS = {"llm_c.bin": (20240520, np.uint16), "llm_c_wide.bin": (20240801, np.uint32)}


@pytest.mark.parametrize("name", [*HEADERS, "shard.npy"])
def test_other_flat_files_hold_the_same_documents(tmp_path: Path, made: Path, name: str) -> None:
    """llm.c's header, which the faster descendants of nanoGPT keep, and build-nanogpt's arrays."""
    ids = prepare(tmp_path / "plain.bin", made / "gpt.json")
    if name in HEADERS:
        magic, kind = HEADERS[name]
        header = np.zeros(256, np.int32)
        header[:3] = magic, 1, len(ids)
        (tmp_path / name).write_bytes(header.tobytes() + ids.astype(kind).tobytes())
    else:
        np.save(tmp_path / name, ids)
    given = str(made / "gpt.json")
    read = [
        [document.data for document in documents(own(tmp_path / file, tokenizer=given))]
        for file in ("plain.bin", name)
    ]
    assert read[0] == read[1]
    assert len(read[0]) == len(TEXTS)


def test_a_cache_of_levanters_is_read_by_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 50_257, rng.integers(1, 30)) for _ in range(400)]
    write_cache(tmp_path / "cache" / "train", rows)
    monkeypatch.setattr(token_files, "CHUNK", 1000)  # rows are cut between reads
    expected = [(row + 260).astype("<u2").tobytes() for row in rows]
    for given in (tmp_path / "cache" / "train", tmp_path / "cache"):  # itself, or a folder that holds several
        assert [document.data for document in documents(own(given))] == expected
    manifest = scan(own(tmp_path / "cache"), NO_TASKS, tmp_path / "corpus")
    assert manifest.sources["train"]["documents"] + manifest.sources["heldout"]["documents"] == 400


def cut(path: Path, by: int) -> None:
    path.write_bytes(path.read_bytes()[:-by])


def changed(path: Path, at: int, value: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + len(value)] = value
    path.write_bytes(content)


def bin_of(folder: Path, made: Path) -> Path:
    prepare(folder / "train.bin", made / "gpt.json")
    return folder / "train.bin"


def odd(folder: Path, made: Path) -> DataConfig:
    path = bin_of(folder, made)
    cut(path, 1)
    return own(path, tokenizer=str(made / "gpt.json"))


def no_such_id(folder: Path, made: Path) -> DataConfig:
    path = bin_of(folder, made)
    changed(path, 2 * 500, b"\xa0\x01")
    return own(path, tokenizer=str(made / "gpt.json"))


def compressed(folder: Path, made: Path) -> DataConfig:
    import gzip

    path = bin_of(folder, made)
    path.write_bytes(gzip.compress(path.read_bytes()))
    return own(path)


def text_called_tokens(folder: Path, made: Path) -> DataConfig:
    (folder / "train.bin").write_text("".join(TEXTS))
    return own(folder / "train.bin")


def short_of_its_header(folder: Path, made: Path) -> DataConfig:
    header = np.zeros(256, np.int32)
    header[:3] = 20240520, 1, 5000
    (folder / "train.bin").write_bytes(header.tobytes() + bytes(9000))
    return own(folder / "train.bin")


def table(folder: Path, made: Path) -> DataConfig:
    np.save(folder / "a.npy", np.ones((4, 4), np.float32))
    return own(folder / "a.npy")


def cut_array(folder: Path, made: Path) -> DataConfig:
    np.save(folder / "a.npy", np.arange(9000, dtype=np.uint16))
    cut(folder / "a.npy", 100)
    return own(folder / "a.npy")


def too_large(folder: Path, made: Path) -> DataConfig:
    np.save(folder / "a.npy", np.arange(65_000, 66_000, dtype=np.uint32))
    return own(folder / "a.npy")


GPT2 = {"tokenizer": "gpt2", "vocab_size": 50_257}


def cache(
    damage: Callable[[Path], object], tokenizer: str = "", **ledger: object
) -> Callable[[Path, Path], DataConfig]:
    def make(folder: Path, made: Path) -> DataConfig:
        rng = np.random.default_rng(0)
        at = write_cache(folder / "cache", [rng.integers(0, 50_257, 40) for _ in range(300)], **ledger)
        damage(at)
        return own(at, **({"tokenizer": str(made / tokenizer)} if tokenizer else {}))

    return make


def not_a_tokenizer(folder: Path, made: Path) -> DataConfig:
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1024}')
    return own(write_text(folder), kind="text", tokenizer=str(folder / "tokenizer_config.json"))


def cut_tokenizer(folder: Path, made: Path) -> DataConfig:
    shutil.copy(made / "gpt.json", folder / "tokenizer.json")
    cut(folder / "tokenizer.json", 2000)
    return own(write_text(folder), kind="text", tokenizer=str(folder / "tokenizer.json"))


def another_language(folder: Path, made: Path) -> DataConfig:
    texts = ["字は読めない " * (4 + at % 7) + str(at) for at in range(200)]
    return own(write_text(folder, texts), kind="text", tokenizer=str(made / "piece.json"))


def large_vocabulary(folder: Path, made: Path) -> DataConfig:
    tokens = {f"t{at}": at for at in range(70_000)}
    told = json.loads((made / "piece.json").read_text())
    told["model"]["vocab"] = {"[UNK]": 70_000, **tokens}
    (folder / "large.json").write_text(json.dumps(told))
    return own(write_text(folder), kind="text", tokenizer=str(folder / "large.json"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (odd, r"train\.bin: cut off \([\d,]+ bytes are no tokens of 16 bits\)"),
        (
            no_such_id,
            r"train\.bin: token 500 is 416, outside of the vocabulary: data\.tokenizer=.*gpt\.json has 400",
        ),
        (compressed, r"train\.bin: no token file"),
        (text_called_tokens, r"train\.bin: it is text and no token file; use data=text"),
        (short_of_its_header, r"cut off \(it should have 5,000 tokens\)"),
        (table, r"a\.npy: an array of float32 in 2 dimensions"),
        (cut_array, r"cannot read .*a\.npy: not a whole \.npy file"),
        (too_large, r"a\.npy: token 276 is 65276, outside of the vocabulary: of files without a tokenizer"),
        (
            cache(lambda at: (at / "input_ids/data/c/0").unlink()),
            r"cannot read .*cache: damaged after token 0",
        ),
        (cache(lambda at: cut(at / "input_ids/data/c/0", 900)), "damaged after token 0"),
        (cache(lambda at: cut(at / "input_ids/offsets/c/0", 5)), "not a whole cache of levanter's"),
        (cache(lambda at: None, total_num_rows=280), "300 documents in place of 280"),
        (cache(lambda at: None, is_finished=False), "is not finished"),
        (
            cache(lambda at: None, tokenizer="gpt.json", metadata={"preprocessor_metadata": GPT2}),
            r"gpt\.json: it has 400 tokens, and .*cache was made by one of 50,257 \(gpt2\)",
        ),
        (cache(lambda at: cut(at / "shard_ledger.json", 9)), "not a ledger of levanter's"),
        (cache(lambda at: (at / "shard_ledger.json").unlink()), "no token file"),
        (cache(lambda at: shutil.rmtree(at / "input_ids")), "without input_ids"),
        (not_a_tokenizer, r"data\.tokenizer=.*: not a tokenizer\.json that tokenizers [\d.]+ reads"),
        (cut_tokenizer, "not a tokenizer.json that tokenizers"),
        (another_language, r"data\.tokenizer=.*piece\.json: it has no tokens for \d\d% of the held-out text"),
        (large_vocabulary, r"large\.json: it has 70,001 tokens; .* at most 65,536 fit into 16 bits"),
        (
            lambda folder, made: own(write_text(folder), kind="text", tokenizer=str(folder / "none.json")),
            r"data\.tokenizer=.*none\.json: no such file; give bytes, bpe or the path of a tokenizer\.json",
        ),
        (
            lambda folder, made: own(bin_of(folder, made), tokenizer=str(made / "piece.json")),
            r"data\.tokenizer=.*piece\.json: its tokens do not say the bytes of a text",
        ),
        (
            lambda folder, made: own(bin_of(folder, made), tokenizer="bpe"),
            r"data\.tokenizer=bpe: it must be the tok",
        ),
        (
            lambda folder, made: own(bin_of(folder, made), clean=("dedup",)),
            r"data\.clean=\['dedup'\]: it must be left",
        ),
        (
            lambda folder, made: own(bin_of(folder, made), markov_order=2),
            r"data\.markov_order=2: it must be left",
        ),
        (
            lambda folder, made: DataConfig(kind="tokens"),
            r"data\.files=\[\]: it must be the files of data=tokens",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, made: Path, make: Callable[[Path, Path], DataConfig], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        scan(make(tmp_path, made), NO_TASKS, tmp_path / "corpus")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "corpus").glob("text-*"))


@pytest.mark.parametrize(("package", "kind"), [("tokenizers", "gpt"), ("tensorstore", "cache")])
def test_a_package_that_is_not_there_is_named(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch, package: str, kind: str
) -> None:
    data = (
        own(write_cache(tmp_path / "cache", [np.arange(40)] * 9))
        if kind == "cache"
        else own(write_text(tmp_path), kind="text", tokenizer=str(made / "gpt.json"))
    )
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package {package}; .*pip install {package}$"):
        scan(data, NO_TASKS, tmp_path / "corpus")
