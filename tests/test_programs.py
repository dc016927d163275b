"""Compiled programs on the disk: found again without a trace, never stale, never believed when damaged."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmscale import programs, sources
from lmscale.plan import versions
from lmscale.programs import Kept, key

MADE_FROM = {"shape": {"n_layer": 2}, "precision": "float32"}
NUMBERS = np.linspace(-1.0, 1.0, 7, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where jax keeps what it compiles."""
    before = jax.config.values[programs._CACHE]
    jax.config.update(programs._CACHE, str(tmp_path))
    yield tmp_path
    jax.config.update(programs._CACHE, before)


class Step:
    """A step in small: a pytree that is donated, an array, and a count of how often it was traced."""

    def __init__(self, made_from: dict[str, Any] = MADE_FROM) -> None:
        self.traces = 0
        self.kept = Kept(jax.jit(self._step, donate_argnums=0), made_from, lambda state, _: (state, 0))

    def _step(self, state: dict[str, jax.Array], x: jax.Array) -> Any:
        self.traces += 1
        moved = {"w": state["w"] + jnp.sin(x), "step": state["step"] + 1}
        return moved, moved["w"].sum()

    def ten(self, n: int = 7) -> tuple[bytes, int, float]:
        """What ten steps come to."""
        state, x = jax.device_put({"w": np.zeros(n, np.float32), "step": np.int32(0)}), NUMBERS[:n]
        for _ in range(10):
            state, total = self.kept(state, x)
        return np.asarray(state["w"]).tobytes(), int(state["step"]), float(total)


def test_the_next_process_does_not_trace(folder: Path) -> None:
    """Same bytes; another shape or another making is another program."""
    first, second = Step(), Step()
    assert first.ten() == second.ten() and (first.traces, second.traces) == (1, 0)
    assert second.ten(5)[1] == 10 and second.traces == 1
    other = Step({**MADE_FROM, "precision": "bfloat16"})
    assert other.ten()[1] == 10 and other.traces == 1
    assert len(list(folder.glob("*.program"))) == 3


def flipped(path: Path) -> bytes:
    content = path.read_bytes()
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


def signed(path: Path) -> bytes:
    """Rubbish with the right checksum."""
    return programs._checksum(path, b"rubbish") + b"rubbish"


@pytest.mark.parametrize("damage", [flipped, signed, lambda path: path.read_bytes()[:-9], lambda path: b""])
def test_what_is_damaged_is_made_again(folder: Path, damage: Callable[[Path], bytes]) -> None:
    whole = Step().ten()
    (path,) = folder.glob("*.program")
    path.write_bytes(damage(path))
    again, after = Step(), Step()
    assert again.ten() == whole and again.traces == 1
    assert after.ten() == whole and after.traces == 0, "a good one has taken its place"


@pytest.mark.parametrize("gone", ["ExecuteResults.disassemble_into_single_device_arrays", "ExecuteResults"])
def test_another_jaxlib_compiles_as_ever(folder: Path, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    """What is called is jaxlib's own business and may go: that is seen before a program has taken its state."""
    from jaxlib import _jax

    whole = Step().ten()
    with monkeypatch.context() as patch:
        if "." in gone:
            patch.setattr(_jax, "ExecuteResults", object())
        else:
            patch.delattr(_jax, gone)
        again = Step()
        assert again.ten() == whole and again.traces == 1
    after = Step()
    assert after.ten() == whole and after.traces == 0


def test_a_program_under_another_s_name_is_not_believed(folder: Path) -> None:
    Step().ten(5)
    (five,) = folder.glob("*.program")
    whole = Step().ten()
    (seven,) = set(folder.glob("*.program")) - {five}
    five.replace(seven)
    again = Step()
    assert again.ten() == whole and again.traces == 1


def test_a_function_that_ignores_an_argument_is_compiled_as_ever(folder: Path) -> None:
    """The compiled program does not take it, and would take the next one in its place."""
    for _ in range(2):
        kept = Kept(jax.jit(lambda unused, x: x + 1), MADE_FROM, lambda unused, x: x)
        assert float(kept(np.float32(5), np.float32(1))) == 2


def test_a_folder_that_cannot_be_written_costs_nothing_else(folder: Path) -> None:
    (folder / "file").write_text("")
    jax.config.update(programs._CACHE, str(folder / "file"))
    step = Step()
    assert step.ten()[1] == 10 and step.traces == 1


def test_without_a_cache_nothing_is_kept(folder: Path) -> None:
    jax.config.update(programs._CACHE, None)
    assert Step().ten()[1] == 10
    assert not list(folder.rglob("*.program"))


def test_the_key_knows_everything_it_is_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stayed the same after any of these would bring a stale program back."""
    arguments = (NUMBERS, {"w": np.zeros(3, np.int32)})

    def found() -> str:
        return key(MADE_FROM, arguments)

    plain = found()
    keys = [plain, key({**MADE_FROM, "precision": "bfloat16"}, arguments)]
    keys += [key(MADE_FROM, (NUMBERS[:3], arguments[1])), key(MADE_FROM, (NUMBERS, arguments[1]["w"]))]
    keys.append(key(MADE_FROM, (NUMBERS.astype(np.int32), arguments[1])))
    for text in ("x = 1", "x = 2"):
        (tmp_path / "model.py").write_text(text)
        with monkeypatch.context() as patch:
            patch.setattr(sources, "_FOLDER", tmp_path)
            patch.setattr(sources, "_AT_START", sources._stamps(tmp_path))
            keys.append(found())
    for package in ("jax", "jaxlib", "flax", "optax", "numpy"):
        with monkeypatch.context() as patch:
            patch.setattr(programs, "versions", lambda name=package: {**versions(), name: "0"})
            keys.append(found())
    for name in ("XLA_FLAGS", "JAX_DEFAULT_MATMUL_PRECISION"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "--something")
            keys.append(found())
    for what in ("_processor", "_cores"):
        with monkeypatch.context() as patch:
            patch.setattr(programs, what, lambda: "another")
            keys.append(found())
    jax.config.update("jax_default_matmul_precision", "highest")
    keys.append(found())
    jax.config.update("jax_default_matmul_precision", None)
    assert len(set(keys)) == len(keys)
    assert found() == plain


def test_sources_that_were_changed_under_a_process_give_no_key(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have imported them before: what it compiles belongs to neither."""
    package = tmp_path_factory.mktemp("package")
    (package / "model.py").write_text("x = 1")
    monkeypatch.setattr(sources, "_FOLDER", package)
    monkeypatch.setattr(sources, "_AT_START", sources._stamps(package))
    assert key(MADE_FROM, NUMBERS) == key(MADE_FROM, NUMBERS)
    (package / "model.py").write_text("x = 1\ny = 2")
    with pytest.raises(RuntimeError, match="began with"):
        key(MADE_FROM, NUMBERS)
    assert Step().ten()[1] == 10 and not list(folder.glob("*.program"))


def test_two_processes_have_one_key() -> None:
    """No address, no order of a set, no clock in it."""
    code = "from lmscale.programs import key; import numpy as np; print(key({'a': 1}, (np.zeros(3), np.ones(2))))"
    with ThreadPoolExecutor() as both:
        command = [sys.executable, "-c", code]
        said = list(both.map(lambda _: subprocess.run(command, capture_output=True, text=True), range(2)))
    assert said[0].stdout == said[1].stdout and len(said[0].stdout) == 65, said[0].stderr
