"""Whole loss curves: schedules against sums over steps, laws against tables made by them, the collapse."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import UserError, curves, load_table
from analysis.cli import main
from analysis.curves import points as points_module
from analysis.curves.collapse import collapse
from analysis.curves.fitted import fit_curves
from analysis.curves.laws import CURVE_LAWS
from analysis.curves.points import read_points
from analysis.curves.residual import CurveNoise, Places, curve_noise
from analysis.curves.schedule import STEPS, WEIGHTS, Schedule
from analysis.errors import Code

BATCH, WARMUP = 1000.0, 20
ANNEALING = CURVE_LAWS[0]
TRUTH = {
    "E": 1.0,
    "A": 40.0,
    "alpha": 0.4,
    "B": 400.0,
    "beta": 0.5,
    "k": 0.8,
    "C": 0.02,
    "delta": 0.12,
    "M": 6e4,
}


def rates(kind: str, horizon: int, share: float, steps: int) -> np.ndarray:
    """The rate of each step, as a trainer computes it."""
    step = np.arange(steps)
    warm = np.minimum(1.0, (step + 1) / WARMUP)
    start = {"wsd": horizon * (1 - share), "cosine": WARMUP, "linear": WARMUP}.get(kind, np.inf)
    done = np.clip((step - start) / (horizon - start), 0, 1) if np.isfinite(start) else np.zeros(steps)
    return warm * (0.5 * (1 + np.cos(np.pi * done)) if kind == "cosine" else 1 - done)


def annealed(rate: np.ndarray, memory: float) -> float:
    """Tissue et al. 2024: S2 = sum of m_i, m_i = lambda m_(i-1) + (rate_(i-1) - rate_i), times 1 - lambda."""
    fade = np.exp(-BATCH / memory)
    momentum = total = 0.0
    for before, now in zip(rate[WARMUP:-1], rate[WARMUP + 1 :], strict=True):
        momentum = fade * momentum + (before - now)
        total += momentum
    return total * (1 - fade)


def loss_of(params: float, kind: str, horizon: int, share: float, steps: int) -> float:
    p, rate = TRUTH, rates(kind, horizon, share, steps)
    kept = (p["A"] * params ** -p["alpha"] + p["B"] * (BATCH * rate.sum()) ** -p["beta"]) ** p["k"]
    return p["E"] + kept - p["C"] * params ** p["delta"] * annealed(rate, p["M"])


def ladder(rng: np.random.Generator, spoilt: float = 1.0, cosine: bool = False) -> pd.DataFrame:
    """Trunks and branches at three horizons, .5% of luck a run and .1% an evaluation; `spoilt` multiplies the
    gain of the fourth size's falls and lifts its trunk by as much."""
    rows: list[dict[str, Any]] = []

    def add(
        params: float, seed: int, luck: float, kind: str, run: str, horizon: int, share: float, at: list[int]
    ) -> None:
        for steps in at:
            loss = loss_of(params, run, horizon, share, steps)
            if params == 64e3 and spoilt != 1.0:
                fallen = 1 - rates(run, horizon, share, steps)[-1]
                loss += (spoilt - 1) * 0.06 * (1 - fallen)
            rows.append(
                {
                    "run_id": f"{params}-{seed}-{run}-{horizon}-{share}",
                    "kind": kind,
                    "params": params,
                    "seed": seed,
                    "schedule": run,
                    "tokens": steps * BATCH,
                    "loss": loss * np.exp(luck + 0.001 * rng.standard_normal()),
                    "horizon_tokens": horizon * BATCH if run != "constant" else np.nan,
                    "warmup_tokens": WARMUP * BATCH,
                    "decay_share": share,
                }
            )

    for params in (8e3, 16e3, 32e3, 64e3, 128e3, 256e3):
        for seed in (0, 1):
            luck = 0.005 * rng.standard_normal()
            add(params, seed, luck, "trunk", "constant", 0, 0.2, [250, 350, 500, 700, 1000, 1400])
            for horizon in (500, 1000, 2000):
                add(params, seed, luck, "branch", "wsd", horizon, 0.2, [int(0.9 * horizon), horizon])
            if cosine:
                add(params, seed, luck, "run", "cosine", 2000, 0.2, [700, 1400, 2000])
                add(params, seed, luck, "branch", "wsd", 1000, 0.4, [1000])
    return pd.DataFrame(rows)


