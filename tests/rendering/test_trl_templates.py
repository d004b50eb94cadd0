"""Some forty real chat templates, as trl ships them: our tokens and masks against the tokenizer's and trl's own."""

from __future__ import annotations

import pytest

from glowgenius.errors import RenderingError
from glowgenius.rendering import ChatTemplateRenderer
from tests.support import trl_templates
from tests.support.trl_templates import (
    CONVERSATIONS,
    conversations,
    expected,
    marked_name,
    modes,
    outcome,
    reference,
    renderer,
    tokenizer,
)

NAMES = trl_templates.names()
pytestmark = pytest.mark.skipif(not NAMES, reason="the package trl is not installed")

REFUSED = {
    "deepseek_r1_distill": "its generation prompt is not how an answer begins",
    "deepseekv3": "its generation prompt is not how an answer begins",
    "glm4moe": "it puts no special token after the assistant's answer, so that the model would never learn to stop",
    "idefics3": "it changes the text of answers",
    "llava_next": "the chat template refuses it: 'str object' has no attribute 'text'",
    "smolvlm": "it changes the text of answers",
}
"""Three for the reason given; three are written for parts of images and leave plain text out."""

TAKEN = [(name, mode) for name in NAMES if name not in REFUSED for mode in modes(name)]


def test_there_is_enough_to_compare():
    assert len(TAKEN) >= 25
    assert len(CONVERSATIONS) >= 40


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_cannot_be_trained_with_is_refused_with_the_reason(name):
    with pytest.raises(RenderingError) as caught:
        ChatTemplateRenderer(tokenizer(name))
    assert str(caught.value).startswith(f"this chat template cannot be used: {REFUSED[name]}; ")


@pytest.mark.parametrize(("name", "mode"), TAKEN)
def test_tokens_are_those_of_apply_chat_template_and_nothing_is_refused_without_need(name, mode):
    ours = renderer(name, mode)
    taken = 0
    for messages in conversations(mode).values():
        examples = outcome(name, messages, ours)
        if isinstance(examples, str):
            continue
        taken += 1
        ends = [index + 1 for index, message in enumerate(messages) if message.role == "assistant"]
        assert examples[-1].tokens.tolist() == reference(name, mode, messages)["input_ids"]
        if len(examples) > 1:
            prefixes = [reference(name, mode, messages[:end])["input_ids"] for end in ends]
            assert all(example.tokens.tolist() in prefixes for example in examples)
    assert taken >= 40


@pytest.mark.parametrize(("name", "mode"), [case for case in TAKEN if marked_name(case[0])])
def test_masks_are_those_of_the_generation_markers(name, mode):
    marked = marked_name(name)
    ours = renderer(marked, mode)
    compared = 0
    for case, messages in conversations(mode).items():
        examples = outcome(marked, messages, ours)
        if isinstance(examples, str) or len(examples) > 1:
            continue
        compared += 1
        tokens, mask = expected(marked, mode, messages)
        assert examples[0].tokens.tolist() == tokens, case
        assert examples[0].weights.tolist() == mask, case
    assert compared >= 40


@pytest.mark.parametrize(("name", "mode"), [case for case in TAKEN if marked_name(case[0]) not in (None, case[0])])
def test_masks_from_prefix_differences_are_those_of_the_markers_but_for_white_space_behind_the_stop_token(name, mode):
    """The model stops at its stop token; what some markers cover behind that is white space of the template."""
    ours = renderer(name, mode)
    stop = ours.stop_sequences[0]
    compared = 0
    for case, messages in conversations(mode).items():
        examples = outcome(name, messages, ours)
        if isinstance(examples, str) or len(examples) > 1:
            continue
        tokens, mask = expected(marked_name(name), mode, messages)
        if tokens != examples[0].tokens.tolist():
            continue  # the variant keeps what the original drops
        compared += 1
        trained = [int(weight) for weight in examples[0].weights]
        for at, (one, other) in enumerate(zip(trained, mask, strict=True)):
            if one > other:  # a call's own stop token, which no marker covers, and at which sampling stops
                assert tokens[at] in ours.stop_sequences[1:], case
            elif one != other:
                behind = max(place for place in range(at) if tokens[place] == stop)
                text = ours.tokenizer.decode(tokens[behind + 1 : at + 1])
                assert not text.replace(trl_templates.EOS, "").strip(), case
    assert compared >= 25


def test_the_page_says_what_is_so():
    assert trl_templates.PAGE.read_text(encoding="utf-8") == trl_templates.page()
