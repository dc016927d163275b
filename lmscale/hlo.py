"""What a compiled program does, read from XLA's text of it: FLOPs of its matrix products and its communication.

XLA's own count takes the body of a loop once and adds elementwise work; here products alone count, as in `flops`,
and what stands in a loop counts as often as it runs. No jax: it is text.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}
BYTES |= {"f64": 8, "s64": 8, "u64": 8}
_HEAD = re.compile(r"(?:ENTRY )?%?([\w.\-]+) (?:\([^\n]*\) )?(?:-> [^\n]*)?\{$")
_LINE = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)")
_ARRAY = re.compile(r"\b(" + "|".join(BYTES) + r")\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|branch_computations|called_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass
class Work:
    """Of one execution on one device. flops: of matrix products. counts, bytes: by kind of communication; bytes are
    of the larger of an operation's two sides, the array before it is split or after it is put together."""

    flops: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)


def work_of(text: str) -> Work:
    """Read a compiled module. A loop whose trips XLA does not know, such as that over the steps of a dispatch,
    counts once."""
    blocks: dict[str, list[re.Match[str]]] = {}
    entry, name = "", ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name = head[1]
            blocks[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif name and (found := _LINE.match(line)):
            blocks[name].append(found)
    total = Work()
    _add(total, entry, 1, blocks)
    return total


def _add(total: Work, name: str, times: int, blocks: dict[str, list[re.Match[str]]]) -> None:
    types = {line[1]: line[2] for line in blocks[name]}
    for line in blocks[name]:
        _, result, operation, rest = line.groups()
        inputs = rest.partition(")")[0]
        if operation == "dot":
            total.flops += times * 2 * _elements(result) * _contracted(rest, types)
        elif operation.removesuffix("-start") in COLLECTIVES:
            kind = operation.removesuffix("-start")
            given = [types[part] for part in re.findall(r"%([\w.\-]+)", inputs) if part in types]
            total.counts[kind] += times
            total.bytes[kind] += times * max(_bytes(result), sum(map(_bytes, given)))
        elif operation != "all-reduce":
            trips = _TRIPS.search(rest) if operation == "while" else None
            for called in _CALLED.findall(rest):
                for inner in re.findall(r"[\w.\-]+", called):
                    if inner in blocks:
                        _add(total, inner, times * int(trips[1] if trips else 1), blocks)


def _shape(kind: str) -> list[int]:
    found = _ARRAY.search(kind)
    return [int(size) for size in found[2].split(",") if size] if found else []


def _elements(kind: str) -> int:
    return math.prod(_shape(kind))


def _bytes(kind: str) -> int:
    return sum(
        BYTES[name] * math.prod(int(size) for size in sizes.split(",") if size)
        for name, sizes in _ARRAY.findall(kind)
    )


def _contracted(rest: str, types: dict[str, str]) -> int:
    """The product of the sizes that a dot sums over, by its left side."""
    left = re.match(r"\s*(?:[^%,]*\[[^\]]*\]\S* )?%?([\w.\-]+)", rest)
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
    shape = _shape(types[left[1]]) if left else []
    return math.prod(shape[int(axis)] for axis in (axes[1] if axes else "").split(",") if axis)
