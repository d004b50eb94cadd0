"""Parameter counts and matrix shapes of model architectures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, cast, final

from attrs import frozen

from glowgenius.errors import ModelNotFoundError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Component = Literal["attn", "mlp", "unembed"]
"""The three switches of LoRA: attention (and what stands in for it), feed-forward, unembedding."""


@final
@frozen(kw_only=True)
class LinearGroup:
    """Equal weight matrices `[hidden, other]`, one or a bank of experts in each of some layers.

    Rank r adds a factor on each side: r · hidden and r · other numbers.
    Routed experts share the factor on the side of the hidden state; each has its own on the other side.
    Which side is the input makes no difference to the count.
    """

    component: Component
    """The switch that trains these matrices."""

    hidden: int
    """Size of the side that the experts share."""

    other: int
    """Size of the other side."""

    matrices: int = 1
    """How many there are of them over all layers, a bank of experts counted once."""

    experts: int = 1
    """Experts in each bank; 1 for a dense layer."""

    @property
    def parameters_per_rank(self) -> int:
        """Numbers that LoRA of rank 1 adds."""
        return self.matrices * (self.hidden + self.experts * self.other)

    @property
    def base_weights(self) -> int:
        """Numbers in the frozen matrices themselves."""
        return self.matrices * self.experts * self.hidden * self.other


@final
@frozen(kw_only=True)
class ParameterBreakdown:
    """How many numbers a LoRA adapter trains, by component, and how many frozen ones it corrects."""

    attn: int
    """Trained numbers in attention layers (also linear attention and state-space layers)."""

    mlp: int
    """Trained numbers in feed-forward layers, experts included."""

    unembed: int
    """Trained numbers in the unembedding."""

    base_weights: int
    """Frozen numbers in the matrices that the adapter corrects; embeddings, norms and routers are in none."""

    @property
    def total(self) -> int:
        """All trained numbers."""
        return self.attn + self.mlp + self.unembed

    @property
    def fraction(self) -> float:
        """Trained numbers as a fraction of the frozen ones that they correct."""
        return self.total / self.base_weights


def break_down(groups: Iterable[LinearGroup], *, rank: int, components: frozenset[Component]) -> ParameterBreakdown:
    """Count what LoRA of *rank* adds to those *groups* whose component is trained."""
    trained: dict[Component, int] = {"attn": 0, "mlp": 0, "unembed": 0}
    base_weights = 0
    for group in groups:
        if group.component in components:
            trained[group.component] += rank * group.parameters_per_rank
            base_weights += group.base_weights
    return ParameterBreakdown(
        attn=trained["attn"], mlp=trained["mlp"], unembed=trained["unembed"], base_weights=base_weights
    )


class _Reader:
    """Reads sizes from a config and remembers every key that is missing or of no use, to name them all at once."""

    def __init__(self, config: Mapping[str, Any], model_type: str) -> None:
        self.config = config
        self.model_type = model_type
        self.problems: list[str] = []

    def size(self, *keys: str) -> int:
        """The positive integer under the first of *keys* that is there; 1 in place of a missing one."""
        for key in keys:
            value = self.config.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
            if value is not None:
                self.problems.append(f"{key} (found {value!r}, needed an integer ≥ 1)")
                return 1
        self.problems.append(" or ".join(keys))
        return 1

    def size_or(self, key: str, default: int) -> int:
        """The positive integer under *key*, or *default* where the config leaves it open."""
        return default if self.config.get(key) is None else self.size(key)

    def count(self, key: str) -> int:
        """The integer ≥ 0 under *key*, or 0 where the config leaves it open."""
        value = self.config.get(key)
        return 0 if value is None or value == 0 else self.size(key)

    def names(self, key: str) -> tuple[str, ...] | None:
        """The strings under *key*, or None where the config leaves it open."""
        value = self.config.get(key)
        return None if value is None else tuple(str(name) for name in value)

    def finish(self) -> None:
        """Raise one error for all keys that the family needs and the config does not give."""
        if self.problems:
            problems = ", ".join(dict.fromkeys(self.problems))  # a key may have been asked for twice
            raise ModelNotFoundError(
                f"the config of this {self.model_type!r} model lacks {problems}; "
                "pass the whole one, such as transformers.AutoConfig.from_pretrained(name).to_dict()"
            )


def _gated_mlp(hidden: int, inner: int, *, layers: int, experts: int = 1) -> LinearGroup:
    """Gate, up and down."""
    return LinearGroup(component="mlp", hidden=hidden, other=inner, matrices=3 * layers, experts=experts)


def _plain_mlp(hidden: int, inner: int, *, layers: int, experts: int = 1) -> LinearGroup:
    """Up and down, without a gate."""
    return LinearGroup(component="mlp", hidden=hidden, other=inner, matrices=2 * layers, experts=experts)


def _attention(read: _Reader, *, layers: int, gated: bool = False) -> list[LinearGroup]:
    """Query, key, value and output; a gated query projection is twice as wide."""
    hidden, heads = read.size("hidden_size"), read.size("num_attention_heads")
    width = read.size_or("head_dim", hidden // heads)
    queries, keys = heads * width, read.size_or("num_key_value_heads", heads) * width

    def group(other: int, matrices: int) -> LinearGroup:
        return LinearGroup(component="attn", hidden=hidden, other=other, matrices=matrices)

    return [group(2 * queries if gated else queries, layers), group(keys, 2 * layers), group(queries, layers)]


def _unembedding(read: _Reader) -> LinearGroup:
    return LinearGroup(component="unembed", hidden=read.size("hidden_size"), other=read.size("vocab_size"))


def _dense(read: _Reader) -> list[LinearGroup]:
    layers = read.size("num_hidden_layers")
    mlp = _gated_mlp(read.size("hidden_size"), read.size("intermediate_size"), layers=layers)
    return [*_attention(read, layers=layers), mlp, _unembedding(read)]


def _block_sparse(read: _Reader) -> list[LinearGroup]:
    """Every layer a bank of experts, whose inner size is `intermediate_size`."""
    layers, experts = read.size("num_hidden_layers"), read.size("num_local_experts")
    mlp = _gated_mlp(read.size("hidden_size"), read.size("intermediate_size"), layers=layers, experts=experts)
    return [*_attention(read, layers=layers), mlp, _unembedding(read)]


def _shared_and_routed(read: _Reader, *, layers: int, shared: bool) -> list[LinearGroup]:
    """The experts of the Qwen families, and the dense expert that every token passes where there is one."""
    hidden = read.size("hidden_size")
    # `to_dict()` of transformers 5 writes `num_local_experts` where the files on the hub say `num_experts`.
    experts = read.size("num_experts", "num_local_experts")
    groups = [_gated_mlp(hidden, read.size("moe_intermediate_size"), layers=layers, experts=experts)]
    if shared:
        groups.append(_gated_mlp(hidden, read.size("shared_expert_intermediate_size"), layers=layers))
    return groups


def _qwen_moe(read: _Reader, *, shared: bool = False) -> list[LinearGroup]:
    layers = read.size("num_hidden_layers")
    dense_layers: set[int] = set(read.config.get("mlp_only_layers") or ())
    step = read.size_or("decoder_sparse_step", 1)
    sparse = sum(layer not in dense_layers and (layer + 1) % step == 0 for layer in range(layers))
    groups = _attention(read, layers=layers)
    groups += _shared_and_routed(read, layers=sparse, shared=shared)
    if sparse < layers:
        groups.append(_gated_mlp(read.size("hidden_size"), read.size("intermediate_size"), layers=layers - sparse))
    return [*groups, _unembedding(read)]


def _hybrid_attention(read: _Reader) -> list[LinearGroup]:
    """Gated attention in some layers, gated delta networks in the others (Qwen3.5 and later)."""
    layers, hidden = read.size("num_hidden_layers"), read.size("hidden_size")
    kinds = read.names("layer_types")
    full = kinds.count("full_attention") if kinds is not None else layers // read.size("full_attention_interval")
    keys = read.size("linear_num_key_heads") * read.size("linear_key_head_dim")
    values = read.size("linear_num_value_heads") * read.size("linear_value_head_dim")
    linear = (len(kinds) if kinds is not None else layers) - full
    return [
        *_attention(read, layers=full, gated=True),
        LinearGroup(component="attn", hidden=hidden, other=keys, matrices=2 * linear),  # q, k
        LinearGroup(component="attn", hidden=hidden, other=values, matrices=3 * linear),  # v, z, out
    ]


def _qwen_hybrid(read: _Reader) -> list[LinearGroup]:
    layers, hidden = read.size("num_hidden_layers"), read.size("hidden_size")
    mlp = _gated_mlp(hidden, read.size("intermediate_size"), layers=layers)
    return [*_hybrid_attention(read), mlp, _unembedding(read)]


def _qwen_hybrid_moe(read: _Reader) -> list[LinearGroup]:
    experts = _shared_and_routed(read, layers=read.size("num_hidden_layers"), shared=True)
    return [*_hybrid_attention(read), *experts, _unembedding(read)]


def _latent_attention_moe(read: _Reader) -> list[LinearGroup]:
    """Multi-head latent attention, dense layers first and then experts (DeepSeek V3, Kimi K2)."""
    layers, hidden, dense = (
        read.size("num_hidden_layers"),
        read.size("hidden_size"),
        read.count("first_k_dense_replace"),
    )
    inner, sparse = read.size("moe_intermediate_size"), layers - dense
    others = (
        read.size("q_lora_rank"),
        read.size("kv_lora_rank") + read.size("qk_rope_head_dim"),
        read.size("num_attention_heads") * read.size("v_head_dim"),
    )
    groups = [LinearGroup(component="attn", hidden=hidden, other=other, matrices=layers) for other in others]
    groups.append(_gated_mlp(hidden, inner, layers=sparse, experts=read.size("n_routed_experts")))
    if shared := read.count("n_shared_experts"):
        groups.append(_gated_mlp(hidden, shared * inner, layers=sparse))
    if dense:
        groups.append(_gated_mlp(hidden, read.size("intermediate_size"), layers=dense))
    return [*groups, _unembedding(read)]


_MAMBA, _EXPERTS, _ATTENTION, _MLP = "M", "E", "*", "-"
_BLOCKS: Final = {
    "linear_attention": _MAMBA,
    "mamba": _MAMBA,
    "moe": _EXPERTS,
    "full_attention": _ATTENTION,
    "attention": _ATTENTION,
    "mlp": _MLP,
}


def _mamba_hybrid_moe(read: _Reader) -> list[LinearGroup]:
    """One block a layer: Mamba 2, attention, experts or a dense MLP (Nemotron 3)."""
    hidden = read.size("hidden_size")
    named = read.names("layers_block_type")
    if named is None and read.config.get("hybrid_override_pattern") is None:
        read.problems.append("layers_block_type or hybrid_override_pattern")
    pattern = [_BLOCKS.get(name, name) for name in named or read.names("hybrid_override_pattern") or ()]
    if strange := sorted(set(pattern) - set(_BLOCKS.values())):
        read.problems.append(f"layers_block_type (unknown block {', '.join(map(repr, strange))})")
    groups = [_unembedding(read), *_attention(read, layers=pattern.count(_ATTENTION))]
    if mamba := pattern.count(_MAMBA):
        inner = read.size("mamba_num_heads") * read.size("mamba_head_dim")
        groups.append(LinearGroup(component="attn", hidden=hidden, other=inner, matrices=3 * mamba))  # z, x, out
    if dense := pattern.count(_MLP):
        groups.append(_plain_mlp(hidden, read.size("intermediate_size"), layers=dense))
    if sparse := pattern.count(_EXPERTS):
        latent = read.count("moe_latent_size")
        experts, inner = read.size("n_routed_experts"), read.size("moe_intermediate_size")
        groups.append(_plain_mlp(latent or hidden, inner, layers=sparse, experts=experts))
        groups.append(_plain_mlp(hidden, read.size("moe_shared_expert_intermediate_size"), layers=sparse))
        if latent:
            groups.append(_plain_mlp(hidden, latent, layers=sparse))  # into the experts' smaller space and back
    return groups


_DENSE: Final = (
    "cohere",
    "cohere2",
    "cwm",
    "ernie4_5",
    "exaone4",
    "gemma",
    "gemma2",
    "gemma3",
    "granite",
    "hunyuan_v1_dense",
    "internlm3",
    "llama",
    "ministral",
    "ministral3",
    "mistral",
    "olmo",
    "olmo2",
    "olmo3",
    "qwen2",
    "qwen3",
    "qwen3_vl",
    "seed_oss",
    "smollm3",
    "vaultgemma",
)

FAMILIES: Final[Mapping[str, Callable[[_Reader], list[LinearGroup]]]] = {
    **dict.fromkeys(_DENSE, _dense),
    "deepseek_v3": _latent_attention_moe,
    "gpt_oss": _block_sparse,
    "kimi_k2": _latent_attention_moe,
    "mixtral": _block_sparse,
    "nemotron_h": _mamba_hybrid_moe,
    "qwen2_moe": lambda read: _qwen_moe(read, shared=True),
    "qwen3_5": _qwen_hybrid,
    "qwen3_5_moe": _qwen_hybrid_moe,
    "qwen3_moe": _qwen_moe,
    "qwen3_vl_moe": _qwen_moe,
}
"""`model_type` → the function that lists the matrices; only types held to a count by the tests."""

_STATED_HEAD_DIM: Final = frozenset(
    (
        "cwm",
        "ernie4_5",
        "gemma",
        "gemma2",
        "gemma3",
        "gpt_oss",
        "hunyuan_v1_dense",
        "internlm3",
        "ministral",
        "ministral3",
        "nemotron_h",
        "qwen3",
        "qwen3_5",
        "qwen3_5_moe",
        "qwen3_vl",
        "qwen3_vl_moe",
        "seed_oss",
        "vaultgemma",
    )
)
"""Types whose `head_dim` has its own default in `transformers`, or none: a config without it is then no answer."""


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that describes the language model; of a text-only model, all of it."""
    inner = config.get("text_config")
    if not isinstance(inner, Mapping):
        return config
    # A file may leave the type to the outer level.
    return {"model_type": config.get("model_type"), **cast("Mapping[str, Any]", inner)}


