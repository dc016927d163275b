"""Accuracy of tasks beyond the data: what is known is answered, what the rows cannot tell is not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from analysis.errors import UserError
from analysis.forecasting.accuracy_curve import Scored, fit_curves
from analysis.forecasting.downstream import TaskForecast, task_forecasts
from tests.made_curves import CURVES, SIZES, scores

PARAMS = np.repeat(np.geomspace(1e7, 1e9, 6), 3)
TOKENS = 20 * PARAMS * np.tile([0.5, 1.5, 5.0], 6)
TARGETS = pd.DataFrame({"params": [3e9], "tokens": [2e11], "flops": [3.6e21]})
LARGEST = 6 * PARAMS[-1] * TOKENS[-1]


def ladder(accuracy: dict[str, np.ndarray], loss: dict[str, np.ndarray], items: int = 1000) -> pd.DataFrame:
    """Binomial counts of tasks over the ladder's runs, with chance at a quarter."""
    rng = np.random.default_rng(5)
    one = pd.DataFrame({"params": PARAMS, "tokens": TOKENS, "flops": 6 * PARAMS * TOKENS, "size": PARAMS})
    more = {"total": items, "chance": 0.25}
    parts = [
        one.assign(task=task, correct=rng.binomial(items, curve), nll=loss[task], **more)
        for task, curve in accuracy.items()
    ]
    return pd.concat(parts, ignore_index=True).assign(run_id=np.tile(np.arange(len(PARAMS)), len(parts)))


def loss_at(params: np.ndarray | float, tokens: np.ndarray | float) -> np.ndarray:
    """The task loss that every ladder here follows, short of noise."""
    return np.asarray(0.5 + 0.7 * (params / 1e8) ** -0.3 + 0.6 * (tokens / 2e9) ** -0.3)


def accuracy_at(loss: np.ndarray) -> np.ndarray:
    return np.asarray(0.25 + 0.7 * expit(4.0 * (1.4 - loss)))


def of_compute(decades: np.ndarray | float) -> np.ndarray:
    """Accuracy by decades of compute beyond the largest run."""
    return np.asarray(0.25 + 0.7 * expit(0.9 * (np.asarray(decades) + 1.5)))


def noisy_loss(seed: int) -> np.ndarray:
    return loss_at(PARAMS, TOKENS) * np.exp(0.004 * np.random.default_rng(seed).standard_normal(len(PARAMS)))


def test_a_sigmoid_that_the_rows_fix_is_found_and_an_open_ceiling_stays_open() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 20)
    far = np.array([1.0, 1.5])

    def beyond(middle: float, top: float) -> tuple[np.ndarray, np.ndarray]:
        def curve(at: np.ndarray) -> np.ndarray:
            return np.asarray(0.25 + (top - 0.25) * expit(8 * (at - middle)))

        score = rng.binomial(2000, curve(x)) / 2000
        scored = Scored(score, np.full(20, 2000.0), np.full(20, np.nan), 0.25, 1.0)
        draws = fit_curves(scored, x, np.zeros(20), rng).at(far, np.zeros(2))
        return curve(far), np.percentile(draws, [2.5, 97.5], axis=0)

    truth, (low, high) = beyond(0.4, 0.7)
    assert ((low < truth) & (truth < high)).all() and (high - low < 0.06).all()
    truth, (low, high) = beyond(1.0, 0.9)
    assert ((low < truth) & (truth < high)).all() and high[1] - low[1] > 0.1


def test_the_step_that_holds_is_the_one_that_hold_outs_show() -> None:
    """One task follows its loss, which a law gives; the other follows compute, and its loss is noise."""
    compute = np.log10(6 * PARAMS * TOKENS / LARGEST)
    noise = np.random.default_rng(2).standard_normal(len(PARAMS))
    loss = {"by_loss": noisy_loss(1), "by_compute": 1.5 * np.exp(0.2 * noise)}
    rows = ladder({"by_loss": accuracy_at(loss["by_loss"]), "by_compute": of_compute(compute)}, loss)
    by_loss, by_compute = task_forecasts(rows, TARGETS)
    assert (by_loss.method, by_compute.method) == ("two_step", "one_step")
    for found, truth in (
        (by_loss, accuracy_at(loss_at(3e9, 2e11))),
        (by_compute, of_compute(np.log10(6 * 3e9 * 2e11 / LARGEST))),
    ):
        assert found.accuracy is not None and abs(found.accuracy - float(truth)) < 0.05
        low, high = found.intervals[0.9]
        assert low < truth < high
        inner = found.intervals[0.5]
        assert low < inner[0] < inner[1] < high
    assert by_loss.to_json()["reason"] == "" and set(by_loss.to_json()["intervals"]) == {"0.5", "0.9"}


