"""What `transformers` computes of an exported model is what we do, for every variant that is claimed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lmscale import model
from lmscale.architectures import architecture_of, arrays_for, config_of
from lmscale.shape import Shape
from lmscale.spec import RunSpec, spec_of
from lmscale.trained import opened

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden_2"
SMALL = Shape(n_layer=2, d_model=24, n_head=4, d_head=6, d_mlp=48, context=40, vocab_size=260)
LAYER: dict[str, Any] = {"norm": "layer"}
PLAIN: dict[str, Any] = {"norm": "layer", "qk_norm": False}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("apertus", {}),
    ("apertus", {"mlp": "relu2", "n_kv_head": 2, "tied_embeddings": True, "parametrisation": "completep"}),
    ("arcee", {"qk_norm": False, "parametrisation": "completep", "n_kv_head": 1}),
    ("qwen3", {"mlp": "swiglu", "n_kv_head": 2}),
    ("llama", {"mlp": "swiglu", "qk_norm": False, "parametrisation": "mup"}),
    ("persimmon", LAYER | {"n_kv_head": 2, "parametrisation": "completep", "tied_embeddings": True}),
    ("persimmon", PLAIN | {"mlp": "relu2", "parametrisation": "mup"}),
    ("stablelm", PLAIN | {"mlp": "swiglu", "n_kv_head": 2}),
    ("gpt2", PLAIN | {"positions": "learned", "mlp": "relu2", "tied_embeddings": True, "n_kv_head": 2}),
    ("gpt2", PLAIN | {"positions": "sinusoidal", "parametrisation": "completep"}),
    ("gpt2", PLAIN | {"positions": "none"}),
]


def run_of(shape: Shape) -> RunSpec:
    spec = spec_of(json.loads(min(GOLDEN.glob("*/spec.json")).read_text()))
    return dataclasses.replace(spec, shape=shape)


def moved(shape: Shape) -> dict[str, Any]:
    """Parameters none of which is as it starts: gains and biases too."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: (leaf.shape[0] ** -0.5 + 0.3 * rng.normal(size=leaf.shape)).astype(np.float32),
        model.shapes(shape),
    )


@pytest.mark.parametrize(("kind", "changes"), VARIANTS)
def test_logits_are_equal(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: no logits of transformers")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from safetensors.numpy import save_file

    run = run_of(dataclasses.replace(SMALL, **changes))
    params = moved(run.shape)
    save_file(arrays_for(run, params), tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config_of(run)))
    loaded, said = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert loaded.config.model_type == kind == architecture_of(run).kind
    assert not any(said[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), said
    tokens = np.random.default_rng(0).integers(0, 260, (3, run.shape.context))
    with torch.no_grad():
        theirs = loaded(torch.tensor(tokens)).logits.numpy()
    ours = np.asarray(opened(run, params).logits(tokens))
    assert np.ptp(ours) > 1
    np.testing.assert_allclose(theirs, ours, atol=1e-4, rtol=0)
