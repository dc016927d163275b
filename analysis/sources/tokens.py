"""Tokens that a run has seen at its evaluations: a metric that counts them, or steps times the tokens of a step."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from analysis.arrays import Array
from analysis.sources import names
from analysis.sources.names import matching
from analysis.sources.numbers import number
from analysis.sources.run import TrackedRun
from analysis.sources.values import clock, series, value_at

# A run that has done this share of its steps has ended: the last evaluation may miss the last batch.
ENDED = 0.98


def tokens_at(run: TrackedRun, steps: Float[Array, " n"]) -> tuple[Float[Array, " n"] | None, str]:
    """Return the tokens at these steps of the tracker and what was taken for them, or None and the reason."""
    if name := counted(run, names.TOKENS):
        return count_at(run, name, steps), name
    per_step, how = _tokens_per_step(run.config)
    if per_step is None:
        return None, how
    by = clock(run)
    at = value_at(run, by, steps)
    horizon = horizon_steps(run.config)
    if at is None or np.isnan(at[-1]):
        return None, "nothing says at which step it stands"
    if by == "step" and run.finished and horizon and at[-1] < ENDED * horizon[0]:
        return None, (
            f"it has finished, and its last step is {at[-1]:g} of {horizon[1]} {horizon[0]:g}: the tracker's steps "
            "count something else than the optimiser's"
        )
    return at * per_step, f"{by} x {how}"


def count_at(run: TrackedRun, name: str, steps: Float[Array, " n"]) -> Float[Array, " n"] | None:
    """Return what a metric that counts up is at these steps; of its last value alone, the share of the steps."""
    at, values, _ = series(run, name)
    if len(at) == 1 and len(steps) > 1 and at[0] > 0:
        return values[0] * steps / at[0]
    return value_at(run, name, steps)


def counted(run: TrackedRun, endings: tuple[str, ...]) -> str:
    """Name a metric that counts up over the run, or nothing: one that goes down is a count of a batch."""
    for name in matching(run.history.columns, endings):
        _, values, _ = series(run, name)
        if (
            len(values)
            and values[-1] > 0
            and (np.diff(values) >= 0).all()
            and (len(values) == 1 or np.ptp(values) > 0)
        ):
            return name
    return ""


def horizon_steps(config: Mapping[str, object]) -> tuple[float, str] | None:
    """Return the steps that a run was to do and the setting that says so."""
    return _setting(config, names.HORIZON_STEPS)


def _setting(config: Mapping[str, object], endings: tuple[str, ...]) -> tuple[float, str] | None:
    """Return the first of these settings that is a positive number, and its name."""
    found = ((number(config[name]), name) for name in matching(config, endings))
    return next(((value, name) for value, name in found if value is not None and value > 0), None)


def _tokens_per_step(config: Mapping[str, object]) -> tuple[float | None, str]:
    """Return the tokens of a step and how they were found, or None and what is missing."""
    if found := _setting(config, names.TOKENS_PER_STEP):
        return found
    context = _setting(config, names.CONTEXT)
    total = _setting(config, ("total_batch_size",))
    if total and context and total[0] % context[0] == 0:  # nanochat's is in tokens
        return total
    if context is None:
        return (
            None,
            "no metric counts tokens, and no setting says the tokens of a step or the length of a sequence",
        )
    parts = [context]
    device = _setting(config, names.DEVICE_BATCH)
    devices = _setting(config, names.DEVICES)
    if whole := _setting(config, names.GLOBAL_BATCH):
        parts.append(whole)
    elif batch := device or _setting(config, ("batch_size", "train_batch_size")):
        parts.append(batch)
        accumulation = _setting(config, names.ACCUMULATION)
        parts += [accumulation] if accumulation else []
        # nanoGPT counts the accumulation of all devices together.
        nano = matching(config, ("block_size",)) and accumulation and not device
        if devices and not nano:
            parts.append(devices)
        elif device and not nano:
            return None, f"{device[1]} is the batch of a device, and no setting says how many there were"
    else:
        return None, "no metric counts tokens, and no setting says the tokens of a step or the batch"
    return float(np.prod([value for value, _ in parts])), " x ".join(name for _, name in reversed(parts))
