"""`LoRAConfig`: how large the adapter is and where it sits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from attrs import field, frozen

from glowgenius._spelling import explain_unknown
from glowgenius._validators import boolean, integer, number, optional
from glowgenius.errors import ConfigError
from glowgenius.lora.architectures import break_down, components, linear_groups
from glowgenius.lora.known_models import config_of

if TYPE_CHECKING:
    from glowgenius.lora.architectures import ParameterBreakdown
    from glowgenius.lora.known_models import ModelLike

DEFAULT_ALPHA: Final = 32.0
"""The local engine's `alpha` where a config leaves it None: the value of "LoRA Without Regret"."""

LARGEST_RANK: Final = 16_384
"""The largest `rank` that is accepted: the inner size of the largest open models, beyond which nothing is low-rank."""

_RANK = "it is called rank here"
_ALPHA = "it is called alpha here, and only the local engine takes it: Tinker fixes its own"
_SEED = "it is called seed here"
_WHERE = "there is none; choose the layers with train_attn, train_mlp and train_unembed"
_DROPOUT = "there is none, because Tinker's LoRA has no dropout; against overfitting, train fewer steps"
_BIAS = "there is none, because biases stay frozen; leave it out"
_VARIANT = (
    "there is none, because only plain LoRA is offered: tuned as fairly, its variants stay within 1 to 2 % "
    "(arXiv 2602.04998); tune the learning rate instead"
)
_SCALE = (
    "there is none, because the scale is alpha / rank, at which the best learning rate hardly depends on the rank; "
    "leave it out"
)
_SAVED = "there is none, because no base weight is ever trained; train_unembed=True adapts the unembedding"
_PLUMBING = "there is none, because nothing here depends on it; leave it out"

_ELSEWHERE: Final = {
    **dict.fromkeys(("r", "lora_r", "lora_rank", "lora_dim", "adapter_rank"), _RANK),
    **dict.fromkeys(("lora_alpha", "alpha_r", "scaling", "lora_scale", "lora_scaling"), _ALPHA),
    **dict.fromkeys(("random_state", "random_seed", "lora_seed"), _SEED),
    **dict.fromkeys(
        (
            "target_modules",
            "lora_target_modules",
            "target_parameters",
            "exclude_modules",
            "layers_to_transform",
            "layers_pattern",
            "num_layers",
            "rank_pattern",
            "alpha_pattern",
            "lora_target",
        ),
        _WHERE,
    ),
    **dict.fromkeys(("dropout", "lora_dropout"), _DROPOUT),
    **dict.fromkeys(("bias", "lora_bias", "train_bias"), _BIAS),
    **dict.fromkeys(("use_dora", "init_lora_weights", "loraplus_lr_ratio", "use_qalora"), _VARIANT),
    **dict.fromkeys(("use_rslora", "rslora"), _SCALE),
    **dict.fromkeys(("modules_to_save", "trainable_token_indices", "train_embed", "train_embedding"), _SAVED),
    **dict.fromkeys(("task_type", "peft_type", "inference_mode", "fan_in_fan_out"), _PLUMBING),
}


@explain_unknown(_ELSEWHERE)
@final
@frozen(kw_only=True)
class LoRAConfig:
    """A low-rank correction to a frozen model: W' = W + (alpha / rank) · B · A.

    A starts uniform with scale 1 / √d_in and B at zero, so training starts exactly at the base model.

    The settings are those of the Tinker service and mean the same on every engine.
    `alpha` is the exception: the service fixes it and takes none, so a run on Tinker with an `alpha` is refused.

    Raises:
        ConfigError: A value is not valid, nothing would be trained, or a setting is not one of these; a name from
            another library (`r`, `lora_alpha`, `target_modules`, …) is answered with ours.
    """

    rank: int = field(default=32, validator=integer(at_least=1, at_most=LARGEST_RANK))
    """Width of the correction, at most `LARGEST_RANK`. The Tinker service takes powers of two."""

    seed: int = field(default=0, validator=integer(at_least=0))
    """Seed of the random initial A."""

    train_mlp: bool = field(default=True, validator=boolean())
    """Adapt the feed-forward layers, experts included; they hold most of what LoRA learns."""

    train_attn: bool = field(default=True, validator=boolean())
    """Adapt the attention layers, linear attention and state-space layers included."""

    train_unembed: bool = field(default=True, validator=boolean())
    """Adapt the unembedding (`lm_head`); where it is tied to the embedding, the embedding stays as it is.

    True is Tinker's default, so that one config trains the same adapter on every engine, and checkpoints made before
    keep their shape. False gives an adapter that vLLM and SGLang load; merged models and GGUF files take either.
    """

    alpha: float | None = field(default=None, validator=optional(number(above=0)))
    """Scale of the correction on the local engine: None is 32, as in "LoRA Without Regret". Refused on Tinker."""

    def __attrs_post_init__(self) -> None:
        """Refuse an adapter without any layer."""
        if not (self.train_mlp or self.train_attn or self.train_unembed):
            raise ConfigError(
                "LoRAConfig with train_mlp=False, train_attn=False and train_unembed=False trains nothing; "
                "set at least one of them to True"
            )

    def parameter_count(self, model: ModelLike) -> int:
        """Number of trainable parameters of the adapter on *model*; no weights are loaded.

        Args:
            model: A model's name, its local directory, its config as a mapping, or a config object with `to_dict()`.

        Raises:
            ModelNotFoundError: The model is unknown and cannot be looked up, its architecture is not supported, or
                its config lacks sizes; the message names them.
            ConfigError: *model* is none of these.
        """
        return self.parameter_breakdown(model).total

    def parameter_breakdown(self, model: ModelLike) -> ParameterBreakdown:
        """`parameter_count`, taken apart into attention, feed-forward and unembedding.

        Components that this config does not train count 0.
        In a mixture of experts, the routed experts of a layer share the factor on the side of the hidden state:
        gate, up and down add 3 · (hidden + experts · inner) numbers per rank and layer.

        Args:
            model: As for `parameter_count`.

        Raises:
            ModelNotFoundError: As for `parameter_count`.
            ConfigError: As for `parameter_count`.
        """
        groups = linear_groups(config_of(model))
        chosen = components(attn=self.train_attn, mlp=self.train_mlp, unembed=self.train_unembed)
        return break_down(groups, rank=self.rank, components=chosen)
