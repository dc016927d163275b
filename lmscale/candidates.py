"""The points that a plan could train, as JSON for `analysis design`: sizes, tokens, exact FLOPs, seconds."""

from typing import Any

from lmscale.family import parameter_conventions
from lmscale.plan import Plan
from lmscale.speeds import speed_key


def candidates(plan: Plan, speeds: dict[str, float]) -> dict[str, Any]:
    """List every rung and horizon of a plan once. A branch costs what it does with its trunk. seconds: of one
    process, by speeds of earlier sweeps; None where there is none."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for pack in plan.packs:
        speed = speeds.get(speed_key(pack))
        for run in pack.runs:
            if run.horizon_tokens is None:
                continue
            n = parameter_conventions(run.shape)
            found[run.dial, run.horizon_tokens] = {
                "dial": run.dial,
                "params": n["params"],
                "params_nonembedding": n["params_nonembedding"],
                "tokens": run.horizon_tokens,
                "flops": run.flops_per_token * run.horizon_tokens,
                "seconds": run.horizon_tokens / speed if speed else None,
            }
    return {"candidates": [found[key] for key in sorted(found)]}
