"""Identity and growth: science changes ids, execution does not, and a sweep grows by what is new alone."""

import dataclasses

import pytest

from lmscale.config import (
    DataConfig,
    HorizonConfig,
    OptimConfig,
    PackConfig,
    ScheduleConfig,
    SweepConfig,
    TasksConfig,
)
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.family import FamilyConfig
from lmscale.ladder import run_specs
from lmscale.plan import Plan, make_plan
from lmscale.schedule import BRANCH, RUN, TRUNK, has_room, least_steps
from lmscale.spec import evaluation_steps
from lmscale.transfer import TransferConfig, batch_multiple, decay_of, peak_rate

TASKS = TasksConfig(weight=0.3, weights={"copy": 1.0, "parity": 1.0})
MANIFEST = draft_manifest(DataConfig(), TASKS)
BASE = SweepConfig(
    name="test",
    dial=(8, 16),
    seed=(0, 1),
    tasks=TASKS,
    horizon=HorizonConfig(tokens=5e5, dial=16, multiples=(0.5, 1.0)),
    schedule=ScheduleConfig(warmup_steps=10),
)


def plan(config: SweepConfig = BASE, frozen: tuple = (), device: str = "cpu") -> Plan:
    return make_plan([config], [MANIFEST], device, frozen)


def change(**fields: object) -> SweepConfig:
    return dataclasses.replace(BASE, **fields)  # type: ignore[arg-type]


def test_a_ladder_is_dials_times_seeds_times_horizons_and_their_trunks() -> None:
    kinds = [spec.kind for spec in plan().runs.values()]
    assert kinds.count(TRUNK) == 4
    assert kinds.count(BRANCH) == 8
    cosine = plan(change(schedule=ScheduleConfig(kind="cosine", warmup_steps=10)))
    assert {spec.kind for spec in cosine.runs.values()} == {RUN}
    assert len(cosine.runs) == 8


@pytest.mark.parametrize(
    "config",
    [
        change(pack=PackConfig(lanes=4, steps=3)),
        change(runs="elsewhere", corpora="elsewhere"),
        change(name="renamed"),
        # another way to type the same rates
        change(transfer=TransferConfig(kind="constant", rate=0.01875), dial=(16,)),
    ],
)
def test_execution_and_spelling_change_no_id(config: SweepConfig) -> None:
    assert set(plan(config).runs) <= set(plan().runs)


@pytest.mark.parametrize(
    "config",
    [
        change(optim=OptimConfig(b2=0.95)),
        change(transfer=TransferConfig(rate=0.6)),
        change(schedule=ScheduleConfig(warmup_steps=11)),
        change(seed=(7,)),
        change(dial=(24,)),
    ],
)
def test_science_changes_every_id(config: SweepConfig) -> None:
    assert not set(plan(config).runs) & set(plan().runs)


def test_other_data_changes_every_id() -> None:
    other = dataclasses.replace(MANIFEST, content_hash="another")
    assert not set(make_plan([BASE], [other], "cpu").runs) & set(plan().runs)


def test_a_longer_horizon_adds_one_branch_a_rung_and_seed_and_no_trunk() -> None:
    grown = plan(change(horizon=dataclasses.replace(BASE.horizon, multiples=(0.5, 1.0, 2.0))))
    new = [spec for run_id, spec in grown.runs.items() if run_id not in plan().runs]
    assert [spec.kind for spec in new] == [BRANCH] * 4
    trunks = [pack for pack in grown.packs if pack.wave == 0]
    assert all(len(pack.pins) == 3 for pack in trunks)


def test_a_branch_begins_where_its_trunk_is_pinned() -> None:
    pins = {run.run_id: pack.pins for pack in plan().packs for run in pack.runs if run.kind == TRUNK}
    for spec in plan().runs.values():
        if spec.kind == BRANCH:
            assert spec.decay_start in pins[str(spec.trunk)]
            assert spec.horizon_tokens == spec.horizon_steps * spec.batch_tokens  # type: ignore[operator]


def test_trunks_come_before_branches_and_the_longest_pack_of_a_wave_first() -> None:
    packs = plan().packs
    assert [pack.wave for pack in packs] == sorted(pack.wave for pack in packs)
    for wave in plan().waves:
        assert [p.flops for p in wave] == sorted((p.flops for p in wave), reverse=True)


def test_lanes_are_runs_of_one_shape_and_a_frozen_pack_keeps_its_own() -> None:
    packed = plan(change(pack=PackConfig(lanes=2, max_lanes=2)))
    assert {len(pack.runs) for pack in packed.packs} == {2}
    waiting = plan(change(pack=PackConfig(lanes=2)))
    assert {(len(pack.runs), pack.width) for pack in waiting.packs} == {(2, 2), (4, 2)}  # trunks, branches
    for pack in packed.packs:
        assert len({run.shape for run in pack.runs}) == 1
    frozen = tuple({"pack_id": pack.pack_id, "execution": pack.execution} for pack in packed.packs)
    again = plan(BASE, frozen)
    assert {pack.pack_id for pack in again.packs} == {pack.pack_id for pack in packed.packs}


