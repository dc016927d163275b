"""Accuracy of tasks beyond the data, against what was measured there: `python -m benchmarks.downstream [RUN]...`.

Made tasks of known truth (other seeds than those that settings were chosen on), the published OLMo ladder and
Pythia suite (their largest models held out), and run folders RUN (their three largest rungs held out in turn).
Prints a Markdown table: of the tasks whose rows rise smoothly, how many are answered and within 5 points, how many
measurements lie in the 50 and 90% intervals, and the mean error of each method. A jump beyond the rows is false
confidence unless no answer is given or the interval holds it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from analysis import load_table
from analysis.forecasting.downstream import TaskForecast, task_forecasts
from analysis.tables.finished import finished_rows
from benchmarks.emergence_pairs import OLMO_ITEMS
from benchmarks.splits import PUBLISHED

POINTS = 0.05
BEYOND = (3.0, 10.0, 30.0)
# Settings were chosen on seeds 0 to 11.
REPORTED = range(100, 106)
SMOOTH = {"logistic": 5, "product": 5, "gompertz": 5, "hill": 5}
KINDS = {**SMOOTH, "jump": 40, "late": 4, "flat": 2}
OLMO_PARAMS = {"190M": 190354176, "370M": 371262464, "760M": 758220288, "1B": 1279395840, "3B": 3169537280}
OLMO_CHANCE = {"boolq": 0.5, "csqa": 0.2, "piqa": 0.5, "socialiqa": 1 / 3, "winogrande": 0.5}
OLMO_MMLU = {"humanities": 4705, "other": 3239, "social_sciences": 3077, "stem": 3018}


@dataclass(frozen=True)
class Tried:
    """A forecast and what was measured; `kind` is how the task was made, or nothing."""

    source: str
    kind: str
    forecast: TaskForecast
    measured: float
    factor: float


def made(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, list[float]]]:
    """Draw a ladder's table of tasks (28 runs of seven sizes, or 16 of four), the targets, and each task's
    measurement at every target.

    Task loss follows E + A/N^alpha + B/D^beta. Accuracy is, by kind: a logistic, a product of independent answers,
    or a Gompertz curve of the loss; a Hill curve of compute, whatever the loss; at chance up to a jump beyond the
    rows; a jump between the largest rows; at chance.
    """
    rng = np.random.default_rng([seed, 14])
    sizes = np.geomspace(1e7, 1e9, 7) if seed % 2 == 0 else np.geomspace(1e8, 1e9, 4)
    params = np.repeat(sizes, 4)
    tokens = 20 * params * np.tile([0.5, 1.0, 2.0, 5.0], len(sizes))
    far = np.asarray(BEYOND)
    top = 6 * params[-1] * tokens[-1]
    wanted = np.sqrt(top * far / (6 * 20 * 2.5))
    targets = pd.DataFrame({"params": wanted, "tokens": 50 * wanted, "flops": 6 * 50 * wanted**2})
    n, d = np.concatenate([params, targets["params"]]), np.concatenate([tokens, targets["tokens"]])
    compute = 6 * n * d
    rows, measured = [], {}
    for kind, count in KINDS.items():
        for number in range(count):
            chance, items = float(rng.choice([0.0, 0.25, 0.5])), int(rng.choice([200, 500, 1000, 3000]))
            loss = rng.uniform(0.1, 0.8) + rng.uniform(0.3, 1.2) * (n / 1e8) ** -rng.uniform(0.2, 0.45)
            loss = loss + rng.uniform(0.3, 1.2) * (d / 2e9) ** -rng.uniform(0.2, 0.45)
            loss = loss * np.exp(rng.normal(0, 0.005, len(n)))
            while True:
                share = _share(kind, loss, np.log10(compute / top), len(params), rng)
                gain = (rng.uniform(0.7, 1.0) - chance) * np.ptp(share[: len(params)])
                if kind in ("jump", "late", "flat") or gain > 0.1:
                    break
            high = rng.uniform(0.8, 1.0)
            truth = chance + (high - chance) * share + rng.uniform(0, 0.012) * rng.standard_normal(len(n))
            score = rng.binomial(items, np.clip(truth, 0, 1)) / items
            name = f"{kind}_{number}"
            measured[name] = list(score[len(params) :])
            for i in range(len(params)):
                at = (name, params[i], tokens[i], compute[i], score[i] * items, items, chance, loss[i])
                rows.append(at)
    names = ["task", "params", "tokens", "flops", "correct", "total", "chance", "nll"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(correct=table["correct"].round(), size=table["params"], seed=0), targets, measured


def _share(
    kind: str, loss: np.ndarray, decades: np.ndarray, rows: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw the share of what lies above chance, over the rows and then the targets."""
    low, high = loss.min(), loss[:rows].max()
    x = (high - loss) / (high - low)
    if kind == "logistic":
        return expit(rng.uniform(4, 10) * (x - rng.uniform(0.3, 1.0)))
    if kind == "product":
        return (rng.uniform(0.2, 0.5) + rng.uniform(0.4, 0.5) * x) ** rng.uniform(1.5, 5)
    if kind == "gompertz":
        return np.exp(-np.exp(-rng.uniform(3, 7) * (x - rng.uniform(0.2, 0.7))))
    if kind == "hill":
        return expit(rng.uniform(1.0, 2.5) * (decades - rng.uniform(-2.5, 0.5)))
    if kind == "flat":
        return np.zeros(len(loss))
    at = rng.uniform(0.1, 1.3) if kind == "jump" else rng.uniform(-0.6, -0.1)
    if rng.random() < 0.5:
        return rng.uniform(0.3, 1.0) * (decades > at)
    return rng.uniform(0.3, 1.0) * np.clip((decades - at) / rng.uniform(0.2, 1.0), 0, 1)


