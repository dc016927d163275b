"""Two scores of the same outputs, published: `python -m benchmarks.emergence_pairs FOLDER`.

FOLDER holds obsscaling_emergent.csv.gz (Ruan et al. 2024: exact match and BLEU of one task by open models) and
olmo_ladder_final.csv.gz (the OLMo ladder: accuracy, and the probability of the right answer). The size of both
is training compute, for the models differ in tokens as well. Prints what the detector says of each pair.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import emergence

# BIG-bench's transliteration: the smallest score printed is 1 / 1003.
IPA_ITEMS = 1003
OLMO_ITEMS = {
    "arc_challenge_test": 1172,
    "arc_easy_test": 2376,
    "boolq_val": 3270,
    "csqa_val": 1221,
    "hellaswag_val": 10042,
    "openbookqa_test": 500,
    "piqa_val": 1838,
    "socialiqa_val": 1954,
    "winogrande_val": 1267,
}
OLMO_SIZES = {"190M": 190e6, "370M": 370e6, "760M": 760e6, "1B": 1.3e9, "3B": 3.2e9}


def ruan(folder: Path) -> pd.DataFrame:
    """Exact match and BLEU of transliteration; models of one compute count as seeds."""
    rows = pd.read_csv(folder / "obsscaling_emergent.csv.gz")
    rows = rows[rows["metric"].str.startswith("ipa_transliterate")].dropna(subset=["value", "flops_1e21"])
    both = rows.groupby("model")["metric"].transform("nunique") == 2
    rows = rows[both].assign(metric=rows["metric"].str.removeprefix("ipa_transliterate_2_"))
    score = rows["value"].where(rows["metric"] != "bleu", rows["value"] / 100)
    return pd.DataFrame(
        {
            "task": "ipa_transliterate",
            "metric": rows["metric"],
            "size": rows["flops_1e21"] * 1e21,
            "seed": rows["model"],
            "score": score,
            # Nobody printed BLEU's standard error: it is given that of a proportion.
            "stderr": np.sqrt(np.maximum(score * (1 - score), 1e-3) / IPA_ITEMS),
        }
    )


def olmo(folder: Path) -> pd.DataFrame:
    """Accuracy and the right answer's probability of the multiple-choice tasks, 30 runs."""
    rows = pd.read_csv(folder / "olmo_ladder_final.csv.gz")
    name = rows["metric"].str.extract(r"downstream(?P<soft>_soft)?/(?P<task>.*?)_rc_5shot")
    rows = rows.assign(task=name["task"], metric=np.where(name["soft"].isna(), "accuracy", "probability"))
    rows = rows[rows["task"].isin(OLMO_ITEMS)]
    params = rows["size"].map(OLMO_SIZES)
    multiple = rows["chinchilla_mult"].str.extract(r"([\d.]+)xC")[0].astype(float)
    items = rows["task"].map(OLMO_ITEMS)
    # A mean of probabilities varies less than a mean of hits.
    spread = np.sqrt(rows["value"] * (1 - rows["value"]) / items)
    return pd.DataFrame(
        {
            "task": rows["task"],
            "metric": rows["metric"],
            "size": 6 * params * 20 * params * multiple,
            "seed": np.where(rows["run"].str.contains("rerun"), 1, 0),
            "score": rows["value"],
            "stderr": spread,
        }
    )


def main(folder: Path) -> None:
    """Print a Markdown table of both publications."""
    print("| task | metric | sizes | class | gain | metric_induced | said |\n|---|---|---|---|---|---|---|")
    for table in (ruan(folder), olmo(folder)):
        for verdict in emergence(table).tasks:
            said = "; ".join(warning.message for warning in verdict.warnings)
            cells = [verdict.curve.task, verdict.curve.metric, str(len(verdict.curve.size)), verdict.label]
            cells += [f"{verdict.effect:+.2f}", str(verdict.metric_induced), said]
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
