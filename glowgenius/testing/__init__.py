"""Test doubles, for our own tests and for yours: a service that answers from a script, and a tokenizer of bytes."""

from __future__ import annotations

from glowgenius.testing.clients import ScriptedCheckpoint, ScriptedSamplingClient, ScriptedTrainingClient
from glowgenius.testing.journal import Operation
from glowgenius.testing.service import ScriptedService
from glowgenius.testing.tokenizer import ByteTokenizer

__all__ = [
    "ByteTokenizer",
    "Operation",
    "ScriptedCheckpoint",
    "ScriptedSamplingClient",
    "ScriptedService",
    "ScriptedTrainingClient",
]
