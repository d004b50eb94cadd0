"""LoRA adapter settings, parameter counts, and suggested learning rates."""

from glowgenius.lora.architectures import ParameterBreakdown
from glowgenius.lora.config import DEFAULT_ALPHA, LoRAConfig
from glowgenius.lora.known_models import KNOWN_MODELS, ModelLike
from glowgenius.lora.learning_rate import LearningRateSuggestion, suggest_learning_rate

__all__ = [
    "DEFAULT_ALPHA",
    "KNOWN_MODELS",
    "LearningRateSuggestion",
    "LoRAConfig",
    "ModelLike",
    "ParameterBreakdown",
    "suggest_learning_rate",
]