@pytest.mark.parametrize("kind", ["wsd", "cosine"])
def test_the_rate_is_that_of_the_trainer(kind: str) -> None:
    """`lmscale.schedule` and `analysis.curves.schedule` read one spec alike."""
    trainer = pytest.importorskip("lmscale.schedule")
    config = trainer.ScheduleConfig(kind=kind, warmup_steps=20, floor=0.1)
    start = trainer.SCHEDULES[kind].falls_from(config, 1000)
    traced = trainer.traced({"kind": kind, "warmup_steps": 20, "floor": 0.1}, 1000, start)
    lane = SimpleNamespace(peak_rate=1.0, **traced)
    mine = Schedule(kind, 20 * BATCH, start * BATCH, 1000 * BATCH, 0.1)
    for step in (5, 100, 500, 850, 999):
        # The rate of a step counts the step itself in the warm-up.
        at = step + 1 if step < 20 else step
        assert float(mine.rate(np.array([at * BATCH]))[0]) == pytest.approx(
            float(trainer.learning_rate(lane, np.asarray(step))), abs=1e-6
        )


@pytest.mark.parametrize(("kind", "share"), [("wsd", 0.1), ("wsd", 0.4), ("cosine", 0.0), ("linear", 0.0)])
def test_areas_are_sums_over_steps(kind: str, share: float) -> None:
    start = 2000 * (1 - share) if kind == "wsd" else WARMUP
    schedule = Schedule(kind, WARMUP * BATCH, start * BATCH, 2000 * BATCH)
    for steps in (300, 1900, 2000):
        rate = rates(kind, 2000, share, steps)
        x = schedule.columns(steps * BATCH)
        assert x["area"] == pytest.approx(BATCH * rate.sum(), rel=3e-3)
        for memory in (3e4, 3e5):
            answered = sum(-WEIGHTS[j] * np.expm1(-x[f"since_{j}"] / memory) for j in range(STEPS))
            assert x["fallen"] * answered == pytest.approx(annealed(rate, memory), abs=0.005)
        # Luo et al. 2025, eq. 1: the loss reduction of every step's fall, by the sum over all steps.
        c, b, gamma = 1e-4, 0.6, 0.5
        fall, after = -np.diff(rate[WARMUP:]), BATCH * np.cumsum(rate[::-1])[::-1][WARMUP + 1 :]
        there = fall > 0
        u = c * rate[WARMUP + 1 :][there] ** -gamma * after[there]
        whole = float(np.sum(fall[there] * (1 - (1 + u) ** -b)))
        answers = [1 - (1 + c * x[f"rate_{j}"] ** -gamma * x[f"swept_{j}"]) ** -b for j in range(STEPS)]
        assert x["fallen"] * np.dot(WEIGHTS, answers) == pytest.approx(whole, abs=0.005)


def test_another_share_and_another_schedule_are_predicted() -> None:
    """Fitted to falls over 20% alone, the law foretells a cosine and a fall over 40%, of seeds that it knows."""
    points = read_points(ladder(np.random.default_rng(0), cosine=True), {})
    other = points.table["schedule"].eq("cosine").to_numpy() | points.table["decay_share"].eq(0.4).to_numpy()
    ends = points.keep(other & points.ended)
    for law in CURVE_LAWS:
        fitted = fit_curves(law, points.keep(~other))
        logs, deviation = fitted.predict(ends.x, ends.size, ends.run)
        error = logs[0] - np.log(ends.loss)
        assert np.abs(error).mean() < 0.003, law.name
        if law is ANNEALING:
            assert np.mean(np.abs(error) < 2 * deviation) > 0.8
            assert fitted.params["E"] == pytest.approx(TRUTH["E"], abs=0.15)
            assert fitted.params["M"] == pytest.approx(TRUTH["M"], rel=0.25)


