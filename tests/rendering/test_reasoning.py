"""Reasoning within an answer: taken for reasoning where a template knows it, and never cut where it is mentioned."""

from __future__ import annotations

from functools import cache

import pytest

from glowgenius.data.message import Conversation, Message
from glowgenius.errors import RenderingError
from glowgenius.rendering import ChatTemplateRenderer
from tests.rendering.test_trl_templates import NAMES, TAKEN
from tests.support import trl_templates
from tests.support.chat_tokenizers import CHATML, THINKING, bpe_tokenizer

needs_trl = pytest.mark.skipif(not NAMES, reason="the package trl is not installed")
QUESTION = Message("user", "Where?")


@cache
def made(name, mode):
    return trl_templates.renderer(name, mode)


def trained(renderer, answer):
    [example] = renderer.render_examples(Conversation(messages=[QUESTION, answer]))
    return example.tokens[example.weights > 0].tolist()


def outcome(renderer, answer):
    try:
        return trained(renderer, answer)
    except RenderingError as error:
        return error.problems


INLINE = "<think>\nHm,\nwell.\n</think>\n\nQueens."


@needs_trl
@pytest.mark.parametrize(("name", "mode"), TAKEN)
def test_reasoning_before_an_answer_is_reasoning_content_where_the_template_knows_it(name, mode):
    renderer = made(name, mode)
    apart = Message("assistant", "Queens.", reasoning_content="Hm,\nwell.")
    if "reasoning_content" in trl_templates.source(name) or name == "gptoss":
        for content in (INLINE, "<think>Hm,\nwell.</think> Queens.", " <thinking>Hm,\nwell.</thinking>Queens."):
            assert outcome(renderer, Message("assistant", content)) == outcome(renderer, apart)
    if renderer._shape.reasoning is not None:
        assert renderer.parse(trained(renderer, Message("assistant", INLINE))) == apart


@needs_trl
@pytest.mark.parametrize(("name", "mode"), [case for case in TAKEN if case[1] != "with reasoning"])
@pytest.mark.parametrize("text", ["Write </think> at the end.", "Use <think> and </think>.", "a</think>b</think>c"])
def test_an_answer_that_mentions_the_tags_is_whole(name, mode, text):
    renderer = made(name, mode)
    answer = Message("assistant", text)
    assert renderer.parse(trained(renderer, answer)) == answer


@pytest.mark.parametrize("blank", ["", " ", "\n\n"])
def test_blank_reasoning_is_none(blank):
    plain = Message("assistant", "Queens.")
    assert Message("assistant", "Queens.", reasoning_content=blank) == plain
    renderer = ChatTemplateRenderer(bpe_tokenizer(THINKING))
    assert trained(renderer, Message("assistant", f"<think>{blank}</think>Queens.")) == trained(renderer, plain)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (
            Message("assistant", "<think>Hm. Queens."),
            (
                "messages[1].content: it begins with reasoning that does not end → "
                "'</think>' and the answer behind it, or the reasoning as 'reasoning_content'"
            ),
        ),
        (
            Message("assistant", INLINE, reasoning_content="Hm."),
            "messages[1].content: it begins with reasoning beside 'reasoning_content' → one of the two",
        ),
        (
            Message("assistant", "Queens.", reasoning_content="I close </think> here."),
            (
                "messages[1].reasoning_content: the reasoning holds '</think>', at which the chat template would end "
                "it → reasoning without it"
            ),
        ),
    ],
)
def test_reasoning_that_cannot_be_told_from_its_answer_is_refused(answer, problem):
    with pytest.raises(RenderingError) as caught:
        trained(ChatTemplateRenderer(bpe_tokenizer(THINKING)), answer)
    [found] = caught.value.problems
    assert f"{found.field}: {found.found} → {found.accepted}" == problem


def test_a_template_that_knows_no_reasoning_teaches_it_as_text():
    renderer = ChatTemplateRenderer(bpe_tokenizer(CHATML))
    assert renderer.tokenizer.decode(trained(renderer, Message("assistant", INLINE))) == f"{INLINE}<|im_end|>"


@needs_trl
def test_the_advice_for_a_model_that_is_made_to_think_works():
    with pytest.raises(
        RenderingError, match="'enable_thinking': False} for answers without reasoning, 'reasoning_content'"
    ):
        trained(made("qwen3_5_think", "with reasoning"), Message("assistant", "Queens."))
    assert trained(made("qwen3_5_think", "thinking off"), Message("assistant", "Queens."))
    assert trained(made("qwen3_5_think", "with reasoning"), Message("assistant", "Queens.", reasoning_content="Hm."))
    with pytest.raises(RenderingError, match="'enable_thinking': True} for answers with reasoning"):
        trained(made("qwen3_5_think", "thinking off"), Message("assistant", INLINE))
    tokenizer = trl_templates.tokenizer("qwen3_5_nothink")
    with pytest.raises(RenderingError, match="'enable_thinking': True} for answers with reasoning"):
        trained(ChatTemplateRenderer(tokenizer), Message("assistant", INLINE))
    assert trained(
        ChatTemplateRenderer(tokenizer, chat_template_kwargs={"enable_thinking": True}), Message("assistant", INLINE)
    )
