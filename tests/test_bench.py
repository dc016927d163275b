"""`make bench`: the plain loop computes what ours does, the products are the step's, a table is kept."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks import bench, loop, plain
from lmscale import model
from lmscale.family import FamilyConfig, shape_of
from lmscale.flops import training_flops_per_token


@pytest.mark.slow
def test_the_plain_network_is_ours() -> None:
    shape = shape_of(FamilyConfig(), 8, context=32, vocab_size=260)
    params = jax.jit(lambda key: model.init(shape, key))(jax.random.key(1))
    params = jax.tree.map(
        lambda array: array + 0.1, params
    )  # gains that are not 1, an unembedding that is not 0
    tokens = np.random.default_rng(0).integers(0, 256, (3, 32))
    ours, theirs = jax.jit(lambda p: (model.forward(shape)(p, tokens), plain.network(shape)(p, tokens)))(
        params
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_plain_loop_learns() -> None:
    losses: list[float] = []

    def watched(shape: Any) -> Any:
        logits = plain.network(shape)

        def seen(params: Any, tokens: jax.Array) -> jax.Array:
            found = logits(params, tokens)
            jax.debug.callback(lambda value: losses.append(float(value)), jax.nn.logsumexp(found, -1).mean())
            return found

        return seen

    text = np.tile(np.arange(8, dtype=np.uint8), 100)
    go = plain.loop(8, 2, text, watched)
    assert go(3) == 3 * 2 * 64
    jax.effects_barrier()
    assert len(losses) == 3 and len(set(losses)) == 3  # the parameters move


@pytest.mark.parametrize("dial", [8, 88])
def test_the_products_are_all_that_a_step_counts(dial: int) -> None:
    shape = shape_of(FamilyConfig(), dial, context=64, vocab_size=260)
    work = sum(2 * math.prod(one) * other[-1] for one, other in loop.products(shape, 14))
    assert work == training_flops_per_token(shape) * 14 * 64


def test_a_part_is_printed_kept_and_says_that_others_were_at_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "others", lambda: 0.5)
    monkeypatch.setitem(
        bench.PARTS, "laws", lambda: iter([{"fit": "mine", "s": bench.spread([1.0, 4.0, 2.0])}])
    )
    bench.main(["laws"])
    assert "NOT IDLE" in (said := capsys.readouterr().out) and "fit mine  s 2 [1, 4]" in said
    (path,) = (tmp_path / "results").iterdir()
    kept = json.loads(path.read_text())
    assert kept["parts"]["laws"]["rows"] == [
        {"fit": "mine", "s": {"median": 2.0, "least": 1.0, "greatest": 4.0}}
    ]
    assert kept["parts"]["laws"]["busy"] == 0.5 and kept["machine"]["cores"] >= 1


def test_a_contestant_that_ends_is_said(tmp_path: Path) -> None:
    with (
        bench.Contestant("nobody", 8, tmp_path) as one,
        pytest.raises(SystemExit, match=r"nobody.*ended with 1"),
    ):
        one.ready()
