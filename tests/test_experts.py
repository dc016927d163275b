"""A mixture of experts against a plain loop over experts: outputs, gradients, FLOPs, balance, no token lost."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from launching import composed
from test_golden_write import SPEC
from test_golden_write import evaluation as record_of

from analysis.tables.run_folder import read_runs
from lmscale import experts, jsonfiles, model, records
from lmscale.config import SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.family import FamilyConfig, parameter_conventions, parameter_groups, shape_of
from lmscale.flops import forward_terms, training_flops_per_token
from lmscale.ladder import run_specs
from lmscale.lanes import Lane
from lmscale.mlp import KINDS
from lmscale.optim import OptimConfig
from lmscale.plan import make_plan
from lmscale.records import RecordError, check_record
from lmscale.shape import Shape
from lmscale.spec import RunSpec, spec_of, written
from lmscale.step import State, init_lane, pack_program
from lmscale.tables import plan_table, status_table
from lmscale.typed import build

Arrays = dict[str, jax.Array]


def shape(dial: int = 16, **changes: Any) -> Shape:
    family = FamilyConfig(**({"kind": "experts", "n_expert": 4, "n_layer": 1} | changes))
    return shape_of(family, dial, context=16, vocab_size=32)


def arrays(of: Shape, seed: int = 0) -> Arrays:
    """A layer's arrays, all drawn (the bias too)."""
    table = experts.parameters(of).items()
    return {name: drawn(array.shape, seed + i) * (array.std or 0.3) for i, (name, array) in enumerate(table)}


