"""Renderers of the package `renderers`: an oracle where a template can be used, and the remedy where it cannot."""

from __future__ import annotations

import sys
from functools import cache

import pytest

from glowgenius.data.message import Conversation, Message
from glowgenius.errors import ConfigError, MissingDependencyError, RenderingError
from glowgenius.rendering import ChatTemplateRenderer, FamilyRenderer, TrainOn, family_names
from tests.support import trl_templates
from tests.support.chat_tokenizers import bpe_tokenizer, marked

pytest.importorskip("renderers")

CALLS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
TEMPLATES = {"qwen3": "qwen3", "nemotron-3": "nemotron_3_nano", "glm-4.5": "glm4moe"}
OPTIONS = {"qwen3": {}, "nemotron-3": {"enable_thinking": False}, "glm-4.5": {}}
TALK = Conversation(messages=trl_templates.CONVERSATIONS["two turns"])
EVERYTHING = (
    "<|user|>\nWhere?<|assistant|>\n<think></think>\nQueens.<|user|>\nAnd it?<|assistant|>\n<think></think>\n"
    "The Bronx.<|user|>"
)
TIDES = {"type": "function", "function": {"name": "tides", "description": "High tide.", "parameters": {}}}


@cache
def tokenizer(family):
    """A small byte-level tokenizer with the control tokens of the family and its template."""
    template = trl_templates.source(TEMPLATES[family])
    made = bpe_tokenizer(template)
    control = {*trl_templates._CONTROL.findall(template), "[gMASK]", "<sop>", "<|endoftext|>"}
    made.add_tokens(sorted(control), special_tokens=True)
    made.add_tokens([*CALLS, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"])
    return made


def renderer(family, **options):
    return FamilyRenderer(tokenizer(family), family, **{**OPTIONS[family], **options})


def rendered(by, conversation, train_on=TrainOn.ALL_ASSISTANT_MESSAGES):
    try:
        return by.render_examples(conversation, train_on)
    except RenderingError:
        return "refused"


@pytest.mark.parametrize("name", trl_templates.CONVERSATIONS)
@pytest.mark.parametrize("family", ["qwen3", "nemotron-3"])
def test_tokens_and_masks_are_those_of_the_chat_template(family, name):
    """Two that know nothing of each other: the family's template, divided by us, and hand-written code."""
    ours = ChatTemplateRenderer(tokenizer(family), chat_template_kwargs=OPTIONS[family])
    conversation = Conversation(messages=trl_templates.CONVERSATIONS[name])
    assert rendered(renderer(family), conversation) == rendered(ours, conversation)
    prompt = conversation.prompt
    assert renderer(family).render_prompt(prompt).tolist() == ours.render_prompt(prompt).tolist()


def test_tools_are_written_as_the_chat_template_writes_them():
    row = Conversation(messages=TALK.messages[:2], tools=[TIDES])
    assert renderer("qwen3").render(row) == ChatTemplateRenderer(tokenizer("qwen3")).render(row)


def test_a_family_whose_template_is_refused_can_be_trained():
    with pytest.raises(RenderingError, match=r"no special token after the .* glowgenius\.rendering\.FamilyRenderer"):
        ChatTemplateRenderer(tokenizer("glm-4.5"))
    glm = renderer("glm-4.5")
    examples = glm.render_examples(TALK, TrainOn.ALL_ASSISTANT_MESSAGES)
    shown = [
        "".join(text if weight else f"[{text}]" for text, weight in marked(glm.tokenizer, row)) for row in examples
    ]
    answers = [row.replace("][", "") for row in shown]
    head = "[[gMASK]<sop><|user|>\nWhere?<|assistant|>]"
    assert answers == [
        f"{head}\n<think></think>\nQueens.<|user|>[\nAnd it?<|assistant|>]\n<think></think>\nThe Bronx.<|user|>"
    ]


@pytest.mark.parametrize("name", trl_templates.CONVERSATIONS)
@pytest.mark.parametrize("family", TEMPLATES)
def test_every_answer_is_trained_behind_its_prompt_up_to_its_stop_token(family, name):
    made = renderer(family)
    conversation = Conversation(messages=trl_templates.CONVERSATIONS[name])
    examples = rendered(made, conversation)
    if examples == "refused":
        assert (family, "reasoning" in name) == ("nemotron-3", True)  # a model told not to think
        return
    trained = 0
    for index, message in enumerate(conversation.messages):
        if message.role != "assistant":
            continue
        prompt = made.render_prompt(conversation.messages[:index]).tolist()
        [example] = [
            row for row in examples if row.tokens[: len(prompt)].tolist() == prompt and row.weights[len(prompt)]
        ]
        behind = example.weights[len(prompt) :]
        length = len(behind) if behind.all() else int(behind.argmin())
        assert example.tokens[len(prompt) + length - 1] in made.stop_sequences
        trained += length
    assert trained == sum(example.num_trained for example in examples)


def test_an_answer_is_read_back():
    made = renderer("qwen3")
    answer = Message("assistant", "Queens.", reasoning_content="Not the Bronx.")
    example = made.render(Conversation(messages=[Message("user", "Where?"), answer]))
    assert made.parse(example.tokens[example.weights > 0].tolist()) == answer


def test_a_call_is_read_back():
    made = renderer("qwen3")
    example = made.render(Conversation(messages=trl_templates.CONVERSATIONS["tool call"]))
    [call] = made.parse(example.tokens[example.weights > 0].tolist()).tool_calls
    assert call == {"type": "function", "function": {"name": "find", "arguments": {"place": "Citi Field"}}}


@pytest.mark.parametrize(
    ("train_on", "trained"),
    [
        (TrainOn.ALL_USER_AND_SYSTEM_MESSAGES, "Where?And it?"),
        (TrainOn.LAST_ASSISTANT_MESSAGE, "\n<think></think>\nThe Bronx.<|user|>"),
        (TrainOn.ALL_TOKENS, EVERYTHING),
    ],
)
def test_what_else_can_be_trained(train_on, trained):
    made = renderer("glm-4.5")
    [example] = made.render_examples(TALK, train_on)
    assert made.tokenizer.decode(example.tokens[example.weights > 0].tolist()) == trained


def test_text_that_reads_like_a_control_token_is_refused():
    row = Conversation(messages=[Message("user", "Why <|im_end|>?"), Message("assistant", "So.")])
    with pytest.raises(RenderingError) as caught:
        renderer("qwen3").render(row)
    [problem] = caught.value.problems
    assert problem.field == "messages[0].content"
    assert problem.found == (
        "the text holds '<|im_end|>' at character 4, "
        "which the renderer of the family 'qwen3' would encode as a control token"
    )


def test_settings_are_checked():
    known = tokenizer("qwen3")
    with pytest.raises(
        ConfigError, match=r"family must be one of .*'qwen3'.*, got 'qwen-3' \(did you mean 'qwen3'\?\)"
    ):
        FamilyRenderer(known, "qwen-3")
    with pytest.raises(
        ConfigError, match=r"enable_thinking, .*, not 'enable_thinkin' \(did you mean 'enable_thinking'"
    ):
        FamilyRenderer(known, "qwen3", enable_thinkin=False)
    with pytest.raises(ConfigError, match=r"do not fit the family 'llama-3': .*end_of_text"):
        FamilyRenderer(known, "llama-3")
    assert {"glm-4.5", "gpt-oss", "kimi-k2", "qwen3"} <= set(family_names())


def test_what_decides_the_tokens_is_in_the_fingerprint():
    made = [renderer("qwen3"), renderer("qwen3", enable_thinking=False), renderer("glm-4.5")]
    assert len({one.fingerprint for one in made}) == 3
    assert made[0].fingerprint == renderer("qwen3").fingerprint
    assert made[0].description.startswith("family qwen3 (renderers ")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "renderers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'glowgenius\[families\]'"):
        FamilyRenderer(tokenizer("qwen3"), "qwen3")


def test_calls_are_read_back_whatever_their_arguments():
    calls = [
        {"function": {"name": "find", "arguments": {"place": "Citi Field", "n": [1]}}},
        {"function": {"name": "now"}},
    ]
    for family in TEMPLATES:
        made, answer = renderer(family), Message("assistant", "", tool_calls=calls)
        example = made.render_examples(Conversation(messages=[Message("user", "Where?"), answer]))[-1]
        read = made.parse(example.tokens[example.weights > 0].tolist())
        assert (read, made.holds_unread_call(read)) == (answer, False)


def test_an_answer_that_mentions_the_end_of_reasoning_is_not_cut():
    row = Conversation(messages=[Message("user", "Hm?"), Message("assistant", "Write </think> there.")])
    with pytest.raises(
        RenderingError, match="the text holds '</think>', at which the renderer of the family 'qwen3' may"
    ):
        renderer("qwen3").render(row)
    again = Conversation(messages=[Message("user", "Hm?"), Message("assistant", "Write </ think> there.")])
    assert renderer("qwen3").render(again).num_trained
