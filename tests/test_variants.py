"""How somebody adds a network variant, an optimiser and a schedule: each is a few functions and one entry.

A worked example (a squared gate, the momentum's sign, a line down), registered here and nowhere else. Each is
trained; its parameters and FLOPs are checked against the arrays and the compiler; and no run of before moves.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.variants import VARIANTS
from lmscale import mlp, model, optim, schedule
from lmscale.config import DataConfig, HorizonConfig, SweepConfig, TasksConfig
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.family import FamilyConfig, parameter_groups, shape_of
from lmscale.flops import forward_terms, training_flops_per_token
from lmscale.ladder import run_specs
from lmscale.lanes import Lane
from lmscale.optim import OptimConfig
from lmscale.plan import Pack
from lmscale.programs import lane_numbers
from lmscale.schedule import RUN, TRUNK, ScheduleConfig, learning_rate
from lmscale.shape import Parameter, Shape
from lmscale.spec import RunSpec, spec_of, written
from lmscale.speeds import speed_key
from lmscale.step import State, init_lane, pack_program

# --- a network variant: what would stand in mlp.py, or in a file beside it that mlp.py takes its entry from


def squared_parameters(shape: Shape) -> dict[str, Parameter]:
    """Three matrices."""
    d, f = shape.d_model, shape.d_mlp
    return {
        "gate": Parameter("mlp", (d, f), d**-0.5),
        "in": Parameter("mlp", (d, f), d**-0.5),
        "out": Parameter("mlp", (f, d), (f * 2 * shape.n_layer) ** -0.5),
    }


def squared_flops(shape: Shape) -> int:
    """Three products."""
    return 2 * 3 * shape.d_model * shape.d_mlp


def squared_forward(arrays: Any, x: jax.Array) -> jax.Array:
    """The squared ReLU of the gate times the way in."""
    return (jax.nn.relu(x @ arrays["gate"]) ** 2 * (x @ arrays["in"])) @ arrays["out"]


SQUARED = mlp.Mlp(squared_parameters, squared_flops, squared_forward)


# --- an optimiser


def signed(config: OptimConfig, groups: Any) -> optax.GradientTransformation:
    """The sign of the momentum (Bernstein et al. 2018)."""
    return optax.chain(optax.trace(config.b1), optax.scale_by_sign())


# --- a schedule

LINEAR = schedule.Schedule(schedule.after_warmup, schedule.line, unused=("decay_share",))


@pytest.fixture(autouse=True)
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The three entries; yields the ids of runs planned before."""
    before = [spec.run_id for kind in ("wsd", "cosine") for spec in specs(ScheduleConfig(kind, 10))]
    monkeypatch.setitem(mlp.KINDS, "squared_glu", SQUARED)
    monkeypatch.setitem(optim.OPTIMISERS, "signed", optim.Optimiser(signed, reads=("b1",)))
    monkeypatch.setitem(schedule.SCHEDULES, "linear", LINEAR)
    yield before


def specs(
    plan: ScheduleConfig, family: FamilyConfig | None = None, optimiser: OptimConfig | None = None
) -> list[RunSpec]:
    """The runs of a rung."""
    tasks = TasksConfig(weight=0.3, weights={"copy": 1.0})
    config = SweepConfig(
        name="variants",
        dial=(16,),
        seed=(1,),
        family=family or FamilyConfig(n_layer=1),
        optim=optimiser or OptimConfig(),
        schedule=plan,
        tasks=tasks,
        horizon=HorizonConfig(tokens=1e5, dial=16, multiples=(1.0,)),
    )
    return run_specs(config, draft_manifest(DataConfig(), tasks))


def start_of(spec: RunSpec) -> State:
    """The state at step 0."""
    return jax.jit(lambda seed: init_lane(spec.shape, spec.optim, seed))(spec.seed)


def test_a_network_variant(entries: list[str]) -> None:
    shape = shape_of(FamilyConfig(kind="squared_glu", n_layer=1), 128, context=64, vocab_size=260)
    network = jax.eval_shape(lambda: model.init(shape, jax.random.key(0)))
    assert network == model.shapes(shape)
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == sum(parameter_groups(shape).values())
    assert parameter_groups(shape)["mlp"] == 3 * 128 * 512
    tokens = jnp.zeros((4, shape.context), jnp.int32)
    forward = model.forward(shape)
    cost = jax.jit(forward).lower(network, tokens).compile().cost_analysis()
    ours = sum(forward_terms(shape).values()) * tokens.size
    assert ours == pytest.approx(cost["flops"], rel=0.05)
    step = jax.jit(jax.grad(lambda p: jnp.sum(forward(p, tokens)))).lower(network).compile().cost_analysis()
    assert training_flops_per_token(shape) * tokens.size == pytest.approx(step["flops"], rel=0.05)


