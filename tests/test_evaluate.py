"""Scores and losses against what is known beforehand, and against a plain recomputation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmscale import evaluate, model
from lmscale.data import DataConfig, TasksConfig, World, open_world
from lmscale.evaluate import Evaluator, make_evaluator
from lmscale.family import FamilyConfig, shape_of
from lmscale.generate import full_forward, generate, make_generation
from lmscale.lanes import Lane
from lmscale.model import Decoder
from lmscale.optim import OptimConfig
from lmscale.stack import stack_rows
from lmscale.step import init_lane, pack_program

NAMES = ("bigram", "copy", "labels", "list_ops", "parity", "parity_chain", "language")
SOME = TasksConfig(weight=0.3, weights={name: 1 + i / 7 for i, name in enumerate(NAMES)}, items=40)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(DataConfig(heldout_rows=32), SOME, tmp_path_factory.mktemp("corpus"))


def table(params: Any, tokens: jax.Array) -> jax.Array:
    """A bigram model: logits depend on the last token alone."""
    return params[tokens]


@pytest.fixture(scope="module")
def evaluator(world: World) -> Evaluator:
    return make_evaluator(world, table)


def test_losses_equal_a_plain_recomputation_lane_by_lane(world: World) -> None:
    params = np.random.default_rng(0).normal(size=(3, 260, 260)).astype(np.float32)
    evaluations = make_evaluator(world, table, chunk_rows=48)(jnp.asarray(params))
    stack = stack_rows(world)
    for lane, evaluation in enumerate(evaluations):
        logits = params[lane].astype(np.float64)
        nll = np.log(np.exp(logits).sum(axis=1))[stack.tokens[:, :-1]]
        nll = nll - logits[stack.tokens[:, :-1], stack.tokens[:, 1:]]
        begin = 0
        for block in stack.blocks:
            rows = slice(begin, begin := begin + len(block.rows.tokens))
            if block.component:
                expected = nll[rows][block.rows.counted].mean()
                assert evaluation.loss[block.component] == pytest.approx(expected, rel=1e-6)
        together = sum(c.weight * evaluation.loss[c.name] for c in world.components)
        assert evaluation.loss["total"] == pytest.approx(together, rel=1e-9)


def test_an_oracle_scores_everything_and_an_untrained_model_nothing(world: World) -> None:
    def oracle(params: Any, tokens: jax.Array) -> jax.Array:
        # knows the next byte because it is in the row; the last target of a row is never an answer
        return params * jax.nn.one_hot(jnp.roll(tokens, -1, axis=1), 260)

    evaluator = make_evaluator(world, oracle)
    perfect, untrained = evaluator(jnp.array([30.0, 0.0]))
    for name, variants in perfect.tasks.items():
        assert sorted(variants) == sorted(world.tasks[name]["variants"])
        for variant, score in variants.items():
            if world.tasks[name]["variants"][variant]["scoring"] != "forced":
                continue
            assert score["n"] >= 40
            assert score["correct"] == score["n"], (name, variant)
            assert score["byte_accuracy"] == 1
            assert score["nll"] < 1e-4
            blank = untrained.tasks[name][variant]
            assert blank["correct"] == 0 and blank["byte_accuracy"] == 0
            choices = len(world.families[name].choices)
            if choices and score["brier"] is not None:
                assert score["brier"] == pytest.approx(0, abs=1e-9)
                assert blank["brier"] == pytest.approx(1 - 1 / choices, rel=1e-6)
    assert untrained.loss["total"] == pytest.approx(np.log(260), rel=1e-6)


def test_items_agree_with_the_scores_made_of_them(evaluator: Evaluator) -> None:
    params = jnp.asarray(np.random.default_rng(1).normal(size=(1, 260, 260)), jnp.float32)
    (evaluation,) = evaluator(params)
    for name, variants in evaluation.tasks.items():
        for variant, score in variants.items():
            keys = [
                "correct",
                "matched_bytes",
                "answer_bytes",
                *(["nll"] if score["nll"] is not None else []),
            ]
            item = {key: evaluation.items[f"{name}/{variant}/{key}"] for key in keys}
            assert len(item["correct"]) == score["n"]
            assert item["correct"].sum() == score["correct"]
            if score["nll"] is not None:
                assert item["nll"].mean() == pytest.approx(score["nll"], rel=1e-5)
            assert item["matched_bytes"].sum() / item["answer_bytes"].sum() == pytest.approx(
                score["byte_accuracy"]
            )
            assert (item["matched_bytes"] <= item["answer_bytes"]).all()


def test_evaluating_twice_gives_the_same_bytes(evaluator: Evaluator) -> None:
    params = jnp.asarray(np.random.default_rng(2).normal(size=(2, 260, 260)), jnp.float32)
    first, second = evaluator(params), evaluator(params)
    assert [e.loss for e in first] == [e.loss for e in second]
    assert [e.tasks for e in first] == [e.tasks for e in second]


def test_pieces_do_not_show(world: World, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk at a time, with a look in between, or all at once: the same bytes; it ends where a look says so."""
    params = jnp.asarray(np.random.default_rng(3).normal(size=(2, 260, 260)), jnp.float32)
    monkeypatch.setattr(evaluate, "PIECE", 1)
    looks: list[int] = []
    apart = make_evaluator(world, table)(params, lambda: looks.append(1))
    for one, other in zip(evaluator(params), apart, strict=True):
        assert (one.loss, one.tasks, one.ngrams) == (other.loss, other.tasks, other.ngrams)
        assert all(np.array_equal(one.items[name], other.items[name]) for name in one.items | other.items)
    assert len(looks) > 3

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluator(params, stop)


