"""Draw text loss against the rate rule's one value, a line a width: where the minima line up, the rule holds.

python -m lmscale.launch -m experiment=rates transfer.rate=.1,.2,.4,.8,1.6
python -m benchmarks.rates runs/rates docs/img/rates.png
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from analysis import load_table


def main(source: str, target: str) -> None:
    """Print the table of losses by width and value, and write the picture."""
    table = load_table(source)
    table = table.assign(value=table["learning_rate"] * table["d_model"])
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for d_model, rows in table.groupby("d_model"):
        mean = rows.groupby("value")["loss"].mean()
        best = mean.min()
        axes.plot(mean.index, mean - best, marker="o", label=f"d_model {d_model} (best {best:.3f})")
        print(f"d_model {d_model}: " + "  ".join(f"{value:.3g}: {loss:.4f}" for value, loss in mean.items()))
    axes.set(
        xscale="log",
        xlabel="rate x d_model (transfer.rate of inverse_width)",
        ylabel="text loss above the width's best (nats per byte)",
    )
    axes.legend()
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    print(f"wrote {target}")


if __name__ == "__main__":
    main(*(sys.argv[1:3] or ("runs/rates", "docs/img/rates.png")))
