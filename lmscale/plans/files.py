"""Plans that `analysis` chose: the optimum of a fit, and the runs of a design. Only its JSON is read."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lmscale.errors import UserError
from lmscale.family import MOST_CHANNELS
from lmscale.plans.config import PlanConfig
from lmscale.plans.horizons import CONVENTIONS
from lmscale.plans.rungs import TOLERANCE, Chosen, Ladder, Point, Rung, steps_for
from lmscale.schedule import least_steps
from lmscale.typed import among, positive

SPACED = 1.02  # between the dials that are tried, as a ratio: finer than an optimum is known
FAR = 3  # a dial so many times the best one ends the search: by then the loss rises

Law = Callable[[Mapping[str, float], float, float], float]

# The laws whose optimum is solved here: (parameters, N, D) -> loss, as docs/laws.md writes them.
LAWS: dict[str, Law] = {
    "chinchilla": lambda p, n, d: p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p["beta"],
    "chinchilla6": lambda p, n, d: p["E"] + (p["A"] * n ** -p["alpha"] + p["B"] * d ** -p["beta"]) ** p["k"],
    "tied": lambda p, n, d: p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p["alpha"],
    "kaplan": lambda p, n, d: (
        ((p["N_c"] / n) ** (p["alpha_N"] / p["alpha_D"]) + p["D_c"] / d) ** p["alpha_D"]
    ),
}


def from_fit(plan: PlanConfig, ladder: Ladder) -> Chosen:
    """Choose the compute-optimal rung and horizon of an earlier fit for one budget.

    Of a fit, the law is minimised along the family's exact C(N, D) = budget. Of an extrapolation, whose cost may be
    another, N is taken, and the tokens that spend the budget exactly with the nearest rung.
    """
    among("plan.params", plan.params, CONVENTIONS)
    if plan.budget is None:
        raise UserError("plan.budget=null: give the FLOPs to spend, such as plan.budget=1e14")
    positive("plan.budget", plan.budget)
    found = _read("plan.fit", plan.fit, "python -m analysis fit RUNS --json FILE")
    named, budget = f"plan.fit={plan.fit}", plan.budget
    if "predictions" in found:
        wanted = _predicted(named, found, budget)
        how = f"nearest to N {wanted:.4g} of its prediction"

        def loss(rung: Rung) -> float:
            return abs(math.log(rung.params[plan.params] / wanted))
    else:
        law, params = _law(named, found)
        how = "least loss by its law"

        def loss(rung: Rung) -> float:
            return law(params, rung.params[plan.params], budget / rung.flops_per_token)

    try:
        best, widest = _least(_affordable(ladder, budget), loss)
    except KeyError as error:
        raise UserError(f"{named}: its law {found['form']} has no parameter {error}") from None
    except OverflowError:
        raise UserError(f"{named}: its params {params} are beyond floating point") from None
    if widest:
        how += "; it is the widest that the budget can train"
    try:
        steps = steps_for(ladder, best, budget / best.flops_per_token)
    except UserError as error:
        raise UserError(f"plan.budget={budget:g}: {error}") from None
    tokens, n = steps * best.batch_tokens, best.params[plan.params]
    said = [
        f"{named}: dial {best.dial}, N {n:,} ({plan.params}), D {tokens:,}, C {tokens * best.flops_per_token:.4g} "
        f"of plan.budget={budget:g} ({how})"
    ]
    if found.get("status", "ok") != "ok":
        said.append(f"{named}: its status is {found['status']}; read its warnings")
    return Chosen((Point(best, (steps,)),), tuple(said))


def design(plan: PlanConfig, ladder: Ladder) -> Chosen:
    """Choose the runs that `analysis design` chose: each with its seeds, or the first so many of the sweep's."""
    found = _read("plan.file", plan.file, "python -m analysis design RUNS --candidates FILE --json FILE")
    named = f"plan.file={plan.file}"
    runs = found.get("runs")
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise UserError(
            f"{named}: it has no list of runs; give what `python -m analysis design --json` wrote"
        )
    if not runs:
        raise UserError(f"{named}: it holds no run: {found.get('why') or 'nothing to train'}")
    points = []
    for place, run in enumerate(runs):
        try:
            dial, tokens = _number(run, "dial"), _number(run, "tokens")
            rung = ladder.rung(int(dial))
            if ladder.scanned:
                _same_size(rung, run)
            points.append(Point(rung, (steps_for(ladder, rung, tokens),), seeds=_seeds(ladder, run)))
        except UserError as error:
            raise UserError(f"{named}: runs[{place}]: {error}") from None
    widths = [found[name] for name in ("width_before", "width_after") if isinstance(found.get(name), float)]
    before_after = ", ".join(f"{width:.2%}" for width in widths)
    said = [
        f"{named}: half-widths of the target's interval before and after, as simulated: {before_after or '-'}"
    ]
    if found.get("stop"):
        said.append(f"{named}: it says stop: {found.get('why')}")
    return Chosen(tuple(points), tuple(said))


