"""The kind of text that each byte is, so that a loss can be split: white space, words, strings, comments.

Python is lexed (a regular expression from the start of the file); other text has no keywords, strings or
comments, and its words count as identifiers.
"""

import keyword
import re
import string

import numpy as np

CLASSES = (
    "white_space",
    "punctuation",
    "keyword",
    "identifier_first",
    "identifier_repeated",
    "digit",
    "comment_word",
    "string",
)
STARTS_WORD = (
    0x80  # beside the class of a token that begins with white space: a new word, not more of the last
)
WHITE, PUNCTUATION, KEYWORD, IDENTIFIER, REPEATED, DIGIT, COMMENT, STRING = range(len(CLASSES))

_PREFIX = rb"(?:[rRbBuUfF]{0,2})"
_PYTHON = re.compile(
    rb"(?P<comment>#[^\n]*)"
    rb"|(?P<string>" + _PREFIX + rb'(?:"""(?:[^\\]|\\.)*?(?:"""|\Z)' + rb"|'''(?:[^\\]|\\.)*?(?:'''|\Z)"
    rb'|"(?:[^"\\\n]|\\.)*(?:"|(?=\n)|\Z)' + rb"|'(?:[^'\\\n]|\\.)*(?:'|(?=\n)|\Z)))"
    rb"|(?P<name>[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)"
    rb"|(?P<number>(?:\d|\.\d)[A-Za-z0-9_.]*(?:(?<=[eE])[+-][0-9_]+[jJ]?)?)",
    re.DOTALL,
)
_OF_GROUP = {"comment": COMMENT, "string": STRING, "name": IDENTIFIER, "number": DIGIT}
_KEYWORDS = frozenset(word.encode() for word in keyword.kwlist)
_SPACES = list(b" \t\n\r\f\v\0")
_DIGITS, _LETTERS = list(b"0123456789"), [*range(128, 256), *map(ord, string.ascii_letters + "_")]
_OF_BYTE = np.full(256, PUNCTUATION, np.uint8)
_OF_BYTE[_SPACES], _OF_BYTE[_DIGITS], _OF_BYTE[_LETTERS] = WHITE, DIGIT, IDENTIFIER


def classify(text: bytes, python: bool) -> np.ndarray:
    """Find the class of each byte of one whole document, uint8 [n], indices into CLASSES.

    White space is white space wherever it stands, in strings and comments too. An identifier is
    `identifier_first` here; whether it repeats depends on what a model can see: `mark_repeats`.
    """
    letters = np.frombuffer(text, np.uint8)
    of_byte: np.ndarray = _OF_BYTE[letters]
    if not python:
        # an apostrophe or a hyphen between letters is of their word
        joins = np.isin(letters[1:-1], [*b"'-"])
        word = of_byte == IDENTIFIER
        of_byte[1:-1][joins & word[:-2] & word[2:]] = IDENTIFIER
        return of_byte
    result = np.full(len(text), PUNCTUATION, np.uint8)
    for match in _PYTHON.finditer(text):
        kind = _OF_GROUP[match.lastgroup or ""]
        if kind == IDENTIFIER and match.group() in _KEYWORDS:
            kind = KEYWORD
        result[match.start() : match.end()] = kind
    result[of_byte == WHITE] = WHITE
    return result


def mark_repeats(tokens: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Mark in `classes` [R, T] of windows `tokens` [R, T] the identifiers that already stand in the same window
    as `identifier_repeated`: those a model could copy. An identifier cut by the window's edge is as it is
    seen. STARTS_WORD is taken off.
    """
    result = classes & ~np.uint8(STARTS_WORD)
    for row, kinds in enumerate(result):
        seen: set[bytes] = set()
        is_name = kinds == IDENTIFIER
        fresh = is_name & ((classes[row] & STARTS_WORD > 0) | ~np.concatenate([[False], is_name[:-1]]))
        word = np.cumsum(fresh) * is_name
        for number in range(1, int(word.max(initial=0)) + 1):
            place = np.flatnonzero(word == number)
            name = tokens[row, place].tobytes()
            if name in seen:
                result[row, place] = REPEATED
            seen.add(name)
    return result
