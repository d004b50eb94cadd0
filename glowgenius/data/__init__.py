"""Reading training data, checking it, and the values that rows become."""

from __future__ import annotations

from glowgenius.data.dataset import Dataset
from glowgenius.data.leaks import find_leaks
from glowgenius.data.limits import ReadLimits
from glowgenius.data.message import Conversation, Message, Source
from glowgenius.data.message_fields import ROLES
from glowgenius.data.report import DatasetReport, Finding, LeakReport, TokenStatistics
from glowgenius.data.untrained import UntrainedColumn

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
