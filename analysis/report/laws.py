"""Write the report's laws: their parameters, and what they say of a larger budget beside what they were worth."""

import math
from typing import Any

import numpy as np
from markupsafe import Markup

from analysis.errors import Status, grave_codes
from analysis.figures import style
from analysis.fitting.fit import Fit
from analysis.forecasting.forecast import Prediction
from analysis.report import html
from analysis.report.answer import caveats
from analysis.report.findings import Findings, Law, StepBack
from analysis.report.promises import floor_part

# Up to four passes repeated tokens are almost as good as new ones (Muennighoff et al. 2023, arXiv 2305.16264).
MOST_PASSES = 4.0
# A hold-out's interval this much wider than the law's own is pointed out.
_WIDER = 1.5


def law_section(found: Findings) -> html.Section | None:
    """Show the law behind the forecast and the law of all runs."""
    if isinstance(found.law, str) and found.part and not found.kept and not found.rows.empty:
        return None  # the answer has said why
    parts = []
    for one in found.kept:
        if one.fitted is not None:
            said = f"The law behind the forecast from {one.of_target}, fitted again to its runs:"
            parts += [html.paragraph(said), fit_table(one.fitted)]
    if not isinstance(found.held_out, str):
        parts += [
            html.paragraph("The law behind the forecast, from the runs below the cut:"),
            fit_table(found.held_out.forecast.fit),
        ]
    if isinstance(found.law, str):
        parts.append(html.paragraph(f"All runs: {found.law}"))
    else:
        fitted = found.law.forecast.fit
        left = len(found.rows) - int(found.law.used.sum())
        note = f", {left} left out" if left else ""
        parts += [
            html.paragraph(f"The law of all {len(found.rows)} finished runs, the target included{note}:"),
            fit_table(fitted),
            caveats(fitted.warnings),
        ]
    parts.append(floor_part(found))
    return html.Section("The fit", html.joined(*parts))


def fit_table(fitted: Fit) -> Markup:
    """Tabulate the parameters of a fit, and say below which law it is and how it was fitted."""
    bse, interval = fitted.bse, fitted.conf_int(0.95)
    meaning = {parameter.name: parameter.meaning for parameter in fitted.form.parameters}
    rows = [
        (name, f"{value:.5g}", _error(bse[name]), _interval(*interval[name]), meaning[name])
        for name, value in fitted.params.items()
    ]
    objective = fitted.objective
    width = f" (delta {objective.delta:g})" if objective.loss == "huber" else ""
    said = (
        f"{fitted.form.name}: L = {fitted.form.equation}. {len(fitted.observations)} runs; "
        f"{objective.loss}{width} on {objective.scale} loss, summed, {fitted.value:.6g} at the optimum; "
        f"{len(fitted.draws)} resamples by {fitted.observations.group_source}. {fitted.form.reference}."
    )
    header = ("", "value", "std. error", "95% interval", "meaning")
    return html.joined(html.table(header, rows), html.paragraph(said, kind="small"))


def _error(value: float) -> str:
    """A standard error; of resamples that all agree there is none to tell."""
    return html.number(value) if value else "-"


def _interval(low: float, high: float) -> str:
    """An interval of resamples, in words where they all ended at one bound."""
    if low == high:
        return f"{low:.3g} in every resample: at its bound, no interval"
    return f"{html.number(low)} to {html.number(high)}"


def next_section(found: Findings, shown: dict[str, Markup]) -> html.Section | None:
    """Say what more compute would buy, and beside it what such a forecast was worth on these runs."""
    heading = "The next decision"
    if isinstance(found.law, str) and found.part:
        return None
    if isinstance(found.law, str):
        return html.Section(heading, html.paragraph(f"No law, no budgets: {found.law}"))
    law = found.law
    if law.unsplit:
        none = html.paragraph(f"No budgets: {law.unsplit}.")
        return html.Section(heading, html.joined(_caution(law), none))
    unique = unique_tokens(found)
    back: list[StepBack | None] = [*law.back] if law.back else [None] * len(law.next)
    largest = float(found.rows["flops"].max())
    header = ["budget", "C (FLOPs)", "best N", "best D", "D / N", "loss"]
    header += [f"{law.next[0].level:.0%} interval, one new run", "relative"]
    header += ["passes over the text"] * (unique is not None)
    header += ["held out: runs", "its interval", "its target measured"] * bool(law.back)
    rows = []
    for p, step in zip(law.next, back, strict=True):
        row = _budget_row(p, (p.flops or math.nan) / largest)
        row += [html.number(passes(found, p), 2)] if unique is not None else []
        rows.append(row + (_worth(step, found) if step is not None else []))
    inner = (
        _caution(law),
        html.paragraph(
            f"By the law of all runs, a budget beyond the largest one ({style.power(largest)} FLOPs) would buy:"
        ),
        html.table(header, rows),
        _holds(law, found),
        _repeats(law, unique),
        html.paragraph(
            f"N is the column {found.source.column('params')}. N and D are split by this cost: "
            f"{law.forecast.cost.source}.",
            kind="small",
        ),
        _besides(law),
        shown.get("next_budgets", Markup()),
    )
    return html.Section(heading, html.joined(*inner))


