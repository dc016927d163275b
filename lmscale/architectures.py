"""Our networks as architectures of `transformers`: which one computes a variant exactly, its config, its arrays.

Every factor that a forward pass here multiplies with is folded into an array. Numpy alone; matrices are [out, in],
as torch has them. Exactness is checked against transformers in tests/test_export_transformers.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmscale.errors import UserError
from lmscale.mlp import gated_width
from lmscale.norm import EPSILON
from lmscale.objective import CAUSAL
from lmscale.parametrisation import multipliers
from lmscale.positions import BASE, POSITIONS
from lmscale.shape import Shape
from lmscale.spec import RunSpec
from lmscale.text.vocab import END_OF_FILE, PAD, START

Arrays = dict[str, np.ndarray]
ACTIVATIONS = {"dense": "gelu_pytorch_tanh", "relu2": "relu2", "swiglu": "silu"}


@dataclass(frozen=True)
class Architecture:
    """One architecture. name: of its class for causal language models. config: what its config.json says besides
    the fields that all have. names: its name of each array of ours, `{}` the layer. finish: what else is to be done
    with the arrays of a layer."""

    kind: str
    name: str
    config: Callable[[Shape], dict[str, Any]]
    names: Mapping[str, str]
    finish: Callable[[Shape, Arrays], Arrays] = lambda shape, layer: layer


def _llama(shape: Shape) -> dict[str, Any]:
    """The fields of Llama and its kin."""
    return {
        "hidden_size": shape.d_model,
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "num_key_value_heads": shape.n_kv_head or shape.n_head,
        "head_dim": shape.d_head,
        "max_position_embeddings": shape.context,
        "hidden_act": ACTIVATIONS[shape.mlp],
        "rms_norm_eps" if shape.norm == "rms" else "layer_norm_eps": EPSILON,
        "rope_parameters": {"rope_type": "default", "rope_theta": BASE, "partial_rotary_factor": 1.0},
        "attention_bias": False,
    }


LLAMA = {
    "embedding": "model.embed_tokens.weight",
    "unembedding": "lm_head.weight",
    "final_norm": "model.norm",
    "attention_norm": "model.layers.{}.input_layernorm",
    "mlp_norm": "model.layers.{}.post_attention_layernorm",
    "q": "model.layers.{}.self_attn.q_proj.weight",
    "k": "model.layers.{}.self_attn.k_proj.weight",
    "v": "model.layers.{}.self_attn.v_proj.weight",
    "out": "model.layers.{}.self_attn.o_proj.weight",
    "q_norm": "model.layers.{}.self_attn.q_norm",
    "k_norm": "model.layers.{}.self_attn.k_norm",
    "mlp_gate": "model.layers.{}.mlp.gate_proj.weight",
    "mlp_in": "model.layers.{}.mlp.up_proj.weight",
    "mlp_out": "model.layers.{}.mlp.down_proj.weight",
}
APERTUS = LLAMA | {
    "attention_norm": "model.layers.{}.attention_layernorm",
    "mlp_norm": "model.layers.{}.feedforward_layernorm",
}
PERSIMMON = LLAMA | {
    "final_norm": "model.final_layernorm",
    "qkv": "model.layers.{}.self_attn.query_key_value.weight",
    "qkv_bias": "model.layers.{}.self_attn.query_key_value.bias",
    "out": "model.layers.{}.self_attn.dense.weight",
    "out_bias": "model.layers.{}.self_attn.dense.bias",
    "q_norm": "model.layers.{}.self_attn.q_layernorm",
    "k_norm": "model.layers.{}.self_attn.k_layernorm",
    "mlp_in": "model.layers.{}.mlp.dense_h_to_4h.weight",
    "mlp_in_bias": "model.layers.{}.mlp.dense_h_to_4h.bias",
    "mlp_out": "model.layers.{}.mlp.dense_4h_to_h.weight",
    "mlp_out_bias": "model.layers.{}.mlp.dense_4h_to_h.bias",
}
GPT2 = {
    "embedding": "transformer.wte.weight",
    "positions": "transformer.wpe.weight",
    "unembedding": "lm_head.weight",
    "final_norm": "transformer.ln_f",
    "attention_norm": "transformer.h.{}.ln_1",
    "mlp_norm": "transformer.h.{}.ln_2",
    "qkv": "transformer.h.{}.attn.c_attn.weight",
    "qkv_bias": "transformer.h.{}.attn.c_attn.bias",
    "out": "transformer.h.{}.attn.c_proj.weight",
    "out_bias": "transformer.h.{}.attn.c_proj.bias",
    "mlp_in": "transformer.h.{}.mlp.c_fc.weight",
    "mlp_in_bias": "transformer.h.{}.mlp.c_fc.bias",
    "mlp_out": "transformer.h.{}.mlp.c_proj.weight",
    "mlp_out_bias": "transformer.h.{}.mlp.c_proj.bias",
}


def _every_head(shape: Shape, layer: Arrays) -> list[np.ndarray]:
    """Queries, keys and values [H, K, D] each: a head of keys again for each query head that shares it."""
    heads = [layer.pop(name).reshape(-1, shape.d_head, shape.d_model) for name in ("q", "k", "v")]
    return [np.repeat(array, shape.n_head // len(array), axis=0) for array in heads]


def _with_biases(layer: Arrays) -> Arrays:
    """Biases of zeros, for an architecture that has some."""
    return layer | {
        f"{name}_bias": np.zeros(len(layer[name]), np.float32) for name in ("qkv", "out", "mlp_in", "mlp_out")
    }


def _persimmon(shape: Shape, layer: Arrays) -> Arrays:
    """Queries, keys and values stand side by side head by head."""
    qkv = np.stack(_every_head(shape, layer), axis=1)
    return _with_biases({**layer, "qkv": qkv.reshape(-1, shape.d_model)})


def _gpt2(shape: Shape, layer: Arrays) -> Arrays:
    """Its matrices are [in, out]."""
    qkv = np.concatenate(_every_head(shape, layer)).reshape(-1, shape.d_model)
    layer = _with_biases({**layer, "qkv": qkv})
    matrices = ("qkv", "out", "mlp_in", "mlp_out")
    return {name: array.T if name in matrices else array for name, array in layer.items()}


def _of_gpt2(shape: Shape) -> dict[str, Any]:
    return {
        "n_embd": shape.d_model,
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "n_positions": shape.context,
        "n_inner": shape.d_mlp,
        "activation_function": ACTIVATIONS[shape.mlp],
        "layer_norm_epsilon": EPSILON,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    }


PERSIMMON_ITSELF = Architecture(
    "persimmon",
    "PersimmonForCausalLM",
    lambda shape: _llama(shape) | {"qk_layernorm": shape.qk_norm},
    PERSIMMON,
    _persimmon,
)

# (norm, whether positions are rotary, whether the MLP is gated, qk_norm) -> what computes just that
ARCHITECTURES: dict[tuple[str, bool, bool, bool], Architecture] = {
    ("rms", True, False, True): Architecture("apertus", "ApertusForCausalLM", _llama, APERTUS),
    ("rms", True, False, False): Architecture("arcee", "ArceeForCausalLM", _llama, LLAMA),
    ("rms", True, True, True): Architecture("qwen3", "Qwen3ForCausalLM", _llama, LLAMA),
    ("rms", True, True, False): Architecture("llama", "LlamaForCausalLM", _llama, LLAMA),
    ("layer", True, False, True): PERSIMMON_ITSELF,
    ("layer", True, False, False): PERSIMMON_ITSELF,
    ("layer", True, True, False): Architecture("stablelm", "StableLmForCausalLM", _llama, LLAMA),
    ("layer", False, False, False): Architecture("gpt2", "GPT2LMHeadModel", _of_gpt2, GPT2, _gpt2),
}


def architecture_of(run: RunSpec) -> Architecture:
    """Find the architecture that computes a run's network exactly; UserError where transformers has none."""
    shape, objective = run.shape, run.data.get("objective", CAUSAL)
    key = (shape.norm, shape.positions == "rotary", shape.mlp == "swiglu", shape.qk_norm)
    exact = shape.mlp in ACTIVATIONS and shape.positions != "alibi" and objective == CAUSAL
    if exact and key in ARCHITECTURES:
        return ARCHITECTURES[key]
    network = (
        f"family.kind={shape.mlp}, norm={shape.norm}, positions={shape.positions}, qk_norm={shape.qk_norm}, "
        f"data.objective={objective}"
    )
    raise UserError(
        f"{network}: transformers has no architecture that computes this network; lmscale.load(folder) gives it "
        "in JAX (docs/export.md lists the others)"
    )


