"""Renderers of tinker-cookbook, in place of ours."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from glowgenius.data.message import Conversation, Message
from glowgenius.errors import ConfigError, RenderingError
from glowgenius.rendering import ChatTemplateRenderer, CookbookRenderer, TrainOn, as_renderer
from glowgenius.testing import ByteTokenizer

BYTES = ByteTokenizer()
EVERYBODY = {"all_messages", "all_tokens"}


class Ints:
    """A `ModelInput`, as far as a renderer's caller reads it."""

    def __init__(self, tokens):
        self._tokens = tokens

    def to_ints(self):
        return self._tokens


class Tensor:
    """A tensor, as far as numpy reads it."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self._values, dtype=dtype or np.int64)


class RoleColon:
    """Written like a renderer of the cookbook: the four methods, its assertions, its message form."""

    def __init__(self, tokenizer=BYTES):
        if tokenizer is not None:
            self.tokenizer = tokenizer
        self.seen = None

    def _look_at(self, messages):
        if "glowgenius" not in str(messages):  # the words with which it is tried out
            self.seen = messages

    def build_supervised_example(self, messages, train_on_what="last_assistant_message"):
        self._look_at(messages)
        tokens, weights = [], []
        for index, message in enumerate(messages):
            if train_on_what == "customized":
                trained = message["trainable"]
            else:
                assert "trainable" not in message, "must not have a trainable field"
                trained = (message["role"] == "assistant" and index == len(messages) - 1) or train_on_what in EVERYBODY
            header, body = f"{message['role']}: ", f"{message['content']}\n"
            tokens += [*header.encode(), *body.encode()]
            weights += [int(train_on_what == "all_tokens")] * len(header) + [int(trained)] * len(body.encode())
        return Ints(tokens), Tensor(weights)

    def build_generation_prompt(self, messages, role="assistant", prefill=None):
        if not messages:
            raise ValueError("no messages")
        self._look_at(messages)
        return Ints(list("".join([*(f"{m['role']}: {m['content']}\n" for m in messages), f"{role}: "]).encode()))

    def get_stop_sequences(self):
        return ["\n"]

    def parse_response(self, response):
        return {"role": "assistant", "content": bytes(response).decode().removesuffix("\n")}, True


ROW = Conversation.from_question("Where?", "Queens.")


def test_a_renderer_of_ours_passes_through():
    ours = ChatTemplateRenderer(BYTES)
    assert as_renderer(ours) is ours


def test_the_cookbooks_tokens_and_weights_are_taken_as_they_are():
    renderer = as_renderer(RoleColon())
    example = renderer.render(ROW)
    assert BYTES.decode(example.tokens) == "user: Where?\nassistant: Queens.\n"
    assert example.weights.tolist() == [0] * len("user: Where?\nassistant: ") + [1] * len("Queens.\n")
    everything = renderer.render(ROW, TrainOn.ALL_TOKENS)
    assert everything.weights.tolist() == [1] * len(everything)
    assert everything.num_trained == len(everything) - 1
    assert BYTES.decode(renderer.render_prompt(ROW.prompt)) == "user: Where?\nassistant: "
    assert renderer.stop_sequences == ("\n",)
    assert renderer.parse(list(b"Queens.\n")) == Message("assistant", "Queens.")
    assert renderer.description == "RoleColon (a tinker-cookbook renderer)"
    assert renderer.tokenizer is BYTES


def test_a_messages_weight_becomes_trainable():
    theirs = RoleColon()
    messages = [Message("user", "a", weight=1), Message("assistant", "b"), Message("user", "c", weight=0)]
    example = as_renderer(theirs).render(Conversation(messages=messages), TrainOn.CUSTOMIZED)
    assert [message["trainable"] for message in theirs.seen] == [True, False, False]
    assert BYTES.decode(example.tokens[example.weights > 0]) == "a\n"
    as_renderer(theirs).render(Conversation(messages=[Message("user", "a"), Message("assistant", "b", weight=1)]))
    assert "trainable" not in theirs.seen[1]


def test_thinking_goes_and_comes_as_a_part():
    theirs = RoleColon()
    as_renderer(theirs).render_prompt([Message("assistant", "b", reasoning_content="hm")])
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}]
    assert theirs.seen == [{"role": "assistant", "content": parts}]
    theirs.parse_response = lambda _: ({"role": "assistant", "content": parts}, True)
    assert as_renderer(theirs).parse([]) == Message("assistant", "b", reasoning_content="hm")


def test_tool_calls_are_read_and_those_that_could_not_be_stay_text():
    call = {"function": {"name": "find", "arguments": "{}"}}
    message = {
        "role": "assistant",
        "content": "b",
        "tool_calls": [SimpleNamespace(model_dump=lambda exclude_none: call)],
        "unparsed_tool_calls": [SimpleNamespace(raw_text="<tool_call>{")],
    }
    theirs = RoleColon()
    theirs.parse_response = lambda _: (message, False)
    assert as_renderer(theirs).parse([]) == Message("assistant", "b<tool_call>{", tool_calls=(call,))


REFUSED = {
    "fraction": (
        Message("assistant", "b", weight=0.5),
        TrainOn.CUSTOMIZED,
        (
            "messages[1].weight: a tinker-cookbook renderer trains a message or does not, and cannot weigh it 0.5 "
            "→ a weight of 0 or 1"
        ),
    ),
    "weight": (
        Message("assistant", "b", weight=0),
        TrainOn.LAST_ASSISTANT_MESSAGE,
        (
            "messages[1].weight: a tinker-cookbook renderer knows no weight of a message (here 0.0) but with "
            "train_on='customized' → train_on='customized', or no weight"
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_cookbook_renderer_cannot_take_is_refused(case):
    answer, train_on, problem = REFUSED[case]
    with pytest.raises(RenderingError) as caught:
        as_renderer(RoleColon()).render(Conversation(messages=[Message("user", "a"), answer]), train_on)
    assert str(caught.value) == f"the conversation cannot be rendered\n  {problem}"


def test_tool_calls_need_the_class_that_the_cookbook_has_for_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinker_cookbook.renderers", None)
    call = {"function": {"name": "f", "arguments": "{}"}}
    with pytest.raises(RenderingError) as caught:
        as_renderer(RoleColon()).render_prompt([Message("assistant", "b", tool_calls=[call])])
    assert str(caught.value).startswith(
        "the conversation cannot be rendered\n"
        "  messages[0].tool_calls: they cannot be handed to a tinker-cookbook renderer: import of "
    )


def test_its_own_errors_are_told_with_their_cause():
    theirs = RoleColon()
    with pytest.raises(RenderingError) as caught:
        as_renderer(theirs).render_prompt([])
    assert str(caught.value) == (
        "the conversation cannot be rendered\n"
        "  messages: RoleColon refuses it: ValueError: no messages → messages that it accepts"
    )
    theirs.build_supervised_example = lambda *_, **__: (_ for _ in ()).throw(KeyError)
    with pytest.raises(RenderingError) as caught:
        as_renderer(theirs).render(ROW)
    assert str(caught.value) == (
        "the conversation cannot be rendered\n  messages: RoleColon refuses it: KeyError → messages that it accepts"
    )
    assert isinstance(caught.value.__cause__, KeyError)
    theirs.build_supervised_example = lambda *_, **__: (Ints([1]), Tensor([1, 0]))
    with pytest.raises(RenderingError) as caught:
        as_renderer(theirs).render(ROW)
    assert caught.value.message == "tokens and weights must have the same length, got 1 and 2"


def test_an_error_of_ours_within_a_cookbook_renderer_passes_through():
    theirs = RoleColon()
    theirs.build_generation_prompt = lambda _: Ints([0.5])
    with pytest.raises(RenderingError) as caught:
        as_renderer(theirs).render_prompt(ROW.prompt)
    assert str(caught.value) == "tokens must be integers of shape [T], got float64 of shape [1]"


def test_anything_else_is_refused_with_what_is_missing():
    with pytest.raises(ConfigError) as caught:
        as_renderer(BYTES)
    assert str(caught.value) == (
        "a renderer must be a glowgenius Renderer or have the four methods of a tinker-cookbook renderer, "
        "got ByteTokenizer without build_supervised_example, build_generation_prompt, get_stop_sequences, "
        "parse_response"
    )
    with pytest.raises(ConfigError) as caught:
        as_renderer(SimpleNamespace(get_stop_sequences=list, parse_response=3, build_generation_prompt=list))
    assert str(caught.value).endswith("got SimpleNamespace without build_supervised_example, parse_response")
    with pytest.raises(ConfigError) as caught:
        as_renderer(RoleColon)
    assert str(caught.value) == "a renderer must be an object, got the class RoleColon; build one with a tokenizer"
    with pytest.raises(ConfigError) as caught:
        as_renderer(ByteTokenizer)
    assert ", got ByteTokenizer without" in str(caught.value)


def test_a_renderer_without_tokenizer_renders_but_shows_no_text():
    renderer = as_renderer(RoleColon(tokenizer=None))
    assert renderer.render(ROW).num_trained == len("Queens.\n")
    with pytest.raises(ConfigError) as caught:
        _ = renderer.tokenizer
    assert str(caught.value) == ("RoleColon has no attribute 'tokenizer', which is needed to show tokens as text")


def test_the_fingerprint_follows_what_the_renderer_does():
    class Louder(RoleColon):
        def get_stop_sequences(self):
            return ["\n\n"]

    other = ByteTokenizer(eos_token="<|endoftext|>")  # noqa: S106 - a control token
    renderers = [RoleColon(), RoleColon(other), RoleColon(tokenizer=None), Louder()]
    assert len({as_renderer(renderer).fingerprint for renderer in renderers}) == 4
    assert as_renderer(RoleColon()).fingerprint == CookbookRenderer(RoleColon()).fingerprint