@pytest.mark.parametrize("law", CURVE_LAWS, ids=lambda law: law.name)
def test_public_and_private_parameters_are_one_law(law: Any) -> None:
    """A law searched in centred parameters reports those of its equation, and back."""
    points = read_points(ladder(np.random.default_rng(1)), {})
    fitted = fit_curves(law, points)
    x = {name: points.x[name] for name in law.columns}
    direct = np.log(law.predict(fitted.params, x))
    assert np.log(points.loss) - fitted.residual[0] == pytest.approx(direct, abs=1e-12)
    from analysis.fitting.function_law import JetModel

    model = JetModel(law, x, points.loss)
    back = model.public(model.private(fitted.params)[None])[0]
    assert back == pytest.approx(list(fitted.params.values()), rel=1e-6)


def test_noise_components_are_found() -> None:
    """A field drawn with known deviations gives them back within what 40 runs can tell."""
    rng = np.random.default_rng(0)
    size = np.repeat(np.arange(10), 40)
    run = np.repeat(np.arange(40), 10)
    at = Places(size, run, np.tile(np.linspace(0.0, 3.0, 10), 40), np.tile([0.0] * 5 + [0.06] * 5, 40))
    truth = CurveNoise(np.array([0.003, 0.01, 0.004, 0.05, 0.002]))
    covariance = truth.covariance(at, at) + truth.deviations[4] ** 2 * np.eye(400)
    found = curve_noise(rng.multivariate_normal(np.zeros(400), covariance), at)
    assert found.deviations[1] == pytest.approx(0.01, rel=0.4)
    assert found.deviations[4] == pytest.approx(0.002, rel=0.3)


def test_a_branch_has_the_luck_of_its_run() -> None:
    """What one evaluation shows of a run moves the forecast of its others, and of no other run's."""
    noise = CurveNoise(np.array([1e-5, 0.01, 1e-5, 1e-5, 1e-5]))
    seen = Places(np.array([0]), np.array([0]), np.array([0.0]), np.array([0.0]))
    wanted = Places(np.array([0, 0]), np.array([0, -1]), np.array([1.0, 1.0]), np.array([0.0, 0.0]))
    mean, covariance = noise.krige(np.array([[0.02]]), seen, wanted)
    assert mean[0] == pytest.approx([0.02, 0.0], abs=1e-4)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.0, 0.01], abs=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_the_spoilt_rung_and_no_other_leaves_the_collapse(seed: int) -> None:
    for spoilt, named in ((1.0, []), (3.0, [64e3])):
        points = read_points(ladder(np.random.default_rng(seed), spoilt=spoilt), {})
        found = collapse(points, fit_curves(ANNEALING, points))
        assert found is not None
        assert [rung.params for rung in found.rungs if rung.left] == named
        assert [warn.code for warn in found.warnings] == [Code.MIS_SCALED] * len(named)


@pytest.mark.slow
def test_how_often_a_rung_is_named() -> None:
    """Of ten ladders no rung in good order is named, and one whose falls gain half as much again in most."""
    named = {1.0: 0, 1.5: 0}
    for seed in range(10, 20):
        for spoilt in named:
            points = read_points(ladder(np.random.default_rng(seed), spoilt=spoilt), {})
            found = collapse(points, fit_curves(ANNEALING, points))
            assert found is not None
            assert all(rung.params == 64e3 for rung in found.rungs if rung.left)
            named[spoilt] += len(found.warnings)
    assert named[1.0] == 0 and named[1.5] >= 8


