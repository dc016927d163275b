"""The laws from the command line: the JSON contract, a law of one's own from a file, one-line refusals."""

import json
from pathlib import Path

import pytest
from known_laws import made

from analysis import extrapolate, fit, isoflop
from analysis.cli import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    made("chinchilla", 40, noise=0.01).to_csv(path, index=False)
    return path


def answer(*args: object) -> dict:
    target = Path(str(args[1])).with_suffix(".json")
    assert main([*map(str, args), "--json", str(target)]) == 0
    return json.loads(target.read_text())


def test_the_verbs_are_functions_of_the_package() -> None:
    made_runs = made("chinchilla", 40, noise=0.01)
    assert fit(made_runs, bootstrap=0).form.name == "chinchilla"
    assert extrapolate(made_runs, budgets=[1e22], bootstrap=20, form="tied").predictions
    assert isoflop(made_runs, method="parametric", bootstrap=0).optima


def test_fit_writes_the_contract(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer("fit", table, "--bootstrap", 20)
    assert found["form"] == "chinchilla"
    assert found["n"] == 40
    assert set(found["params"]) == {"E", "A", "B", "alpha", "beta"}
    assert "E + A / N^alpha" in capsys.readouterr().out


def test_extrapolate_writes_the_contract(table: Path) -> None:
    found = answer(
        "extrapolate", table, "--budget", "1e22", "--at", "params=1e9,tokens=2e10", "--form", "chinchilla",
        "--bootstrap", 30,
    )  # fmt: skip
    assert len(found["predictions"]) == 2
    assert set(found["predictions"][0]) == {
        "params", "tokens", "flops", "loss", "lower", "upper", "level", "flops_ratio"
    }  # fmt: skip
    assert found["cost"] == "6ND"


def test_isoflop_writes_the_contract(table: Path) -> None:
    found = answer("isoflop", table, "--method", "parametric", "--bootstrap", 20)
    assert set(found["conf_int"]) == {"exponent_params", "exponent_tokens"}


def test_a_law_of_ones_own_from_a_file(table: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from analysis import own_form\n"
        "law = own_form(\n"
        "    lambda p, x: p.E + p.A * x.params ** -p.alpha + p.B * x.tokens ** -p.beta,\n"
        "    {'E': (0, 5), 'A': (1, 1e6), 'B': (1, 1e6), 'alpha': (.05, 1.5), 'beta': (.05, 1.5)},\n"
        "    linear=('E', 'A', 'B'), name='mine')\n"
    )
    own = answer("fit", table, "--form", f"{tmp_path}/mine.py:law", "--bootstrap", 0)
    built_in = answer("fit", table, "--bootstrap", 0)
    assert own["form"] == "mine"
    assert own["objective"]["value"] == pytest.approx(built_in["objective"]["value"], rel=1e-8)
    assert own["bse"]["E"] is None


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--form", "chinchila"], "form = chinchila"),
        (["--form", "nowhere.py:law"], "no such file"),
        (["--loss", "l1"], "loss = l1"),
        (["--group", "trunk"], "--group trunk"),
        (["--plots", "/nowhere/at/all"], "no such folder"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    table: Path, capsys: pytest.CaptureFixture[str], args: list[str], says: str
) -> None:
    assert main(["fit", str(table), "--bootstrap", "0", *args]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_plots_are_written(table: Path, tmp_path: Path) -> None:
    assert main(["fit", str(table), "--bootstrap", "20", "--plots", str(tmp_path)]) == 0
    for name in ("fit", "residuals", "profile", "contours"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
