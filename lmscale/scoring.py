"""From what a model found likely to scores: which items are right, and by how much. Numpy, sums in float64.

Leaves the rows to `stack` and the forward passes to `evaluate` and `generate`.
"""

import numpy as np

from lmscale.stack import Block
from lmscale.tasks.sampling import by_question

Score = dict[str, float | int | None]


def summarise(items: dict[str, np.ndarray]) -> Score:
    """Summarise a variant's items as its score.

    n and correct count items, nll is in nats an item and byte_accuracy a share of all answer bytes.
    """
    size = int(items["answer_bytes"].sum())
    return {
        "n": len(items["correct"]),
        "correct": _plain(items["correct"].sum(dtype=np.float64)),
        "nll": float(items["nll"].mean(dtype=np.float64)) if "nll" in items else None,
        "brier": float(items["brier"].mean()) if "brier" in items else None,
        "byte_accuracy": float(items["matched_bytes"].sum(dtype=np.float64) / size),
    }


def as_lengths(count: np.ndarray, longest: np.ndarray) -> np.ndarray:
    """Keep counts of bytes in the narrowest unsigned type that holds the longest answer: a byte for most tasks."""
    return count.astype(np.min_scalar_type(int(longest.max())))


def _plain(count: float) -> int | float:
    """A count as a whole number, unless options were worth fractions."""
    return int(count) if count == int(count) else float(count)


def outcomes(
    block: Block, nll: np.ndarray, hit: np.ndarray, question: np.ndarray, choice: np.ndarray
) -> dict[str, np.ndarray]:
    """Judge each item: correct, nll, matched and answer bytes, and the Brier score where there are choices.

    An item is correct when every byte of its answer is the likeliest, which is when greedy generation would
    have written it; among its choices where it has them; and as the likeliest of its options.
    """
    scored = block.rows.item >= 0
    number = block.rows.item[scored]
    size = np.bincount(number)
    matched = np.bincount(number, hit[scored]).astype(int)
    surprise = np.bincount(number, nll[scored])
    correct = matched == size
    result = {}
    if block.items and block.items.group is not None:
        assert block.variant
        options = by_question(block.items, surprise, matched, size)
        questions = [_question(block.variant.scoring, *arrays) for arrays in options]
        worth, brier, surprise, matched, size = map(np.array, zip(*questions, strict=True))
        if block.variant.scoring == "choices":
            result["brier"] = brier
        correct = worth.astype(bool) if np.isin(worth, (0, 1)).all() else worth
    elif block.choices:
        logits = choice[question >= 0][:, : len(block.choices)].astype(np.float64)
        row, slot = np.nonzero(question >= 0)
        truth = block.rows.tokens[row, question[row, slot] + 1]
        onehot = truth[:, None] == np.frombuffer(block.choices, np.uint8)
        # a tie is no choice
        correct = (logits >= logits[onehot][:, None]).sum(axis=1) == 1
        result["brier"] = _brier(logits, onehot)
    return {
        "correct": correct.astype(np.uint8 if correct.dtype == bool else np.float32),
        "nll": surprise.astype(np.float32),
        "matched_bytes": as_lengths(matched, size),
        "answer_bytes": as_lengths(size, size),
        **result,
    }


def _question(
    scoring: str, worth: np.ndarray, nll: np.ndarray, matched: np.ndarray, size: np.ndarray
) -> tuple[float, float, float, int, int]:
    """The earnings of a question's options, the Brier score over them, and the best right one's NLL and bytes.

    Of choices the likeliest counts, and a tie is no choice; of accepted answers any that is wholly likeliest.
    """
    right = int(np.argmin(np.where(worth == worth.max(), nll, np.inf)))
    if scoring == "any":
        return float((matched == size).any()), 0.0, nll[right], matched[right], size[right]
    best = nll == nll.min()
    earned = float(worth[best][0]) if best.sum() == 1 else 0.0
    brier = float(_brier(-nll[None], worth / worth.sum())[0])
    return earned, brier, nll[right], matched[right], size[right]


def _brier(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The Brier score of each row's distribution: squared distance from the truth (0 best, 2 worst)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return ((shifted / shifted.sum(axis=1, keepdims=True) - truth) ** 2).sum(axis=1)