def made_tried(seed: int) -> Iterator[Tried]:
    """Forecast every made task at every target."""
    table, targets, measured = made(seed)
    runs = f"{table['flops'].nunique()} runs"
    for forecast in task_forecasts(table, targets):
        at, kind = forecast.target, forecast.task.partition("_")[0]
        yield Tried(runs, kind, forecast, measured[forecast.task][at], BEYOND[at])


def olmo(folder: Path) -> pd.DataFrame:
    """Accuracy and bits per byte of the multiple-choice tasks, 30 runs."""
    rows = pd.read_csv(folder / "olmo_ladder_final.csv.gz")
    pattern = r"downstream(?P<bpb>_bpb)?/(?P<task>.*?)_rc_5shot_(?:len_norm|acc|bpb)"
    rows = rows.join(rows["metric"].str.extract(pattern)).dropna(subset=["task"])
    column = np.where(rows["bpb"].isna(), "score", "nll")
    wide = rows.assign(column=column).pivot_table(
        index=["task", "run", "size", "chinchilla_mult"], columns="column", values="value", aggfunc="first"
    )
    wide = wide.dropna().reset_index()
    params = wide["size"].map(OLMO_PARAMS)
    tokens = 20 * params * wide["chinchilla_mult"].str.removesuffix("xC").astype(float)
    group = wide["task"].str.extract("mmlu_(.*)_test")[0]
    items = wide["task"].map(OLMO_ITEMS).fillna(group.map(OLMO_MMLU))
    name = wide["task"].str.split("_").str[0]
    made = wide.assign(params=params, tokens=tokens, flops=6 * params * tokens, size=params, total=items)
    made = made.assign(
        chance=name.map(OLMO_CHANCE).fillna(0.25), seed=wide["run"].str.contains("rerun").astype(int)
    )
    # The validation splits of tasks that have a test split are the same questions' kin: each task counts once.
    return made[made["total"].notna()].drop(columns=["chinchilla_mult", "run"])


def pythia(folder: Path, shots: int = 0) -> pd.DataFrame:
    """Accuracy of the finished models of the Pythia suite; all saw the same tokens, and no task loss is printed."""
    rows = pd.read_csv(folder / "pythia_opt_bloom_evals.csv.gz")
    rows = rows[rows["suite"].eq("pythia-v1") & rows["step"].eq(143000) & rows["metric"].eq("acc")]
    rows = rows[rows["shots"].eq(shots)].dropna(subset=["stderr"])
    unit = {"m": 1e6, "b": 1e9}
    size = rows["size"].str.lower().str.extract(r"([\d.]+)([mb])")
    params = size[0].astype(float) * size[1].map(unit)
    table = rows.assign(size=params, params=params, score=rows["value"])
    return table[["task", "params", "size", "score", "stderr"]].drop_duplicates(["task", "size"])


def held(source: str, table: pd.DataFrame, low: "pd.Series[bool]", name: str) -> Iterator[Tried]:
    """Forecast the runs of the table that are not in `low`, by the rows that are; `name`: the column of compute."""
    targets = table[~low].drop_duplicates([name]).reset_index(drop=True)
    targets = targets[targets[name] > table.loc[low, name].max()].reset_index(drop=True)
    score = table["score"] if "score" in table else table["correct"] / table["total"]
    largest = table.loc[low, name].max()
    keys = [key for key in ("task", "variant") if key in table]
    measured = score.groupby([table[key] for key in keys] + [table[name]]).first()
    for forecast in task_forecasts(table[low], targets):
        at = targets.loc[forecast.target, name]
        key = (*[forecast.task, forecast.variant][: len(keys)], at)
        if key in measured:
            yield Tried(source, "", forecast, float(measured[key]), at / largest)


