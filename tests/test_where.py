"""--where: the same rows as plain pandas, and never a line of anybody's code."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import UserError
from analysis.tables.where import keep_rows

TABLE = pd.DataFrame(
    {
        "flops": [1e18, 1e20, 1e21, np.nan],
        "params": [10, 200, 3000, 40_000],
        "seed": [0, 1, 2, 0],
        "name": ["a", "b", "c", None],
        "final": [True, False, True, False],
        "loss_text.digit": [1.0, 2.0, 3.0, 4.0],
        "with space": [1, 2, 3, 4],
    }
)


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("flops < 1e21", [0, 1]),
        ("1e19 < flops <= 1e21", [1, 2]),
        ("flops != flops", [3]),
        ("final", [0, 2]),
        ("not final and params > 1_000", [3]),
        ("(flops > 1e19) & (params < 1000) | final", [0, 1, 2]),
        ("~final", [1, 3]),
        ("name == 'b'", [1]),
        ("name != 'b'", [0, 2, 3]),
        ("name in ['a', 'c']", [0, 2]),
        ("seed not in (0, 1)", [2]),
        ("params % 7 == 3 or params // 1000 == 40", [0, 3]),
        ("params ** 0.5 > 50", [2, 3]),
        ("6 * params * 10 < 1200", [0]),
        ("-params < -1000", [2, 3]),
        ("loss_text.digit > 2", [2, 3]),
        ("`with space` == 4", [3]),
        ("final == True", [0, 2]),
        ("1 < 2", [0, 1, 2, 3]),
        ("params < 9**9**9**9", [0, 1, 2, 3]),
    ],
)
def test_what_it_keeps(where: str, kept: list[int]) -> None:
    assert np.flatnonzero(keep_rows(TABLE, where)).tolist() == kept


@pytest.mark.parametrize(
    "where",
    [
        "__import__('os').system('true')",
        "params.map(print)",
        "().__class__",
        "(lambda: 1)()",
        "[p for p in params]",
        "params if final else seed",
        "@x > 1",
        "f'{params}' == 'a'",
        "params[0] > 1",
        "(x := 3) > 1",
        "params = 3",
        "params; 1",
        "flop < 3",
        "loss_text.digits > 1",
        "`absent` > 1",
        "flops",
        "flops + 1",
        "flops and final",
        "flops < 1e20 & params > 3",
        "name + 1 > 2",
        "name < 3",
        "name * 2 == 'aa'",
        "params > 'x'",
        "params in 3",
        "3 in [3]",
        "params is 3",
        "",
        "   ",
        "(",
        "(" * 900 + "1" + ")" * 900,
        "-" * 1999 + "1 < 2",
        "1 + " * 5000 + "1 < 2",
        "\x00",
        "None == params",
        "b'x' == name",
        "1j < params",
    ],
)
def test_what_it_refuses(where: str) -> None:
    with pytest.raises(UserError) as error:
        keep_rows(TABLE, where)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(("where=", "where: "))


def test_a_wrong_column_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"did you mean flops\?"):
        keep_rows(TABLE, "flop < 3")
    with pytest.raises(UserError, match="it has flops, params"):
        keep_rows(TABLE, "zzz < 3")


_NUMBERS = st.sampled_from(["flops", "params", "seed", "3", "1e19", "0.5"])
_SIDES = st.recursive(
    _NUMBERS,
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/"]), inner),
    max_leaves=4,
)
_COMPARISONS = st.builds("({} {} {})".format, _SIDES, st.sampled_from(["<", "<=", ">", "==", "!="]), _SIDES)
_CONDITIONS = st.recursive(
    _COMPARISONS,
    lambda inner: st.one_of(
        st.builds("(not {})".format, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
    ),
    max_leaves=5,
)


@given(_CONDITIONS)
@settings(max_examples=150, deadline=None)
def test_it_means_what_python_means_row_by_row(where: str) -> None:
    # numpy's numbers divide by zero without raising, as a column does.
    numbers = re.sub(r"(?<![\w.])(\d[\d.e]*)", r"F(\1)", where)
    with np.errstate(all="ignore"):
        rows = [
            bool(eval(numbers, {"F": np.float64}, {k: np.float64(v) for k, v in row.items()}))
            for row in TABLE[["flops", "params", "seed"]].to_dict("records")
        ]
    assert keep_rows(TABLE, where).tolist() == rows


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_mask_or_a_sentence(where: str) -> None:
    try:
        mask = keep_rows(TABLE, where)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert len(mask) == len(TABLE)
