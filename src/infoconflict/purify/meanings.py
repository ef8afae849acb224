"""Keys of two configs that would make two models of the same weights.

A config may leave out what stands at its architecture's default, and releases of transformers differ in what they leave out and
in how they write rotary embeddings. So values are compared, not texts: a key that one config lacks counts as its default.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from infoconflict.models.parts import LLAMA_LIKE

ROPE = ("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor")
MEANING = (
    *("num_attention_heads", "n_head", "num_key_value_heads", "head_dim", "hidden_act", "activation_function"),
    *("hidden_activation", "rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "rotary_dim", "rotary_pct"),
    *("rotary_emb_base", "sliding_window", "use_sliding_window", "scale_attn_weights", "reorder_and_upcast_attn"),
    *("scale_attn_by_inverse_layer_idx", "tie_word_embeddings", "vocab_size", "attention_bias", "mlp_bias", "alibi"),
    *("attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "logit_scale", "logits_scaling"),
    *("embedding_multiplier", "residual_multiplier", "attention_multiplier", "use_qk_norm", "use_parallel_residual"),
    *("parallel_attn", "num_experts_per_tok", "norm_topk_prob"),
)
"""Keys that decide what weights mean without showing in their shapes, but for those of rotary embeddings."""
# As transformers 5.23 has them; a key that is not here has none.
DEFAULTS: dict[str, Any] = {
    **{"tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "use_sliding_window": False},
    **{"alibi": False, "use_qk_norm": False},
}
DEFAULTS_OF_FAMILY: dict[str, dict[str, Any]] = {
    **{family: {"tie_word_embeddings": False, "hidden_act": "silu", "rms_norm_eps": 1e-6} for family in LLAMA_LIKE},
    "gpt2": {
        **{"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True},
        **{"scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False},
    },
    "gptj": {
        **{"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "rotary_dim": 64},
        "tie_word_embeddings": False,
    },
}
DEFAULT_THETA = 10_000.0
SILENT = frozenset(
    {"_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "use_cache", "initializer_range"}
    | {"attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout", "pretraining_tp", "model_type"}
)
"""Keys of no consequence for answers; others that differ are told."""
MOST_TOLD = 20

Apart = tuple[str, Any, Any]
"""Key, the model's value, the base's."""


def meanings_apart(own: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[Apart]:
    """Yield the keys that give weights another meaning in the one config than in the other of the same architecture."""
    for key in MEANING:
        if value(own, key) != value(base, key):
            yield key, own.get(key), base.get(key)
    if rotations(own) != rotations(base):
        key = next(key for key in ROPE[::-1] if own.get(key) != base.get(key))
        yield key, own.get(key), base.get(key)


def value(config: Mapping[str, Any], key: str) -> Any:
    """Return what a key stands at: as written, or its default; None where that is not known."""
    if key == "sliding_window" and config.get("use_sliding_window") is False:
        return None
    if (found := config.get(key)) is not None:
        return found
    heads, hidden = (config.get(name) for name in ("num_attention_heads", "hidden_size"))
    if key == "num_key_value_heads":
        return heads
    if key == "head_dim" and type(heads) is int and type(hidden) is int and heads:
        return hidden // heads
    return DEFAULTS_OF_FAMILY.get(str(config.get("model_type")), {}).get(key, DEFAULTS.get(key))


def rotations(config: Mapping[str, Any]) -> list[str]:
    """Return every reading of how positions are rotated, as canonical texts.

    There is more than one where an older and a newer key contradict each other, since then tools differ in what they follow.
    """
    raws = [raw for key in ("rope_scaling", "rope_parameters") if (raw := config.get(key))]
    found = set()
    for raw in raws or [{}]:
        parts = dict(raw) if isinstance(raw, Mapping) else {"rope": raw}
        kinds = [parts.pop(key) for key in ("rope_type", "type") if parts.get(key) is not None]
        thetas = [theta for where in (parts, config) if (theta := where.get("rope_theta")) is not None]
        shares = [share for where in (parts, config) if (share := where.get("partial_rotary_factor")) is not None]
        for kind in kinds or ["default"]:
            for theta in thetas or [DEFAULT_THETA]:
                for share in shares or [None]:
                    one = {**parts, "rope_type": kind, "rope_theta": theta, "partial_rotary_factor": share}
                    found.add(json.dumps({key: _number(part) for key, part in one.items()}, sort_keys=True))
    return sorted(found)


def _number(part: Any) -> Any:
    """Return a number as one kind: 10000 and 10000.0 are the same."""
    return float(part) if type(part) is int and abs(part) < 1 << 53 else part


def others_apart(own: Mapping[str, Any], base: Mapping[str, Any]) -> list[Apart]:
    """Return further keys that differ, sorted, the first :data:`MOST_TOLD` of them."""
    keys = sorted({*own, *base} - {*MEANING, *ROPE} - SILENT)
    return [(key, own.get(key), base.get(key)) for key in keys if own.get(key) != base.get(key)][:MOST_TOLD]
