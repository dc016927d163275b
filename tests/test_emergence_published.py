"""Other people's models: Pythia's tasks, classified from published scores with standard errors."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.detection.emergence import emergence
from benchmarks.emergence_pairs import olmo

SIZES = {"70m": 70e6, "160m": 160e6, "410m": 410e6, "1b": 1e9, "1.4b": 1.4e9, "2.8b": 2.8e9, "6.9b": 6.9e9}
SIZES["12b"] = 12e9


def pythia(folder: Path, shots: int) -> pd.DataFrame:
    """Accuracies of the last checkpoints; with and without deduplication as two seeds."""
    rows = pd.read_csv(folder / "emergence" / "pythia_opt_bloom_evals.csv.gz")
    rows = rows[(rows["suite"] == "pythia-v1") & (rows["step"] == 143000) & (rows["metric"] == "acc")]
    rows = rows[(rows["shots"] == shots) & ~rows["model"].str.contains("tokBS")]
    rows = rows.assign(size=rows["size"].map(SIZES), seed=rows["model"].str.contains("deduped").astype(int))
    # Some checkpoints were evaluated three times: the first is kept.
    rows = rows.drop_duplicates(["task", "size", "seed"])
    return rows.rename(columns={"value": "score"})[["task", "size", "seed", "score", "stderr"]]


@pytest.mark.parametrize("shots", [0, 5])
def test_pythias_known_tasks_are_smooth_and_mmlu_mostly_flat(published: Path, shots: int) -> None:
    found = {verdict.curve.task: verdict.label for verdict in emergence(pythia(published, shots)).tasks}
    for task in ("lambada_openai", "piqa", "arc_easy", "sciq"):
        assert found[task] == "smooth", task
    mmlu = [label for task, label in found.items() if task.startswith("hendrycksTest")]
    assert len(mmlu) == 57
    assert mmlu.count("flat") > len(mmlu) / 2
    # No more than the false-discovery level explains: of so many, none to speak of.
    assert mmlu.count("emergent") <= 1


def test_the_olmo_ladders_accuracies_are_slopes_in_compute(published: Path) -> None:
    found = emergence(olmo(published / "emergence"), draws=2000).tasks
    accuracy = [verdict.label for verdict in found if verdict.curve.metric == "accuracy"]
    assert accuracy == ["smooth"] * 9
    assert not any(verdict.label == "emergent" or verdict.metric_induced for verdict in found)