def test_an_optimiser() -> None:
    """One update against optax's own chain, its clipping, its decay and its rate."""
    config = OptimConfig("signed", b1=0.9)
    params = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}
    gradient = jax.tree.map(lambda x: jnp.sin(x) * 3, params)
    groups = {"a": "mlp", "b": "norm"}
    rates = {"fall": 0, "warmup_steps": 4, "decay_start": 9, "decay_end": 10, "floor": 0.0, "end_step": 10}
    lane = Lane(peak_rate=jnp.float32(0.01), weight_decay=jnp.float32(0.1), **rates)  # type: ignore[arg-type]
    state = optim.direction(config, groups).init(params)
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradient)))
    ours, _ = optim.update(config, groups, lane, jnp.int32(1), params, gradient, norm, state)
    theirs = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.sign_sgd(1.0),
        optax.scale(-1),
        optax.add_decayed_weights(0.1, {"a": True, "b": False}),
        optax.scale(-0.005),
    )
    move, _ = theirs.update(gradient, theirs.init(params), params)
    for one, other in zip(
        jax.tree.leaves(ours), jax.tree.leaves(optax.apply_updates(params, move)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_schedule(entries: list[str]) -> None:
    (spec,) = specs(ScheduleConfig("linear", 10))
    assert spec.kind == RUN and spec.trunk is None and spec.decay_start == 10
    assert "decay_share" not in spec.schedule and spec.run_id not in entries
    lane = lane_numbers(spec, 100)
    end, peak = spec.horizon_steps or 0, spec.learning_rate
    rates = [float(learning_rate(lane, jnp.int32(step))) for step in (0, 9, 10, (10 + end) // 2, end)]
    np.testing.assert_allclose(rates, [peak / 10, peak, peak, peak / 2, 0], rtol=0.02, atol=1e-9)
    with pytest.raises(UserError, match=r"schedule.kind=linea: no such kind; did you mean linear\?"):
        ScheduleConfig("linea")


def test_every_axis_of_the_network_has_runs_of_its_own(entries: list[str]) -> None:
    changes = [{}, *VARIANTS.values(), {"n_kv_head": 4}]
    made = [specs(ScheduleConfig("cosine", 10), FamilyConfig(n_layer=1, **change))[0] for change in changes]
    assert made[0].run_id == made[-1].run_id  # as many heads of keys as of queries is the default
    assert len({spec.run_id for spec in made}) == len(VARIANTS) + 1
    assert all(spec_of(written(spec)) == spec for spec in made)
    packs = [Pack(0, {"device": "cpu"}, (spec,)) for spec in made]
    assert len({speed_key(pack) for pack in packs}) == len(VARIANTS) + 1


@pytest.mark.slow
def test_all_three_train_together(entries: list[str]) -> None:
    family = FamilyConfig(kind="squared_glu", n_layer=1)
    (spec,) = specs(ScheduleConfig("linear", 10), family, OptimConfig("signed"))
    assert spec.run_id not in entries and spec_of(written(spec)) == spec
    steps = 24
    program = pack_program(spec.shape, spec.optim, np.zeros(4, int), 1)
    state = jax.tree.map(lambda array: array[None], start_of(spec))
    lanes = jax.tree.map(lambda value: jnp.asarray(value)[None], lane_numbers(spec, steps))
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 250, (1, 1, 4, spec.shape.context + 1)).astype(np.uint16)
    counted = np.ones((1, 1, 4, spec.shape.context), bool)
    batch = (tokens, counted, counted.astype(np.float32) / counted[0, 0].size)
    losses = []
    for _ in range(steps):
        state, metrics = program(state, lanes, batch, np.int32(1))
        losses.append(float(metrics.total[0]))
    assert losses[-1] < 0.9 * losses[0]


def test_the_runs_of_before_are_where_they_were_and_their_rates_what_they_were(entries: list[str]) -> None:
    now = [spec for kind in ("wsd", "cosine") for spec in specs(ScheduleConfig(kind, 10))]
    assert [spec.run_id for spec in now] == entries
    for spec in now:
        lane = lane_numbers(spec, 60)
        rate = [float(learning_rate(lane, jnp.int32(step))) for step in range(10, 60)]
        if spec.kind == TRUNK:
            np.testing.assert_allclose(rate, spec.learning_rate, rtol=1e-6)
        elif spec.schedule["kind"] == "cosine":
            decay = optax.cosine_decay_schedule(spec.learning_rate, (spec.horizon_steps or 0) - 10)
            np.testing.assert_allclose(rate, [float(decay(step)) for step in range(50)], rtol=1e-4)
