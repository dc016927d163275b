"""The fields of a plan. Which of them a plan reads stands in its entry of `PLANS`."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class PlanConfig:
    """Which runs a sweep trains.

    kind: an entry of `PLANS`. budgets: exact training FLOPs of a run (isoflop). tokens_per_param: the horizon of a
    run over its N (ratio). params: which N, `params` (all), `params_nonembedding` or `params_matmul` (ratio,
    from_fit). factors, batches: times the rate and the batch of the rules (tune). fit: a JSON of `analysis fit` or
    `analysis extrapolate`; budget: the exact training FLOPs to spend at its optimum (from_fit). file: the JSON of
    `analysis design` (design).
    """

    kind: str = "grid"
    budgets: tuple[float, ...] = ()
    tokens_per_param: float = 20.0
    params: str = "params"
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    batches: tuple[int, ...] = (1,)
    fit: str | None = None
    budget: float | None = None
    file: str | None = None

    renamed: ClassVar = {"name": "kind"}
