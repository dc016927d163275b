"""Two units in one column of losses, told from the numbers alone: nats and bits, losses and perplexities."""

import numpy as np
from jaxtyping import Bool, Float

from analysis.arrays import Array

BITS = 1.0 / np.log(2.0)
# ln of a vocabulary of 300,000: no loss of a trained model in nats is above it.
MOST_NATS = 12.6
# Fewer runs cannot tell a unit from a law.
FEWEST = 8
# With the two units told apart, a law leaves as little as this, and so small a share of what it left before.
LEFT, SHARE = 0.03, 0.2
# Exponents near those of every published law: a law is linear in the powers, and needs no search.
EXPONENT = 0.35
# Splits of the runs into two units that are tried, by how far they lie above one law.
STARTS = 32


def other_unit(
    params: Float[Array, " n"], tokens: Float[Array, " n"], loss: Float[Array, " n"]
) -> tuple[Bool[np.ndarray, " n"], str] | None:
    """Return the runs that are in another unit than the rest, and the sentence's words; None for one unit.

    Bits are 1.4427 times nats, which no law has between neighbours: E + A/N^.35 + B/D^.35 is fitted with each run
    in the unit that it fits best, until none changes; that must fit five times better than one unit does.
    """
    above = loss > MOST_NATS
    if above.any() and not above.all():
        return above, "look like perplexities where the others are losses"
    if len(loss) < FEWEST:
        return None
    x = np.stack([np.ones(len(loss)), params**-EXPONENT, tokens**-EXPONENT], axis=1)

    def law(y: Float[Array, " n"]) -> Float[Array, " n"]:
        weighted = x / y[:, None]  # errors are relative
        return np.asarray(x @ np.linalg.lstsq(weighted, np.ones(len(y)), rcond=None)[0], dtype=np.float64)

    def left(y: Float[Array, " n"]) -> float:
        return float(np.sqrt(np.sum((law(y) / y - 1.0) ** 2) / (len(y) - 3)))

    def units(bits: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        for _ in range(20):
            fitted = law(np.where(bits, loss / BITS, loss))
            nearer = loss > np.sqrt(BITS) * fitted
            if (nearer == bits).all():
                break
            bits = nearer
        return bits

    above_law = loss / law(loss)
    starts = np.unique(np.quantile(above_law, np.linspace(0.0, 1.0, STARTS))[:-1])
    found = [bits for start in starts if 0 < (bits := units(above_law > start)).sum() < len(loss)]
    if not found:
        return None
    rests = [left(np.where(bits, loss / BITS, loss)) for bits in found]
    best = int(np.argmin(rests))
    if rests[best] > LEFT or rests[best] > SHARE * left(loss):
        return None
    return found[best], "look like bits where the others are nats (1.44 times as much)"
