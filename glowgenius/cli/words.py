"""The words that the shell completes behind options; each is asked for when Tab is pressed, and not before."""

from __future__ import annotations


def engines() -> list[str]:
    """Behind --engine."""
    from glowgenius.training.connection import ENGINES

    return list(ENGINES)


def overflows() -> list[str]:
    """Behind --on-overflow."""
    from glowgenius.batching.overflow import Overflow

    return [str(word) for word in Overflow]


def formats() -> list[str]:
    """Behind --format."""
    from glowgenius.data.columns import SHAPES

    return list(SHAPES)


def schedules() -> list[str]:
    """Behind --lr-schedule."""
    from glowgenius.training.config import SCHEDULES

    return list(SCHEDULES)


def targets() -> list[str]:
    """Behind --replay-targets."""
    return ["answers", "distributions"]


def trackers() -> list[str]:
    """Behind --report-to."""
    return ["tensorboard", "wandb", "mlflow", "trackio", "csv", "jsonl"]


def metrics() -> list[str]:
    """Behind --metric."""
    from glowgenius.evaluation.metrics import METRICS

    return list(METRICS)


def base_models() -> list[str]:
    """Behind --model."""
    from glowgenius.lora.known_models import KNOWN_MODELS
    from glowgenius.models.catalog import SHORT_NAMES

    return sorted({*SHORT_NAMES, *KNOWN_MODELS})