def config_of(run: RunSpec) -> dict[str, Any]:
    """Make the config.json."""
    found, shape = architecture_of(run), run.shape
    return {
        "architectures": [found.name],
        "model_type": found.kind,
        "vocab_size": shape.vocab_size,
        "intermediate_size": gated_width(shape) if shape.mlp == "swiglu" else shape.d_mlp,
        "tie_word_embeddings": shape.tied_embeddings,
        "dtype": "float32",
        "bos_token_id": START,
        "eos_token_id": END_OF_FILE,
        "pad_token_id": PAD,
        **found.config(shape),
    }


def arrays_for(run: RunSpec, params: Mapping[str, Any]) -> Arrays:
    """Make the arrays of the architecture, by its names, of a run's parameters."""
    found, shape = architecture_of(run), run.shape
    scales = multipliers(shape)
    arrays: Arrays = {
        "embedding": params["embedding"],
        **_norm("final_norm", params["final_norm"], scales.output),
    }
    if not shape.tied_embeddings:
        arrays["unembedding"] = params["unembedding"].T
    if "positions" in found.names:
        arrays["positions"] = _positions(shape, params)
    result = {_called(found, name, ""): array for name, array in arrays.items()}
    for layer in range(shape.n_layer):
        arrays = found.finish(shape, _layer(shape, params, layer))
        result |= {_called(found, name, str(layer)): array for name, array in arrays.items()}
    return {name: np.ascontiguousarray(array, np.float32) for name, array in result.items()}


