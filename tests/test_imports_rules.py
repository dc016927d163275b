"""The rules by which a tracker's runs become a table: loss, params, tokens, ends, restarts, units."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import UserError
from analysis.sources.losses import loss_metric
from analysis.sources.models import params_of
from analysis.sources.names import PARAMS, TOKENS, losses, matching
from analysis.sources.numbers import number, size_in
from analysis.sources.run import TrackedRun
from analysis.sources.runs_table import runs_table
from analysis.sources.units import other_unit
from analysis.sources.values import last_written


def run(
    name: str = "r",
    steps: tuple = (1, 2, 3),
    finished: bool | None = True,
    config: dict | None = None,
    **metrics,
) -> TrackedRun:
    metrics = metrics or {"val/loss": [5.0, 4.0, 3.0]}
    history = pd.DataFrame({"step": np.asarray(steps, float), **metrics})
    return TrackedRun(name, {"n_params": 1e6, "tokens_per_step": 100, **(config or {})}, history, finished)


def test_a_held_out_loss_goes_before_a_training_loss_and_a_raw_one_before_a_smoothed() -> None:
    ranked = losses(
        ["train/loss", "val/loss", "val/loss_ema", "val/bpb", "val/ppl", "test_loss", "aux_loss", "acc"]
    )
    assert ranked == [
        ["val/loss"],
        ["test_loss"],
        ["val/bpb"],
        ["val/ppl"],
        ["train/loss"],
        ["val/loss_ema"],
    ]


@pytest.mark.parametrize(
    "name", ["moe/z_loss", "router_loss", "grad_scale", "kl_loss", "best_val_loss", "closs"]
)
def test_other_terms_are_no_loss(name: str) -> None:
    assert losses([name]) == []


def test_names_count_by_their_last_words() -> None:
    config = [
        "optimizer.lr",
        "model.numParams",
        "val/tokens",
        "throughput/tokens_per_sec",
        "train/num_tokens",
    ]
    assert matching(config, PARAMS) == ["model.numParams"]
    assert matching(config, TOKENS) == ["train/num_tokens"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("124M", 124e6),
        ("1_000", 1e3),
        ("1,234,567", 1234567.0),
        (True, None),
        ("small", None),
        ("1.5e9", 1.5e9),
    ],
)
def test_numbers_of_settings(text: object, value: float | None) -> None:
    assert number(text) == value


def test_the_one_size_in_a_name() -> None:
    assert size_in("pythia-160m-deduped") == 160e6
    assert size_in("pythia_1.4b") == 1.4e9
    assert size_in("llama-70M-5B") is None and size_in("d512") is None


def test_two_losses_of_one_rank_are_asked_about() -> None:
    runs = [run(**{"val/c4_loss": [1.0, 1, 1], "val/pile_loss": [1.0, 1, 1]})]
    with pytest.raises(
        UserError, match="several metrics could be the loss: val/c4_loss, val/pile_loss; choose with"
    ):
        loss_metric(runs)
    assert runs_table(runs, {"loss": "val/pile_loss"})["loss"].iloc[-1] == 1.0


def test_a_project_without_losses_is_one_line() -> None:
    with pytest.raises(
        UserError, match="no metric is a loss by its name; there are acc, lr; say it with columns="
    ):
        runs_table([run(acc=[0.1, 0.2, 0.3], lr=[1.0, 1, 1])])


def test_a_restart_gives_way_to_what_was_written_last() -> None:
    steps = np.array([1.0, 2, 3, 4, 3, 4, 5])
    assert last_written(steps).tolist() == [True, True, False, False, True, True, True]
    made = runs_table([run(steps=tuple(steps), **{"val/loss": [7.0, 6, 9, 9, 5, 4, 3]})])
    assert made["loss"].tolist() == [7, 6, 5, 4, 3]
    assert (
        made.attrs["problems"][0]
        == "2 rows of val/loss were written again by a restart: the last written counts"
    )


def test_a_restart_leaves_no_row_of_the_abandoned_branch() -> None:
    # The first attempt evaluated at 25 and 35; the restart from 20 did so at 22 and 40.
    made = runs_table([run(steps=(10, 20, 25, 35, 22, 40), **{"val/loss": [6.0, 5, 9, 9, 4, 3]})])
    assert made["step"].tolist() == [10, 20, 22, 40]


@pytest.mark.parametrize(("at", "value"), [("last", 3.2), ("min", 3.0), ("mean:2", 3.1), ("mean:99", 3.8)])
def test_the_loss_of_a_run_is_a_choice_that_is_named(at: str, value: float) -> None:
    made = runs_table([run(steps=(1, 2, 3, 4), **{"val/loss": [5.0, 4.0, 3.0, 3.2]})], loss_at=at)
    assert made["loss"].iloc[-1] == pytest.approx(value)
    assert made["loss"].tolist()[:3] == [5.0, 4.0, 3.0]  # evaluations before the end keep their own
    assert {"last": "the last", "min": "the least"}.get(at, "the mean of the last") in made.attrs["took"][0]


def test_an_unknown_choice_of_the_loss_is_one_line() -> None:
    with pytest.raises(UserError, match="loss_at median: write last, min, or mean:K"):
        runs_table([run()], loss_at="median")


def test_smoothed_losses_are_counted_and_taken_last() -> None:
    made = runs_table(
        [run(**{"val/loss": [3.0, 2, 1], "val/loss_ema": [3.0, 3, 3], "loss_smooth": [3.0, 3, 3]})]
    )
    assert "2 of them are smoothed over steps by their names" in made.attrs["took"]
    alone = runs_table([run(**{"train/loss_ema": [3.0, 2, 1]})])
    assert "smoothed over steps by its name" in alone.attrs["took"][0]


def test_a_perplexity_is_taken_as_its_logarithm() -> None:
    made = runs_table([run(**{"eval/perplexity": np.exp([5.0, 4.0, 3.0])})])
    assert made["loss"].tolist() == pytest.approx([5, 4, 3])
    assert "(the logarithm of it)" in made.attrs["took"][0]


def test_tokens_of_a_metric_are_interpolated_between_its_rows() -> None:
    nan = float("nan")
    metrics = {"val/loss": [nan, 4.0, nan, 3.0], "train/num_tokens": [100.0, nan, 300.0, nan]}
    made = runs_table([run(steps=(10, 20, 30, 40), **metrics)])
    # 200 lies between; 400 goes on in proportion to the steps.
    assert made["tokens"].tolist() == [200, 400]
    assert "took train/num_tokens for tokens" in made.attrs["took"]


def test_a_count_of_a_batch_is_no_count_of_tokens() -> None:
    made = runs_table([run(**{"val/loss": [3.0, 2, 1], "tokens": [99.0, 101, 98]})])
    assert made["tokens"].tolist() == [100, 200, 300]


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"batch_size": 12, "block_size": 1024, "gradient_accumulation_steps": 40}, 12 * 1024 * 40),
        (
            {"batch_size": 12, "block_size": 1024, "gradient_accumulation_steps": 40, "world_size": 8},
            12 * 1024 * 40,
        ),
        ({"per_device_train_batch_size": 8, "world_size": 4, "max_seq_length": 512}, 8 * 4 * 512),
        ({"global_batch_size": 256, "seq_len": 2048, "micro_batch_size": 4}, 256 * 2048),
        ({"total_batch_size": 524288, "max_seq_len": 2048, "device_batch_size": 32}, 524288),
    ],
)
def test_tokens_of_a_step_from_settings(config: dict, tokens: float) -> None:
    tracked = replace(run(), config={"n_params": 1e6, **config})
    assert runs_table([tracked])["tokens"].tolist() == [tokens, 2 * tokens, 3 * tokens]


def test_what_cannot_be_known_is_asked_for() -> None:
    with pytest.raises(UserError, match="no setting says how many there were"):
        runs_table([replace(run(), config={"n_params": 1, "per_device_train_batch_size": 8, "seq_len": 512})])
    with pytest.raises(UserError, match=r'tokens cannot be known .* say columns="tokens=METRIC"'):
        runs_table([replace(run(), config={"n_params": 1})])
    with pytest.raises(UserError, match=r"params cannot be known .* params=size_in_name"):
        runs_table([replace(run(), config={"tokens_per_step": 1})])


def test_columns_answer_with_products_and_names() -> None:
    tracked = replace(run("gpt-70m"), config={"width": 10})
    made = runs_table([tracked], {"params": "size_in_name", "tokens": "step*width*1000"})
    assert made["params"].iloc[0] == 70e6
    assert made["tokens"].tolist() == [1e4, 2e4, 3e4]


def test_log_calls_are_not_taken_for_steps() -> None:
    """W&B's step counts calls of log() where none is given: a finished run seems to stand at 3 of 5000."""
    with pytest.raises(UserError, match="its last step is 3 of max_iters 5000"):
        runs_table([run(config={"max_iters": 5000})])
    metrics = {"val/loss": [5.0, 4, 3], "iter": [1000.0, 3000, 5000]}
    made = runs_table([run(config={"max_iters": 5000}, **metrics)])
    assert made["tokens"].tolist() == [1e5, 3e5, 5e5]