def test_many_evaluations_are_thinned_and_every_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_module, "MOST", 50)
    points = read_points(ladder(np.random.default_rng(0)), {})
    assert len(points) == 50 and points.ended.sum() == 36
    assert len(points.left_out[-1].rows) == 94


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text, JSON and pictures of one call; the JSON has what docs/curves.md says."""
    table, answer = tmp_path / "t.csv", tmp_path / "a.json"
    ladder(np.random.default_rng(0)).to_csv(table, index=False)
    at = "params=128e3,tokens=2e6,schedule=cosine,seed=1"
    options = [
        "--where",
        "params > 2e4",
        "--at",
        at,
        "--json",
        str(answer),
        "--bootstrap",
        "8",
        "--pictures",
        str(tmp_path),
    ]
    assert main(["curves", str(table), *options]) == 0
    said = json.loads(answer.read_text())
    (prediction,) = said["predictions"]
    assert prediction["lower"] < prediction["loss"] < prediction["upper"]
    assert prediction["loss"] == pytest.approx(loss_of(128e3, "cosine", 2000, 0.0, 2000), rel=0.012)
    assert "unseen_schedule" in {warn["code"] for warn in said["warnings"]}
    assert [trial["what"] for trial in said["held_out"]][:2] == ["wsd 0.2 to 2e+06", "wsd 0.2 to 1e+06"]
    assert set(said["held_out"][0]["errors"]) == {"annealing", "multi_power", "chinchilla6"}
    assert said["n"] == 96 and len(said["collapse"]["rungs"]) == 4
    assert "from the collapse" in capsys.readouterr().out
    assert {"curves.png", "collapse.svg"} <= {path.name for path in tmp_path.iterdir()}


def test_a_run_folder_says_its_schedule(tmp_path: Path) -> None:
    """The columns come from spec.json: a trunk's rate is constant, a branch falls from its start."""
    table = load_table(shutil.copytree(Path(__file__).parent / "golden", tmp_path / "golden"))
    assert {"schedule", "warmup_tokens", "rate_floor"} <= set(table.columns)
    assert set(table["schedule"].dropna()) <= {"constant", "wsd", "cosine"}


BAD = {
    "no schedule": (
        lambda t: t.drop(columns=["schedule", "warmup_tokens"]),
        {},
        "no column schedule, warmup_tokens",
    ),
    "no horizon": (lambda t: t.drop(columns="horizon_tokens"), {}, "no column horizon_tokens"),
    "no share": (lambda t: t.drop(columns="decay_share"), {}, "no column decay_share"),
    "unknown kind": (lambda t: t.replace({"schedule": {"wsd": "steps"}}), {}, "schedule is steps"),
    "a share of two": (lambda t: t.assign(decay_share=2.0), {}, "decay_share between 0 and 1"),
    "two sizes": (lambda t: t[t.params < 2e4], {}, "needs three sizes"),
    "stated twice": (lambda t: t, {"schedule": {"warmup_tokens": 1}}, "leave it out here"),
    "stated nonsense": (lambda t: t, {"schedule": {"warmup": 1}}, 'schedule={"warmup": 1}: no such column'),
    "no tokens": (lambda t: t, {"at": [{"params": 1e4}]}, "give tokens"),
    "a word": (lambda t: t, {"at": [{"params": "big", "tokens": 1e6}]}, "params is 'big', not a number"),
    "in the warm-up": (lambda t: t, {"at": [{"params": 1e4, "tokens": 1e5}]}, "warm-ups of the beginning"),
    "no such seed": (lambda t: t, {"at": [{"params": 8e3, "tokens": 1e6, "seed": 9}]}, "no run of this size"),
    "an unknown name": (
        lambda t: t,
        {"at": [{"params": 8e3, "tokens": 1e6, "rate": 9}]},
        "no rate; choose of",
    ),
    "a loss of zero": (lambda t: t.assign(loss=0.0), {}, "column loss"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line(name: str) -> None:
    change, options, said = BAD[name]
    with pytest.raises(UserError) as caught:
        curves(change(ladder(np.random.default_rng(0))), **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_other_sciences_are_refused_and_other_schedules_are_not() -> None:
    table = ladder(np.random.default_rng(0)).assign(science="aaaaaa")
    table.loc[table["params"] == 8e3, "science"] = "bbbbbb"
    about = {"aaaaaa": {"schedule.decay_share": "0.2"}, "bbbbbb": {"schedule.decay_share": "0.1"}}
    table.attrs["sciences"] = about
    assert len(read_points(table, {})) == 144
    table.attrs["sciences"] = {"aaaaaa": {"optim.b2": "0.9"}, "bbbbbb": {"optim.b2": "0.95"}}
    with pytest.raises(UserError, match="2 sciences"):
        read_points(table, {})