def own(folder: Path) -> Iterator[Tried]:
    """Forecast each of the three largest rungs of a run folder, at its longest horizon, by the smaller rungs."""
    table, _ = finished_rows(load_table(folder, kind="tasks"))
    for top in np.sort(table["size"].unique())[-3:]:
        mine = table[table["size"] == top]
        mine = mine[mine["seed"] == mine["seed"].min()]
        rows = pd.concat([table[table["size"] < top], mine[mine["flops"] == mine["flops"].max()]])
        yield from held(folder.name, rows, rows["size"] < top, "flops")


def line(name: str, tried: list[Tried]) -> str:
    """Write the row of one source: smooth tasks, answers, hits, coverage, both methods' errors."""
    said = [s for s in tried if s.forecast.accuracy is not None]
    errors = [abs(s.measured - s.forecast.accuracy) for s in said if s.forecast.accuracy is not None]
    cells = [name, str(len(tried)), str(len(said)), _share_of([error <= POINTS for error in errors])]
    cells += [f"{100 * float(np.mean(errors)):.1f}" if errors else "-"]
    for level in (0.5, 0.9):
        cells.append(_share_of([_holds(s, level) for s in said]))
    widths = [np.diff(s.forecast.intervals[0.9])[0] / 2 for s in said]
    cells.append(f"{100 * float(np.median(widths)):.1f}" if widths else "-")
    both = [s for s in said if len(s.forecast.methods) == 2]
    for method in ("one_step", "two_step"):
        missed = [abs(s.measured - s.forecast.methods[method].accuracy) for s in both]
        cells.append(f"{100 * float(np.mean(missed)):.1f}" if missed else "-")
    chosen = [abs(s.measured - s.forecast.accuracy) for s in both if s.forecast.accuracy is not None]
    cells.append(f"{100 * float(np.mean(chosen)):.1f} ({len(both)})" if both else "-")
    return "| " + " | ".join(cells) + " |"


def _holds(tried: Tried, level: float) -> bool:
    low, high = tried.forecast.intervals[level]
    return low <= tried.measured <= high


def _share_of(hits: list[bool]) -> str:
    return f"{sum(hits)} of {len(hits)} ({np.mean(hits):.0%})" if hits else "-"


def main(arguments: list[str]) -> None:
    """Print the tables."""
    found = [tried for seed in REPORTED for tried in made_tried(seed)]
    smooth = [tried for tried in found if tried.kind in SMOOTH]
    head = (
        "| source | smooth | answered | within 5 points | mean error | in 50% | in 90% | half-width of 90% | "
    )
    print(head + "one step | two steps | chosen, of those with both |\n" + "|---" * 11 + "|")
    for source in ("28 runs", "16 runs"):
        for factor in BEYOND:
            mine = [s for s in smooth if s.source == source and s.factor == factor]
            print(line(f"made, {source}, {factor:g} x", mine))
    for kind in SMOOTH:
        print(line(f"made, {kind}", [s for s in smooth if s.kind == kind]))
    folder = PUBLISHED.parent / "emergence"
    for name, tried in published(folder) if folder.is_dir() else ():
        print(line(name, [s for s in tried if s.forecast.label in ("smooth", "saturated")]))
    for run in arguments:
        print(line(run, [s for s in own(Path(run)) if s.forecast.label in ("smooth", "saturated")]))
    print("\n| made | tasks x targets | not said, or held | not said |\n|---|---|---|---|")
    for kind in list(KINDS)[len(SMOOTH) :]:
        silent = [s.forecast.accuracy is None for s in found if s.kind == kind]
        safe = [s.forecast.accuracy is None or _holds(s, 0.9) for s in found if s.kind == kind]
        print(f"| {kind} | {len(safe)} | {_share_of(safe)} | {_share_of(silent)} |")


def published(folder: Path) -> Iterator[tuple[str, list[Tried]]]:
    """Hold out the largest model of the OLMo ladder (at its longest and at all horizons), and of Pythia."""
    table = olmo(folder)
    top = table["size"] == OLMO_PARAMS["3B"]
    longest = table["flops"] == table["flops"].max()
    yield "OLMo, 3B at 10xC", list(held("olmo", table[~top | longest], ~top[~top | longest], "flops"))
    for factor in (10.0, 30.0):
        low = table["flops"] <= table["flops"].max() / factor
        rows = table[low | longest]
        yield f"OLMo, {factor:g} x", list(held("olmo", rows, low[low | longest], "flops"))
    for shots in (0, 5):
        suite = pythia(folder, shots)
        biggest = suite["size"] == suite["size"].max()
        yield f"Pythia 12B, {shots} shots", list(held("pythia", suite, ~biggest, "size"))


if __name__ == "__main__":
    main(sys.argv[1:])
