"""SweepConfig -> RunSpecs: for every rung and seed that the plan chose its horizons, and their trunks. No jax, no
tokens: what is needed of the data stands in its manifest. How runs are packed is the business of `plan`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from lmscale.config import EvaluationConfig, SweepConfig
from lmscale.data.manifest import Manifest
from lmscale.errors import UserError
from lmscale.family import parameter_conventions, parameter_groups, shape_of
from lmscale.objective import CAUSAL
from lmscale.parametrisation import checked, parametrised
from lmscale.plans import PLANS
from lmscale.plans.config import PlanConfig
from lmscale.plans.rungs import Chosen, Ladder, Point, Rung
from lmscale.schedule import BRANCH, NEVER, RUN, has_room, least_steps, parts
from lmscale.spec import SCIENCE_VERSION, RunSpec
from lmscale.transfer import batch_multiple, decay_of, peak_rate
from lmscale.typed import among

SAME_HORIZON = 0.005  # horizons within this share of each other are one: a person rounds them
MOST_TOKENS = 2**62  # of a run: counts in records and tables have 64 bits


def run_specs(config: SweepConfig, manifest: Manifest) -> list[RunSpec]:
    """List the runs of one composed configuration. UserError where a shape, a rate or a horizon cannot be."""
    specs: dict[str, RunSpec] = {}
    for point in (*chosen(config, manifest).points, *_target_points(config, manifest)):
        every = config.seed[:1] if point.rung.dial in config.one_seed else config.seed
        for seed in point.seeds or every:
            for spec in _runs(config, manifest, point, seed):
                specs.setdefault(spec.run_id, spec)
    return list(specs.values())


def target_run(config: SweepConfig, specs: Sequence[RunSpec]) -> RunSpec | None:
    """Select the run of a configuration that is forecast: its target's rung and horizon, first seed."""
    target = config.target
    rung = [
        spec
        for spec in specs
        if (spec.dial, spec.seed) == (target.dial, config.seed[0]) and spec.horizon_tokens
    ]
    if not rung:
        return None
    wanted = target.tokens or max(spec.horizon_tokens or 0 for spec in rung)
    return min(rung, key=lambda spec: abs((spec.horizon_tokens or 0) / wanted - 1))


def _target_points(config: SweepConfig, manifest: Manifest) -> list[Point]:
    """Give the target's horizon as a point of its own, where the plan's points lack it."""
    target = config.target
    planned = target.dial in config.dial and (config.plan.kind == "grid" or target.tokens is None)
    if target.dial is None or planned:
        return []
    rung = _rung(config, manifest, target.dial)
    steps = _horizon_steps(config, manifest, rung)
    wanted = (target.tokens or math.inf) / rung.batch_tokens
    return [Point(rung, (min(steps, key=lambda count: abs(count - wanted)),), seeds=config.seed[:1])]


def chosen(config: SweepConfig, manifest: Manifest) -> Chosen:
    """Let the plan choose rungs, horizons and rates. UserError where it cannot."""
    plan = config.plan
    among("plan.kind", plan.kind, PLANS)
    for field in dataclasses.fields(PlanConfig)[1:]:
        value = getattr(plan, field.name)
        if value != field.default and field.name not in PLANS[plan.kind].reads:
            readers = ", ".join(f"plan={name}" for name, entry in PLANS.items() if field.name in entry.reads)
            shown = list(value) if isinstance(value, tuple) else value
            raise UserError(f"plan.{field.name}={shown}: plan={plan.kind} does not read it, but {readers}")
    ladder = Ladder(
        dials=config.dial,
        spacing=config.family.d_head or 2 * (config.family.n_head or 1),
        seeds=config.seed,
        schedule=config.schedule,
        scanned=bool(manifest.sources),
        rung=lambda dial: _rung(config, manifest, dial),
        horizons=lambda rung: _horizon_steps(config, manifest, rung),
    )
    return PLANS[plan.kind].choose(plan, ladder)


def _rung(config: SweepConfig, manifest: Manifest, dial: int) -> Rung:
    shape = shape_of(config.family, dial, context=manifest.context, vocab_size=manifest.vocab_size)
    shape = parametrised(shape, config.transfer.kind)
    multiple = batch_multiple(config.transfer, parameter_conventions(shape)["params_nonembedding"])
    return Rung(dial, shape, multiple, sum(c.rows for c in manifest.components) * multiple * manifest.context)


def _runs(config: SweepConfig, manifest: Manifest, point: Point, seed: int) -> list[RunSpec]:
    """List the runs of one seed of a point: the horizons of one rate share a trunk, if the schedule has one."""
    rung, specs = point.rung, []
    horizons: dict[float, list[int]] = {}
    for steps in sorted(point.steps):
        rate = peak_rate(config.transfer, rung.shape.d_model, steps * rung.batch_tokens, point.rate)
        horizons.setdefault(rate, []).append(steps)
    for rate, every in horizons.items():
        base = _base(config, manifest, rung, seed, rate)
        trunk: str | None = None
        for part in parts(config.schedule, every):
            changes: dict[str, Any] = part._asdict()
            if part.horizon_steps is not None:
                changes["horizon_tokens"] = part.horizon_steps * rung.batch_tokens
            if part.kind == BRANCH:
                changes["trunk"] = trunk
            specs.append(dataclasses.replace(base, **changes))
            trunk = trunk or specs[-1].run_id
    return specs


