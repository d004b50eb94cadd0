"""Test doubles for tests of your own: a scripted service, and a byte tokenizer."""

from __future__ import annotations

from glowgenius.testing.byte_tokenizer import ByteTokenizer
from glowgenius.testing.script import Operation
from glowgenius.testing.scripted_service import (
    ScriptedCheckpoint,
    ScriptedSamplingClient,
    ScriptedService,
    ScriptedTrainingClient,
)

__all__ = [
    "ByteTokenizer",
    "Operation",
    "ScriptedCheckpoint",
    "ScriptedSamplingClient",
    "ScriptedService",
    "ScriptedTrainingClient",
]
