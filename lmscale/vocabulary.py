"""A run's vocabulary as a tokenizer.json of the library tokenizers, in our numbering: bytes and specials first.

It gives the tokens that the run was trained on, so its numbers are those of the model's embedding.
"""

import json
from pathlib import Path
from typing import Any

from lmscale.config import DataConfig
from lmscale.errors import UserError
from lmscale.jsonfiles import read_json
from lmscale.spec import RunSpec
from lmscale.text import bpe, corpus
from lmscale.text.vocab import MASK, PAD, START, VOCAB_SIZE
from lmscale.typed import build

SPECIALS = {PAD: "<|pad|>", START: "<|start|>", MASK: "<|mask|>", VOCAB_SIZE - 1: "<|spare|>"}


def tokenizer_of(folder: Path, run: RunSpec, corpora: Path | None = None) -> dict[str, Any]:
    """Make the tokenizer.json of a run; of BPE from the one of its corpus. corpora: the folder where the corpus
    stands, if not where it stood when the run was trained. UserError where it is not there, or does not fit."""
    if run.data.get("tokenizer", "bytes") == "bytes":
        made = {"pre_tokenizer": _byte_level(use_regex=False), "merges": [], "vocab": bpe.byte_letters()}
    else:
        path = _text_folder(folder, corpora) / "tokenizer.json"
        if not path.is_file():
            raise UserError(
                f"{path}: no such file, the tokenizer of the corpus; name the folder of corpora, --corpora DIR"
            )
        tokenizer = bpe.load_vocabulary(path)
        number, _ = bpe.table(tokenizer)
        found = json.loads(tokenizer.to_str())
        vocab = {token: int(number[at]) for token, at in tokenizer.get_vocab().items()}
        made = {
            "pre_tokenizer": found["pre_tokenizer"],
            "merges": found["model"]["merges"],
            "vocab": vocab,
        }
    size = len(made["vocab"]) + len(SPECIALS)
    if size != run.shape.vocab_size:
        raise UserError(
            f"RUN={folder}: its tokenizer does not fit: {size} tokens, where the network has "
            f"{run.shape.vocab_size}; put back the corpus that it was trained on, or name it, --corpora DIR"
        )
    return _file(**made)


def _text_folder(folder: Path, corpora: Path | None) -> Path:
    """The folder of the text that a run was trained on, as its pack has it."""
    pack_id = read_json(folder / "execution.json")["pack_id"]
    pack = read_json(folder.parent / "packs" / pack_id / "pack.json")
    key = corpus.text_key(build(DataConfig, pack["data"]))
    return (corpora or Path(pack["corpora"])) / f"text-{key}"


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": use_regex}


def _file(pre_tokenizer: Any, merges: list[Any], vocab: dict[str, int]) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": dict(sorted(vocab.items(), key=lambda pair: pair[1])),
        "merges": merges,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": content, "special": True, **flags}
            for number, content in SPECIALS.items()
        ],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": _byte_level(use_regex=True),
        "model": model,
    }