def _read(field: str, path: str | None, made_by: str) -> dict[str, Any]:
    if path is None:
        raise UserError(f"{field}=null: give the file that `{made_by}` wrote")
    try:
        found = json.loads(Path(path).expanduser().read_text())
    except OSError as error:
        raise UserError(f"{field}={path}: {error.strerror}; give the file that `{made_by}` wrote") from None
    except (ValueError, RuntimeError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{field}={path}: it is no JSON object; give the file that `{made_by}` wrote")
    return found


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
        raise UserError(f"{name}={value}: it must be a number above 0")
    return float(value)


def _law(named: str, found: Mapping[str, Any]) -> tuple[Law, dict[str, float]]:
    form, params = found.get("form"), found.get("params")
    if not isinstance(form, str) or not isinstance(params, dict):
        raise UserError(
            f"{named}: it has no form and params; give what `python -m analysis fit --json` or `extrapolate "
            "--budget --json` wrote"
        )
    if form not in LAWS:
        raise UserError(
            f"{named}: a plan can minimise {', '.join(LAWS)}, not {form}; give what `python -m analysis "
            "extrapolate --budget FLOPS --json` wrote"
        )
    try:
        # the floor, which may be 0, moves no optimum
        return LAWS[form], {"E": 0.0} | {name: _number(params, name) for name in params if name != "E"}
    except UserError as error:
        raise UserError(f"{named}: params: {error}") from None


def _predicted(named: str, found: Mapping[str, Any], budget: float) -> float:
    """Find the N of the prediction that was made for this budget."""
    for prediction in found["predictions"] if isinstance(found["predictions"], list) else ():
        known = isinstance(prediction, dict) and prediction.get("params") and prediction.get("flops")
        if known and abs(_number(prediction, "flops") / budget - 1) < TOLERANCE:
            return _number(prediction, "params")
    raise UserError(
        f"{named}: none of its predictions is of params at {budget:g} FLOPs; make one: python -m analysis "
        f"extrapolate RUNS --budget {budget:g} --json FILE"
    )


def _affordable(ladder: Ladder, budget: float) -> Iterator[Rung]:
    """Yield the rungs of the family, 2% apart at most, that the budget can train past warm-up and decay."""
    least, width = least_steps(ladder.schedule), 1.0
    while (dial := ladder.spacing * round(width)) <= MOST_CHANNELS:
        rung = ladder.rung(dial)
        if least * rung.flops_per_step > budget:
            break
        yield rung
        width = max(width * SPACED, width + 1)
    if width == 1:
        raise UserError(
            f"plan.budget={budget:g}: the smallest run, dial {dial} for {least} steps, takes "
            f"{least * rung.flops_per_step:.3g} FLOPs"
        )


def _least(rungs: Iterable[Rung], loss: Callable[[Rung], float]) -> tuple[Rung, bool]:
    """Find the rung of least loss, which has one valley, and whether it is the last."""
    seen: list[tuple[float, Rung]] = []
    for rung in rungs:
        seen.append((loss(rung), rung))
        best = min(seen, key=lambda pair: pair[0])[1]
        if rung.dial > FAR * best.dial:
            break
    return best, best is rung


def _same_size(rung: Rung, run: Mapping[str, Any]) -> None:
    """Refuse a design that was made for another family."""
    if run.get("params") is not None and rung.params["params"] != _number(run, "params"):
        raise UserError(
            f"params={run['params']:g}, but dial {rung.dial} has {rung.params['params']} here: the candidates were "
            "of another family or vocabulary; write them again with action=candidates"
        )


def _seeds(ladder: Ladder, run: Mapping[str, Any]) -> tuple[int, ...]:
    given = run.get("seeds", 1)
    if isinstance(given, list):
        if not given or not all(isinstance(s, int) and 0 <= s < 2**31 for s in given):
            raise UserError(f"seeds={given}: give whole numbers of at least 0")
        return tuple(given)
    count = int(_number({"seeds": given}, "seeds"))
    if count > len(ladder.seeds):
        raise UserError(
            f"seeds={count}: the sweep has only {len(ladder.seeds)}; give it as many, such as "
            f"seed=[{','.join(map(str, range(count)))}]"
        )
    return ladder.seeds[:count]