def _called(found: Architecture, name: str, layer: str) -> str:
    """An array of a norm is called as the norm, and then `weight` or `bias`."""
    owner, _, part = name.partition(".")
    return found.names[owner].format(layer) + (f".{part}" if part else "")


def _norm(name: str, norm: Mapping[str, np.ndarray], factor: float = 1.0) -> Arrays:
    called = {"gain": "weight", "bias": "bias"}
    return {f"{name}.{called[part]}": array * np.float32(factor) for part, array in norm.items()}


def _layer(shape: Shape, params: Mapping[str, Any], layer: int) -> Arrays:
    scales = multipliers(shape)
    attention, mlp = params[f"attention_{layer}"], params[f"mlp_{layer}"]
    width = shape.n_head * shape.d_head
    q, k, v = np.split(attention["qkv"].T, [width, width + shape.d_kv])
    # there scores are divided by the root of d_head
    factor = 1.0 if scales.attention is None else scales.attention * shape.d_head**0.5
    arrays = {
        **_norm("attention_norm", params[f"attention_norm_{layer}"]),
        **_norm("mlp_norm", params[f"mlp_norm_{layer}"]),
        "q": q if shape.qk_norm else q * np.float32(factor),
        "k": k,
        "v": v,
        "out": attention["out"].T * np.float32(scales.residual),
        "mlp_in": mlp["in"].T,
        "mlp_out": mlp["out"].T * np.float32(scales.residual),
    }
    if shape.qk_norm:
        arrays |= _norm("q_norm", attention["q_norm"], factor) | _norm("k_norm", attention["k_norm"])
    if "gate" in mlp:
        arrays["mlp_gate"] = mlp["gate"].T
    return arrays


def _positions(shape: Shape, params: Mapping[str, Any]) -> np.ndarray:
    """A row for each position of the context: the learned ones, the waves, or zeros."""
    added = POSITIONS[shape.positions].added
    if added is None:
        return np.zeros((shape.context, shape.d_model), np.float32)
    import jax.numpy as jnp

    return np.asarray(added(params, jnp.arange(shape.context), shape.d_model))
