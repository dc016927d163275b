"""Write what a growing folder says as HTML: a page that asks for its parts again, and those parts.

Everything from the folder is escaped. The page keeps its place: a part is put where the old one was only if it is
another, and its folds stay as they are.
"""

import html
import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.growing import loss_curves
from analysis.watch.first_fits import FirstFit
from analysis.watch.follow import Ladder, Run, seconds_left

# In the order of a table.
STATES = ("done", "running", "silent", "diverged", "failed", "queued")
MOST_ROWS = 200
_STYLE = """
:root { color-scheme: light dark; --ink: #222; --faint: #5c5c5c; --paper: #fff; --line: #ddd; --grave: #CC3311; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --faint: #a8a8a8; --paper: #15181c; --line: #3a3d42; --grave: #FF8A6B; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       max-width: 62rem; padding: 1.2rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
p { margin: .4rem 0; max-width: 48rem; } .faint { color: var(--faint); font-size: .88rem; }
.grave { color: var(--grave); } .wide { overflow-x: auto; } progress { width: 100%; height: 1.1rem; }
table { border-collapse: collapse; font-size: .88rem; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; white-space: nowrap;
         border-bottom: 1px solid var(--line); }
img { max-width: 100%; height: auto; } summary { cursor: pointer; }
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
        if (old.dataset.html === part.innerHTML) continue;
        old.dataset.html = part.innerHTML;
        old.innerHTML = part.innerHTML;
        for (const id of open) { const d = document.getElementById(id); if (d) d.open = true; }
      }
    }
    document.getElementById("gone").hidden = true;
  } catch (error) { document.getElementById("gone").hidden = false; }
}
renew(); setInterval(renew, SECONDS * 1000);
"""


def shell(name: str, every: float, nonce: str) -> str:
    """Write the page that a browser opens once; it asks for `state` every so many seconds."""
    empty = "".join(f'<section id="{part}"></section>' for part in PARTS)
    script = _SCRIPT.replace("SECONDS", f"{every:g}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(name)} trains</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><h1>{_text(name)}</h1>"
        '<p id="gone" class="grave" hidden>Nobody answers: the watch has ended, and this is what it said last.</p>'
        f"<noscript><p>A script renews this page.</p></noscript>{empty}"
        f'<script nonce="{nonce}">{script}</script>'
    )


def state(ladder: Ladder, fits: Iterable[FirstFit], busy: bool, curves: str) -> str:
    """Write all parts of the page as they are now, with the loss `curves` as they were drawn last."""
    runs = in_order(ladder)
    inner = {
        "progress": _progress(ladder, runs),
        "fits": _fits(list(fits), busy),
        "curves": curves,
        "going": _going([run for run in runs if run.state in ("running", "silent")]),
        "ended": _ended([run for run in runs if run.ended]),
    }
    return "".join(f'<section id="{part}">{inner[part]}</section>' for part in PARTS)


def in_order(ladder: Ladder) -> list[Run]:
    """Sort the runs by ladder, size and horizon."""
    # A trunk, which has no horizon, comes before its branches.
    return sorted(
        ladder.runs.values(),
        key=lambda run: (run.part, run.params, np.nan_to_num(run.planned_in_all, nan=-1.0), run.run_id),
    )


PARTS = ("progress", "going", "fits", "curves", "ended")


def _progress(ladder: Ladder, runs: Sequence[Run]) -> str:
    if not ladder.there:
        return f"<p>{_text(ladder.folder)} is not there yet; this page waits for it.</p>"
    if not runs:
        return f"<p>{_text(ladder.folder)} has no runs yet; this page waits for the first.</p>"
    counts = Counter(run.state for run in runs)
    said = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
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
    header = ["ladder", "N", *STATES, "tokens", "of"]
    rows = []
    for key in dict.fromkeys((run.part, run.params) for run in runs):
        mine = [run for run in runs if (run.part, run.params) == key]
        own = Counter(run.state for run in mine)
        known = [run for run in mine if math.isfinite(run.planned)]
        tokens = [sum(run.seen for run in known), sum(run.planned for run in known)]
        cells = [str(own[state]) if own[state] else "" for state in STATES]
        rows.append([key[0], style.count(key[1]), *cells, *map(style.count, tokens)])
    bar = f'<progress max="1" value="{share:.4f}" aria-label="{share:.0%} of the tokens"></progress>'
    return bar + "".join(f"<p>{_text(line)}</p>" for line in lines) + _table(header, rows)


