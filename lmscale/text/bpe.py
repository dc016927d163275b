"""A byte-pair vocabulary trained on the text."""

from collections.abc import Iterable
from typing import Any

from lmscale.errors import needed
from lmscale.text.vocab import VOCAB_SIZE

TRAINED_ON = 16 << 20  # bytes of training text; more does not change a small vocabulary


def train_vocabulary(texts: Iterable[str], vocab_size: int) -> Any:
    """Train a byte-level BPE of `vocab_size` tokens in all, specials included (Sennrich et al. 2016)."""
    tokenizers = needed("tokenizers", "data.tokenizer=bpe")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size - (VOCAB_SIZE - 256),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made
