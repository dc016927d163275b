"""`--where`: rows chosen by an expression that is parsed, checked against a short list and never executed.

A table may come from anybody, and an expression from a script: pandas' own `query` can call functions.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import UserError, nearest, shortened
from analysis.tables.written import read_numbers

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_ALLOWED = "columns, numbers, 'text', < <= > >= == !=, in [..], and, or, not, + - * / // % ** and brackets"
_LONGEST = 2000


def keep_rows(table: pd.DataFrame, where: str) -> pd.Series:
    """A boolean mask over the rows of `table`: True where the expression holds; a missing value never does.

    Columns are written by name; one that is not a plain word goes in backticks, except that a dot is
    allowed (`loss_text.digit < 2`). Raises UserError, naming the part that is not understood.
    """
    if len(where) > _LONGEST:
        raise UserError(f"--where: {len(where)} characters; at most {_LONGEST} are read")
    quoted: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        name = f"_column_{len(quoted)}_"
        quoted[name] = match.group(1)
        return name

    source = re.sub(r"`([^`]*)`", stand_in, where.strip())
    try:
        tree = ast.parse(source, mode="eval").body
        with np.errstate(all="ignore"):
            mask = _value(tree, table, quoted, where)
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UserError(f"--where {where!r}: not an expression ({reason}); it may hold {_ALLOWED}") from None
    except (RecursionError, MemoryError):
        raise UserError("--where: the expression is nested too deeply") from None
    except TypeError:
        raise UserError(f"--where {where!r}: it compares or adds text and numbers") from None
    if not _is_condition(mask):
        raise UserError(f"--where {where!r}: gives a value and not a condition; compare it, e.g. loss < 3")
    if not isinstance(mask, pd.Series):
        mask = pd.Series(bool(mask), index=table.index)
    return mask


def column_names(where: str, table: pd.DataFrame) -> list[str]:
    """The columns of `table` that the expression mentions, for a message about what it left."""
    return [
        str(name) for name in table.columns if re.search(rf"(?<![\w.]){re.escape(str(name))}(?![\w.])", where)
    ]


def no_such_column(name: str, names: Iterable[Any], what: str) -> UserError:
    """The error for a column that is not there: it names the nearest, or lists what there is."""
    known = [str(n) for n in names]
    hint = nearest(name, known).strip() or f"it has {shortened(known)}"
    return UserError(f"{what}: no column {name!r} in the table; {hint}")


def _value(node: ast.expr, table: pd.DataFrame, quoted: dict[str, str], where: str) -> Any:
    def value(part: ast.expr) -> Any:
        return _value(part, table, quoted, where)

    match node:
        case ast.Name() | ast.Attribute():
            return _column(_dotted(node, quoted), table, where)
        case ast.Constant(value=bool() | int() | float() | str() as constant):
            return constant
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _number(value(operand), where)
            return -number if isinstance(sign, ast.USub) else number
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            return _negated(_condition(value(operand), where))
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as op, right=right):
            return _joined(isinstance(op, ast.BitAnd), [value(left), value(right)], where)
        case ast.BoolOp(op=op, values=parts):
            return _joined(isinstance(op, ast.And), [value(part) for part in parts], where)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            # Constants become floats: 9**9**9 in whole numbers would take the machine with it.
            return _ARITHMETIC[type(op)](_number(value(left), where), _number(value(right), where))
        case ast.Compare(left=left, ops=ops, comparators=rights):
            return _compared(left, ops, rights, value, where)
        case _:
            raise UserError(
                f"--where {where!r}: {ast.unparse(node)!r} is not understood; it may hold {_ALLOWED}"
            )


def _compared(
    left: ast.expr,
    ops: list[ast.cmpop],
    rights: list[ast.expr],
    value: Callable[[ast.expr], Any],
    where: str,
) -> Any:
    results: list[Any] = []
    before = value(left)
    for op, right in zip(ops, rights, strict=True):
        if isinstance(op, ast.In | ast.NotIn):
            if not (isinstance(right, ast.List | ast.Tuple | ast.Set) and isinstance(before, pd.Series)):
                raise UserError(f"--where {where!r}: write COLUMN in [value, value]")
            inside = before.isin([_as_held(value(item), before, where) for item in right.elts])
            results.append(~inside if isinstance(op, ast.NotIn) else inside)
            continue
        if type(op) not in _COMPARE:
            raise UserError(f"--where {where!r}: 'is' is not understood; write == or !=")
        after = value(right)
        sides = _as_held(before, after, where), _as_held(after, before, where)
        result = _COMPARE[type(op)](*sides)
        results.append(result.fillna(False).astype(bool) if isinstance(result, pd.Series) else bool(result))
        before = after
    return _joined(True, results, where)


def _as_held(value: Any, other: Any, where: str) -> Any:
    """A text that is compared with a column of numbers as the number it stands for: '350M' or '25%'."""
    if not isinstance(value, str) or not isinstance(other, pd.Series):
        return value
    if not pd.api.types.is_numeric_dtype(other):
        return value
    numbers, bad = read_numbers(pd.Series([value]))
    if bad[0] or np.isnan(numbers[0]) or pd.api.types.is_bool_dtype(other):
        held = "true and false" if pd.api.types.is_bool_dtype(other) else "numbers"
        raise UserError(f"--where {where!r}: {other.name} holds {held}, and {value!r} is text")
    return numbers[0]


def _dotted(node: ast.expr, quoted: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return quoted.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, quoted)}.{node.attr}"
    return ast.unparse(node)


def _column(name: str, table: pd.DataFrame, where: str) -> pd.Series:
    if name not in table.columns:
        raise no_such_column(name, table.columns, f"--where {where!r}")
    return table[name]


def _number(value: Any, where: str) -> Any:
    if isinstance(value, pd.Series):
        if not pd.api.types.is_numeric_dtype(value):
            raise UserError(f"--where {where!r}: column {value.name!r} is text, and arithmetic needs numbers")
        return value
    if isinstance(value, str):
        raise UserError(f"--where {where!r}: {value!r} is text, and arithmetic needs numbers")
    return np.float64(value)


def _is_condition(value: Any) -> bool:
    if isinstance(value, pd.Series):
        return bool(pd.api.types.is_bool_dtype(value))
    return isinstance(value, bool | np.bool_)


def _condition(value: Any, where: str) -> Any:
    if not _is_condition(value):
        raise UserError(
            f"--where {where!r}: 'and', 'or', 'not', & and | join conditions; compare each side, "
            "in brackets where & or | is used"
        )
    return value.fillna(False).astype(bool) if isinstance(value, pd.Series) else bool(value)


def _negated(value: Any) -> Any:
    return ~value if isinstance(value, pd.Series) else not value


def _joined(every: bool, parts: list[Any], where: str) -> Any:
    result = _condition(parts[0], where)
    for part in parts[1:]:
        other = _condition(part, where)
        result = (result & other) if every else (result | other)
    return result