def test_a_run_that_has_not_finished_has_no_final_row() -> None:
    runs = [run("a"), run("b", finished=False), run("c", finished=None, config={"max_steps": 9})]
    made = runs_table(runs)
    assert made.groupby("run_id")["final"].sum().tolist() == [1, 0, 0]
    assert "not finished, and without a final row: 2 of 3 runs: runs b, c" in made.attrs["problems"]
    with pytest.raises(
        UserError, match=r"no run has finished: c stands at step 3 of 9 \(max_steps\); .*final=1"
    ):
        runs_table(runs[2:])
    assert runs_table(runs[2:], {"final": "1"})["final"].tolist() == [False, False, True]


def test_runs_without_what_is_needed_are_left_out_and_counted() -> None:
    made = runs_table(
        [run("a"), run("b", **{"acc": [1.0, 1, 1]}), replace(run("c"), config={"tokens_per_step": 1})]
    )
    assert made["run_id"].unique().tolist() == ["a"]
    assert made.attrs["problems"][0] == "1 of 3 runs left out: run b: it has no val/loss"
    assert made.attrs["problems"][1].startswith("1 of 3 runs left out: run c: params cannot be known")


def law(n: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    params, tokens = 10 ** rng.uniform(7, 9, n), 10 ** rng.uniform(9, 10.5, n)
    return params, tokens, 1.8 + 480 / params**0.35 + 2100 / tokens**0.37


@pytest.mark.parametrize("wrong", [[0], [3, 7], [1, 2, 5, 8, 11]])
def test_bits_among_nats_are_told_by_the_numbers(wrong: list[int]) -> None:
    params, tokens, loss = law()
    loss = loss * np.exp(0.003 * np.random.default_rng(1).standard_normal(len(loss)))
    assert other_unit(params, tokens, loss) is None
    loss[wrong] /= np.log(2)
    found = other_unit(params, tokens, loss)
    assert found is not None and np.flatnonzero(found[0]).tolist() == wrong


def test_real_tables_are_of_one_unit(published: Path) -> None:
    for name, params, tokens, loss in (
        ("chinchilla_epoch.csv", "N", "D", "loss"),
        ("gadre_overtraining.csv", "N", "D", "loss_c4_val"),
        ("kyotakano_llm.csv", "N", "D", "loss"),
    ):
        table = pd.read_csv(published / "fit" / name).dropna(subset=[params, tokens, loss])
        assert other_unit(*(table[c].to_numpy(float) for c in (params, tokens, loss))) is None, name


def test_two_units_in_one_column_are_one_line() -> None:
    params, tokens, loss = law()
    bits = [3, 7]
    runs = [
        run(
            f"r{i}",
            (1,),
            config={"n_params": n, "tokens_per_step": d},
            **{"val/loss": [x / np.log(2) ** (i in bits)]},
        )
        for i, (n, d, x) in enumerate(zip(params, tokens, loss, strict=True))
    ]
    with pytest.raises(
        UserError, match=r"two units in val/loss: runs r3, r7 look like bits where the others are nats"
    ):
        runs_table(runs)
    assert any("two units" in said for said in runs_table(runs, {"loss": "val/loss"}).attrs["problems"])
    mixed = [replace(r, history=r.history * (40.0 if i in bits else 1.0)) for i, r in enumerate(runs)]
    with pytest.raises(UserError, match="runs r3, r7 look like perplexities where the others are losses"):
        runs_table(mixed)


def test_published_shapes_have_their_published_parameters() -> None:
    gpt2 = {"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "vocab_size": 50257, "n_positions": 1024}
    pythia = {"model_type": "gpt_neox", "num_hidden_layers": 6, "hidden_size": 512, "intermediate_size": 2048}
    llama = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 11008}
    assert params_of(gpt2)[:2] == (124_439_808, 85_056_000)  # type: ignore[index]
    assert params_of({**pythia, "vocab_size": 50304})[:2] == (70_426_624, 18_915_328)  # type: ignore[index]
    assert params_of({**llama, "vocab_size": 32000, "num_attention_heads": 32})[0] == 6_738_415_616  # type: ignore[index]
    assert (
        params_of({"model_type": "mamba", "num_hidden_layers": 6, "hidden_size": 512, "vocab_size": 9})
        is None
    )
