"""Reading training data, checking it, and the values that rows become."""

from __future__ import annotations

from glowgenius.data.dataset import Dataset
from glowgenius.data.leaks import find_leaks
from glowgenius.data.message import ROLES, Conversation, Message, Source
from glowgenius.data.report import DatasetReport, Finding, LeakReport, TokenStatistics

__all__ = [
    "ROLES",
    "Conversation",
    "Dataset",
    "DatasetReport",
    "Finding",
    "LeakReport",
    "Message",
    "Source",
    "TokenStatistics",
    "find_leaks",
]