def test_the_program_is_compiled_once(evaluator: Evaluator) -> None:
    params = jnp.zeros((1, 260, 260))
    evaluator(params)
    evaluator(params + 1)
    compiled = evaluator._program._cache_size()
    evaluator(params + 2)
    assert evaluator._program._cache_size() == compiled


@pytest.mark.slow
def test_a_cache_generates_what_whole_passes_do() -> None:
    shape = shape_of(FamilyConfig(n_head=1), 16, context=12, vocab_size=260)
    rng = np.random.default_rng(0)
    empty = jax.eval_shape(lambda: model.init(shape, jax.random.key(0)))
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), empty)
    given = jnp.asarray(rng.integers(0, 256, size=(6, 12)), jnp.int32)
    known = jnp.asarray([1, 3, 5, 7, 9, 11])
    whole = full_forward(model.forward(shape))
    cached = model.decoder(shape)
    key = jax.random.key(1)
    one, other, again, sampled = (
        jax.jit(lambda p, d=d, t=t: generate(d, p, given, known, t, key))(params)
        for d, t in ((whole, 0.0), (cached, 0.0), (cached, 0.7), (cached, 0.7))
    )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again, sampled)
    assert not np.array_equal(one, sampled)
    for row, count in enumerate(known):
        np.testing.assert_array_equal(sampled[row, :count], given[row, :count])
    cache = cached.start(params, 6, 12)
    logits = model.forward(shape)(params, given)
    go_on = jax.jit(cached.step)
    for position in range(10):
        step, cache = go_on(params, cache, given[:, position], jnp.int32(position))
        np.testing.assert_allclose(step, logits[:, position], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {
            "norm": "layer",
            "positions": "learned",
            "qk_norm": False,
            "kind": "swiglu",
            "tied_embeddings": True,
        },
        {"positions": "alibi", "n_kv_head": 2, "kind": "relu2"},
        {"positions": "sinusoidal", "n_kv_head": 1},
        {"positions": "none"},
    ],
    ids=str,
)
def test_every_variant_of_the_network_trains_and_is_evaluated(world: World, changes: dict[str, Any]) -> None:
    shape = shape_of(FamilyConfig(n_layer=1, **changes), 16, context=world.context, vocab_size=260)
    optim = OptimConfig()
    program = pack_program(shape, optim, world.component_of_row(), len(world.components))
    lane = {"peak_rate": 0.02, "weight_decay": 0.1, "warmup_steps": 1, "decay_start": 98, "decay_end": 99}
    one = Lane(**lane, fall=0, floor=0.0, end_step=99)  # type: ignore[arg-type]
    lanes = jax.tree.map(lambda value: jnp.stack([jnp.asarray(value)] * 2), one)
    state = jax.vmap(lambda seed: init_lane(shape, optim, seed))(jnp.arange(2))
    parts = [world.batches(seed, 0, 12) for seed in (0, 1)]
    batches = tuple(np.stack(arrays, axis=1) for arrays in zip(*parts, strict=True))
    state, _ = program(state, lanes, batches, np.int32(12))
    forward = model.forward(shape)
    cached = make_evaluator(world, forward, model.decoder(shape))(state.params)
    whole = make_evaluator(world, forward)(state.params)
    for one_lane, other in zip(cached, whole, strict=True):
        assert one_lane.loss["total"] < np.log(260) - 0.3
        assert one_lane.loss == other.loss and one_lane.tasks.keys() == world.families.keys()
        chains, again = (e.items["parity_chain/greedy/matched_bytes"] for e in (one_lane, other))
        assert (chains == again).mean() > 0.9  # two likeliest bytes may be as likely as each other