def test_classes_beyond_the_data() -> None:
    """Of the curves of known class the smooth ones are answered; flat ones, and jumps to come, are not."""
    table = scores(CURVES)
    largest = SIZES[7]
    targets = pd.DataFrame({"size": SIZES[8:10]})
    found = {(f.task, f.target): f for f in task_forecasts(table[table["size"] <= largest], targets)}
    for task in ("smooth_line", "smooth_logistic", "saturated_early", "saturated"):
        for target in range(2):
            said = found[task, target]
            assert said.accuracy is not None, (task, said.reason)
            assert abs(said.accuracy - CURVES[task][8 + target]) < 0.05, task
    for task in ("flat", "flat_above", "emergent_step", "emergent_last", "emergent_hinge", "inverse"):
        said = found[task, 0]
        assert said.accuracy is None and said.reason and not said.intervals, task
    assert "no rise" in found["emergent_last", 0].reason and "falls" in found["inverse", 0].reason


def test_jumps_beyond_the_data_are_not_forecast() -> None:
    """Two hundred tasks at chance in all rows, whose jump is still to come: hardly one has an answer."""
    rng = np.random.default_rng(11)
    curves = {f"t{i}": np.full(len(SIZES), 0.25) for i in range(200)}
    for i, curve in enumerate(curves.values()):
        curve[8:] += rng.uniform(0.2, 0.7) if i % 2 else np.linspace(0.1, rng.uniform(0.3, 0.7), 4)
    table = scores(curves, items=400, seed=12, scatter=0.005)
    found = task_forecasts(table[table["size"] <= SIZES[7]], pd.DataFrame({"size": SIZES[[9]]}))
    safe = [
        f.accuracy is None or f.intervals[0.9][0] <= curves[f.task][9] <= f.intervals[0.9][1] for f in found
    ]
    assert len(safe) == 200 and np.mean(safe) >= 0.95


def one(rows: pd.DataFrame, targets: pd.DataFrame = TARGETS) -> TaskForecast:
    return task_forecasts(rows, targets)[0]


def test_too_few_runs_and_too_far_are_reasons() -> None:
    rows = ladder({"task": accuracy_at(noisy_loss(1))}, {"task": noisy_loss(1)})
    few = rows[rows["params"] <= 1.1e7]
    assert "are needed" in one(few).reason
    far = pd.DataFrame({"params": [1e12], "tokens": [2e13], "flops": [1.2e26]})
    assert "too far" in one(rows, far).reason


def test_no_loss_is_one_step_and_a_score_without_bounds_none() -> None:
    rows = ladder({"task": accuracy_at(noisy_loss(1))}, {"task": noisy_loss(1)})
    assert set(one(rows.drop(columns="nll")).methods) == {"one_step"}
    loose = rows.assign(score=rows["correct"] * 3.0, stderr=5.0).drop(columns=["correct", "total", "chance"])
    assert "no share" in one(loose).reason


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"params": [3e9], "tokens": [2e11]}, "'flops' is missing"),
        ({"params": [3e9], "tokens": [2e11], "flops": [-1.0]}, "flops is -1"),
        ({"params": [1e8], "tokens": [2e9], "flops": [1.2e18]}, "target 0.*beyond the table"),
    ],
)
def test_bad_targets_are_refused(targets: dict[str, list[float]], said: str) -> None:
    rows = ladder({"task": accuracy_at(noisy_loss(1))}, {"task": noisy_loss(1)})
    with pytest.raises(UserError, match=said):
        task_forecasts(rows, pd.DataFrame(targets))


@pytest.mark.slow
def test_the_olmo_ladder_at_its_largest(published: Path) -> None:
    """The 3B model at the longest horizon, from the four smaller ones: four accuracies in five within 5 points."""
    from benchmarks.downstream import OLMO_PARAMS, POINTS, held, olmo

    table = olmo(published / "emergence")
    top = table["size"] == OLMO_PARAMS["3B"]
    rows = table[~top | (table["flops"] == table["flops"].max())]
    said = [
        s
        for s in held("olmo", rows, rows["size"] < OLMO_PARAMS["3B"], "flops")
        if s.forecast.accuracy is not None
    ]
    near = [abs(s.measured - s.forecast.accuracy) <= POINTS for s in said if s.forecast.accuracy is not None]
    assert len(said) >= 10 and np.mean(near) >= 0.8
