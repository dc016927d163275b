"""What the report says of tasks: classes, thresholds, seeds, twins. The sentences only; see `analysis.report`."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from analysis.detection.twins import worth_saying
from analysis.detection.verdict import ORDER, Verdict
from analysis.figures import style, tasks
from analysis.report import html
from analysis.report.findings import Findings


def tasks_section(found: Findings, shown: dict[str, str]) -> str:
    title = "Tasks"
    if isinstance(found.tasks, str):
        return html.section(title, html.paragraph(f"No curves of tasks: {found.tasks}"))
    parts = []
    if isinstance(found.classes, str):
        parts.append(html.paragraph(f"The tasks could not be classified: {found.classes}"))
    else:
        parts += [html.paragraph(f"Classes found: {class_counts(found)}."), _class_table(found)]
    parts += [shown.get("tasks", ""), shown.get("twins", "")]
    if not isinstance(found.classes, str):
        parts += _sentences(found)
    return html.section(title, *parts)


def _sentences(found: Findings) -> list[str]:
    """What emergence says beside the classes: twins, thresholds against loss, forecasts from below."""
    classes = found.classes
    assert not isinstance(classes, str) and not isinstance(found.tasks, str)
    exact = [twin for twin in classes.twins if twin.metric in ("exact_match", "")]
    twins = [twin.sentence() for twin in worth_saying(exact)]
    lined = [a.sentence() for a in classes.alignments if a.lines_up is not None]
    below = [take_off.sentence() for take_off in classes.take_offs]
    titled = (
        ("Twins (sizes are parameters without embeddings):", twins),
        ("Do thresholds of different horizons line up in text loss?", lined),
        (
            "Where each jump was to be expected, told from the answers' likelihood at the sizes below it:",
            below,
        ),
    )
    return [html.paragraph(title) + html.bullets(said) for title, said in titled if said]


def class_counts(found: Findings) -> str:
    assert not isinstance(found.classes, str)
    verdicts = _exact(found)
    counts = Counter(v.label for v in verdicts.values())
    below = Counter(v.label for v in verdicts.values() if not v.counts)
    said = ", ".join(
        f"{counts[name]} {name}" + (f" ({below[name]} not above a shortcut)" if below[name] else "")
        for name in ORDER
        if counts[name]
    )
    meant = _meant(found)
    judged = [key for key in verdicts if meant.get(key)]
    agree = sum(verdicts[key].label == meant[key] for key in judged)
    return f"{said}; {agree} of {len(judged)} as they were built to be" if judged else said


def _exact(found: Findings) -> dict[tuple[str, str], Verdict]:
    assert not isinstance(found.classes, str) and not isinstance(found.tasks, str)
    by_curve = tasks.by_curve(found.classes)
    names = tasks.curves(found.tasks, by_curve)
    verdicts = {name: tasks.verdict_of(by_curve, *name) for name in names}
    return {name: verdict for name, verdict in verdicts.items() if verdict is not None}


def _meant(found: Findings) -> dict[tuple[str, str], str]:
    assert not isinstance(found.tasks, str)
    rows = found.tasks.drop_duplicates(["task", "variant"])[["task", "variant", "intended_class"]]
    return {(task, variant): meant for task, variant, meant in rows.to_numpy().tolist() if meant}


def _class_table(found: Findings) -> str:
    meant = _meant(found)
    rows = []
    for (task, variant), v in _exact(found).items():
        threshold = ""
        if v.threshold is not None and v.threshold_interval is not None:
            low, high = v.threshold_interval
            threshold = f"{style.count(v.threshold)} ({style.count(low)} to {style.count(high)})"
        caveats = [f"{w.code}: {w.message}" for w in v.warnings]
        if v.metric_induced:
            caveats.insert(0, "metric_induced: the jump is in the exact match, not in the accuracy by byte")
        rows.append(
            (
                task,
                variant,
                v.label,
                meant.get((task, variant), ""),
                f"{v.effect:+.2f}",
                threshold,
                _success(v.success_rate),
                _shortcut(v),
                "; ".join(caveats),
            )
        )
    header = (
        "task",
        "variant",
        "found",
        "meant",
        "effect",
        "threshold (90%), params",
        "seeds past half of the gain, by size",
        "shortcut, beaten from",
        "caveats",
    )
    return html.table(header, rows, wide=(6, 8))


def _shortcut(verdict: Verdict) -> str:
    """What a guesser without the ability has, and from which size the score is above it and counts."""
    if not np.isfinite(verdict.curve.shortcut):
        return ""
    beaten = verdict.beats_shortcut_from
    return f"{verdict.curve.shortcut:.2f}, {style.count(beaten) if beaten is not None else 'never'}"


def _success(rates: Sequence[dict[str, float]] | None) -> str:
    """Where the seeds part: `0/3 to 20k, 1/3 at 33k, 3/3 from 68k`."""
    if not rates:
        return ""
    runs: list[tuple[str, list[float]]] = []
    for rate in rates:
        share = f"{round(rate['rate'] * rate['seeds'])}/{rate['seeds']:.0f}"
        if runs and runs[-1][0] == share:
            runs[-1][1].append(rate["size"])
        else:
            runs.append((share, [rate["size"]]))
    said = []
    for i, (share, sizes) in enumerate(runs):
        if i == 0:
            said.append(f"{share} to {style.count(sizes[-1])}")
        elif i == len(runs) - 1:
            said.append(f"{share} from {style.count(sizes[0])}")
        else:
            span = "" if len(sizes) == 1 else f" to {style.count(sizes[-1])}"
            said.append(f"{share} at {style.count(sizes[0])}{span}")
    return ", ".join(said)
