"""What not to believe in a fit: basins, bounds, parameters the rows do not identify, a wrong law."""

import numpy as np

from analysis.arrays import Array
from analysis.errors import Code, Warn
from analysis.fitting.bound_law import Model
from analysis.fitting.holdouts import Choice
from analysis.fitting.observations import Observations
from analysis.fitting.search import Found
from analysis.laws.law import Form

# With one of these an answer is not to be used before somebody has looked.
# Another minimum within this of the best objective explains the rows as well.
RIVAL = 0.01
# How much an exponent may differ between two ends of a search that are one basin.
SAME = 0.02
# Condition number of the Jacobian with unit columns: the digits lost in telling parameters apart.
CONDITION = 3e3
# Durbin and Watson's ratio (2 for independent residuals): residuals this alike in a row are a shape.
SERIAL = 0.6


def diagnose(
    form: Form, model: Model, observations: Observations, best: Found, draws: Array
) -> tuple[Warn, ...]:
    """The warnings of one fit: its basins, bounds, identification, floor and shape of residuals."""
    params = dict(zip(form.names, model.public(best.theta)[0].tolist(), strict=True))
    found = [
        *_basins(form, model, best),
        *_bounds(form, model, best),
        *_identified(form, model, observations, best, model.public(draws) if len(draws) else draws),
        *_shape(model, observations, best),
    ]
    floor = params.get("E")
    if floor is not None and floor >= observations.loss.min():
        found.append(
            Warn(
                Code.FLOOR_ABOVE_DATA,
                f"E = {floor:.5g} is above the least loss of the table, {observations.loss.min():.5g}",
            )
        )
    return tuple(found)


def bend_warning(choice: Choice) -> Warn:
    """What to say where rolling hold-outs show a bend and all rows were fitted."""
    return Warn(
        Code.BEND,
        f"within the table the law predicts its dear runs {choice.improvement:.1f} times better without the "
        f"{int((~choice.keep).sum())} rows of loss above {choice.ceiling:.4g}: they are in another regime; "
        "use --regime auto, or --where",
    )


def regime_reason(choice: Choice) -> str:
    """Why rows were left out, for the record."""
    return (
        f"another regime: loss above {choice.ceiling:.5g}; without these rows the law predicts the table's "
        f"dear runs {choice.improvement:.1f} times better (rolling hold-outs)"
    )


def _basins(form: Form, model: Model, best: Found) -> list[Warn]:
    ends = best.basins
    rivals = ends.converged & (ends.value <= best.value[0] * (1.0 + RIVAL)) & (ends.value > 0)
    there = model.public(ends.theta[rivals])
    here = model.public(best.theta)[0]
    plain = [i for i, parameter in enumerate(form.parameters) if not parameter.scale]
    spread = np.abs(there[:, plain] - here[plain]).max(axis=0, initial=0.0)
    worst = int(np.argmax(spread / (np.abs(here[plain]) + 0.01)))
    name = form.names[plain[worst]]
    if spread[worst] <= SAME * (abs(here[plain[worst]]) + 0.01) + 1e-3:
        return []
    ends_at = np.append(there[:, plain[worst]], here[plain[worst]])
    low, high = ends_at.min(), ends_at.max()
    return [
        Warn(
            Code.MULTI_BASIN,
            f"minima within {100 * RIVAL:g}% of the best have {name} from {low:.4g} to {high:.4g}: the rows "
            "do not choose between them",
        )
    ]


def _bounds(form: Form, model: Model, best: Found) -> list[Warn]:
    found = []
    theta = best.theta[0]
    values = dict(zip(form.names, model.public(best.theta)[0], strict=True))
    if "E" in values and values["E"] <= 0.0:
        found.append(
            Warn(Code.BOUND_HIT, "E = 0: the rows show no irreducible loss (too narrow a range, or a bend)")
        )
    for parameter in form.parameters:
        value = values[parameter.name]
        if parameter.name == "E" or parameter.scale:
            continue
        for bound in (parameter.lower, parameter.upper):
            if np.isfinite(bound) and np.isclose(value, bound, rtol=1e-6, atol=1e-12):
                found.append(Warn(Code.BOUND_HIT, f"{parameter.name} = {value:.4g} is at its bound"))
    inside = (theta > model.lower) & (theta < model.upper)
    if not found and not inside.all():
        found.append(Warn(Code.BOUND_HIT, "a term of the law has vanished: its size is at its bound"))
    return found


def _identified(
    form: Form, model: Model, observations: Observations, best: Found, public: Array
) -> list[Warn]:
    """Exponents whose resamples span their own size, and a Jacobian that is nearly singular."""
    theta = best.theta
    step = 1e-5 * np.maximum(np.abs(theta[0]), 1e-2)
    moved = np.repeat(theta, 2 * theta.shape[1], axis=0)
    for i, h in enumerate(step):
        moved[2 * i, i] += h
        moved[2 * i + 1, i] -= h
    log = np.log(np.maximum(model.predict(moved), 1e-300)) * np.sqrt(observations.weight)
    jacobian = (log[0::2] - log[1::2]) / (2.0 * step[:, None])
    norms = np.linalg.norm(jacobian, axis=1)
    moving = norms > 0
    condition = np.linalg.cond(jacobian[moving] / norms[moving, None]) if moving.any() else np.inf
    if not moving.all() or condition > CONDITION:
        return [
            Warn(
                Code.NOT_IDENTIFIED,
                f"the rows hardly tell the parameters apart (condition number {condition:.2g}): single "
                "parameters mean little, though predictions near the rows may hold",
            )
        ]
    endless = ~np.isfinite(public).all(axis=0) if len(public) else np.zeros(len(form.names), dtype=bool)
    if endless.any():
        name = form.names[int(np.argmax(endless))]
        return [Warn(Code.NOT_IDENTIFIED, f"{name} is beyond any number in some resamples")]
    if len(public) < 20:
        return []
    for i, parameter in enumerate(form.parameters):
        if parameter.scale or parameter.name == "E":
            continue
        low, high = np.percentile(public[:, i], [5.0, 95.0])
        if high - low > abs(float(model.public(theta)[0, i])):
            return [
                Warn(
                    Code.NOT_IDENTIFIED,
                    f"{parameter.name} is anywhere from {low:.3g} to {high:.3g} (90% of resamples)",
                )
            ]
    return []


def _shape(model: Model, observations: Observations, best: Found) -> list[Warn]:
    """Residuals of one sign in long runs, ordered by the law's own prediction: the wrong form."""
    predicted = model.predict(best.theta)[0]
    residual = np.log(observations.loss / predicted)
    n = len(residual)
    if n < 10:
        return []
    ordered = residual[np.argsort(predicted)]
    ordered = ordered - ordered.mean()
    steps, spread = np.sum(np.diff(ordered) ** 2), np.sum(ordered**2)
    # steps / spread of independent residuals is about 2 +- 2/sqrt(n); an exact fit has neither.
    if steps < min(SERIAL, 2.0 - 6.0 / np.sqrt(n)) * spread and np.sqrt(np.mean(residual**2)) > 0.002:
        return [
            Warn(
                Code.POOR_FIT,
                f"the residuals ({100 * np.sqrt(np.mean(residual**2)):.2g}% of loss) follow a curve "
                "that this form does not have: do not extend it; try --form auto, broken, or --regime auto",
            )
        ]
    return []
