"""The two things that an analysis says besides its answer: the input is wrong, or it is not to be trusted.

Every warning and status is registered here with its sentence; the tables of docs/ are made from it
(`python -m benchmarks.docs_tables`).
"""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class UserError(Exception):
    """A person's mistake: one line that names the field or row, its value and what would be right. Exit 2.

    Messages are written in the command's options. In Python, where they are not what a person types, `str` says
    them in arguments.
    """

    def __str__(self) -> str:
        message = super().__str__()
        return message if _commanded else in_python(message)

    def _render_traceback_(self) -> list[str]:
        """Show the line alone in a notebook: IPython asks for this."""
        return [f"{type(self).__name__}: {self}"]


_commanded = False


@contextlib.contextmanager
def as_command() -> Iterator[None]:
    """Let errors speak of options: what the body does was asked for by a command."""
    global _commanded
    before, _commanded = _commanded, True
    try:
        yield
    finally:
        _commanded = before


_BESIDE = re.compile(r" \(--[a-z][^()]*(?:\([^()]*\)[^()]*)*\)")
_VERB = re.compile(r"`import (--[^`]*)`")
_PAIRS = r"\w+=[^\s,;:()]+(?:,[^\s,;:()]+)*"
_FLAG = re.compile(rf"--([a-z][\w-]*)(?: ({_PAIRS})| (?=['\"]|[A-Z]{{2,}}\b|[\d.]))?")
# Options whose arguments in Python have other names.
_NAMES = {"budget": "budgets", "target": "targets", "source": "source_kind"}
_MAPPINGS = ("at", "schedule")


