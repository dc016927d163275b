"""Tokenizers by the real library, and token files as other programs write them, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TEXTS = [
    f"Größe {i}: " + " ".join(f"wörd{(i * k) % 97}" for k in range(60)) + " <|endoftext|> is text\n"
    for i in range(200)
]
END = "<|endoftext|>"


def write_tokenizers(folder: Path) -> Path:
    """Write gpt.json, byte-level as GPT-2's, sentence.json, as SentencePiece's, and piece.json, WordPieces; all
    trained by the library. Returns the folder."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    gpt = tokenizers.Tokenizer(models.BPE())
    gpt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    gpt.decoder = decoders.ByteLevel()
    gpt.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    gpt.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=alphabet, special_tokens=[END], show_progress=False
        ),
    )
    gpt.enable_truncation(16)  # as people save them
    gpt.save(str(folder / "gpt.json"))
    sentence = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    sentence.pre_tokenizer = pre_tokenizers.Metaspace()
    sentence.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    sentence.train_from_iterator(
        TEXTS[:3],
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<unk>", "<s>", "</s>", *fallback], show_progress=False
        ),
    )
    told = json.loads(sentence.to_str())
    told["added_tokens"] = told["added_tokens"][:3]  # bytes are ordinary tokens
    (folder / "sentence.json").write_text(json.dumps(told))
    piece = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    piece.normalizer = normalizers.Lowercase()
    piece.pre_tokenizer = pre_tokenizers.Whitespace()
    piece.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False)
    )
    piece.save(str(folder / "piece.json"))
    return folder


def write_text(folder: Path, texts: list[str] = TEXTS) -> Path:
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder / "a.jsonl"


def prepare(path: Path, gpt: Path, texts: list[str] = TEXTS, kind: Any = np.uint16) -> np.ndarray:
    """Write a .bin as nanoGPT's prepare.py for OpenWebText does: ids of every document and the end of text after
    it, copied by batches into an array mapped to the file."""
    import tokenizers

    encoding = tokenizers.Tokenizer.from_file(str(gpt))
    encoding.no_truncation()
    encoding.encode_special_tokens = True
    end = encoding.token_to_id(END)
    ids = [[*encoding.encode(text).ids, end] for text in texts]
    array = np.memmap(path, dtype=kind, mode="w+", shape=(sum(map(len, ids)),))
    at = 0
    for begin in range(0, len(ids), 64):
        batch = np.concatenate(ids[begin : begin + 64])
        array[at : at + len(batch)] = batch
        at += len(batch)
    array.flush()
    return np.asarray(array)


def prepare_letters(path: Path, text: str) -> None:
    """Write a .bin as nanoGPT's prepare.py for Shakespeare by letters does."""
    number = {letter: at for at, letter in enumerate(sorted(set(text)))}
    np.array([number[letter] for letter in text], dtype=np.uint16).tofile(path)


def write_cache(folder: Path, rows: list[np.ndarray], **ledger: object) -> Path:
    """Write a cache in the layout of levanter's TreeCache and JaggedArrayStore (version 1.2)."""
    tensorstore = pytest.importorskip("tensorstore")
    flat = np.concatenate(rows).astype(np.int32)
    offsets = np.concatenate([[len(rows)], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    for name, values in (("data", flat), ("offsets", offsets)):
        inner = {"chunk_shape": [256], "codecs": [{"name": "blosc", "configuration": {"clevel": 5}}]}
        grid = {"name": "regular", "configuration": {"chunk_shape": [4096]}}
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{folder / 'input_ids' / name}/"},
            "metadata": {
                "chunk_grid": grid,
                "codecs": [{"name": "sharding_indexed", "configuration": inner}],
            },
        }
        store = tensorstore.open(spec, dtype=values.dtype.name, shape=[2**54], create=True).result()
        store[: len(values)].write(values).result()
    told = {"total_num_rows": len(rows), "shard_rows": {"": len(rows)}, "is_finished": True, **ledger}
    (folder / "shard_ledger.json").write_text(json.dumps(told))
    return folder