def linear_groups(config: Mapping[str, Any]) -> tuple[LinearGroup, ...]:
    """The matrices that LoRA adapts in a model with this config.

    Args:
        config: `config.json` of a model, or `to_dict()` of its config object; also of a multimodal model, whose
            language part is then read.

    Raises:
        ModelNotFoundError: Its `model_type` is missing or not among `FAMILIES`, or keys of that family are missing;
            all of them are named.
    """
    text = text_config(config)
    found = text.get("model_type")
    supported = ", ".join(sorted(FAMILIES))
    if not isinstance(found, str):
        raise ModelNotFoundError(f"the config has no model_type, which says how to read the rest; known: {supported}")
    model_type = found.removesuffix("_text")
    family = FAMILIES.get(model_type)
    if family is None:
        raise ModelNotFoundError(
            f"LoRA parameters of a {model_type!r} model cannot be counted{nearest(model_type, FAMILIES)}; "
            f"known: {supported}"
        )
    read = _Reader(text, model_type)
    groups = family(read)
    if model_type in _STATED_HEAD_DIM:
        read.size("head_dim")
    read.finish()
    return tuple(groups)


def hidden_size(config: Mapping[str, Any]) -> int | None:
    """Width of the hidden state, or None where the config does not say."""
    value = text_config(config).get("hidden_size")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def components(*, attn: bool, mlp: bool, unembed: bool) -> frozenset[Component]:
    """The trained components as a set."""
    chosen: list[tuple[Component, bool]] = [("attn", attn), ("mlp", mlp), ("unembed", unembed)]
    return frozenset(name for name, trained in chosen if trained)
