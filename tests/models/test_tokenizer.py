"""The protocol of a tokenizer asks for nothing that a Hugging Face tokenizer does not have."""

from __future__ import annotations

from typing_extensions import get_protocol_members

from glowgenius.models.hub import load_tokenizer
from glowgenius.models.tokenizer import Tokenizer
from tests.support.tiny_models import write_tiny_model


def test_a_tokenizer_has_every_member_of_the_protocol(tmp_path):
    tokenizer = load_tokenizer(str(write_tiny_model(tmp_path)))
    members = get_protocol_members(Tokenizer)
    assert {"encode", "decode", "chat_template", "get_added_vocab"} < members
    assert [name for name in members if not hasattr(tokenizer, name)] == []