def in_python(message: str) -> str:
    """Say a message with Python's arguments in place of the command's options: where="...", not --where "..."."""

    def argument(found: re.Match[str]) -> str:
        name = _NAMES.get(found[1], found[1].replace("-", "_"))
        if found[2] and name in _MAPPINGS:
            pairs = (pair.partition("=") for pair in found[2].split(","))
            return f"{name}={{{', '.join(f'{chr(34)}{key}{chr(34)}: {value}' for key, _, value in pairs)}}}"
        if found[2]:
            return f'{name}="{found[2]}"'
        return f"{name}=" if found[0].endswith(" ") else name

    return _FLAG.sub(argument, _BESIDE.sub("", _VERB.sub(r"\1", message)))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean X? ` for the nearest known word, whatever its case, nothing where none is near."""
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), lowered, n=1)
    return f"did you mean {lowered[near[0]]}? " if near else ""


def shortened(names: Sequence[str], limit: int = 14) -> str:
    """Join names for one line; the tail of a long list is counted and not printed."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


class Code(StrEnum):
    """A warning: its word in the JSON, its sentence in the docs, and whether it is grave (no answer to rest on)."""

    sentence: str
    grave: bool

    def __new__(cls, word: str, sentence: str, grave: bool = False) -> "Code":
        member = str.__new__(cls, word)
        member._value_, member.sentence, member.grave = word, sentence, grave
        return member

    # of a law
    MULTI_BASIN = "multi_basin", "minima within 1% of the best have other exponents", True
    BOUND_HIT = "bound_hit", "E = 0, an exponent at its bound, or a vanished term"
    NOT_IDENTIFIED = (
        "not_identified",
        "a nearly singular Jacobian, or an exponent whose resamples span its own size",
        True,
    )
    POOR_FIT = (
        "poor_fit",
        "residuals follow a curve that the form does not have, or are above 10% of loss",
        True,
    )
    BEND = (
        "bend",
        "without the rows of highest loss, the rolling hold-outs are more than 3 times better",
        True,
    )
    TOO_FEW_RUNS = "too_few_runs", "fewer rows than twice the parameters", True
    FEW_BUDGETS = "few_budgets", "fewer than three values of a column, or three budgets"
    CONSTANT_RATIO = "constant_ratio", "tokens per parameter hardly vary", True
    FLOOR_ABOVE_DATA = "floor_above_data", "E is above the least loss of the table"
    FLOOR_DISAGREES = (
        "floor_disagrees",
        "the rows speak against the floor (or the k) that was given, or against one floor of all groups",
        True,
    )
    DUPLICATE_ROWS = "duplicate_rows", "rows that repeat another exactly"
    LARGE_TABLE = "large_table", "intervals come from subsets of more than 20,000 rows"
    FAR_BEYOND_TESTED = "far_beyond_tested", "a target more than 10 times beyond what hold-outs tested"
    EDGE_OPTIMUM = "edge_optimum", "isoflop: a budget's best size is its smallest or largest"
    EDGE_RATE = "edge_rate", "tune: a rung's best rate is the lowest or highest tried"
    FEW_RATES = "few_rates", "tune: a rung with fewer than three rates"
    UNTUNED = (
        "untuned",
        "tune: the rule's rate costs a rung more than half a percent of loss, or was not tried",
    )
    # of a comparison
    NOT_TUNED = (
        "not_tuned",
        "compare: a recipe at the other's learning rates without rates of its own tried, or tried at an edge",
    )
    DIFFERS_MORE = "differs_more", "compare: the recipes differ in more than was named", True
    MISFIT = (
        "misfit",
        "compare: a recipe's rows have a structure that no law has; the interval has its size in it",
    )
    FEW_RUNS = (
        "few_runs",
        "compare: fewer than nine runs of a recipe: intervals held 77% of made targets, 90% asked",
    )
    UNTESTED = "untested", "too few rows to hold some out and try the form on them"
    # of a law's table
    RISING_LOSS = "rising_loss", "loss rises with what a law lets it fall with: is it a score?", True
    PERPLEXITY = "perplexity", "losses beyond any in nats or bits per token: is it a perplexity?"
    UNITS = "units", "flops, params and tokens that cannot be in units of one", True
    CHECKPOINTS = (
        "checkpoints",
        "rows that look like checkpoints of one schedule, not like ends of runs",
        True,
    )
    MIXED_RUNS = (
        "mixed_runs",
        "runs of the same params and tokens that differ in a word (a data set, an optimiser)",
        True,
    )
    REPEATED_RUNS = (
        "repeated_runs",
        "runs of the same params and tokens whose losses differ by more than seeds' do",
    )
    FLOPS_HOLES = "flops_holes", "rows without flops, which the law does not read"
    GROUP_COLUMN = "group_column", "the column group has one value or holes, and was not asked for"
    FEW_GROUPS = "few_groups", "fewer than 8 groups are resampled"
    # of whole loss curves
    MIS_SCALED = "mis_scaled", "a rung leaves the collapse of the normalised curves by more than seeds do"
    CURVES_WORSE = "curves_worse", "held-out ends are forecast better by the ends alone than by whole curves"
    UNSEEN_SCHEDULE = "unseen_schedule", "a target's schedule is one of which the table has no run"
    # of a task's curve
    NON_MONOTONE = "non_monotone", "the score rises and then falls: no class is meant for it"
    FEW_SIZES = "few_sizes", "fewer than four sizes: a plateau of three and a departure need four"
    UNBOUNDED_SCORE = "unbounded_score", "no score in 0..1: effects are shares of its range"
    UNDERPOWERED = "underpowered", "a jump of three times the least effect would be missed"
    SEEDS_DIFFER = "seeds_differ", "seeds jump at different sizes, or some not at all"
    ONE_SEED = "one_seed", "the class rests on one seed, or on sizes with one seed"
    NOT_SIGNIFICANT = "not_significant", "the likeliest class is a jump that the tests do not carry"
    METRIC_INDUCED = "metric_induced", "another score of the same answers rises smoothly below the threshold"
    SHORTCUT = "shortcut", "the score is never above that of a guess without the ability"


class Status(StrEnum):
    """The trust that an answer deserves."""

    sentence: str

    def __new__(cls, word: str, sentence: str) -> "Status":
        member = str.__new__(cls, word)
        member._value_, member.sentence = word, sentence
        return member

    OK = "ok", "no warning"
    CAUTION = "caution", "read the warnings"
    UNTRUSTED = "untrusted", "one of the warnings is grave"


@dataclass(frozen=True)
class Warn:
    """A caveat on an answer: its registered code, and a sentence with this answer's numbers."""

    code: Code
    message: str


def grave_codes(warnings: Iterable[Warn]) -> str:
    """Name the grave ones among warnings, each once."""
    return ", ".join(dict.fromkeys(warn.code.value for warn in warnings if warn.code.grave))


def status_of(warnings: Iterable[Warn]) -> Status:
    """The status that these warnings leave an answer."""
    codes = {warn.code for warn in warnings}
    return Status.UNTRUSTED if any(code.grave for code in codes) else Status.CAUTION if codes else Status.OK
