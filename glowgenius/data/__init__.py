"""Data sets: reading training data, checking it, and the values that rows become."""

from __future__ import annotations

from glowgenius.data.check import find_leaks
from glowgenius.data.check_report import DatasetReport, Finding, LeakReport, TokenStatistics, UntrainedColumn
from glowgenius.data.dataset import Dataset
from glowgenius.data.files import ReadLimits
from glowgenius.data.message import Conversation, Message, Source
from glowgenius.data.message_fields import ROLES

__all__ = [
    "ROLES",
    "Conversation",
    "Dataset",
    "DatasetReport",
    "Finding",
    "LeakReport",
    "Message",
    "ReadLimits",
    "Source",
    "TokenStatistics",
    "UntrainedColumn",
    "find_leaks",
]