def drawn(shape: tuple[int, ...], seed: int) -> jax.Array:
    """Standard normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def loop(of: Shape, array: Arrays, x_ND: jax.Array) -> jax.Array:
    """Every expert to every token, by a mask of those that numpy would choose."""

    def mlp(way_in: jax.Array, way_out: jax.Array) -> jax.Array:
        hidden = x_ND @ way_in
        cubic = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
        return (hidden * (1 + jnp.tanh(cubic)) / 2) @ way_out

    affinity = 1 / (1 + jnp.exp(-(x_ND @ array["router"])))
    order = jnp.argsort(-(affinity + array["bias"]), axis=1)[:, : of.top_k]
    y = jnp.zeros_like(x_ND)
    for expert in range(of.n_expert):
        chosen = (order == expert).any(axis=1)
        gate = jnp.where(chosen, 2 * affinity[:, expert], 0.0)
        y += gate[:, None] * mlp(array["in"][expert], array["out"][expert])
    width = of.d_mlp // (of.top_k + of.n_shared)
    for shared in range(of.n_shared):
        span = slice(shared * width, (shared + 1) * width)
        y += mlp(array["shared_in"][:, span], array["shared_out"][span])
    return y


CASES = [
    {"top_k": 1},
    *(
        pytest.param(case, marks=pytest.mark.slow)
        for case in ({"top_k": 2, "n_shared": 2}, {"n_expert": 7, "top_k": 4})
    ),
]


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_outputs_and_gradients_are_those_of_a_loop_over_experts(changes: dict[str, int]) -> None:
    of = shape(**changes)
    array, x = arrays(of), drawn((90, 16), 99)
    wave = jnp.sin(jnp.arange(x.size)).reshape(x.shape)

    @jax.checkpoint
    def ours(array: Arrays, x: jax.Array) -> jax.Array:
        return experts.forward(of, array, x.reshape(3, 30, 16))[0].reshape(90, 16)

    def gradient(function: Any) -> Any:
        def objective(array: Arrays, x: jax.Array) -> Any:
            y = function(array, x)
            return jnp.sum(y * wave), y

        return jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True))(array, x)

    (mine, y), (theirs, y_loop) = gradient(ours), gradient(lambda a, x: loop(of, a, x))
    np.testing.assert_allclose(y, y_loop, atol=1e-5, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * float(jnp.abs(other).max()))
    assert not np.any(mine[0]["bias"])


@pytest.mark.parametrize("routing", ["one", "two", "each", "drawn"])
def test_no_token_is_lost_however_the_router_chooses(routing: str) -> None:
    """Experts that say their own power of 3 of every token: the sum names those that a token went to."""
    n, k, e = 70, 2, 8
    drawn = np.argsort(np.random.default_rng(0).random((n, e)), axis=1)[:, :k]
    chosen = {
        "one": np.tile([7, 0], (n, 1)),
        "two": np.tile([3, 4], (n, 1)),
        "each": np.stack([np.arange(n) % e, (np.arange(n) + 3) % e], axis=1),
        "drawn": drawn,
    }[routing]
    way_in = jnp.full((e, 4, 2), 5.0)  # gelu(20) = 20
    way_out = jnp.broadcast_to((3.0 ** jnp.arange(e) / 40)[:, None, None], (e, 2, 4))
    y = jax.jit(experts.grouped)(way_in, way_out, jnp.ones((n, 4)), jnp.asarray(chosen), jnp.ones((n, k)))
    np.testing.assert_allclose(y, np.tile((3.0**chosen).sum(axis=1)[:, None], 4), rtol=1e-5)


def test_gates_of_one_make_the_experts_slices_of_the_dense_mlp() -> None:
    of = shape(top_k=2, n_shared=1, mlp_ratio=6)
    array, x = arrays(of), drawn((5, 16), 93)
    array |= {"router": jnp.zeros((16, 4)), "bias": jnp.array([0.0, 1.0, 0.0, 1.0])}
    dense = {
        "in": jnp.concatenate([array["in"][1], array["in"][3], array["shared_in"]], axis=1),
        "out": jnp.concatenate([array["out"][1], array["out"][3], array["shared_out"]]),
    }
    forward = KINDS["dense"].forward
    assert forward is not None and dense["in"].shape == (16, of.d_mlp)
    ours = jax.jit(lambda array: experts.forward(of, array, x)[0])(array)
    np.testing.assert_allclose(ours, forward(dense, x), atol=1e-6)


def test_params_and_flops_total_and_active() -> None:
    of, dense = shape(128, n_expert=8, top_k=2), shape(128, kind="dense", n_expert=0)
    network = jax.eval_shape(lambda: model.init(of, jax.random.key(0)))
    assert network == model.shapes(of)
    n, n_dense = parameter_conventions(of), parameter_conventions(dense)
    assert n["params"] == sum(leaf.size for leaf in jax.tree.leaves(network))
    assert parameter_groups(of)["router"] == 128 * 8 + 8 and "router" not in parameter_groups(dense)
    assert (
        n["params_active"] == n_dense["params"] + 128 * 8 + 8
        and n_dense["params_active"] == n_dense["params"]
    )
    assert n["params"] == n["params_active"] + 6 * 2 * 128 * 256
    assert n["params_matmul"] == n_dense["params_matmul"] + 128 * 8 + 8
    assert forward_terms(of)["mlp"] == forward_terms(dense)["mlp"] + 2 * 128 * 8


def test_flops_are_the_compilers_where_it_can_count() -> None:
    """Where a token goes to all experts, every expert to every token is all that is to be computed: the compiler
    counts that form. (Of a loop it counts the body once.)"""

    def every(way_in: Any, way_out: Any, x: Any, chosen: Any, gate: Any) -> jax.Array:
        hidden = jax.nn.gelu(jnp.einsum("nd,edf->enf", x, way_in))
        return jnp.einsum("enf,efd->nd", hidden * gate.T[:, :, None], way_out)

    of = shape(128, n_expert=4, top_k=4)
    tokens = jnp.zeros((4, of.context), jnp.int32)
    params = jax.eval_shape(lambda: model.init(of, jax.random.key(0)))
    forward = model.forward(of)
    with mock.patch.object(experts, "grouped", every):
        step = jax.jit(jax.grad(lambda p: jnp.sum(forward(p, tokens)))).lower(params).compile()
    counted = step.cost_analysis()
    assert isinstance(counted, dict)
    assert training_flops_per_token(of) * tokens.size == pytest.approx(counted["flops"], rel=0.05)


def test_the_blocks_are_hardly_more_than_the_choices() -> None:
    """Slots that are computed, by exact count, at the default batch of d 88: 1,152 tokens, 2 of 8 experts."""
    sizes: list[int] = []
    original = experts._blocks

    def counted(*given: jax.Array) -> jax.Array:
        sizes.append(given[2].shape[0] * given[2].shape[1])
        return original(*given)

    of = shape(top_k=2, n_expert=8)
    with mock.patch.object(experts, "_blocks", counted):
        jax.eval_shape(lambda a, x: experts.forward(of, a, x)[0], arrays(of), jnp.ones((1152, 16)))
    assert 2 * 1152 <= sizes[0] <= 2 * 1152 + 8 * (experts.BLOCK - 1)


def test_the_balance_is_one_where_even_and_its_gradient_moves_affinity() -> None:
    of = shape(n_expert=4, top_k=1, balance_loss=0.5)
    array, x = arrays(of), drawn((64, 16), 94)

    @jax.jit
    @jax.value_and_grad
    def loss(router: jax.Array) -> jax.Array:
        return experts.balance_loss(of, [experts.forward(of, {**array, "router": router}, x)[1]])

    chosen = np.argmax(np.asarray(jax.nn.sigmoid(x @ array["router"]) + array["bias"]), axis=1)
    load = np.bincount(chosen, minlength=4) / 64

    @jax.value_and_grad
    def plain(router: jax.Array) -> Any:
        affinity = jax.nn.sigmoid(x @ router)
        share = affinity / affinity.sum(axis=1, keepdims=True)
        return 0.5 * (4 * (load * share.mean(axis=0)).sum() - 1)

    (ours, gradient), (value, slope) = loss(array["router"]), plain(array["router"])
    np.testing.assert_allclose(ours, value, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-7)
    assert float(loss(jnp.zeros((16, 4)))[0]) == pytest.approx(0, abs=1e-6)  # no expert is preferred


def test_the_bias_evens_out_a_fixed_router() -> None:
    of = shape(n_expert=4, top_k=1, balance_bias=0.01)
    array, x = arrays(of), drawn((512, 16), 95) + 0.5
    params = {"mlp_0": {**array, "bias": jnp.zeros(4)}}
    route = jax.jit(lambda params: experts.forward(of, params["mlp_0"], x)[1])
    first = route(params)
    moved = experts.rebalanced(of, params, [first])["mlp_0"]["bias"]
    np.testing.assert_allclose(moved, 0.01 * np.sign(0.25 - np.asarray(first.load)))
    for _ in range(100):
        params = experts.rebalanced(of, params, [route(params)])
    before, after = np.asarray(first.load), np.asarray(route(params).load)
    assert np.ptp(before) > 0.15 and np.ptp(after) < 0.05


# --- a step


OF = shape(8, n_expert=4, top_k=2, balance_bias=0.01, balance_loss=0.01)
OPTIM = OptimConfig()
PROGRAM = pack_program(OF, OPTIM, np.zeros(3, int), 1)


def lanes(*rates: float) -> Lane:
    never = 1000
    numbers = [
        Lane(
            *map(np.float32, (rate, 0.1)),
            *map(np.int32, (2, never, never + 1, 0)),
            np.float32(0),
            np.int32(never),
        )  # type: ignore[arg-type]
        for rate in rates
    ]
    return jax.tree.map(lambda *values: np.stack(values), *numbers)


def states(*seeds: int) -> State:
    return jax.vmap(lambda seed: init_lane(OF, OPTIM, seed))(jnp.asarray(seeds))


def batches(n_lanes: int, steps: int = 6) -> tuple[np.ndarray, ...]:
    tokens = np.random.default_rng(0).integers(0, 32, (steps, n_lanes, 3, 17)).astype(np.uint16)
    counted = np.ones((steps, n_lanes, 3, 16), bool)
    return tokens, counted, counted.astype(np.float32) / 48


@pytest.mark.slow
def test_lanes_are_as_alone_and_a_resumed_step_goes_on_with_the_same_bytes() -> None:
    both, data = lanes(0.02, 0.005), batches(2)
    together, _ = PROGRAM(states(0, 1), both, data, 6)
    for i in range(2):
        one = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], both)
        mine = tuple(part[:, i : i + 1] for part in data)
        alone, _ = PROGRAM(states(i), one, mine, 6)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(a[0], b[i], atol=1e-5)
        half, _ = PROGRAM(states(i), one, mine, 2)
        kept = jax.tree.map(np.array, half)  # as a checkpoint has it
        rest = tuple(np.concatenate([part[2:], part[:2]]) for part in mine)
        resumed, _ = PROGRAM(jax.tree.map(jnp.asarray, kept), one, rest, 4)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(resumed), strict=True):
            np.testing.assert_array_equal(a, b)
    bias = np.asarray(together.params["mlp_0"]["bias"])
    assert np.any(bias) and np.all(np.abs(bias) <= 6 * 0.01 + 1e-6)  # moved by its rule, and by nothing else


# --- plan, records, tables


def specs(*overrides: str) -> tuple[SweepConfig, list[RunSpec]]:
    config = build(SweepConfig, composed(*overrides))
    return config, run_specs(config, draft_manifest(config.data, config.tasks))


def test_a_run_says_its_experts_and_a_dense_one_nothing() -> None:
    config, found = specs("family=experts")
    ids = {spec.run_id for spec in found}
    for spec in found:
        assert spec_of(json.loads(jsonfiles.canonical(written(spec)))) == spec
        assert (spec.shape.n_expert, spec.shape.top_k) == (8, 2) and spec.params_active is not None
        assert (
            spec.params_active
            == parameter_conventions(spec.shape)["params_active"]
            < sum(spec.params.values())
        )
    for other in ("family.n_expert=4", "family.top_k=1", "family.n_shared=2", "family.balance_loss=.01"):
        assert not ids & {spec.run_id for spec in specs("family=experts", other)[1]}
    (dense, *_) = specs()[1]
    assert "params_active" not in written(dense) and "router" not in written(dense)["params"]
    assert not any(name.startswith(("n_expert", "top_k", "balance")) for name in written(dense)["shape"])
    manifest = dataclasses.replace(draft_manifest(config.data, config.tasks), unique_tokens=1000)
    plan = make_plan([config], [manifest], "cpu")
    assert "N active" in plan_table(plan, Path("nowhere"), {}).splitlines()[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"top_k": 5}, "family.top_k=5: must be at most family.n_expert=4"),
        (
            {"top_k": 3},
            r"64 channels is not divisible among the 3 experts of a token; .* one of \[1, 2, 4, 8",
        ),
        ({"n_expert": 0}, "family.n_expert=0: must be at least 1"),
        ({"balance_bias": -1.0}, "family.balance_bias=-1.0: must be at least 0"),
        ({"kind": "dense"}, "family.n_expert=4: family.kind=dense has no experts; family=experts"),
    ],
)
def test_experts_that_cannot_be_are_refused_in_a_line(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        shape(**changes)
    assert "\n" not in str(error.value)


def test_a_router_that_starves_is_told_by_status_and_table(tmp_path: Path) -> None:
    config, found = specs("family=experts", "family.n_expert=4")
    plan = make_plan([config], [draft_manifest(config.data, config.tasks)], "cpu")
    spec = next(spec for spec in found if spec.kind == "branch")
    folder = tmp_path / spec.run_id
    folder.mkdir()
    jsonfiles.write_json(folder / "spec.json", written(spec))
    weights = {part["name"]: part["weight"] for part in spec.data["components"]}
    loss = {"total": sum(2.0 * w for w in weights.values()), **dict.fromkeys(weights, 2.0)}
    record = {**record_of(spec, 5, 2.0, 2.0), "loss": loss, "tasks": {}}
    starved, even = [0.5, 0.3, 0.19, 0.01], [0.25] * 4
    record["experts"] = {"load": [even, starved]}
    check_record(record, dataclasses.asdict(spec))
    with pytest.raises(RecordError, match=r"experts.load\[0\]=.*must be shares of 1"):
        check_record({**record, "experts": {"load": [[0.5, 0.4]]}}, dataclasses.asdict(spec))
    records.append(folder / "records.jsonl", record)
    line = next(line for line in status_table(plan, tmp_path).splitlines() if "starves" in line)
    assert "starves 1 of 8 experts" in line and "by layer [0, 1]" in line and "family.balance_bias" in line
    read = read_runs([folder])
    row = read.runs.iloc[-1]
    assert (row.params, row.params_active) == (sum(spec.params.values()), spec.params_active)
    assert row.expert_load_most == pytest.approx(2) and row.expert_load_least == pytest.approx(0.04)
    own = -sum(share * math.log(share) for share in starved) / math.log(4)
    assert row.expert_load_entropy == pytest.approx((1 + own) / 2)
    assert any("starves" in problem for problem in read.problems)
    assert experts.starving([even, even]) is None


def test_a_dense_run_beside_them_has_all_its_params_active(tmp_path: Path) -> None:
    _, found = specs("family=experts")
    folders = []
    for spec in (found[0], spec_of(SPEC)):
        folders.append(tmp_path / spec.run_id)
        folders[-1].mkdir()
        jsonfiles.write_json(folders[-1] / "spec.json", written(spec))
    table = read_runs(folders).runs
    assert table.params_active.tolist() == [found[0].params_active, table.params[1]]
    assert "params_active" not in read_runs(folders[1:]).runs
