"""What a plan says of a target that is not here: memory of a device, FLOPs, communication, device-hours."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh

from lmscale import hlo, model
from lmscale.ahead import compiled
from lmscale.average import average_of
from lmscale.bill import bill, packs_ahead
from lmscale.config import DataConfig, EvaluationConfig, HorizonConfig, PackConfig, SweepConfig
from lmscale.cost import ACCELERATORS, CostConfig
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.family import FamilyConfig
from lmscale.ladder import run_specs
from lmscale.memory import memory_bytes, memory_in, memory_of
from lmscale.mesh import MeshConfig, parameter_shardings
from lmscale.optim import OPTIMISERS, OptimConfig
from lmscale.plan import Plan, make_plan
from lmscale.spec import RunSpec
from lmscale.step import state_template
from lmscale.tables import short

BASE = SweepConfig(
    name="test",
    dial=(128,),
    seed=(0,),
    data=DataConfig(rows=8, context=128),
    horizon=HorizonConfig(tokens=1e6, dial=128, multiples=(1.0,)),
)


def run_of(config: SweepConfig = BASE) -> RunSpec:
    return run_specs(config, draft_manifest(config.data, config.tasks))[0]


def plan_of(config: SweepConfig, device: str = "cpu") -> Plan:
    return make_plan([config], [draft_manifest(config.data, config.tasks)], device)


def change(**fields: Any) -> SweepConfig:
    return dataclasses.replace(BASE, **fields)


STATES = [
    *(change(optim=OptimConfig(kind=kind)) for kind in OPTIMISERS),
    change(evaluation=EvaluationConfig(average="ema")),
    change(evaluation=EvaluationConfig(average="last", average_last=3)),
    change(family=FamilyConfig(kind="experts", n_expert=4), optim=OptimConfig(kind="adafactor")),
    change(family=FamilyConfig(kind="experts", n_expert=4), optim=OptimConfig(kind="muon")),
]


@pytest.mark.parametrize("size", [(1, 1), (4, 2), (3, 1)])
def test_the_state_is_counted_to_the_last_number(size: tuple[int, int]) -> None:
    """For every optimiser and average, split as the step splits it; but for counters, and the guard's rings."""
    mesh = AbstractMesh(size, ("data", "model"))
    for config in STATES:
        run = run_of(config)
        state = state_template(run.shape, run.optim, average_of(run.evaluation))
        parts = (state.params, state.optimiser, state.average)
        arrays = [leaf for leaf in jax.tree.leaves(parts) if leaf.ndim]
        shares = [parameter_shardings(leaf, mesh).shard_shape(leaf.shape) for leaf in arrays]
        numbers = sum(map(math.prod, shares))
        said = memory_of(run, "float32", MeshConfig(*size)).state
        coefficients = 3 if config.optim.kind == "muon" else 0  # optax keeps them in the state
        assert said == 4 * (numbers - coefficients), (config.optim, config.evaluation, config.family)


def test_memory_falls_as_a_mesh_grows() -> None:
    run = run_of()
    by_data = [memory_bytes(run, "float32", MeshConfig(data=n)) for n in (1, 2, 4, 8)]
    assert by_data == sorted(by_data, reverse=True)
    assert memory_bytes(run, "float32", MeshConfig(model=2)) < by_data[0]
    assert memory_bytes(run, "bfloat16") < by_data[0]


def test_memory_in_bfloat16_is_what_a_gpu_took() -> None:
    """Six programs that were compiled and run on an H200, 10.8M to 968M parameters, with their own attention."""
    kept = Path(__file__).parents[1] / "docs" / "results" / "gpu-nvidia-h200-2026-11-27-mfu.json"
    rows_of = {384: 32, 512: 32, 768: 16, 896: 16, 1216: 8, 1728: 4}
    family = FamilyConfig(n_layer=None, aspect=64, n_head=None, d_head=64)
    for dial, rows in rows_of.items():
        data, horizon = DataConfig(rows=rows, context=1024), HorizonConfig(tokens=1e9, dial=dial)
        run = run_of(change(dial=(dial,), family=family, data=data, horizon=horizon))
        name = f"{sum(run.params.values()) / 1e6:.3g}M parameters, 1 lane, {rows} rows"
        took = json.loads(kept.read_text())["rows"][name]["memory, GB"] * 1e9
        assert memory_bytes(run, "bfloat16") == pytest.approx(took, rel=0.05), name


def check_compiled(config: SweepConfig, mesh: MeshConfig, precision: str = "float32") -> Any:
    run = run_of(config)
    found = compiled(run, mesh, precision)
    assert memory_bytes(run, precision, mesh) == pytest.approx(found.memory, rel=0.1)
    return found, run.flops_per_token * run.batch_tokens


@pytest.mark.slow
def test_a_step_compiled_for_eight_devices_agrees_with_the_plan() -> None:
    """FLOPs to the last one, memory to 10%: these devices are not here."""
    found, exact = check_compiled(BASE, MeshConfig(data=8))
    assert found.flops * 8 == exact
    shapes = [leaf.shape for leaf in jax.tree.leaves(model.shapes(run_of().shape)) if len(leaf.shape) > 1]
    split = 4 * sum(math.prod(shape) for shape in shapes if shape[-2] % 8 == 0)
    # each matrix that is split is gathered once, and every gradient added up, in float32
    assert found.bytes["all-gather"] == pytest.approx(split, rel=0.01)
    assert found.bytes["all-reduce"] == pytest.approx(4 * sum(map(math.prod, shapes)), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config, mesh",
    [
        (BASE, MeshConfig(4, 2)),
        (change(dial=(256,), data=DataConfig(rows=1, context=64)), MeshConfig()),  # the optimiser's moment
        (change(optim=OptimConfig(kind="muon")), MeshConfig(8)),
        (change(evaluation=EvaluationConfig(average="ema")), MeshConfig(8)),
        (change(family=FamilyConfig(kind="swiglu", n_layer=4, n_kv_head=2)), MeshConfig(8)),
    ],
)
def test_other_steps_compiled_ahead_agree_too(config: SweepConfig, mesh: MeshConfig) -> None:
    found, exact = check_compiled(config, mesh)
    more = mesh.model > 1 or config.optim.kind == "muon"  # its own products are no part of C
    assert found.flops * mesh.size > exact if more else found.flops * mesh.size == exact