def _going(runs: Sequence[Run]) -> str:
    if not runs:
        return ""
    rows = []
    for run in runs[:MOST_ROWS]:
        share = run.seen / run.planned if run.planned else math.nan
        loss = next((loss for _, loss in reversed(run.trained) if math.isfinite(loss)), math.nan)
        done = f"{share:.0%}" if math.isfinite(share) else ""
        cells = [run.part, style.count(run.params), run.spec.get("kind", "run"), run.spec.get("seed", "")]
        cells += [style.count(run.planned_in_all), done, style.count(run.tokens_per_second)]
        rows.append([run.run_id, *cells, f"{loss:.4g}" if math.isfinite(loss) else "", run.state])
    header = ["run", "ladder", "N", "kind", "seed", "D", "done", "tokens/s", "loss of the batch", "state"]
    return f"<h2>At work</h2>{_table(header, rows)}"


def _ended(runs: Sequence[Run]) -> str:
    lost = [run for run in runs if run.state != "done"]
    said = "".join(
        f'<p class="grave">{_text(run.run_id)} ({_text(style.count(run.params))} parameters): {run.state}: '
        f"{_text(run.reason or 'no reason was written')}</p>"
        for run in lost[:MOST_ROWS]
    )
    rows = []
    for run in runs[:MOST_ROWS]:
        loss = run.evaluated[-1][1] if run.evaluated else math.nan
        cells = [run.part, style.count(run.params), run.spec.get("kind", "run"), run.spec.get("seed", "")]
        cells += [style.count(run.step * run.batch), f"{loss:.4f}" if math.isfinite(loss) else ""]
        rows.append([run.run_id, *cells, run.state])
    if not rows:
        return ""
    more = f", the first {MOST_ROWS}" if len(runs) > MOST_ROWS else ""
    header = ["run", "ladder", "N", "kind", "seed", "tokens", "loss", "outcome"]
    return (
        f'<h2>Ended</h2>{said}<details id="all-ended"><summary>{len(runs)} runs{more}</summary>'
        f"{_table(header, rows)}</details>"
    )


def _fits(fits: Sequence[FirstFit], busy: bool) -> str:
    parts = [_fit(one) for one in fits]
    if busy:
        parts.append('<p class="faint">A fit is at work.</p>')
    return f"<h2>First fits</h2>{''.join(parts)}" if parts else ""


def _fit(one: FirstFit) -> str:
    name = f"{one.part}: " if one.part else ""
    if isinstance(one.forecast, str):
        return f"<p>{_text(name + one.forecast)}</p>"
    fitted = one.forecast.fit
    lines = [f"{name}{fitted.form.name}, L = {fitted.form.equation}, on {one.runs} finished runs."]
    for count, p in reversed(one.widths):
        width = 100 * (p.upper - p.lower) / (2 * p.loss)
        lines.append(
            f"From {count} runs, of {one.target} ({style.count(p.params or math.nan)} parameters, "
            f"{style.count(p.tokens or math.nan)} tokens): {p.loss:.4f}, {p.level:.0%} interval {p.lower:.4f} to "
            f"{p.upper:.4f}, half of it {width:.2g}% of the loss."
        )
    frame = fitted.to_frame()
    values = frame.map(lambda value: f"{value:.4g}").reset_index().to_numpy().tolist()
    about = "".join(
        f'<p class="{"grave" if warn.code.grave else "faint"}">{_text(f"{warn.code}: {warn.message}")}</p>'
        for warn in one.forecast.warnings
    )
    table = _table(["", "value", "standard error", f"{fitted.level:.0%} from", "to"], values)
    said = "".join(f"<p>{_text(line)}</p>" for line in lines)
    return f'{said}{about}<details id="fit-{_text(one.part)}"><summary>Parameters</summary>{table}</details>'


def curves(runs: Sequence[Run]) -> str:
    """Draw the losses of every ladder so far."""
    drawn = []
    for part in dict.fromkeys(run.part for run in runs):
        data = curves_data([run for run in runs if run.part == part])
        if len(data):
            with style.styled():
                picture = style.data_uri(loss_curves(data))
            counts = f"{data['run_id'].nunique()} runs of {data['params'].nunique()} sizes"
            alt = f"Losses over tokens of {counts}, down to {data['loss'].min():.4g}"
            drawn.append(f'<p>{_text(part)}</p><img src="{picture}" alt="{_text(alt)}">')
    if not drawn:
        return ""
    said = "Dots: losses on held-out text; thin lines: of the batches of runs at work."
    return f'<h2>Losses</h2><p class="faint">{said}</p>{"".join(drawn)}'


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


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