def _besides(law: Law) -> Markup:
    """Show the warnings that the forecast adds to those of its fit, which stand in the section above."""
    own = [warn for warn in law.forecast.warnings if warn not in law.forecast.fit.warnings]
    return caveats(own) if own else Markup()


def _caution(law: Law) -> Markup:
    """Say first that a law with a grave warning decides nothing."""
    if law.forecast.status != Status.UNTRUSTED:
        return Markup()
    grave = grave_codes(law.forecast.warnings)
    return html.box(
        "warn",
        f"No advice: the law of all runs carries a grave warning ({grave}). The table says what the law says, and "
        "in its last columns what such a step was worth on these runs.",
    )


def _budget_row(p: Prediction, ratio: float) -> list[str]:
    params, tokens = p.params or math.nan, p.tokens or math.nan
    return [
        f"{ratio:.3g}×",
        style.power(p.flops or math.nan),
        style.count(params),
        style.count(tokens),
        f"{tokens / params:.3g}",
        f"{p.loss:.4f}",
        f"{p.lower:.4f} to {p.upper:.4f}",
        _relative(p),
    ]


def _worth(step: StepBack, found: Findings) -> list[str]:
    p = step.prediction
    if isinstance(p, str) or found.target is None:
        return [str(step.runs), "too few for a law", "-"]
    return [str(step.runs), _relative(p), _percent(found.target.measured / p.loss, 2)]


def _relative(p: Prediction) -> str:
    return f"{_percent(p.lower / p.loss)} to {_percent(p.upper / p.loss)}"


def _holds(law: Law, found: Findings) -> Markup:
    """Explain the hold-outs, and name the distances where they are worse than the law says."""
    target = found.target
    if target is None or not law.back:
        return Markup()
    cuts = ", ".join(f"1/{step.ratio:g}" for step in law.back)
    said = [
        f"Held out, the same step was taken backwards: the law of the runs with at most {cuts} of the target's "
        "compute forecast the target. Its interval and what was measured are relative to that forecast."
    ]
    for p, step in zip(law.next, law.back, strict=True):
        q = step.prediction
        if isinstance(q, str):
            said.append(f"At {step.ratio:g}× nothing was tested.")
            continue
        own, held = _width(p), _width(q)
        if not q.holds(target.measured):
            said.append(f"At {step.ratio:g}× the hold-out's interval missed what was measured.")
        elif held > _WIDER * own:
            said.append(
                f"At {step.ratio:g}× it was {held / own:.2g} times as wide as the law's own interval, "
                "from fewer runs: rely on the wider one."
            )
    return html.paragraph(*said)


def _width(p: Prediction) -> float:
    """The width of an interval in log loss."""
    return math.log(p.upper / p.lower) if p.lower > 0 and math.isfinite(p.upper) else math.inf


def unique_tokens(found: Findings) -> float | None:
    """The most unique tokens that a run could draw from, where the table says."""
    if "unique_tokens" not in found.rows.columns:
        return None
    values = _finite(found.rows["unique_tokens"])
    return float(values.max()) if len(values) and values.max() > 0 else None


def passes(found: Findings, p: Prediction) -> float | None:
    """How often a run of these tokens reads the text; None where the table does not say how long that is."""
    unique = unique_tokens(found)
    return None if unique is None or p.tokens is None else p.tokens / unique


def _finite(column: Any) -> np.ndarray:
    try:
        values = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        return np.empty(0)
    return np.asarray(values[np.isfinite(values)])


def _repeats(law: Law, unique: float | None) -> Markup:
    """Warn where the best D is more passes over the text than repeated tokens are good for."""
    if unique is None:
        return Markup()
    over = [p for p in law.next if (p.tokens or 0.0) / unique > MOST_PASSES]
    if not over:
        return Markup()
    said = ", ".join(
        f"{(p.tokens or 0.0) / unique:.2g} passes at {style.power(p.flops or math.nan)}" for p in over
    )
    return html.box(
        "warn",
        f"The best D repeats the text ({style.count(unique)} unique tokens): {said}. Beyond about {MOST_PASSES:g} "
        "passes repeated tokens are worth less than new ones (Muennighoff et al. 2023), and this law counts them "
        "as new. Get more text, or fit data_constrained.",
    )


def _percent(ratio: float, digits: int = 1) -> str:
    return f"{100 * (ratio - 1):+.{digits}f}%" if math.isfinite(ratio) else "beyond any number"
