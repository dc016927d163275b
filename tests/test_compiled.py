"""Compiled programs on the disk: found again without a trace, never stale, never trusted before they ran."""

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import serialize_executable

from lmscale import compiled, source_stamp
from lmscale.compiled import KeptFunction, key
from lmscale.faults import VARIABLE
from lmscale.plan import versions

MADE_FROM = {"shape": {"n_layer": 2}, "precision": "float32"}
NUMBERS = np.linspace(-1.0, 1.0, 7, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where jax keeps what it compiles."""
    before = jax.config.values[compiled._CACHE]
    jax.config.update(compiled._CACHE, str(tmp_path))
    yield tmp_path
    jax.config.update(compiled._CACHE, before)


class Step:
    """A step in small: a pytree that is donated, an array, and a count of how often it was traced."""

    def __init__(self, made_from: dict[str, Any] = MADE_FROM) -> None:
        self.traces = 0
        self.kept = KeptFunction(
            jax.jit(self._step, donate_argnums=0), made_from, lambda state, _: (state, 0)
        )

    def _step(self, state: dict[str, jax.Array], x: jax.Array) -> Any:
        self.traces += 1
        moved = {"w": state["w"] + jnp.sin(x), "step": state["step"] + 1}
        return moved, moved["w"].sum()

    def start(self, n: int = 7) -> Any:
        """The arguments of the first step."""
        return jax.device_put({"w": np.zeros(n, np.float32), "step": np.int32(0)}), NUMBERS[:n]

    def trees(self) -> Any:
        """Those of the arguments and of the answer."""
        return jax.tree.structure((self.start(), {})), jax.tree.structure((self.start()[0], 0))

    def ten(self, n: int = 7) -> tuple[bytes, int, float]:
        """What ten steps come to."""
        state, x = self.start(n)
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
    return compiled._checksum(path, b"rubbish") + b"rubbish"


@pytest.mark.parametrize("damage", [flipped, signed, lambda path: path.read_bytes()[:-9], lambda path: b""])
def test_what_is_damaged_is_made_again(folder: Path, damage: Callable[[Path], bytes]) -> None:
    whole = Step().ten()
    (path,) = folder.glob("*.program")
    path.write_bytes(damage(path))
    again, after = Step(), Step()
    assert again.ten() == whole and again.traces == 1
    assert after.ten() == whole and after.traces == 0, "a good one has taken its place"


def without_functions(path: Path) -> bytes:
    """What `serialize` gives of a program that was read and not compiled here: it is read, and cannot run."""
    trees = Step().trees()
    read = serialize_executable.deserialize_and_load(zlib.decompress(path.read_bytes()[32:]), *trees)
    packed = zlib.compress(serialize_executable.serialize(read)[0])
    return compiled._checksum(path, packed) + packed


def test_what_has_lost_its_functions_is_made_again(folder: Path) -> None:
    whole = Step().ten()
    (path,) = folder.glob("*.program")
    path.write_bytes(without_functions(path))
    with pytest.raises(jax.errors.JaxRuntimeError, match="not found"):
        program = compiled._unpack(path, path.read_bytes(), Step().trees())
        jax.block_until_ready(program(*Step().start()))
    again, after = Step(), Step()
    assert again.ten() == whole and again.traces == 1
    assert after.ten() == whole and after.traces == 0, "a good one has taken its place"


def test_nothing_is_kept_that_has_no_functions_or_answers_otherwise(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Step().ten()
    (path,) = folder.glob("*.program")
    path.unlink()
    serialize, read = serialize_executable.serialize, serialize_executable.deserialize_and_load
    with monkeypatch.context() as patch:
        patch.setattr(serialize_executable, "serialize", lambda program: serialize(read(*serialize(program))))
        assert Step().ten() == whole and not path.exists()

    def wrong(*serialized: Any) -> Any:
        return lambda state, x: jax.tree.map(lambda leaf: leaf + 1, read(*serialized)(state, x))

    with monkeypatch.context() as patch:
        patch.setattr(serialize_executable, "deserialize_and_load", wrong)
        assert Step().ten() == whole and not path.exists()


@pytest.mark.parametrize("gone", ["serialize", "deserialize_and_load"])
def test_another_jax_compiles_as_ever(folder: Path, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    """Its experimental part may go: that is seen before a program has taken its state."""
    with monkeypatch.context() as patch:
        patch.delattr(serialize_executable, gone)
        first, second = Step(), Step()
        assert first.ten() == second.ten() and first.traces == second.traces == 1
    assert not list(folder.glob("*.program"))


def test_a_trial_takes_no_memory_of_the_arguments(folder: Path) -> None:
    """The step is given its state's memory; all trials run on copies, as short as they may be."""
    short: list[int] = []

    def shorten(x: jax.Array, count: Any) -> tuple[Any, ...]:
        short.append(int(count))
        return x, np.int32(1)

    jitted = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, lambda _, y: jnp.sin(y), x), donate_argnums=0)
    answers = []
    for _ in range(2):
        x = jax.device_put(NUMBERS, may_alias=False)
        kept = KeptFunction(jitted, MADE_FROM, lambda x, _: x, shorten)
        answers.append(np.asarray(kept(x, np.int32(5))))
        assert x.is_deleted()
    assert short == [5, 5, 5], "two trials when it is kept, one when it is read"
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], np.asarray(jitted(jnp.array(NUMBERS), np.int32(5))))


