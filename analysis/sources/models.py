"""Parameters of a model whose settings say its shape: GPT-2 and nanoGPT, Llama and its kin, GPT-NeoX.

The formulas are those of `transformers` and nanoGPT, and tested against them; of other models nothing is guessed.
"""

from collections.abc import Mapping

from analysis.sources.names import matching
from analysis.sources.numbers import number


def params_of(config: Mapping[str, object]) -> tuple[float, float, str] | None:
    """Return all parameters, those without embeddings and unembedding, and the model; None where it is unknown."""

    def get(name: str) -> float:
        found = matching(config, (name,))
        return (number(config[found[0]]) if found else None) or 0.0

    def flag(name: str, default: bool = False) -> bool:
        found = matching(config, (name,))
        return str(config[found[0]]).lower() in ("true", "1", "1.0") if found else default

    found = matching(config, ("model_type",))
    kind = str(config[found[0]]) if found else ""
    vocab = get("vocab_size")
    if kind in ("", "gpt2") and get("n_layer") and get("n_embd"):
        width, context = get("n_embd"), get("n_positions") or get("n_ctx") or get("block_size")
        if not (vocab and context) or get("n_kv_head"):
            return None
        # nanoGPT can leave out every bias, those of the norms too.
        bias, inner = flag("bias", True), get("n_inner") or 4 * width
        layer = 4 * width**2 + 2 * width * inner + 2 * width + bias * (7 * width + inner)
        body = get("n_layer") * layer + width * (1 + bias)
        tables = (vocab * (1 if flag("tie_word_embeddings", True) else 2) + context) * width
        return body + tables, body, "GPT-2"
    layers, width, inner = get("num_hidden_layers"), get("hidden_size"), get("intermediate_size")
    if not (layers and width and inner and vocab):
        return None
    tables = vocab * width * (1 if flag("tie_word_embeddings") else 2)
    if kind in ("llama", "mistral", "qwen2") and get("num_attention_heads"):
        heads = get("num_attention_heads")
        size = get("head_dim") or width / heads
        query, key = size * heads, size * (get("num_key_value_heads") or heads)
        biased = flag("attention_bias")
        attention = (
            2 * width * (query + key) + (query + 2 * key) * (biased or kind == "qwen2") + width * biased
        )
        mlp = 3 * width * inner + flag("mlp_bias") * (2 * inner + width)
        body = layers * (attention + mlp + 2 * width) + width
        return body + tables, body, kind
    if kind == "gpt_neox":
        body = layers * (4 * width**2 + 2 * width * inner + inner + 9 * width) + 2 * width
        return body + tables, body, kind
    return None
