"""From plain mappings to frozen dataclasses; a wrong key, type or value is one line."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from lmscale.errors import UserError

T = TypeVar("T")


def build(kind: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Make a `kind` of a plain mapping; an unknown key, a missing one or a wrong type is a UserError naming it."""
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise UserError(f"{path}{key}={values[key]}: unknown key; {_known(kind, path, str(key))}")
    for key, f in fields.items():
        if key not in values and f.default is f.default_factory is dataclasses.MISSING:
            raise UserError(f"{path}{key}: missing; give a {_name(hints[key])}")
    return kind(**{key: _cast(hints[key], value, f"{path}{key}") for key, value in values.items()})


def unknown_key(kind: Any, name: str) -> str | None:
    """Say why the dotted `name` is no field of `kind`; None inside a mapping, whose keys are free."""
    path = ""
    for key in name.split("."):
        hints = typing.get_type_hints(kind)
        if key not in hints:
            return f"{name}: unknown key; {_known(kind, path, key)}"
        if not dataclasses.is_dataclass(hints[key]):
            break
        kind, path = hints[key], f"{path}{key}."
    return None


def is_list(kind: Any, name: str) -> bool:
    """Tell whether the dotted `name` is a field of `kind` that holds a list."""
    for key in name.split("."):
        if not dataclasses.is_dataclass(kind):
            return False
        kind = typing.get_type_hints(kind).get(key)
    return typing.get_origin(kind) is tuple


def _known(kind: type, path: str, key: str) -> str:
    fields = [f.name for f in dataclasses.fields(kind)]
    renamed = getattr(kind, "renamed", {})
    if key in renamed:
        return f"it is called {path}{renamed[key]}"
    return nearest(path, key, fields)


def nearest(path: str, key: str, known: Iterable[str]) -> str:
    """Say which of the known keys below `path` was meant, or which there are."""
    known = sorted(known)
    return did_you_mean(key, known, path) or f"known are {', '.join(path + k for k in known)}"


def did_you_mean(word: str, known: Iterable[str], path: str = "") -> str:
    """Ask for the known word that is nearest to a misspelt one, with `path` before it; "" where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {path}{near[0]}?" if near else ""


def one_of(word: str, known: Iterable[str]) -> str:
    """Say which of the known words was meant, and all that there are."""
    return f"{did_you_mean(word, known)} there are {', '.join(known)}".lstrip()


def _cast(hint: Any, value: Any, path: str) -> Any:
    """`value` as `hint`: numbers widen (1 -> 1.0, 1e6 -> 1000000), nothing else is guessed."""
    if isinstance(value, int) and abs(value) >= 2**63:
        raise UserError(f"{path}={str(value)[:20]}...: must be a number of at most 64 bits")
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise UserError(f"{path}={value}: must be a group of keys, such as {path}.name")
        return build(hint, value, f"{path}.")  # type: ignore[arg-type]
    if hint is Any:
        return value
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for option in typing.get_args(hint):
            try:
                return _cast(option, value, path)
            except UserError:
                continue
    elif origin is tuple:
        if not isinstance(value, list | tuple | Mapping | None):
            raise UserError(f"{path}={value}: must be a {_name(hint)}, such as {path}=[{value}]")
        if isinstance(value, list | tuple):
            return tuple(
                _cast(typing.get_args(hint)[0], item, f"{path}[{i}]") for i, item in enumerate(value)
            )
    elif origin is dict:
        if isinstance(value, Mapping):
            inner = typing.get_args(hint)[1]
            return {str(key): _cast(inner, item, f"{path}.{key}") for key, item in value.items()}
    elif hint is type(None):
        if value is None:
            return None
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif hint is int:
        if isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
            if abs(value) >= 2**63:
                raise UserError(f"{path}={value}: must be a number of at most 64 bits")
            return int(value)
    elif isinstance(value, hint):
        return value
    raise UserError(f"{path}={value}: must be a {_name(hint)}, not {type(value).__name__}")


def _name(hint: Any) -> str:
    """A type in words for an error message."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(option) for option in typing.get_args(hint))
    if origin is tuple:
        return f"list of {_name(typing.get_args(hint)[0])}s"
    if origin is dict:
        return "mapping"
    words = {float: "finite number", int: "whole number", str: "text", bool: "yes or no", type(None): "null"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def among(name: str, value: str, registry: Iterable[str]) -> None:
    """Refuse a name that no entry of the registry has."""
    if value not in registry:
        raise UserError(f"{name}={value}: no such {name.split('.')[-1]}; {one_of(value, registry)}")


def positive(name: str, value: float) -> None:
    if value <= 0:
        raise UserError(f"{name}={value}: must be above 0")


def at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise UserError(f"{name}={value}: must be at least {least}")


def at_most(name: str, value: float, most: float) -> None:
    if value > most:
        raise UserError(f"{name}={value}: must be at most {most}")


def between(name: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        raise UserError(f"{name}={value}: must lie between {low} and {high}")


def unread(group: str, config: Any, fields: Iterable[str], read: Iterable[str], by: str) -> None:
    """Refuse a value other than the default in a field that the kind named by the field `by` does not read."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in fields:
        value = getattr(config, name)
        if name not in read and value != defaults[name]:
            raise UserError(f"{group}.{name}={value}: {group}.{by}={getattr(config, by)} does not read it")
