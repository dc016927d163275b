"""What a plan costs on a device that need not be here, rung by rung, and what its steps take when they are compiled
ahead of time. Lines for a terminal."""

from collections.abc import Iterator

from lmscale.ahead import compiled
from lmscale.cost import CostConfig
from lmscale.errors import UserError
from lmscale.family import parameter_conventions
from lmscale.memory import memory_bytes, memory_in
from lmscale.plan import Pack, Plan
from lmscale.tables import aligned, short

PRECISION = "float32"  # of what is compiled: a CPU has no bfloat16 products, and would keep copies in float32


def packs_ahead(plan: Plan, cost: CostConfig) -> list[Pack]:
    """Select a pack of each rung whose step is to be compiled. UserError where there is none, or a mesh does not
    split its runs."""
    found = {pack.runs[0].dial: pack for pack in plan.packs}
    for dial in cost.ahead:
        if dial not in found:
            raise UserError(f"cost.ahead={dial}: the plan has no rung of this dial; it has {sorted(found)}")
        if len(found[dial].runs) > 1:
            raise UserError(
                f"cost.ahead={dial}: {len(found[dial].runs)} of its runs are lanes of one pack, none of which is "
                "split over a mesh; give pack.lanes=1"
            )
    return [found[dial] for dial in cost.ahead]


def bill(plan: Plan, cost: CostConfig) -> list[str]:
    """Write the device-hours of each rung and of all, and which rung does not fit; nothing without a device."""
    if cost.device is None:
        return []
    rungs: dict[tuple[str, int], list[Pack]] = {}
    for pack in sorted(plan.packs, key=lambda pack: pack.runs[0].dial):
        run = pack.runs[0]
        rungs.setdefault((plan.part_of.get(run.run_id, ""), run.dial), []).append(pack)
    total = sum(pack.flops for pack in plan.packs)
    rows, too_large = [], []
    for (part, dial), packs in rungs.items():
        flops = sum(pack.flops for pack in packs)
        memory = max(memory_in(pack) for pack in packs)
        hours = [cost.device_hours(pack.flops) for pack in packs]
        rows.append(
            [
                *([part] if plan.part_of else []),
                str(dial),
                short(parameter_conventions(packs[0].runs[0].shape)["params"]),
                str(sum(len(pack.runs) for pack in packs)),
                f"{flops:.3g}",
                f"{flops / total:.1%}",
                short(memory) + "B",
                _hours(sum(hours)),
                _hours(sum(h / pack.mesh.size for h, pack in zip(hours, packs, strict=True))),
            ]
        )
        if cost.memory and memory > cost.memory:
            too_large.append(
                f"dial {dial}: {short(memory)}B a device, and {cost.device} has {short(cost.memory)}B: split it "
                "over more (mesh.data, mesh.model), or give fewer rows a step (data.rows, transfer.batch) or lanes"
            )
    header = ("dial", "N", "n_runs", "C_FLOPs", "share", "memory", "device-hours", "hours")
    return [
        "",
        *aligned([*(["part"] if plan.part_of else []), *header], rows),
        f"bill: {total:.3g} FLOPs, {_hours(cost.device_hours(total))} device-hours of {cost.device} "
        f"({cost.peak / 1e12:,.0f} TFLOP/s) at a utilisation of {cost.utilisation:g}. memory: estimate, of a "
        "device. hours: one pack after another, each on all devices of its mesh.",
        *too_large,
    ]


def ahead(packs: list[Pack]) -> Iterator[str]:
    """Compile the step of each pack, and set what XLA says beside the plan's own numbers; a line for each."""
    for pack in packs:
        run, mesh = pack.runs[0], pack.mesh
        found = compiled(run, mesh, PRECISION)
        exact = run.flops_per_token * run.batch_tokens / mesh.size
        estimate = memory_bytes(run, PRECISION, mesh)
        talk = (f"{kind} {n} x {short(found.bytes[kind])}B" for kind, n in sorted(found.counts.items()))
        yield (
            f"ahead: dial {run.dial} on {mesh.size} devices (data {mesh.data}, model {mesh.model}), a step of "
            f"{run.batch_tokens:,} tokens, of each device: {exact:.4g} FLOPs, compiled {found.flops:.4g} "
            f"({found.flops / exact:.4g} of it); memory in {PRECISION} {short(estimate)}B by the plan, compiled "
            f"{short(found.memory)}B ({estimate / found.memory:.2f} of it); "
            f"communication: {', '.join(talk) or 'none'}; {found.seconds:.0f} s"
        )


def _hours(hours: float) -> str:
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"