def test_what_is_distrusted_is_deleted_and_left_to_jax(folder: Path) -> None:
    whole = Step().ten()
    first = Step()
    assert first.kept.distrust() is False, "nothing was read"
    assert first.ten() == whole and first.traces == 0
    assert first.kept.distrust() is True and not list(folder.glob("*.program"))
    assert first.ten() == whole and first.traces == 1
    assert first.kept.distrust() is False and not list(folder.glob("*.program"))


IN_A_PROCESS = """
import sys, jax, jax.numpy as jnp, numpy as np
from lmscale.compiled import KeptFunction
traces = []
def step(x, y):
    traces.append(1)
    return jnp.sin(x) @ jnp.tanh(y)
kept = KeptFunction(jax.jit(step, donate_argnums=0), {"of": sys.argv[1]}, lambda x, y: x)
answer = kept(jax.device_put(np.ones((3, 3), np.float32)), np.ones((3, 3), np.float32))
print(len(traces), np.asarray(answer).tobytes().hex())
"""


@pytest.mark.slow
def test_a_process_killed_between_jax_s_cache_and_ours(tmp_path: Path) -> None:
    """All later ones are answered from jax's cache, and nothing of that is kept. Nor is it under another key,
    which is what changed sources are."""

    def start(of: str = "one", fault: str = "") -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", IN_A_PROCESS, of]
        variables = os.environ | {"JAX_PLATFORMS": "cpu", VARIABLE: fault}
        variables["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path)
        variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        variables["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
        return subprocess.run(command, env=variables, capture_output=True, text=True)

    assert start(fault="program.synced=kill").returncode == -signal.SIGKILL
    assert list(tmp_path.glob("*-cache")) and not list(tmp_path.glob("*.program"))
    with ThreadPoolExecutor() as both:
        after = list(both.map(start, ("one", "another")))
    assert len({ended.stdout for ended in after}) == 1 and after[0].stdout.startswith("1 "), after[0].stderr
    assert not list(tmp_path.glob("*.program"))
    for entry in tmp_path.glob("*step*-cache"):
        entry.unlink()
    kept, read = start(), start()
    assert kept.stdout == after[0].stdout and read.stdout == "0 " + kept.stdout[2:], read.stderr


def test_a_program_under_another_s_name_is_not_believed(folder: Path) -> None:
    Step().ten(5)
    (five,) = folder.glob("*.program")
    whole = Step().ten()
    (seven,) = set(folder.glob("*.program")) - {five}
    five.replace(seven)
    again = Step()
    assert again.ten() == whole and again.traces == 1


def test_a_function_that_ignores_an_argument_is_compiled_as_ever(folder: Path) -> None:
    """The compiled program does not take it, and must not take the next one in its place."""
    for _ in range(2):
        kept = KeptFunction(jax.jit(lambda unused, x: x + 1), MADE_FROM, lambda unused, x: x)
        assert float(kept(np.float32(5), np.float32(1))) == 2


def test_a_folder_that_cannot_be_written_costs_nothing_else(folder: Path) -> None:
    (folder / "file").write_text("")
    jax.config.update(compiled._CACHE, str(folder / "file"))
    step = Step()
    assert step.ten()[1] == 10 and step.traces == 1


def test_without_a_cache_nothing_is_kept(folder: Path) -> None:
    jax.config.update(compiled._CACHE, None)
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
            patch.setattr(source_stamp, "_FOLDER", tmp_path)
            patch.setattr(source_stamp, "_AT_START", source_stamp._stamps(tmp_path))
            keys.append(found())
    for package in ("jax", "jaxlib", "flax", "optax", "numpy"):
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "versions", lambda name=package: {**versions(), name: "0"})
            keys.append(found())
    for name in ("XLA_FLAGS", "JAX_DEFAULT_MATMUL_PRECISION"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "--something")
            keys.append(found())
    for what in ("_processor", "_cores"):
        with monkeypatch.context() as patch:
            patch.setattr(compiled, what, lambda: "another")
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
    monkeypatch.setattr(source_stamp, "_FOLDER", package)
    monkeypatch.setattr(source_stamp, "_AT_START", source_stamp._stamps(package))
    assert key(MADE_FROM, NUMBERS) == key(MADE_FROM, NUMBERS)
    (package / "model.py").write_text("x = 1\ny = 2")
    with pytest.raises(RuntimeError, match="began with"):
        key(MADE_FROM, NUMBERS)
    assert Step().ten()[1] == 10 and not list(folder.glob("*.program"))


def test_two_processes_have_one_key() -> None:
    """No address, no order of a set, no clock in it."""
    code = "from lmscale.compiled import key; import numpy as np; print(key({'a': 1}, (np.zeros(3), np.ones(2))))"
    with ThreadPoolExecutor() as both:
        command = [sys.executable, "-c", code]
        said = list(both.map(lambda _: subprocess.run(command, capture_output=True, text=True), range(2)))
    assert said[0].stdout == said[1].stdout and len(said[0].stdout) == 65, said[0].stderr
