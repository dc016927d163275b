"""How well whole curves foretell what was held out: horizons, decay shares, schedules, the largest size.

    python -m benchmarks.curves TABLE [--main "wsd 0.2"] [--seeds 3,4,5]
        [--schedule schedule=wsd,decay_share=.2,warmup_tokens=35840]

Each horizon of the main schedule (the one with most ends) is held out in turn, with its trunks left in; then every
other schedule and share, from the main one alone and from all others; then the largest size. Errors are of single
runs' last evaluations, in percent of loss. Beside the laws of curves: the law of ends alone with what its runs had
shown (`+ luck`) and without (what `extrapolate` does), a line through the run's own two nearest ends, and its own
end under the schedule that was trained.
"""

import argparse

import numpy as np
from jaxtyping import Bool, Float

from analysis.arrays import Array
from analysis.curves.fitted import ENDS_ALONE, fit_curves
from analysis.curves.laws import CURVE_LAWS
from analysis.curves.points import Points, read_points
from analysis.tables.load import load_table
from analysis.verbs.curves import pairs


def trials(points: Points, main: str) -> list[tuple[str, str, Bool[np.ndarray, " n"]]]:
    """List what is held out: a name, the schedule that is judged ("" for all of them), and the rows."""
    label = np.array([s.label for s in points.schedules])
    ended, falls = points.ended, np.isfinite(points.horizon)
    kinds, counts = np.unique(label[ended], return_counts=True)
    main = main or kinds[np.argmax(counts)]
    horizons = np.unique(points.horizon[ended & (label == main)])
    found = []
    if len(horizons) > 1:
        found += [(f"{main} to {h:.3g}", main, (label == main) & (points.horizon == h)) for h in horizons]
    others = [kind for kind in kinds if kind != main]
    found += [(f"{kind}, from {main} alone", kind, falls & (label != main)) for kind in others]
    found += [
        (f"{kind}, from all others", kind, falls & (label == kind)) for kind in kinds if len(others) > 1
    ]
    return [*found, ("largest size", "", points.size == points.size.max())]


def line(points: Points, ends: Points) -> Float[Array, " m"]:
    """Draw a line through each run's own two nearest ends, log loss over log tokens; NaN without two."""
    found = np.full(len(ends), np.nan)
    for i, run in enumerate(ends.run):
        alike = np.array([s.label == ends.schedules[i].label for s in points.schedules])
        mine = points.ended & alike & (points.run == run)
        x, y = np.log(points.x["tokens"][mine]), np.log(points.loss[mine])
        at = np.log(ends.x["tokens"][i])
        if len(np.unique(x)) > 1:
            order = np.argsort(x)
            j = int(np.clip(np.searchsorted(x[order], at), 1, len(x) - 1))
            (x0, x1), (y0, y1) = x[order][j - 1 : j + 1], y[order][j - 1 : j + 1]
            found[i] = y0 + (y1 - y0) * (at - x0) / (x1 - x0)
    return found


def same_end(points: Points, ends: Points) -> Float[Array, " m"]:
    """Take each run's own end at the same horizon under the schedule that was trained: no schedule matters; NaN
    without one."""
    found = np.full(len(ends), np.nan)
    for i, (run, horizon) in enumerate(zip(ends.run, ends.horizon, strict=True)):
        mine = points.ended & (points.run == run) & (points.horizon == horizon)
        found[i] = np.log(points.loss[mine]).mean() if mine.any() else np.nan
    return found


def main() -> None:
    """Print one row a trial and method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table")
    parser.add_argument("--seeds", default="", help="those that are fitted and judged (all)")
    parser.add_argument("--main", default="", help='the main schedule, such as "wsd 0.2"')
    parser.add_argument("--schedule", default="", help="columns that the table lacks")
    args = parser.parse_args()
    table = load_table(args.table)
    if args.seeds:
        table = table[table["seed"].isin([float(seed) for seed in args.seeds.split(",")])]
    points = read_points(table, pairs(args.schedule, "--schedule"))
    print(
        f"{'held out':<32}{'ends':>5}  {'method':<22}{'error %':>8}{'bias %':>8}{'seeds’ mean %':>15}{'in 90%':>8}"
    )
    for what, kind, out in trials(points, args.main):
        rest, ends = points.keep(~out), points.keep(out & points.ended)
        ends = ends.keep(np.array([kind in ("", s.label) for s in ends.schedules]))
        truth = np.log(ends.loss)
        rows: list[tuple[str, Float[Array, " m"], Float[Array, " m"] | None]] = []
        for law in CURVE_LAWS:
            logs, deviation = fit_curves(law, rest).predict(ends.x, ends.size, ends.run)
            rows.append((law.name, logs[0] - truth, deviation))
        if rest.ended.sum() >= 2 * len(ENDS_ALONE.names):
            alone = fit_curves(ENDS_ALONE, rest.keep(rest.ended))
            logs, deviation = alone.predict(ends.x, ends.size, ends.run)
            rows.append(("ends alone + luck", logs[0] - truth, deviation))
            rows.append(("ends alone", np.log(ENDS_ALONE.predict(alone.params, dict(ends.x))) - truth, None))
        rows.append(("line of own ends", line(rest, ends) - truth, None))
        rows.append(("own end, as trained", same_end(rest, ends) - truth, None))
        for name, error, deviation in rows:
            if np.isnan(error).all():
                continue
            place = np.unique(np.stack([ends.size, ends.horizon]), axis=1, return_inverse=True)[1].ravel()
            known = [error[(place == p) & np.isfinite(error)] for p in np.unique(place)]
            means = [abs(float(e.mean())) for e in known if len(e)]
            inside = "" if deviation is None else f"{100 * np.mean(np.abs(error) < 1.645 * deviation):.0f}"
            print(
                f"{what:<32}{len(error):>5}  {name:<22}{100 * np.nanmean(np.abs(error)):>8.2f}"
                f"{100 * np.nanmean(error):>+8.2f}{100 * np.mean(means):>15.2f}{inside:>8}",
                flush=True,
            )


if __name__ == "__main__":
    main()
