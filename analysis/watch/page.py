"""Write what a growing folder says as HTML: a page that asks for its parts again, and those parts.

The parts and the look are the report's, which escapes all that a folder says. The page keeps its place: a part is
put where the old one was only if it is another, and its folds stay as they are.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis.figures import style
from analysis.figures.growing import loss_curves
from analysis.report import html
from analysis.report.answer import caveats
from analysis.report.drawing import inline
from analysis.report.laws import fit_table
from analysis.watch.first_fits import FirstFit
from analysis.watch.follow import Ladder, Run, seconds_left

# In the order of a table.
STATES = ("done", "running", "silent", "diverged", "failed", "queued")
MOST_ROWS = 200
# Besides the report's.
_STYLE = """
body { display: block; max-width: 62rem; }
h2 { display: block; margin: 1.6rem 0 .4rem; }
progress { width: 100%; height: 1.1rem; }
"""
# Asks every few seconds, and says so when nobody answers; a part that is the same is left alone.
_SCRIPT = """
let tag = "";
async function renew() {
  try {
    const answer = await fetch("state?" + new URLSearchParams({since: tag}));
    if (answer.status === 200) {
      tag = answer.headers.get("X-Version");
      const parts = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of parts.querySelectorAll("body > section")) {
        const old = document.getElementById(part.id);
        const open = [...old.querySelectorAll("details[open]")].map(d => d.id);
        if (old.last === part.innerHTML) continue;
        old.last = part.innerHTML;
        old.innerHTML = part.innerHTML;
        for (const id of open) { const d = document.getElementById(id); if (d) d.open = true; }
      }
    }
    document.getElementById("gone").hidden = true;
  } catch (error) { document.getElementById("gone").hidden = false; }
}
renew(); setInterval(renew, SECONDS * 1000);
"""
_SHELL = Markup("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{name} trains</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{style}</style><h1>{name}</h1>
<p id="gone" class="warn" hidden>Nobody answers: the watch has ended, and this is what it said last.</p>
<noscript><p>A script renews this page.</p></noscript>{empty}
<script nonce="{nonce}">{script}</script>""")


def shell(name: str, every: float, nonce: str) -> str:
    """Write the page that a browser opens once; it asks for `state` every so many seconds."""
    return _SHELL.format(
        name=name,
        style=html.stylesheet() + Markup(_STYLE),
        # A large folder takes a while to read where all cores train.
        empty=html.joined(_section(PARTS[0], html.paragraph("Reading ...")), *map(_section, PARTS[1:])),
        nonce=nonce,
        script=Markup(_SCRIPT.replace("SECONDS", f"{every:g}")),
    )


def state(ladder: Ladder, fits: Iterable[FirstFit], busy: bool, curves: Markup) -> str:
    """Write all parts of the page as they are now, with the loss `curves` as they were drawn last."""
    runs = in_order(ladder)
    inner = {
        "progress": _progress(ladder, runs),
        "fits": _fits(list(fits), busy),
        "curves": curves,
        "going": _going([run for run in runs if run.state in ("running", "silent")]),
        "ended": _ended([run for run in runs if run.ended]),
    }
    return html.joined(*(_section(part, inner[part]) for part in PARTS))


def _section(part: str, inner: str = "") -> Markup:
    return Markup('<section id="{}">{}</section>').format(part, inner)


def in_order(ladder: Ladder) -> list[Run]:
    """Sort the runs by ladder, size and horizon."""
    # A trunk, which has no horizon, comes before its branches.
    return sorted(
        ladder.runs.values(),
        key=lambda run: (run.part, run.params, np.nan_to_num(run.planned_in_all, nan=-1.0), run.run_id),
    )


PARTS = ("progress", "going", "fits", "curves", "ended")


def _progress(ladder: Ladder, runs: Sequence[Run]) -> Markup:
    if not ladder.there:
        return html.paragraph(f"{ladder.folder} is not there yet; this page waits for it.")
    if not runs:
        return html.paragraph(f"{ladder.folder} has no runs yet; this page waits for the first.")
    counts = Counter(run.state for run in runs)
    states = [state for state in STATES if counts[state]]
    said = ", ".join(f"{counts[state]} {state}" for state in states)
    planned = [run.planned for run in runs if math.isfinite(run.planned)]
    seen = sum(min(run.seen, run.planned) for run in runs if math.isfinite(run.planned))
    whole = sum(planned)
    share = seen / whole if whole else 0.0
    packs = {run.worker: run.tokens_per_second for run in runs if run.state == "running" and run.worker}
    speed = sum(rate for rate in packs.values() if rate > 0)
    left = seconds_left(runs)
    lines = [
        f"{len(runs)} runs: {said}.",
        f"{style.count(seen)} of {style.count(whole)} tokens ({share:.0%})",
    ]
    if speed:
        lines[-1] += f", {style.count(speed)} a second by {len(packs)} process{'es' * (len(packs) > 1)}"
    lines[-1] += "." if math.isnan(left) else f"; about {duration(left)} left at these speeds."
    if counts["silent"]:
        lines.append("Silent: a process holds the run and has not been heard of for a minute.")
    lines.append("N counts all parameters, embeddings included.")
    header = ["ladder", "N", *states, "tokens"]
    rows = []
    for key in dict.fromkeys((run.part, run.params) for run in runs):
        mine = [run for run in runs if (run.part, run.params) == key]
        own = Counter(run.state for run in mine)
        known = [run for run in mine if math.isfinite(run.planned)]
        tokens = f"{style.count(sum(r.seen for r in known))} of {style.count(sum(r.planned for r in known))}"
        rows.append([key[0], style.count(key[1]), *(own[state] for state in states), tokens])
    bar = Markup('<progress max="1" value="{:.4f}" aria-label="{:.0%} of the tokens"></progress>')
    return html.joined(bar.format(share, share), *map(html.paragraph, lines), _table(header, rows))


