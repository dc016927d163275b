"""Numbers of settings and names: 124000000, "124M", and the one size in `pythia-160m` or `bloom-1b7`."""

import re

_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_NUMBER = re.compile(r"([+-]?[\d,_]*\.?\d+(?:[eE][+-]?\d+)?)\s*([kKmMbBtT]?)")
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([kKmMbB])(?![A-Za-z0-9])")
_BLOOMS = re.compile(r"(?<![A-Za-z0-9.])(\d+)([bB])(\d)(?![A-Za-z0-9])")


def number(value: object) -> float | None:
    """Return the number that a setting holds, None for another value."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    found = _NUMBER.fullmatch(str(value).strip())
    return float(re.sub("[,_]", "", found[1])) * _SCALE[found[2].lower()] if found else None


def size_in(name: str) -> float | None:
    """Return the size in a model's or run's name (160m in pythia-160m), None where there is not just one."""
    found = _SIZE.findall(_BLOOMS.sub(r"\1.\3\2", name.replace("_", "-")))
    return float(found[0][0]) * _SCALE[found[0][1].lower()] if len(found) == 1 else None
