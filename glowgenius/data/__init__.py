"""Reading training data, and the values that rows become."""

from __future__ import annotations

from glowgenius.data.dataset import Dataset
from glowgenius.data.message import ROLES, Conversation, Message, Source

__all__ = ["ROLES", "Conversation", "Dataset", "Message", "Source"]
