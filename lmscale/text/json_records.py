"""Records of JSON files, one after the other: a line each, an array, or pretty-printed; never all in memory."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from lmscale.errors import UserError
from lmscale.text.formats import HEAD, JSON_LINES, Opened

BLANK, BETWEEN = re.compile(r"\s*"), re.compile(r"[\s,]*")


def records(path: Path, found: Opened) -> Iterator[tuple[str, Any]]:
    """Read the values of JSON Lines, of one array, or of objects one after the other however they are broken.

    Yields each with its place in words. UserError names the place that is no JSON.
    """
    head = cast(io.BufferedReader, found.stream).peek(HEAD).lstrip()
    by_line = found.suffix in JSON_LINES or _is_whole(head.partition(b"\n")[0])
    if by_line and not head.startswith(b"["):
        return _lines(path, found.stream)
    return _values(path, found.stream)


def _is_whole(line: bytes) -> bool:
    try:
        DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _lines(path: Path, stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(stream, 1):
        if line.isspace():
            continue
        try:
            yield f"line {number}", DECODER.decode(line.decode())
        except (ValueError, RecursionError) as error:
            raise _no_json(path, f"line {number}", error, "one object a line") from error


def _values(path: Path, stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Elements of arrays, or values one after the other, with no more in memory than the longest asks for."""
    utf8 = codecs.getincrementaldecoder("utf-8")()
    text, at, number, size, ended = "", 0, 0, HEAD, False
    within = False  # an array
    while True:
        at = (BETWEEN if within else BLANK).match(text, at).end()  # type: ignore[union-attr]
        if text[at : at + 1] == ("]" if within else "["):
            within, at = not within, at + 1
            continue
        error: Exception | None = None
        if at < len(text):
            try:
                value, end = DECODER.raw_decode(text, at)
                at, number, size = end, number + 1, HEAD
                yield f"value {number}", value
                continue
            except (ValueError, RecursionError) as found:
                error = found
        # a value that is cut off fails at the end, or at the beginning of its last string
        cut_off = isinstance(error, json.JSONDecodeError) and (
            error.msg.startswith("Unterminated") or error.pos > len(text) - 16
        )
        if (error is None or cut_off) and not ended:
            try:
                raw = stream.read(size)
                text, at, ended = text[at:] + utf8.decode(raw, final=not raw), 0, not raw
            except UnicodeDecodeError as found:
                raise _no_json(path, f"value {number + 1}", found, "save it as UTF-8") from found
            size *= 2
        elif error is None and not within:
            return
        else:
            error = error or EOFError("the array has no end")
            remedy = "an array of objects, or an object a line"
            raise _no_json(path, f"value {number + 1}", error, remedy) from error


def _no_json(path: Path, where: str, error: Exception, remedy: str) -> UserError:
    why = "nested too deeply" if isinstance(error, RecursionError) else error
    return UserError(f"data.files={path}: {where} is not JSON ({why}); {remedy}")


def _whole(digits: str) -> int | float:
    """A whole number, or infinity beyond what Python reads; no text either way."""
    return int(digits) if len(digits) < 4000 else float(digits)


DECODER = json.JSONDecoder(parse_int=_whole)
