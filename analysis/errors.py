"""What an analysis can say besides its answer: the input is wrong, or the answer is not to be trusted."""

from dataclasses import dataclass


class UserError(Exception):
    """A person's mistake: one line that names the field or row, its value and what would be right. Exit 2."""


@dataclass(frozen=True)
class Warn:
    """A caveat on an answer: a word from the fixed list of its verb, and a sentence for a person."""

    code: str
    message: str