def _base(config: SweepConfig, manifest: Manifest, rung: Rung, seed: int, rate: float) -> RunSpec:
    return RunSpec(
        science_version=SCIENCE_VERSION,
        kind=RUN,
        trunk=None,
        dial=rung.dial,
        shape=rung.shape,
        seed=seed,
        horizon_tokens=None,
        horizon_steps=None,
        decay_start=None,
        batch_multiple=rung.batch_multiple,
        batch_tokens=rung.batch_tokens,
        learning_rate=rate,
        weight_decay=decay_of(config.transfer, rate),
        schedule={},
        optim=checked(rung.shape, config.optim),
        evaluation={
            **{
                name: value
                for name, value in dataclasses.asdict(config.evaluation).items()
                # what an average is made with is said where it is not the default, as in a spec.json
                if not name.startswith("average") or value != getattr(EvaluationConfig, name)
            },
            "items": config.tasks.items,
            "heldout_rows": config.data.heldout_rows,
        },
        params=parameter_groups(rung.shape),
        data={
            # data.name is a label
            "name": config.data.kind if config.data.markov_order is None else "known_entropy",
            "content_hash": manifest.content_hash,
            "primary": manifest.primary,
            "unique_tokens": manifest.unique_tokens,
            "components": [dataclasses.asdict(c) for c in manifest.components],
            **manifest.unit,
            **manifest.floor,
            **manifest.heldout,
            **({} if config.data.objective == CAUSAL else {"objective": config.data.objective}),
            **({} if config.data.order_seed is None else {"order_seed": config.data.order_seed}),
        },
        tasks=manifest.tasks,
        params_active=rung.params["params_active"] if rung.shape.n_expert else None,
    )


def _horizon_steps(config: SweepConfig, manifest: Manifest, rung: Rung) -> list[int]:
    """List the horizons of a rung in steps, shortest first; every one must leave room after the warm-up."""
    horizon, schedule, dial, batch_tokens = config.horizon, config.schedule, rung.dial, rung.batch_tokens
    reference = shape_of(
        config.family, horizon.dial, context=manifest.context, vocab_size=manifest.vocab_size
    )
    n_reference = parameter_conventions(reference)["params_nonembedding"]
    longest = horizon.tokens * (rung.params["params_nonembedding"] / n_reference) ** horizon.exponent
    multiples = set(horizon.multiples) if dial in config.dial else {max(horizon.multiples)}
    if dial == config.target.dial and config.target.tokens is not None:
        wanted = config.target.tokens / longest
        alike = any(abs(wanted / multiple - 1) <= SAME_HORIZON for multiple in multiples)
        multiples = ({wanted} if not alike else set()) | (
            multiples if alike or dial in config.dial else set()
        )
    steps = []
    for multiple in sorted(multiples):
        tokens = longest * multiple
        if tokens > _most_tokens(config, rung):
            continue
        if not tokens < min(NEVER * batch_tokens, MOST_TOKENS):
            raise UserError(
                f"horizon.tokens={horizon.tokens:g}, horizon.multiples={multiple}: the rung of dial {dial} trains "
                f"{tokens:.3g} tokens, {tokens / batch_tokens:.3g} steps of {batch_tokens:,}; a run has at most "
                f"{NEVER:,} steps and {MOST_TOKENS:.2g} tokens: give fewer tokens, or a larger batch (data.rows)"
            )
        count = round(tokens / batch_tokens)
        if not has_room(schedule, count):
            least = least_steps(schedule) * batch_tokens
            raise UserError(
                f"horizon.multiples={multiple}: the rung of dial {dial} trains {count} steps "
                f"({count * batch_tokens:,} tokens), which is shorter than warm-up (schedule.warmup_steps="
                f"{schedule.warmup_steps}) and decay (schedule.decay_share={schedule.decay_share}) need; it "
                f"needs {least:,} tokens or more, from horizon.tokens of "
                f"{_up(least * horizon.tokens / tokens):.2g} or a larger multiple, or a shorter warm-up"
            )
        steps.append(count)
    if not steps:
        raise UserError(
            f"horizon.most_flops={horizon.most_flops:g}: the shortest horizon of the rung of dial {dial} costs "
            "more; leave the rung out, or give more"
        )
    return steps


def _most_tokens(config: SweepConfig, rung: Rung) -> float:
    """The longest horizon of a rung, by what a run of the ladder may cost."""
    if config.horizon.most_flops is None or rung.dial == config.target.dial:
        return math.inf
    return config.horizon.most_flops / rung.flops_per_token


def _up(value: float) -> float:
    """Round up to two digits: a remedy must be enough."""
    if not math.isfinite(value):
        return value
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit) * unit


def same_runs(configs: Sequence[SweepConfig], manifests: Sequence[Manifest]) -> list[str]:
    """Say in a sentence each which compositions give the very same runs."""
    alike: dict[frozenset[str], list[SweepConfig]] = {}
    rates: dict[frozenset[str], set[float]] = {}
    for config, manifest in zip(configs, manifests, strict=True):
        specs = run_specs(config, manifest)
        key = frozenset(spec.run_id for spec in specs)
        alike.setdefault(key, []).append(config)
        rates[key] = {spec.learning_rate for spec in specs}
    return [_alike(same, rates[key]) for key, same in alike.items() if len(same) > 1]


def _alike(configs: Sequence[SweepConfig], rates: set[float]) -> str:
    tables = [_flat(dataclasses.asdict(config)) for config in configs]
    different = {
        key: [table[key] for table in tables]
        for key in tables[0]
        if len({str(table.get(key)) for table in tables}) > 1
    }
    named = "; ".join(f"{key}={', '.join(map(str, values))}" for key, values in different.items())
    capped = rates == {configs[0].transfer.rate_cap}
    why = f": every rung stands at transfer.rate_cap={configs[0].transfer.rate_cap}" if capped else ""
    return f"{len(configs)} compositions are one set of runs ({named or 'the same values'}){why}"


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return flat
