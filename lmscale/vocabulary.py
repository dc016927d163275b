"""A run's vocabulary as a tokenizer.json in the numbers of its network: a text has the tokens of its training.

The numbers themselves are `text.tokenizer`'s.
"""

import json
from pathlib import Path
from typing import Any

from lmscale.errors import UserError
from lmscale.jsonfiles import read_json
from lmscale.spec import RunSpec
from lmscale.text import tokenizer
from lmscale.text.vocab import MASK, PAD, START, VOCAB_SIZE

SPECIALS = {PAD: "<|pad|>", START: "<|start|>", MASK: "<|mask|>", VOCAB_SIZE - 1: "<|spare|>"}
_BY_BYTE = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
_FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)


def tokenizer_of(folder: Path, run: RunSpec, corpora: Path | None = None) -> dict[str, Any]:
    """Make the tokenizer.json of a run; but for bytes, of the one in its corpus. corpora: the folder where that
    stands, if not where it stood when the run was trained. UserError where it is not there, or does not fit."""
    name = run.data.get("tokenizer", "bytes")
    if name == "bytes":
        made, size = _of_bytes(), VOCAB_SIZE
    else:
        made, size = _of_corpus(_file_of(folder, name, corpora), name)
    if size != run.shape.vocab_size:
        raise UserError(
            f"RUN={folder}: its tokenizer does not fit: {size} tokens, where the network has "
            f"{run.shape.vocab_size}; put back the corpus that it was trained on, or name it, --corpora DIR"
        )
    ours = [
        {"id": number, "content": content, "special": True, **_FLAGS} for number, content in SPECIALS.items()
    ]
    # an added token has the number that the model's vocabulary gives it, whatever stands beside it
    vocab = made["model"]["vocab"] | {content: number for number, content in SPECIALS.items()}
    model = {**made["model"], "vocab": dict(sorted(vocab.items(), key=lambda pair: pair[1]))}
    return {**made, "model": model, "added_tokens": ours + made["added_tokens"]}


def _of_bytes() -> dict[str, Any]:
    """Byte-level BPE without merges."""
    return {
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor")),
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": _BY_BYTE,
        "decoder": _BY_BYTE,
        "model": {"type": "BPE", "vocab": tokenizer.byte_letters(), "merges": []},
    }


def _file_of(folder: Path, name: str, corpora: Path | None) -> Path:
    """The file in the corpus that the run's pack was trained on."""
    pack_id = read_json(folder / "execution.json")["pack_id"]
    pack = read_json(folder.parent / "packs" / pack_id / "pack.json")
    path = (corpora or Path(pack["corpora"])) / pack["text"] / tokenizer.FILE
    if name == tokenizer.UNKNOWN:
        raise UserError(
            f"RUN={folder}: it was trained on token files that came without a tokenizer; lmscale.load(folder) "
            "gives the model in JAX; with data.tokenizer=tokenizer.json a run has one"
        )
    if not path.is_file():
        raise UserError(
            f"{path}: no such file, the tokenizer of the corpus; name the folder of corpora, --corpora DIR"
        )
    found = tokenizer.name_of_file(path)
    if name.startswith("json-") and name != found:
        raise UserError(
            f"{path}: the tokenizer does not fit, it is {found}, and the run was trained with {name}; put that back"
        )
    return path


def _of_corpus(path: Path, name: str) -> tuple[dict[str, Any], int]:
    """The file with our numbers in place of its own, and how many tokens there are."""
    loaded = tokenizer.load(path)
    vocabulary = tokenizer.vocabulary(loaded)
    told, number = json.loads(loaded.to_str()), vocabulary.number
    vocab = told["model"].get("vocab")
    if not isinstance(vocab, dict):
        raise UserError(
            f"{path}: a tokenizer of kind {told['model']['type']} numbers tokens by their order, so that none has "
            "the numbers of the network; lmscale.load(folder) gives the model in JAX"
        )
    # what says where a document ends is no text, and is a NUL byte here
    kept = {token: int(number[at]) for token, at in vocab.items() if token not in tokenizer.ENDS}
    plain = [
        {**token, "id": int(number[token["id"]])} for token in told["added_tokens"] if not token["special"]
    ]
    told["decoder"] = told["decoder"] or (_BY_BYTE if name == "bpe" else None)
    model = {**told["model"], "vocab": kept}
    return {**told, "model": model, "added_tokens": plain, "post_processor": None}, len(vocabulary.texts)
