"""What the order of a sweep's packs costs: `python -m benchmarks.order`. Nothing is trained.

The wall time of two cores is simulated by list scheduling (Graham 1969): in each wave the longest pack that is left
goes to the first core that is free, and a wave begins when the one before has ended. A pack takes its exact FLOPs.
"""

import dataclasses
from collections.abc import Sequence

from benchmarks.default import config
from lmscale.config import SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.plan import Plan, make_plan
from lmscale.target import TargetConfig

CORES = 2
TEXT = ("tasks=none", "data.rows=14")
AIMED = TargetConfig(dial=88)


def makespan(plan: Plan) -> int:
    """Simulate the FLOPs that the busiest core has done at the end."""
    total = 0
    for wave in plan.waves:
        ends = [0] * CORES
        for pack in sorted(wave, key=lambda pack: -pack.flops):
            first = ends.index(min(ends))
            ends[first] += pack.flops
        total += max(ends)
    return total


def planned(configs: Sequence[SweepConfig]) -> Plan:
    """Plan ladders on corpora of their own."""
    drafts = [draft_manifest(each.data, each.tasks) for each in configs]
    manifests = [dataclasses.replace(draft, content_hash=str(n)) for n, draft in enumerate(drafts)]
    return make_plan(configs, manifests, "cpu")


def main() -> None:
    text, tasks = config(*TEXT), config()
    ladders = {
        "one ladder": [tasks],
        "one ladder, its top rung the target": [dataclasses.replace(tasks, target=AIMED)],
        "two of text and one of tasks": [text, text, tasks],
        "two of text with targets, one of tasks": [*[dataclasses.replace(text, target=AIMED)] * 2, tasks],
    }
    print("| ladders | waves | FLOPs | makespan over half of them |\n|---|---|---|---|")
    for name, configs in ladders.items():
        plan = planned(configs)
        total = sum(pack.flops for pack in plan.packs)
        print(f"| {name} | {len(plan.waves)} | {total:.3g} | {CORES * makespan(plan) / total:.4f} |")


if __name__ == "__main__":
    main()
