"""The one rule of which rows of a table are last evaluations of finished runs, for every verb."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.tables.columns import numbers, row_name
from analysis.tables.science import check_one_science

# Words of trackers besides our own; the first is what a run folder says.
_DONE = ("done", "finished", "completed", "complete", "succeeded", "success")
_NOT_DONE = frozenset(
    [
        "diverged",
        "failed",
        "unfinished",
        "crashed",
        "failure",
        "error",
        "killed",
        "running",
        "queued",
        "pending",
        "stopped",
        "preempted",
        "cancelled",
        "canceled",
        "timeout",
        "oom",
        "nan",
    ]
)
_YES, _NO = frozenset({"yes", "y", "true", "t", "1"}), frozenset({"no", "n", "false", "f", "0", "", "-"})


@dataclass(frozen=True)
class LeftOut:
    """Rows of a table that an answer does not use (labels of its index), and why."""

    reason: str
    rows: tuple[object, ...]

    def to_json(self) -> dict[str, object]:
        shown = [row if isinstance(row, int | str) else str(row) for row in self.rows[:1000]]
        return {"reason": self.reason, "count": len(self.rows), "rows": shown}


def finished_rows(
    table: pd.DataFrame, *, longest: bool = False, mixed: bool = False
) -> tuple[pd.DataFrame, tuple[LeftOut, ...]]:
    """Return the last evaluations of finished runs, labels kept, and the rows left out, by reason.

    A row counts where `outcome` is done, `kind` is not trunk and `final` holds; a checkpoint in the middle of
    a schedule is not a horizon. A column that is not there excludes nothing, so a plain table is taken whole.
    With `longest`, of the runs of one size and seed (and task, variant, metric) only the longest count, by
    `tokens` or `step`. Raises UserError for rows of several sciences, unless they may be `mixed`.
    """
    left_out: list[LeftOut] = []

    def leave_out(keep: "pd.Series[bool]", reason: str) -> None:
        nonlocal table
        if not keep.all():
            left_out.append(LeftOut(reason, tuple(table.index[~keep].tolist())))
            table = table[keep]

    if "outcome" in table.columns:
        done, reason = _finished(table)
        leave_out(done, reason)
    if "kind" in table.columns:
        leave_out(table["kind"].ne("trunk"), "a constant-rate trunk, not a finished schedule")
    if "final" in table.columns:
        leave_out(_is_final(table), "an evaluation in the middle of a schedule")
    if not mixed:
        check_one_science(table)
    order = next((name for name in ("tokens", "step") if name in table.columns), None)
    size = "size" if "size" in table.columns else "params"
    within = [c for c in ("task", "variant", "metric", size, "seed") if c in table.columns]
    if longest and order is not None and within:
        # Runs of the same horizon are all kept: which of them are seeds is the reader's to say.
        spent = numbers(table, order)
        longest_of = spent.groupby([table[name] for name in within], dropna=False).transform("max")
        leave_out(~(spent < longest_of), "a shorter horizon of the same size and seed")
    return table, tuple(left_out)


def _finished(table: pd.DataFrame) -> tuple["pd.Series[bool]", str]:
    """The rows whose outcome says that the run finished, and why the others are left out."""
    words = _words(table["outcome"])
    done = words.isin(_DONE)
    others = sorted(set(words[~done]) - {"", "nan"})
    if not done.any() and not set(others) <= _NOT_DONE:
        held = ", ".join(repr(word) for word in others[:5])
        raise UserError(
            f"column outcome: no row says {', '.join(_DONE)}; it holds {held}; write done for the runs that "
            "finished, or give the column another name"
        )
    counted = [word for word in _DONE[1:] if word in set(words[done])]
    also = f"; {', '.join(counted)} counts as done" if counted else ""
    held = ", ".join(others[:5]) or "not said"
    return done, f"the run did not finish (outcome is not done but {held}{also})"


def _words(column: pd.Series) -> "pd.Series[str]":
    """Return the words of a column, in small letters; 1.0 is 1, and a hole is nothing."""
    codes, values = pd.factorize(column.astype(object))
    words = [str(value).strip().lower().removesuffix(".0") for value in values]
    # A hole has the code -1, which is the last.
    return pd.Series(np.array([*words, ""], dtype=object)[codes], column.index, dtype=object)


def _is_final(table: pd.DataFrame) -> "pd.Series[bool]":
    """The rows that say they are the last of their run: yes, true or 1; blank is no."""
    words = _words(table["final"])
    wrong = ~words.isin(_YES | _NO)
    if wrong.any():
        row = wrong.idxmax()
        raise UserError(
            f"{row_name(table, row)}: final is {table.at[row, 'final']!r}; write yes or no (true, false, 1, 0), "
            "yes for the last evaluation of a run, or give a column that says something else another name"
        )
    return words.isin(_YES)


def last_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the last evaluation of every run, trunks and unfinished ones too; a plain table is taken whole."""
    if "run_id" not in table.columns:
        return table
    return table.drop_duplicates("run_id", keep="last").reset_index(drop=True)


def horizon_of(runs: pd.DataFrame) -> "pd.Series[float]":
    """Return the tokens that a run was to see, where the table says so, or else those it saw."""
    if "horizon_tokens" not in runs.columns:
        return runs["tokens"]
    return pd.to_numeric(runs["horizon_tokens"], errors="coerce").fillna(runs["tokens"])
