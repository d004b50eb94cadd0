"""Suggested learning rates for LoRA, with their source and reliability."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from attrs import frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.errors import ModelNotFoundError
from glowgenius.lora.architectures import hidden_size, text_config
from glowgenius.lora.known_models import base_name, config_of, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.lora.known_models import ModelLike

_FULL_RATE: Final = 5e-5
_LORA_FACTOR: Final = 10
_EXPONENTS: Final = {"llama": 0.781, "qwen": 0.0775}
_FITTED_WIDTHS: Final = (2048, 8192)
"""Hidden sizes of the Llama and Qwen models that the cookbook lists."""

_SMOLLM2_135M: Final = "smollm2-135m"
_SMOLLM2_135M_SIZES: Final = {"hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49_152}

_COOKBOOK: Final = "tinker_cookbook 0.6.1, get_lr"
_REGRET: Final = '"LoRA Without Regret" (doi 10.64434/tml.20250929): ten times the rate of full fine-tuning'
_PILOT: Final = (
    "pilot run for this library: SmolLM2-135M-Instruct, rank 8, alpha 32, "
    "40 New York facts, 50 steps of 8 rows, one seed"
)
_PILOT_NOTE: Final = (
    "best of 3e-4, 1e-3, 3e-3 and 1e-2 by loss on held-out wordings; 1e-2 diverged, and 3e-3 moved unrelated text "
    "much further; for long runs, or to keep more of what the base model says, go towards the low end"
)
_HALF_DECADE: Final = math.sqrt(10)


@final
@frozen(kw_only=True)
class LearningRateSuggestion:
    """A learning rate for LoRA with Adam, and why this one. `float(suggestion)` is its value."""

    value: float
    """The rate to start from."""

    formula: str
    """How the value comes about, with its numbers filled in."""

    source: str
    """Who says so."""

    low: float
    """The low end of a sweep worth running; not a confidence interval."""

    high: float
    """The high end of a sweep worth running."""

    calibrated: bool
    """Whether the formula was fitted to sweeps of this family at such a width."""

    note: str
    """What to know before relying on it."""

    def __float__(self) -> float:
        """The value."""
        return self.value

    @override
    def __str__(self) -> str:
        trust = "calibrated" if self.calibrated else "not calibrated"
        return showable(
            f"{self.value:.3g} ({trust}; sweep {self.low:.2g} to {self.high:.2g})\n"
            f"  = {self.formula}\n"
            f"  source: {self.source}\n"
            f"  note: {self.note}"
        )


def suggest_learning_rate(model: ModelLike) -> LearningRateSuggestion:
    """A learning rate to start LoRA from; an unknown model gets a general one, and the reason.

    Llama and Qwen models get the cookbook's fitted formula, 5e-5 · 10 · (2000 / hidden)^p with p = 0.781 for Llama
    and 0.0775 for Qwen. SmolLM2-135M gets the best rate of a pilot run. Every other model gets ten times a usual
    rate of full fine-tuning. The rank plays no part: the best rate moves by less than a factor of 2 from rank 4 to 512.

    Args:
        model: A model's name, its local directory, its config as a mapping, or a config object with `to_dict()`.

    Raises:
        ConfigError: *model* is none of these; a name that nobody knows is an answer, not an error.
    """
    kind = _recognise(model)
    if kind is None:
        return _general("no sweep is known for this model")
    if kind == _SMOLLM2_135M:
        return _pilot()
    width, problem = _width(model)
    return _fitted(kind, width) if width is not None else _general(problem)


def _recognise(model: ModelLike) -> str | None:
    """Which rule the model falls under: by its name if that says so, else by its config."""
    name = name_of(model)
    folder = name is not None and Path(name).is_dir()
    label = "" if name is None else Path(name).name if folder else base_name(name)
    for kind in (_SMOLLM2_135M, *_EXPONENTS):
        if kind in label.lower():
            return kind
    if isinstance(model, str) and not folder:
        return None
    try:
        return _recognise_config(text_config(config_of(model)))
    except ModelNotFoundError:
        return None


def _recognise_config(config: Mapping[str, Any]) -> str | None:
    model_type = config.get("model_type")
    sizes = {key: config.get(key) for key in _SMOLLM2_135M_SIZES}
    if model_type == "llama":  # a dozen makers' models carry this type, so it is no sign of a Llama
        return _SMOLLM2_135M if sizes == _SMOLLM2_135M_SIZES else None
    return "qwen" if isinstance(model_type, str) and model_type.startswith("qwen") else None


def _width(model: ModelLike) -> tuple[int | None, str]:
    """The model's hidden size, or None and why it is not known."""
    try:
        width = hidden_size(config_of(model))
    except ModelNotFoundError:
        return None, "the fitted formula needs the hidden size, and no config is found for this model; pass its config"
    return width, "the fitted formula needs the hidden size, which the config does not give"


def _fitted(family: str, width: int) -> LearningRateSuggestion:
    exponent = _EXPONENTS[family]
    value = _FULL_RATE * _LORA_FACTOR * (2000 / width) ** exponent
    lowest, highest = _FITTED_WIDTHS
    within = lowest <= width <= highest
    return LearningRateSuggestion(
        value=value,
        formula=f"5e-05 × {_LORA_FACTOR} × (2000 / {width})^{exponent}",
        source=_COOKBOOK,
        low=value / _HALF_DECADE,
        high=value * _HALF_DECADE,
        calibrated=within,
        note=(
            "fitted to sweeps of Llama and Qwen models on Tulu 3; "
            "runs under about 100 steps may like up to half as much again"
            if within
            else f"an extrapolation: the formula is published for models with hidden sizes from {lowest} to {highest}, "
            f"this one has {width}"
        ),
    )


def _general(reason: str) -> LearningRateSuggestion:
    return LearningRateSuggestion(
        value=_FULL_RATE * _LORA_FACTOR,
        formula=f"5e-05 × {_LORA_FACTOR}",
        source=_REGRET,
        low=1e-4,
        high=1e-3,
        calibrated=False,
        note=(
            f"{reason}; in the cookbook's sweep on Tulu 3 the best rate of each of 27 models lay between 1e-4 and "
            "1e-3, and 3e-3 often diverged"
        ),
    )


def _pilot() -> LearningRateSuggestion:
    return LearningRateSuggestion(
        value=1e-3, formula="1e-03", source=_PILOT, low=3e-4, high=3e-3, calibrated=False, note=_PILOT_NOTE
    )