def test_what_follows_a_made_up_chain_is_what_is_scored(world: World) -> None:
    """A model that writes chains of its own counts by its answers alone."""
    rows = world.items("parity_chain", "greedy").rows
    truth = jnp.asarray(rows.tokens.astype(np.int32))

    def start(params: Any, count: int, length: int) -> jax.Array:
        return truth[:, :length]

    def step(params: Any, cache: jax.Array, tokens: jax.Array, position: jax.Array) -> Any:
        onward = cache[:, jnp.minimum(position + 1, cache.shape[1] - 1)]
        # params 1: a chain of threes, the answer as it should be; 2: a wrong answer after the true chain
        is_state = (position >= 14) & (position < 23)  # after START, "odd ", nine bits and ":"
        onward = jnp.where((params == 1) & is_state, ord("3"), onward)
        onward = jnp.where((params == 2) & (position == 24), 97 - onward, onward)
        return jax.nn.one_hot(onward, 260), cache

    generation = make_generation(rows, Decoder(start, step), 0.0, 0)
    scores = [score for score, _ in generation(jnp.arange(3))]
    assert [score["correct"] for score in scores] == [len(truth), len(truth), 0]
    assert scores[0]["nll"] is None


def test_parts_of_the_text_loss_add_up_and_name_the_kind(evaluator: Evaluator) -> None:
    params = jnp.asarray(np.random.default_rng(3).normal(size=(1, 260, 260)), jnp.float32)
    (evaluation,) = evaluator(params)
    parts = {name: value for name, value in evaluation.loss.items() if name.startswith("text.")}
    assert len(parts) == 8
    assert sum(parts.values()) == pytest.approx(evaluation.loss["text"], rel=1e-12)


def test_divergence_from_an_ngram_is_nothing_for_that_ngram(world: World) -> None:
    logs = world.ngram_log_probabilities(32)
    assert logs is not None
    tokens = world.heldout_text().tokens[:32].astype(np.int64)
    bigram = np.zeros((260, 260), np.float32)
    bigram[tokens[:, :-1].ravel()] = logs[1].reshape(-1, 260)
    (evaluation,) = make_evaluator(world, table, chunk_rows=32)(jnp.asarray(bigram)[None])
    kl = {order: found["kl"] for order, found in evaluation.ngrams.items()}
    assert kl["bigram"] == pytest.approx(0, abs=1e-5)
    assert kl["unigram"] > 0.3 and kl["trigram"] > 0.3
    losses = [found["loss"] for found in evaluation.ngrams.values()]
    assert losses == sorted(losses, reverse=True)


def test_the_likeliest_option_is_the_one_with_the_least_loss(world: World) -> None:
    """A model of single bytes, so that each ending's loss can be summed by hand."""
    logits = np.zeros(260, np.float32)
    logits[ord("s")] = 2.0
    (evaluation,) = make_evaluator(
        world, lambda params, tokens: jnp.broadcast_to(params, (*tokens.shape, 260))
    )(jnp.asarray(logits)[None])
    items = world.items("language", "sentiment")
    cost = np.log(np.exp(logits.astype(float)).sum()) - logits
    nll = np.array(
        [
            cost[row[1:][number >= 0]].sum()
            for row, number in zip(items.rows.tokens, items.rows.item, strict=True)
        ]
    )
    right, wrong = nll[::2], nll[1::2]
    score = evaluation.tasks["language"]["sentiment"]
    assert score["correct"] == (right < wrong).sum()
    p = 1 / (1 + np.exp(right - wrong))
    assert score["brier"] == pytest.approx(np.mean(2 * (1 - p) ** 2), rel=1e-4)
    assert score["nll"] == pytest.approx(right.mean(), rel=1e-5)
