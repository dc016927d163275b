"""SweepConfig -> RunSpecs: for every rung and seed its horizons, and their trunk. No jax and no tokens: what is
needed of the data stands in its manifest. How runs are packed is the business of `plan`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from lmscale.config import SweepConfig
from lmscale.data.manifest import Manifest
from lmscale.errors import UserError
from lmscale.family import parameter_conventions, parameter_groups, shape_of
from lmscale.flops import training_flops_per_token
from lmscale.schedule import BRANCH, NEVER, RUN, has_room, least_steps, parts
from lmscale.shape import Shape
from lmscale.spec import SCIENCE_VERSION, RunSpec
from lmscale.transfer import batch_multiple, decay_of, peak_rate

SAME_HORIZON = 0.005  # horizons within this share of each other are one: a person rounds them
MOST_TOKENS = 2**62  # of a run: counts in records and tables have 64 bits


def run_specs(config: SweepConfig, manifest: Manifest) -> list[RunSpec]:
    """List the runs of one composed configuration. UserError where a shape, a rate or a horizon cannot be."""
    specs: list[RunSpec] = []
    target = config.target.dial
    for dial in (*config.dial, *([] if target is None or target in config.dial else [target])):
        shape = shape_of(config.family, dial, context=manifest.context, vocab_size=manifest.vocab_size)
        one = dial in config.one_seed or dial not in config.dial
        seeds = config.seed[:1] if one else config.seed
        for seed in seeds:
            specs += _rung(config, manifest, dial, shape, seed)
    return specs


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


def _rung(config: SweepConfig, manifest: Manifest, dial: int, shape: Shape, seed: int) -> list[RunSpec]:
    params = parameter_conventions(shape)["params_nonembedding"]
    multiple = batch_multiple(config.transfer, params)
    batch_tokens = sum(c.rows for c in manifest.components) * multiple * manifest.context
    rate = peak_rate(config.transfer, shape.d_model)
    base = RunSpec(
        science_version=SCIENCE_VERSION,
        kind=RUN,
        trunk=None,
        dial=dial,
        shape=shape,
        seed=seed,
        horizon_tokens=None,
        horizon_steps=None,
        decay_start=None,
        batch_multiple=multiple,
        batch_tokens=batch_tokens,
        learning_rate=rate,
        weight_decay=decay_of(config.transfer, rate),
        schedule={},
        optim=config.optim,
        evaluation={
            **dataclasses.asdict(config.evaluation),
            "items": config.tasks.items,
            "heldout_rows": config.data.heldout_rows,
        },
        params=parameter_groups(shape),
        data={
            # data.name is a label
            "name": config.data.kind if config.data.markov_order is None else "known_entropy",
            "content_hash": manifest.content_hash,
            "primary": manifest.primary,
            "unique_tokens": manifest.unique_tokens,
            "components": [dataclasses.asdict(c) for c in manifest.components],
            **manifest.unit,
            **manifest.floor,
            **({} if config.data.order_seed is None else {"order_seed": config.data.order_seed}),
        },
        tasks=manifest.tasks,
    )
    specs: list[RunSpec] = []
    for part in parts(config.schedule, _horizon_steps(config, dial, params, batch_tokens, manifest)):
        changes: dict[str, Any] = part._asdict()
        if part.horizon_steps is not None:
            changes["horizon_tokens"] = part.horizon_steps * batch_tokens
        if part.kind == BRANCH:
            changes["trunk"] = specs[0].run_id
        specs.append(dataclasses.replace(base, **changes))
    return specs


def _horizon_steps(
    config: SweepConfig, dial: int, params: int, batch_tokens: int, manifest: Manifest
) -> list[int]:
    """List the horizons of a rung in steps, shortest first; every one must leave room after the warm-up."""
    horizon, schedule = config.horizon, config.schedule
    reference = shape_of(
        config.family, horizon.dial, context=manifest.context, vocab_size=manifest.vocab_size
    )
    n_reference = parameter_conventions(reference)["params_nonembedding"]
    longest = horizon.tokens * (params / n_reference) ** horizon.exponent
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
        if tokens > _most_tokens(config, manifest, dial):
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


def _most_tokens(config: SweepConfig, manifest: Manifest, dial: int) -> float:
    """The longest horizon of a rung, by what a run of the ladder may cost."""
    if config.horizon.most_flops is None or dial == config.target.dial:
        return math.inf
    shape = shape_of(config.family, dial, context=manifest.context, vocab_size=manifest.vocab_size)
    return config.horizon.most_flops / training_flops_per_token(shape)


def _up(value: float) -> float:
    """Round up to two digits: a remedy must be enough."""
    if not math.isfinite(value):
        return value
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit) * unit


def same_runs(configs: Sequence[SweepConfig], manifests: Sequence[Manifest]) -> list[str]:
    """Say in a sentence each which compositions give the very same runs."""
    alike: dict[frozenset[str], list[SweepConfig]] = {}
    for config, manifest in zip(configs, manifests, strict=True):
        alike.setdefault(frozenset(spec.run_id for spec in run_specs(config, manifest)), []).append(config)
    return [_alike(same) for same in alike.values() if len(same) > 1]


def _alike(configs: Sequence[SweepConfig]) -> str:
    tables = [_flat(dataclasses.asdict(config)) for config in configs]
    different = {
        key: [table[key] for table in tables]
        for key in tables[0]
        if len({str(table.get(key)) for table in tables}) > 1
    }
    named = "; ".join(f"{key}={', '.join(map(str, values))}" for key, values in different.items())
    capped = all(
        peak_rate(config.transfer, dial) == config.transfer.rate_cap
        for config in configs
        for dial in config.dial
    )
    why = f": every rung stands at transfer.rate_cap={configs[0].transfer.rate_cap}" if capped else ""
    return f"{len(configs)} compositions are one set of runs ({named or 'the same values'}){why}"


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return flat
