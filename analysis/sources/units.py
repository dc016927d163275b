"""Two units in one column of losses, told from the numbers alone: nats and bits, losses and perplexities."""

import numpy as np
from jaxtyping import Bool, Float

from analysis.arrays import Array

BITS = 1.0 / np.log(2.0)
# ln of a vocabulary of 300,000: no loss of a trained model in nats is above it.
MOST_NATS = 12.6
# Fewer runs cannot tell a unit from a law.
FEWEST = 6
# With the two units told apart, what is left of a law of powers is as small as this, and this share of before.
LEFT, SHARE = 0.03, 0.2


def other_unit(
    params: Float[Array, " n"], tokens: Float[Array, " n"], loss: Float[Array, " n"]
) -> tuple[Bool[np.ndarray, " n"], str] | None:
    """Return the runs that are in another unit than the rest, and the sentence's words; None for one unit.

    Bits are 1.4427 times nats, which no law has between neighbours: a plain power law is fitted with each run in
    the unit that it fits best, until none changes; it must then fit five times better than in one unit.
    """
    above = loss > MOST_NATS
    if above.any() and not above.all():
        return above, "look like perplexities where the others are losses"
    if len(loss) < FEWEST:
        return None
    logs = np.log(loss)
    x = np.stack([np.ones(len(loss)), np.log(params), np.log(tokens)], axis=1)

    def residuals(y: Float[Array, " n"]) -> Float[Array, " n"]:
        return y - x @ np.linalg.lstsq(x, y, rcond=None)[0]

    one = residuals(logs)
    bits = one > 0
    for _ in range(20):
        shifted = logs - np.log(BITS) * bits
        fitted = shifted - residuals(shifted)
        # A run is in bits where it is nearer to 1.44 times the law.
        nearer = logs - fitted > 0.5 * np.log(BITS)
        if (nearer == bits).all():
            break
        bits = nearer
    left = np.sqrt(np.mean(residuals(logs - np.log(BITS) * bits) ** 2))
    if not bits.any() or bits.all() or left > LEFT or left > SHARE * np.sqrt(np.mean(one**2)):
        return None
    return bits, "look like bits where the others are nats (1.44 times as much)"