def test_products_in_a_loop_count_as_often_as_it_runs() -> None:
    """XLA's own count takes them once."""

    def loop(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (x @ w, None), x, length=7)[0]

    text = jax.jit(loop).lower(jnp.zeros((16, 32)), jnp.zeros((32, 32))).compile().as_text()
    assert hlo.work_of(text).flops == 7 * 2 * 16 * 32 * 32


def test_communication_in_a_loop_counts_as_often_as_it_runs() -> None:
    text = """HloModule made, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%p), index=0
  %x = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %r = f32[8,4]{1,0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
  ROOT %t = (s32[], f32[8,4]{1,0}) tuple(%n, %r)
}

%cond (p: (s32[], f32[8,4])) -> pred[] {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  ROOT %yes = pred[] constant(true)
}

ENTRY %main (x: bf16[2,4], y: (s32[], f32[8,4])) -> bf16[4,4] {
  %x = bf16[2,4]{1,0} parameter(0)
  %y = (s32[], f32[8,4]{1,0}) parameter(1)
  %w = (s32[], /*index=1*/f32[8,4]{1,0}) while(%y), condition=%cond, body=%body, TRIPS
  ROOT %g = bf16[4,4]{1,0} all-gather(%x), dimensions={0}
}
"""
    work = hlo.work_of(text.replace("TRIPS", 'backend_config={"known_trip_count":{"n":"5"}}'))
    assert dict(work.counts) == {"all-reduce": 5, "all-gather": 1}
    assert dict(work.bytes) == {"all-reduce": 5 * 8 * 4 * 4, "all-gather": 4 * 4 * 2}


def test_the_bill_is_the_flops_over_what_a_device_does() -> None:
    config = change(dial=(32, 64), seed=(0, 1), pack=PackConfig(lanes=1), mesh=MeshConfig(data=4))
    plan, cost = plan_of(config), CostConfig("h100", utilisation=0.5)
    flops = sum(pack.flops for pack in plan.packs)
    hours = flops / (989e12 * 0.5) / 3600
    assert cost.device_hours(flops) == pytest.approx(hours)
    _, _, small, large, said = bill(plan, cost)
    assert small.split()[:1] + large.split()[:1] == ["32", "64"]
    by_rung = [float(line.split()[-2]) for line in (small, large)]
    assert sum(by_rung) == pytest.approx(hours, rel=0.05)
    assert [float(line.split()[-1]) for line in (small, large)] == pytest.approx(
        [hours / 4 for hours in by_rung], rel=0.1
    )
    assert "h100 (989 TFLOP/s) at a utilisation of 0.5" in said
    assert bill(plan, CostConfig()) == []
    assert "mine (1 TFLOP/s)" in "\n".join(bill(plan, CostConfig("mine", peak_flops=1e12)))


def test_a_rung_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACCELERATORS, "h100", ACCELERATORS["h100"]._replace(memory=1e6))
    *_, last = bill(plan_of(BASE), CostConfig("h100"))
    assert last.startswith("dial 128: ")
    assert "h100 has 1MB" in last


def test_lanes_share_out_the_devices_of_a_mesh() -> None:
    config = change(seed=tuple(range(8)), pack=PackConfig(lanes=8), mesh=MeshConfig(data=4))
    (pack, *_) = plan_of(config).packs
    own = memory_bytes(pack.runs[0], pack.execution["precision"])
    row = bill(plan_of(config), CostConfig("h100"))[2]
    assert memory_in(pack) == 2 * own
    assert f"{short(2 * own)}B" in row


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"device": "h1000"}, "cost.device=h1000: no such device; did you mean h100?"),
        ({"device": "mine"}, "give the FLOP/s: cost.peak_flops=..."),
        ({"peak_flops": 1e12}, "cost.peak_flops=1e+12: name the device too, cost.device=..."),
        ({"device": "mine", "peak_flops": -1.0}, "cost.peak_flops=-1.0: must be above 0"),
        ({"utilisation": 1.5}, "cost.utilisation=1.5: must be above 0 and at most 1"),
        ({"utilisation": 40.0}, "cost.utilisation=40.0"),
    ],
)
def test_a_cost_that_cannot_be_is_one_line(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        CostConfig(**fields)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_compiled_ahead_is_said_before_anything_is() -> None:
    with pytest.raises(UserError, match=r"cost.ahead=64: the plan has no rung of this dial; it has \[128\]"):
        packs_ahead(plan_of(BASE), CostConfig(ahead=(64,)))
    lanes = plan_of(change(seed=(0, 1), pack=PackConfig(lanes=2)))
    with pytest.raises(UserError, match=r"cost.ahead=128: 2 of its runs are lanes .* pack.lanes=1"):
        packs_ahead(lanes, CostConfig(ahead=(128,)))
    with pytest.raises(UserError, match=r"mesh.data=3: the rows of a batch"):
        plan_of(change(mesh=MeshConfig(data=3)))
