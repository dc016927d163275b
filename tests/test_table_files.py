"""Files from spreadsheets, trackers and harnesses: read rightly, or refused in one line with the remedy."""

import bz2
import gzip
import json
import lzma
import random
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis import UserError, fit, load_table
from analysis.cli import main
from analysis.fitting.observations import observe
from analysis.tables.finished import finished_rows

N = [1_200_000, 4_500_000, 17_000_000, 64_000_000, 240_000_000, 900_000_000]
D = [31_000_000, 310_000_000, 3_100_000_000]
ROWS = [(n, d, round(1.61 + 350 / n**0.33 + 420 / d**0.29, 4)) for n in N for d in D]
HEADER = ["params", "tokens", "loss"]


def text(separator: str = ",", rows: list = ROWS, header: list[str] = HEADER, end: str = "\n") -> str:
    return end.join(separator.join(map(str, row)) for row in [header, *rows]) + end


def european(value: float) -> str:
    """A number as a spreadsheet of continental Europe writes it: 1.234.567,8."""
    return f"{value:,}".replace(",", " ").replace(".", ",").replace(" ", ".")


def write(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def assert_same(table: pd.DataFrame) -> None:
    for i, name in enumerate(HEADER):
        assert np.allclose(np.asarray(table[name], float), [row[i] for row in ROWS], rtol=1e-12, atol=0), name


def zipped(names: dict[str, bytes]) -> bytes:
    memory = BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return memory.getvalue()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


FRAME = pd.DataFrame(ROWS, columns=HEADER)
PLAIN = text().encode()
BARS = ["| " + " | ".join(map(str, row)) + " |" for row in [HEADER, *ROWS]]

# what was given -> the table that everybody means
READ: dict[str, str | bytes] = {
    "semicolons and decimal commas": text(";").replace(".", ","),
    "a mark of UTF-8 before semicolons": b"\xef\xbb\xbf" + text(";").replace(".", ",").encode(),
    "tabs": text("\t"),
    "tabs and decimal commas": text("\t").replace(".", ","),
    "bars": text("|"),
    "blanks": text(" "),
    "columns set by blanks": FRAME.to_string(index=False),
    "UTF-16 with its mark": text().encode("utf-16"),
    "UTF-16 without its mark": text().encode("utf-16-le"),
    "UTF-16 the other way round": text("\t").encode("utf-16-be"),
    "Latin-1": text(header=[*HEADER, "größe"], rows=[(*row, "größer") for row in ROWS]).encode("latin-1"),
    "a line sep=; above": "sep=;\n" + text(";"),
    "a line sep=, above semicolons in a name": '"sep=,"\n'
    + text(header=[*HEADER, "a;b"], rows=[(*r, 1) for r in ROWS]),
    "line ends of Windows": text(end="\r\n"),
    "line ends of old Macs": text(end="\r"),
    "no last line end": text().rstrip(),
    "lines left blank": text(end="\n\n"),
    "blanks about the separators": text(" , "),
    "every field quoted": text('","').replace("\n", '"\n"').join(['"', ""]).removesuffix('"'),
    "a field of two lines": text(header=[*HEADER, "note"], rows=[(*row, '"two\nlines"') for row in ROWS]),
    "empty columns at the end": text().replace("\n", ",,,\n"),
    "empty rows at the end": text() + ",,\n,,\n",
    "an index without a name": FRAME.to_csv(),
    "comments above": "# run 7, exported\n# by hand\n" + text(),
    "comments among the rows": text().replace("\n4500000", "\n# the second size, with care\n4500000", 1),
    "numbered rows of R": "\n".join(
        [" ".join(HEADER), *(f"{i} {n} {d} {x}" for i, (n, d, x) in enumerate(ROWS, 1))]
    ),
    "a print of pandas": FRAME.to_string(),
    "numbered rows": "\n".join([",".join(HEADER), *(f"{i},{n},{d},{x}" for i, (n, d, x) in enumerate(ROWS))]),
    "marks of UTF-8 in the middle": text() + "\ufeff" + ",".join(HEADER) + "\n",
    "powers of ten with decimal commas": text(";", [(f"{n:.5E}", f"{d:.1E}", x) for n, d, x in ROWS]).replace(
        ".", ","
    ),
    "a header in a comment": "# " + text(" "),
    "the header again in the middle": text().replace("\n17000000", "\nparams,tokens,loss\n17000000", 1),
    "the header twice": ",".join(HEADER) + "\n" + text(),
    "the header again at the end": text() + ",".join(HEADER),
    "what lm-eval prints": "\n".join(
        [
            "|params|tokens|Filter|n-shot|Metric|   |loss|   |Stderr|",
            "|------|-----:|------|-----:|------|---|---:|---|-----:|",
            *(f"|{n}|{d}|none|0|acc|↑  |{x}|±  |0.01|" for n, d, x in ROWS),
        ]
    ),
    "thousands in quotes": text(rows=[(f'"{n:,}"', f'"{d:,}"', loss) for n, d, loss in ROWS]),
    "thousands of continental Europe": text(";", rows=[tuple(map(european, row)) for row in ROWS]),
    "thousands of Switzerland": text(rows=[(f"{n:,}".replace(",", "'"), d, loss) for n, d, loss in ROWS]),
    "thousands by narrow blanks": text(";", [(f"{n:,}".replace(",", "\u202f"), d, x) for n, d, x in ROWS]),
    "decimal commas in quotes": text(rows=[(n, d, f'"{loss}"'.replace(".", ",")) for n, d, loss in ROWS]),
    "numbers with units": text(rows=[(f"{n / 1e6:g}M", f"{d / 1e9:g}B", loss) for n, d, loss in ROWS]),
    "units in words": text(
        rows=[(f"{n / 1e6:g} million", f"{d / 1e9:g} billion tokens", x) for n, d, x in ROWS]
    ),
    "powers of ten": text(rows=[(f"{n:.6e}", f"{d / 1e9:g}E9", loss) for n, d, loss in ROWS]),
    "powers of ten of Fortran": text(rows=[(f"{n:.6e}".replace("e", "D"), d, loss) for n, d, loss in ROWS]),
    "formulas that keep zeros": text(rows=[(f'="{n}"', d, loss) for n, d, loss in ROWS]),
    "powers of ten in print": text(rows=[(f"{n / 1e6:g} × 10^6", d, loss) for n, d, loss in ROWS]),
    "Markdown": "\n".join([BARS[0], "|---|---:|:---:|", *BARS[1:]]),
    "Markdown in prose": "\n".join(
        ["# Results", "", BARS[0], "| --- | --- | --- |", *BARS[1:], "", "As seen."]
    ),
    "Markdown without outer bars": "\n".join(
        b.strip("| ") for b in [BARS[0], "|---|---|---|".strip("|"), *BARS[1:]]
    ),
    "Markdown in bold": "\n".join(
        [BARS[0], "|--|--|--|", *(f"| **{n}** | `{d}` | *{x}* |" for n, d, x in ROWS)]
    ),
    "a database's print": "\n".join(
        [" params | tokens | loss ", "--------+--------+------", *(f" {n} | {d} | {x}" for n, d, x in ROWS)]
    ),
    "a grid": "\n".join(["+--+--+--+", BARS[0], "+==+==+==+", *(f"{bar}\n+--+--+--+" for bar in BARS[1:])]),
    "JSON records": FRAME.to_json(orient="records"),
    "JSON of pandas by columns": FRAME.to_json(),
    "JSON of pandas by index": FRAME.to_json(orient="index"),
    "JSON of pandas, split": FRAME.to_json(orient="split"),
    "JSON of pandas, table": FRAME.to_json(orient="table"),
    "JSON of lists": json.dumps(FRAME.to_dict(orient="list")),
    "JSON with the rows inside": json.dumps(
        {"project": "x", "runs": FRAME.to_dict(orient="records")}, indent=2
    ),
    "JSON Lines": FRAME.to_json(orient="records", lines=True),
    "JSON Lines with blank lines": FRAME.to_json(orient="records", lines=True).replace("\n", "\n\n"),
    "gzip": gzip.compress(PLAIN),
    "bzip2": bz2.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "zstd": zstd(PLAIN),
    "zip": zipped({"runs.csv": PLAIN}),
    "zip of a Mac": zipped({"runs.csv": PLAIN, "__MACOSX/._runs.csv": b"\x00"}),
    "gzipped JSON Lines": gzip.compress(FRAME.to_json(orient="records", lines=True).encode()),
}


@pytest.mark.parametrize("content", READ.values(), ids=READ.keys())
def test_what_everybody_reads_is_read(content: str | bytes, tmp_path: Path) -> None:
    assert_same(load_table(write(tmp_path, content)))


def with_cell(row: int, column: int, value: str) -> str:
    """The table with another text in one cell; row 0 stands on line 2."""
    rows = [list(r) for r in ROWS]
    rows[row][column] = value
    return text(rows=rows)


TOTAL = [sum(column) for column in zip(*ROWS, strict=True)]
# what was given -> what the one line says
REFUSED: dict[str, tuple[str | bytes, list[str]]] = {
    "decimal commas without quotes": (
        text().replace(".", ","),
        ["line 2 has 4 fields, the header 3", "quotes"],
    ),
    "one decimal comma": (with_cell(7, 2, "2,25"), ["line 9 has 4 fields, the header 3"]),
    "thousands without quotes": (with_cell(3, 0, "4,500,000"), ["line 5 has 5 fields", "thousands"]),
    "a line cut short": (text()[:-17], ["line 19 has 2 fields", "cut short"]),
    "a title above": ("My runs\n" + text(), ["line 2 has 3 fields, the header 1", "names of the columns"]),
    "a note below": (text() + "as of May\n", ["line 20 has 1 field, the header 3"]),
    "no header": (text().split("\n", 1)[1], ["line 1 holds numbers", "params,tokens,loss"]),
    "two columns of a name": (
        text(header=["params", "loss", "loss"]),
        ["column 'loss' appears twice", "rename"],
    ),
    "two names that differ by a blank": (text(header=["params", "loss ", "loss"]), ["'loss' appears twice"]),
    "another order in the middle": (
        text() + text(header=["tokens", "params", "loss"]),
        ["line 20", "another order"],
    ),
    "another header in the middle": (
        text() + text(header=["N", "D", "L"]),
        ["line 20: params is 'N'", "plain"],
    ),
    "units below the header": (
        text().replace("loss\n", "loss\ncount,count,nats\n"),
        ["line 2: params is 'count'", "--where"],
    ),
    "a word among the losses": (
        with_cell(4, 2, "OOM"),
        ["line 6: loss is 'OOM'", "--where \"loss != 'OOM'\""],
    ),
    "a spreadsheet's error": (with_cell(4, 2, "#REF!"), ["line 6: loss is '#REF!'", "formula"]),
    "both marks": (with_cell(4, 2, '"3,25"'), ["line", "loss", "thousands or decimals"]),
    "a comma that may be either": (
        text(rows=[(n, d, '"2,345"') for n, d, _ in ROWS]),
        ["line 2: loss is '2,345'", "thousands or decimals"],
    ),
    "a percent sign here and there": (with_cell(4, 2, "12%"), ["line 6: loss is '12%'", "percent"]),
    "a unit that nobody knows": (with_cell(4, 1, "310 Mwords"), ["line 6: tokens is '310 Mwords'", "unit"]),
    "a total": (text() + ",".join(map(str, TOTAL)) + "\n", ["line 20", "sums up", "--where"]),
    "a total by name": (
        text(header=[*HEADER, "name"], rows=[*((*r, "a") for r in ROWS), (*TOTAL, "Total")]),
        ["line 20: name is Total", "--where \"name != 'Total'\""],
    ),
    "a mean by name": (
        text(
            header=["name", *HEADER],
            rows=[*(("a", *r) for r in ROWS), ("Average", "", "", TOTAL[2] / len(ROWS))],
        ),
        ["line 20: name is Average"],
    ),
    "a mean without a name": (
        text() + ",".join(str(total / len(ROWS)) for total in TOTAL) + "\n",
        ["line 20", "sums up", '--where "params !='],
    ),
    "every line in quotes": (
        text().replace("\n", '"\n"').join(['"', ""])[:-1],
        ["one column called", "quotes"],
    ),
    "an unknown separator": (text("^"), ["one column called 'params^tokens^loss'", "semicolons"]),
    "a name twice in an object": ('[{"params": 1, "params": 2}]', ["'params' appears twice"]),
    "a missing loss": (with_cell(5, 2, ""), ["loss: line 7 holds nan (1 such)", '--where "loss > 0"']),
    "a quote left open": (with_cell(5, 2, '"2.5'), ["line 7: loss is", "quote left open"]),
    "an Excel workbook": (
        zipped({"xl/workbook.xml": b"", "[Content_Types].xml": b""}),
        ["save the sheet as CSV"],
    ),
    "an old Excel workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), ["save the sheet as CSV"]),
    "an OpenDocument sheet": (zipped({"mimetype": b"", "content.xml": b""}), ["save the sheet as CSV"]),
    "an archive of two": (zipped({"a.csv": PLAIN, "b.csv": PLAIN}), ["holds 2 files"]),
    "a damaged gzip": (gzip.compress(PLAIN)[:60], ["cannot be read"]),
    "a turned gzip": (gzip.compress(PLAIN)[:30] + b"\xff" * 40, ["cannot be read"]),
    "a LaTeX table": (text(" & ").replace("\n", " \\\\\n"), ["LaTeX", "CSV"]),
    "a web page": ("<!DOCTYPE html><html>Please log in</html>", ["web page"]),
    "a PDF": (b"%PDF-1.7\n", ["PDF"]),
    "an HDF5 file": (b"\x89HDF\r\n\x1a\n", ["HDF5", "Parquet"]),
    "a NumPy array": (b"\x93NUMPY\x01\x00", ["NumPy"]),
    "a pickle": (b"\x80\x04\x95", ["pickle"]),
    "bytes": (b"params,tokens,loss\n1,2,\x00\x01\n", ["line 2", "not text"]),
    "JSON cut short": (FRAME.to_json(orient="records")[:-20], ["line 1: not JSON"]),
    "JSON Lines cut short": (
        FRAME.to_json(orient="records", lines=True)[:-20],
        ["line 18: not JSON", "half"],
    ),
    "a JSON number": ("[1, 2, 3]", ["entry 1", "list of objects"]),
    "a JSON Lines number": ('{"params": 1}\n7\n', ["line 2", "no object"]),
    "JSON of nothing like rows": (
        '{"results": {"arc": {"acc": 1}}, "versions": {"arc": 1}}',
        ["object of results"],
    ),
    "JSON columns of two lengths": ('{"params": [1, 2], "loss": [3]}', ["differ in length"]),
    "JSON nested without end": ("[" * 100_000, ["JSON"]),
    "a word in JSON Lines": (
        FRAME.to_json(orient="records", lines=True) + '{"params": 1, "tokens": 2, "loss": "low"}\n',
        ["line 19: loss is 'low'"],
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_nobody_can_read_is_one_line(
    case: tuple[str | bytes, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, said = case
    assert main(["fit", str(write(tmp_path, content)), "--bootstrap", "0"]) == 2
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert out == "" and last.startswith("analysis: ")
    assert all(line.startswith("analysis: note: ") for line in err.splitlines()[:-1])
    assert [part for part in said if part not in last] == []


def test_texts_in_where_are_numbers_where_the_column_is(tmp_path: Path) -> None:
    path = write(tmp_path, "size,score\n70M,25%\n350M,50%\n1.2B,75%\n")
    assert load_table(path, where="size != '350M'")["size"].tolist() == [7e7, 1.2e9]
    assert load_table(path, where="size in ['70M', 1.2e9] and score > '30%'")["size"].tolist() == [1.2e9]
    with pytest.raises(UserError, match="size holds numbers, and 'large' is text"):
        load_table(path, where="size == 'large'")


def test_lines_left_out_are_said(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, text() + "\n,,\nparams,tokens,loss\n,,\n"))
    assert table.attrs["problems"] == [
        "lines 21, 23 are blank: left out",
        "line 22 is the header again: left out",
    ]


def test_percentages_are_hundredths_and_said(tmp_path: Path) -> None:
    path = write(tmp_path, "task,size,score,stderr\na,1e6,25.5%,1%\na,1e7,50%,2 %\na,1e8,0,1%\n")
    table = load_table(path)
    assert np.allclose(table.score, [0.255, 0.5, 0]) and np.allclose(table.stderr, [0.01, 0.02, 0.01])
    assert "column score: percentages" in table.attrs["problems"][0]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1.2B", 1.2e9),
        ("350M", 3.5e8),
        ("70m", 7e7),
        ("12k", 1.2e4),
        ("3T", 3e12),
        ("1,5B", 1.5e9),
        ("2.5 ZFLOPs", 2.5e21),
        ("7e20 FLOPs", 7e20),
        ("1.2 × 10^9", 1.2e9),
        ("$1,200.50", 1200.5),
        ("1_000_000", 1e6),
        ("\u22120.5", -0.5),
    ],
)
def test_amounts_as_people_write_them(written: str, value: float, tmp_path: Path) -> None:
    table = load_table(write(tmp_path, f"params;note\n{written};x\n{written};y\n"))
    assert table.params.tolist() == [pytest.approx(value, rel=1e-12)] * 2


def test_names_are_left_alone(tmp_path: Path) -> None:
    """A column that is not asked for numbers keeps its words, whatever they look like."""
    table = load_table(write(tmp_path, "model,split,params\n70m,10%,70m\n1.2B,20%,1.2B\n"))
    assert table.model.tolist() == ["70m", "1.2B"] and table.split.tolist() == ["10%", "20%"]
    assert table.params.tolist() == [7e7, 1.2e9]


@pytest.mark.parametrize("word", ["", "NaN", "nan", "N/A", "n/a", "-", "--", "null", "None", "#N/A", "?"])
def test_words_for_nothing_are_holes(word: str, tmp_path: Path) -> None:
    content = with_cell(5, 2, word)
    table = load_table(write(tmp_path, content))
    assert table.loss.isna().tolist() == [i == 5 for i in range(len(ROWS))]
    assert len(load_table(write(tmp_path, content), where="loss > 0")) == len(ROWS) - 1


def test_a_word_that_is_left_out_leaves_numbers(tmp_path: Path) -> None:
    """The remedy that the refusal names works as it stands."""
    path = write(tmp_path, with_cell(4, 2, "OOM"))
    assert len(fit(load_table(path, where="loss != 'OOM'"), bootstrap=0).observations) == len(ROWS) - 1


def test_lines_are_named_after_a_filter_and_around_what_was_left_out(tmp_path: Path) -> None:
    content = text().replace("\n4500000", "\n\n# a note\n\n4500000", 1).replace(str(ROWS[-2][2]), "low", 1)
    line = next(i for i, row in enumerate(content.split("\n"), 1) if "low" in row)
    with pytest.raises(UserError, match=f"line {line}: loss is"):
        fit(load_table(write(tmp_path, content), where="params > 2e6"), bootstrap=0)


NAMES = "acc,none,acc_stderr,none"


@pytest.mark.parametrize(
    "columns",
    [
        'size=params,score="acc,none",stderr="acc_stderr,none"',
        "size=params,score='acc,none',stderr='acc_stderr,none'",
        "size=params, score=`acc,none` ,stderr=`acc_stderr,none`",
        "size=params,score=acc,none,stderr=acc_stderr,none",
    ],
)
def test_a_column_with_a_comma_can_be_named(columns: str, tmp_path: Path) -> None:
    path = write(tmp_path, 'task,params,"acc,none","acc_stderr,none"\na,1e6,.25,.01\na,1e7,.5,.02\n')
    table = load_table(path, columns=columns, where="`acc,none` > .3 and stderr < .1")
    assert table[["size", "score", "stderr"]].to_numpy().tolist() == [[1e7, 0.5, 0.02]]


def test_a_column_with_blanks_about_its_name_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, text(header=["params ", "tokens\t", " eval  loss "]))
    assert_same(load_table(path, columns="loss=eval loss "))
    assert_same(load_table(path, columns='loss=" eval loss"'.replace('" ', '"')))


def test_old_and_new_names_work_in_where(tmp_path: Path) -> None:
    rows = [(*row, "c4" if i % 2 else "pile") for i, row in enumerate(ROWS)]
    path = write(tmp_path, text(header=["N", "D", "val_loss", "dataset"], rows=rows))
    for where in (
        "D > 1e8 and dataset == 'c4'",
        "tokens > 1e8 and D > 0 and dataset == 'c4' and val_loss < 1e3",
    ):
        table = load_table(path, columns="params=N,tokens=D,loss=val_loss", where=where)
        assert set(table) == {*HEADER, "dataset"}
        assert len(table) == sum(row[1] > 1e8 and row[3] == "c4" for row in rows)


def test_names_that_change_places(tmp_path: Path) -> None:
    path = write(tmp_path, text(header=["tokens", "params", "loss"]))
    assert_same(load_table(path, columns="params=tokens,tokens=params", where="params < 1e9"))


def test_targets_need_not_have_every_column(tmp_path: Path) -> None:
    path = write(tmp_path, "N,D\n7e9,1.4e11\n")
    assert set(load_table(path, columns="params=N,tokens=D,loss=L", partial=True)) == {"params", "tokens"}
    with pytest.raises(UserError, match="no column 'L'"):
        load_table(path, columns="params=N,tokens=D,loss=L")
    with pytest.raises(UserError, match="the new name first: did you mean params=N"):
        load_table(path, columns="N=params,tokens=D")


@pytest.mark.parametrize(
    ("yes", "no"),
    [("yes", "no"), ("True", "False"), ("1", "0"), ("Y", ""), ("t", "f"), ("1.0", "0.0"), ("YES", "No")],
)
def test_final_in_words(yes: str, no: str, tmp_path: Path) -> None:
    rows = [(*row, yes if i % 3 == 2 else no) for i, row in enumerate(ROWS)]
    kept, left = finished_rows(load_table(write(tmp_path, text(header=[*HEADER, "final"], rows=rows))))
    assert len(kept) == len(ROWS) / 3
    assert [len(part.rows) for part in left] == [len(ROWS) - len(ROWS) / 3]


def test_final_in_other_words_is_refused(tmp_path: Path) -> None:
    rows = [(*row, "maybe" if i == 4 else "yes") for i, row in enumerate(ROWS)]
    table = load_table(write(tmp_path, text(header=[*HEADER, "final"], rows=rows)))
    with pytest.raises(UserError, match="line 6: final is 'maybe'; write yes or no"):
        finished_rows(table)


def test_outcomes_of_trackers(tmp_path: Path) -> None:
    words = ["finished", "crashed", "finished", "killed", "Finished", "finished"]
    rows = [(*row, words[i % 6]) for i, row in enumerate(ROWS)]
    kept, (left,) = finished_rows(load_table(write(tmp_path, text(header=[*HEADER, "outcome"], rows=rows))))
    assert len(kept) == 12 and len(left.rows) == 6
    assert "crashed, killed" in left.reason and "finished counts as done" in left.reason
    unknown = load_table(
        write(tmp_path, text(header=[*HEADER, "outcome"], rows=[(*row, "fertig") for row in ROWS]))
    )
    with pytest.raises(UserError, match=r"no row says done, finished, .* it holds 'fertig'"):
        finished_rows(unknown)


def manglings(rng: random.Random) -> dict[str, Callable[[str], str | bytes]]:
    """List what happens to a good CSV on its way."""

    def lines(change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
        return lambda content: "\n".join(change(content.split("\n")))

    def cell(change: Callable[[str], str]) -> Callable[[str], str]:
        def changed(content: str) -> str:
            rows = [row.split(",") for row in content.strip().split("\n")]
            row = rng.randrange(1, len(rows))
            column = rng.randrange(3)
            rows[row][column] = change(rows[row][column])
            return "\n".join(",".join(r) for r in rows) + "\n"

        return changed

    def at(content: str) -> int:
        return rng.randrange(1, len(content))

    return {
        "cut": lambda c: c[: c.rindex(",", 0, at(c)) if "," in c[: at(c)] else 0],
        "semicolons": lambda c: c.replace(",", ";"),
        "tabs": lambda c: c.replace(",", "\t"),
        "decimal commas": lambda c: c.replace(".", ","),
        "semicolons, decimal commas": lambda c: c.replace(",", ";").replace(".", ","),
        "utf-16": lambda c: c.encode("utf-16"),
        "mark": lambda c: c.encode("utf-8-sig"),
        "gzip": lambda c: gzip.compress(c.encode()),
        "blank line": lines(lambda ls: (ls.insert(rng.randrange(1, len(ls)), ""), ls)[1]),
        "blank cells": lines(lambda ls: (ls.insert(rng.randrange(1, len(ls)), ",,"), ls)[1]),
        "comment": lines(lambda ls: (ls.insert(rng.randrange(1, len(ls)), "# note, this"), ls)[1]),
        "header again": lines(lambda ls: (ls.insert(rng.randrange(2, len(ls)), ls[0]), ls)[1]),
        "title": lambda c: "My table\n" + c,
        "note below": lambda c: c + "total of 18 rows\n",
        "unit in a cell": cell(lambda v: v + " parsecs"),
        "word in a cell": cell(lambda v: "oops"),
        "quote in a cell": cell(lambda v: '"' + v),
        "quotes about a cell": cell(lambda v: f'"{v}"'),
        "blanks about a cell": cell(lambda v: f"  {v} "),
        "plus before a cell": cell(lambda v: f"+{v}"),
        "hole": cell(lambda v: ""),
        "two fields in one": cell(lambda v: v + "," + v),
        "nul": cell(lambda v: v + "\0"),
        "letters for digits": cell(lambda v: v.replace("0", "O").replace("1", "l") + "O"),
        "trailing separators": lambda c: c.replace("\n", ",,\n"),
        "column twice": lambda c: c.replace("tokens", "params", 1),
        "no header": lambda c: c.split("\n", 1)[1],
        "windows": lambda c: c.replace("\n", "\r\n"),
        "total": lambda c: c + ",".join(map(str, TOTAL)) + "\n",
        "JSON Lines": lambda c: FRAME.to_json(orient="records", lines=True),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", manglings(random.Random(0)))
def test_a_mangled_table_is_right_or_one_line(name: str, seed: int, tmp_path: Path) -> None:
    """Either the numbers of the table that was mangled (fewer rows where one was left empty), or a sentence."""
    path = write(tmp_path, manglings(random.Random(seed))[name](text()))
    try:
        table = load_table(path)
        seen = observe(table, ("params", "tokens"))
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert set(zip(seen.x["params"], seen.x["tokens"], seen.loss, strict=True)) <= set(ROWS)
    # A table that ends early between two rows is a whole table of fewer rows: nothing shows it.
    assert len(seen) == len(ROWS) or name == "cut"