def test_cudnns_attention_is_of_a_gpu_and_of_heads_that_it_has() -> None:
    """Heads of 2 and 8 channels: dials 8 and 32. Nothing else of a pack's execution changes."""
    both = change(dial=(8, 32), pack=PackConfig(attention="cudnn"))
    named = {pack.runs[0].dial: pack.execution.get("attention") for pack in plan(both, device="gpu").packs}
    assert named == {8: None, 32: "cudnn"}
    packs = [pack.pack_id for pack in plan(change(dial=(8, 32), pack=PackConfig(attention="xla"))).packs]
    assert [pack.pack_id for pack in plan(both).packs] == packs
    with pytest.raises(UserError, match=r"pack\.attention=flash: .*auto.*xla.*cudnn"):
        PackConfig(attention="flash")


def test_a_pack_of_a_cpu_has_its_attention_but_for_one_that_was_begun_without() -> None:
    """A pack of before names no attention in its execution: it goes on with XLA's, bit for bit."""
    assert {pack.execution["attention"] for pack in plan().packs} == {"blocks"}
    for variant in ({"positions": "alibi"}, {"n_kv_head": 1}):
        other = plan(change(family=FamilyConfig(n_head=4, **variant)))  # type: ignore[arg-type]
        assert all("attention" not in pack.execution for pack in other.packs)
    before = plan(change(pack=PackConfig(attention="xla")))
    begun = before.packs[0]
    frozen = ({"pack_id": begun.pack_id, "execution": begun.execution},)
    named = {pack.pack_id: pack.execution.get("attention") for pack in plan(BASE, frozen).packs}
    assert named.pop(begun.pack_id) is None and set(named.values()) == {"blocks"}


def test_whole_runs_and_trunks_are_never_lanes_of_one_pack() -> None:
    """A pack with a trunk is saved where its branches begin; a whole run has no such steps."""
    both = [change(pack=PackConfig(lanes=4), schedule=ScheduleConfig(kind, 10)) for kind in ("cosine", "wsd")]
    packed = make_plan(both, [MANIFEST, MANIFEST], "cpu")
    assert {len({run.kind for run in pack.runs}) for pack in packed.packs} == {1}
    assert all(bool(pack.pins) == (pack.runs[0].kind == TRUNK) for pack in packed.packs)
    assert len(packed.runs) == 8 + 12


@pytest.mark.parametrize("kind", ["wsd", "cosine"])
@pytest.mark.parametrize(("warmup", "share"), [(0, 0.5), (1, 0.2), (40, 0.2), (40, 0.95), (1000, 0.01)])
def test_the_shortest_run_with_room_is_the_shortest(kind: str, warmup: int, share: float) -> None:
    config = ScheduleConfig(kind, warmup, share)
    least = least_steps(config)
    assert has_room(config, least) and not any(has_room(config, steps) for steps in range(least))


def test_the_evaluation_grid_is_the_same_tokens_for_every_run() -> None:
    runs = [spec for spec in run_specs(BASE, MANIFEST) if spec.kind != TRUNK]
    for spec in runs:
        assert spec.horizon_steps is not None
        steps = evaluation_steps(spec, 0, spec.horizon_steps)
        assert steps[-1] == spec.horizon_steps
        grid = [100_000 * 4**k for k in range(8)]
        expected = [-(-tokens // spec.batch_tokens) for tokens in grid]
        assert steps[:-1] == [step for step in expected if step < spec.horizon_steps]


def test_a_horizon_shorter_than_the_warm_up_is_refused() -> None:
    with pytest.raises(UserError, match=r"horizon.multiples=0.5: the rung of dial 8 .* shorter than warm-up"):
        plan(change(schedule=ScheduleConfig(warmup_steps=1000)))


def test_rules_look_at_the_rung_only() -> None:
    rule = TransferConfig(rate=1.2, rate_cap=0.08, batch_rule="power_of_params", batch=2, batch_exponent=0.5)
    assert [peak_rate(rule, d, 1e6) for d in (8, 16, 96)] == pytest.approx([0.08, 0.075, 0.0125])
    assert [batch_multiple(rule, n) for n in (10_000, 1_000_000, 4_000_000)] == [1, 2, 4]
    assert decay_of(TransferConfig(decay_rule="per_rate", weight_decay=1e-4), 0.01) == pytest.approx(0.01)