def _going(runs: Sequence[Run]) -> Markup:
    if not runs:
        return Markup()
    rows = []
    for run in runs[:MOST_ROWS]:
        share = run.seen / run.planned if run.planned else math.nan
        loss = next((loss for _, loss in reversed(run.trained) if math.isfinite(loss)), math.nan)
        done = f"{share:.0%}" if math.isfinite(share) else "-"
        counts = [style.count(run.planned_in_all), done, style.count(run.tokens_per_second)]
        rows.append([*_about(run), *counts, html.number(loss, 4), run.state])
    header = ["run", "ladder", "N", "kind", "seed", "D", "done", "tokens/s", "loss of the batch", "state"]
    return _titled("At work", _table(header, rows))


def _ended(runs: Sequence[Run]) -> Markup:
    if not runs:
        return Markup()
    lost = [
        f"{run.run_id} ({style.count(run.params)} parameters): {run.state}: {run.reason or 'no reason was written'}"
        for run in runs
        if run.state != "done"
    ]
    rows = []
    for run in runs[:MOST_ROWS]:
        loss = run.evaluated[-1][1] if run.evaluated else math.nan
        rows.append([*_about(run), style.count(run.step * run.batch), html.number(loss, 5), run.state])
    more = f", the first {MOST_ROWS}" if len(runs) > MOST_ROWS else ""
    header = ["run", "ladder", "N", "kind", "seed", "tokens", "loss", "outcome"]
    return _titled(
        "Ended",
        html.box("warn", *lost[:MOST_ROWS]) if lost else Markup(),
        html.folded(f"{len(runs)} runs{more}", _table(header, rows), mark="all-ended"),
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """Write a table of runs; of one ladder without the column that names it."""
    kept = [i for i, title in enumerate(header) if title != "ladder" or any(row[i] for row in rows)]
    return html.table([header[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _about(run: Run) -> list[object]:
    said = run.spec.get("kind", "run"), run.spec.get("seed", "")
    return [run.run_id, run.part, style.count(run.params), *said]


def _titled(title: str, *inner: Markup) -> Markup:
    return html.joined(Markup("<h2>{}</h2>").format(title), *inner)


def _fits(fits: Sequence[FirstFit], busy: bool) -> Markup:
    parts = [_fit(one) for one in fits]
    if busy:
        parts.append(html.paragraph("A fit is at work.", kind="small"))
    return _titled("First fits", *parts) if parts else Markup()


def _fit(one: FirstFit) -> Markup:
    name = f"{one.part}: " if one.part else ""
    if isinstance(one.forecast, str):
        return html.paragraph(name + one.forecast)
    fitted = one.forecast.fit
    lines = [f"{name}{fitted.form.name}, L = {fitted.form.equation}, on {one.runs} finished runs."]
    for count, p in reversed(one.widths):
        width = 100 * (p.upper - p.lower) / (2 * p.loss)
        lines.append(
            f"From {count} runs, of {one.target} ({style.count(p.params or math.nan)} parameters, "
            f"{style.count(p.tokens or math.nan)} tokens): {p.loss:.4f}, {p.level:.0%} interval {p.lower:.4f} to "
            f"{p.upper:.4f}, half of it {width:.2g}% of the loss."
        )
    return html.joined(
        *map(html.paragraph, lines),
        caveats(one.forecast.warnings),
        html.folded("Parameters", fit_table(fitted), mark=f"fit-{one.part}"),
    )


def curves(runs: Sequence[Run]) -> Markup:
    """Draw the losses of every ladder so far."""
    drawn = []
    for number, part in enumerate(dict.fromkeys(run.part for run in runs)):
        data = curves_data([run for run in runs if run.part == part])
        if len(data):
            counts = f"{data['run_id'].nunique()} runs of {data['params'].nunique()} sizes"
            shows = f"Losses over tokens of {counts}, down to {data['loss'].min():.4g}"
            with style.styled():
                figure = loss_curves(data)
                picture = inline(figure, style.svg(figure).decode(), f"losses-{number}", shows)
            drawn += [*([html.paragraph(part)] if part else []), picture]
    if not drawn:
        return Markup()
    said = "Dots: losses on held-out text; thin lines: of the batches of runs at work."
    return _titled("Losses", html.paragraph(said, kind="small"), *drawn)


def curves_data(runs: Sequence[Run]) -> pd.DataFrame:
    """Make the table of `figures.growing.loss_curves`."""
    points = [
        (run.run_id, run.params, series, tokens, loss)
        for run in runs
        for series, kept in (("evaluated", run.evaluated), ("batch", run.trained))
        if series == "evaluated" or not run.ended
        for tokens, loss in kept
    ]
    data = pd.DataFrame(points, columns=["run_id", "params", "series", "tokens", "loss"])
    return data[data["tokens"].gt(0) & data["loss"].gt(0) & data["params"].gt(0)]


def duration(seconds: float) -> str:
    """Write a time for people: 45 s, 12 min, 3.5 h, 2.1 days."""
    for unit, name, from_ in ((86400, "days", 172800), (3600, "h", 5400), (60, "min", 90)):
        if seconds >= from_:
            return f"{seconds / unit:.2g} {name}"
    return f"{seconds:.0f} s"
