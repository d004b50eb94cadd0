from __future__ import annotations

import pickle

import attrs
import pytest
from hypothesis import given

from glowgenius.data.json_values import FrozenMapping, describe, freeze, is_finite, json_fault, thaw
from tests.support.conversations import JSON_VALUES


@given(JSON_VALUES)
def test_thaw_undoes_freeze(value):
    assert json_fault(value) is None
    assert thaw(freeze(value)) == value
    assert hash(freeze(value)) == hash(freeze(value))
    assert pickle.loads(pickle.dumps(freeze(value))) == freeze(value)  # noqa: S301 - our own bytes


def test_a_frozen_mapping_reads_like_a_dict_and_equals_one():
    frozen = FrozenMapping({"a": [1, {"b": 2}]})
    assert frozen == {"a": [1, {"b": 2}]}
    assert frozen == FrozenMapping({"a": (1, {"b": 2})})
    assert frozen != {"a": [1]}
    assert frozen != 5
    assert frozen["a"][1]["b"] == 2
    assert (len(frozen), list(frozen), repr(frozen)) == (1, ["a"], "{'a': [1, {'b': 2}]}")
    assert freeze(frozen) is frozen
    with pytest.raises(TypeError):
        frozen["a"] = 1  # type: ignore[index]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        frozen._items = {}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (float("nan"), "the number nan"),
        (2**1023, "an integer of 1024 bits"),
        ({1: 2}, "the key 1, which is not a string"),
        ({None: 2}, "the key None, which is not a string"),
        ([{"a": object()}], "a Python object"),
        ({"a\udc00": 1}, "text with half a character (\\udc00)"),
        ([["x\ud800"]], "text with half a character (\\ud800)"),
    ],
)
def test_what_is_not_json_is_named(value, fault):
    assert json_fault(value) == fault


def test_nesting_ends_somewhere():
    value = inner = []
    for _ in range(70):
        inner.append([])
        inner = inner[0]
    assert json_fault(value) == "lists or objects nested more than 64 deep"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (5, "the number 5"),
        (0.5, "the number 0.5"),
        pytest.param(1 << 20000, "an integer of 20001 bits", id="huge"),
        ("usr", "the string 'usr'"),
        ("x" * 50, f"the string '{'x' * 39}…'"),
        ("", "an empty string"),
        ([], "an empty list"),
        ((1, 2), "a list of 2"),
        ({}, "an empty object"),
        ({"a": 1}, "an object"),
        ({1}, "a Python set"),
    ],
)
def test_describe_uses_the_words_of_json(value, words):
    assert describe(value) == words


def test_finite_numbers():
    assert [is_finite(value) for value in (1, 0.5, True, 10**400, float("inf"), "1")] == [True, True, *[False] * 4]
