"""Plans that solve the horizons of the sweep's own rungs: grid, isoflop, ratio, tune."""

from collections.abc import Callable, Mapping, Sequence

from lmscale.errors import UserError
from lmscale.plans.config import PlanConfig
from lmscale.plans.rungs import Chosen, Ladder, Point, Rung, steps_for
from lmscale.schedule import least_steps
from lmscale.typed import among, at_most, positive

CONVENTIONS = ("params", "params_nonembedding", "params_matmul")
MOST_RATIO, MOST_FACTOR = 1e9, 1e6


def grid(plan: PlanConfig, ladder: Ladder) -> Chosen:
    """Choose every dial at every horizon of `horizon`."""
    rungs = [ladder.rung(dial) for dial in ladder.dials]
    return Chosen(tuple(Point(rung, tuple(ladder.horizons(rung))) for rung in rungs))


def isoflop(plan: PlanConfig, ladder: Ladder) -> Chosen:
    """Choose every dial at every budget of exact FLOPs (Hoffmann et al. 2022, approach 2)."""
    _several("plan.budgets", plan.budgets, "[1e11,1e12], in FLOPs")

    def tokens(budget: float) -> Callable[[Rung], float]:
        return lambda rung: budget / rung.flops_per_token

    return _solved(ladder, {f"plan.budgets={budget:g}": tokens(budget) for budget in sorted(plan.budgets)})


def ratio(plan: PlanConfig, ladder: Ladder) -> Chosen:
    """Choose every dial at one ratio of tokens to parameters."""
    among("plan.params", plan.params, CONVENTIONS)
    positive("plan.tokens_per_param", plan.tokens_per_param)
    at_most("plan.tokens_per_param", plan.tokens_per_param, MOST_RATIO)
    return _solved(
        ladder,
        {
            f"plan.tokens_per_param={plan.tokens_per_param:g} ({plan.params})": lambda rung: (
                plan.tokens_per_param * rung.params[plan.params]
            )
        },
    )


def tune(plan: PlanConfig, ladder: Ladder) -> Chosen:
    """Choose every dial and horizon of the grid at rates around the rule's, and at its batch or multiples of it.

    The factors come after transfer.rate_cap: a rung that stands at the cap is looked at above it too.
    """
    _several("plan.factors", plan.factors, "[.5,1,2]")
    _several("plan.batches", plan.batches, "[1,2]")
    for factor in plan.factors:
        at_most("plan.factors", max(factor, 1 / factor), MOST_FACTOR)
    for batch in plan.batches:
        at_most("plan.batches", batch, MOST_FACTOR)
    points = tuple(
        Point(rung, tuple(ladder.horizons(rung)), rate)
        for dial in ladder.dials
        for rung in map(ladder.rung(dial).times_batch, plan.batches)
        for rate in plan.factors
    )
    said = (
        f"plan.factors={list(plan.factors)} of the rule's rate, plan.batches={list(plan.batches)}: "
        f"{sum(len(point.steps) for point in points)} points a seed; the rates of a rung and batch share one "
        "compiled program"
    )
    return Chosen(points, (said,))


def _several(name: str, values: Sequence[float], such_as: str) -> None:
    if not values:
        raise UserError(f"{name}=[]: give at least one, such as {name}={such_as}")
    for value in values:
        positive(name, value)
    if len(set(values)) < len(values):
        raise UserError(f"{name}={list(values)}: a value stands twice")


def _solved(ladder: Ladder, wanted: Mapping[str, Callable[[Rung], float]]) -> Chosen:
    """Solve the horizons of all rungs for tokens of the rung, by what asks for them. Those that cannot be are left
    out; UserError where none can be."""
    rungs = [ladder.rung(dial) for dial in ladder.dials]
    steps: dict[int, list[int]] = {rung.dial: [] for rung in rungs}
    said, left_out = [], []
    for what, tokens_of in wanted.items():
        refused, hit = [], []
        for rung in rungs:
            tokens = tokens_of(rung)
            try:
                count = steps_for(ladder, rung, tokens)
            except UserError as error:
                refused.append(f"{what}: {error}")
                continue
            steps[rung.dial].append(count)
            hit.append((rung.dial, abs(count * rung.batch_tokens / tokens - 1)))
        if not hit:
            least = min(least_steps(ladder.schedule) * rung.flops_per_step for rung in rungs)
            raise UserError(
                f"{refused[0]}; no rung can be trained so, the shortest run takes {least:.3g} FLOPs"
            )
        left_out += refused
        said.append(f"{what}: dial {_range(hit)}, each to {max(miss for _, miss in hit):.2%} by exact count")
    points = [Point(rung, tuple(dict.fromkeys(steps[rung.dial]))) for rung in rungs if steps[rung.dial]]
    return Chosen(tuple(points), tuple(said), tuple(left_out))


def _range(hit: Sequence[tuple[int, float]]) -> str:
    return ", ".join(str(dial) for dial, _ in hit)
