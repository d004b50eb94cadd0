"""Real renderers of tinker-cookbook, on a tokenizer that has every family's control tokens."""

from __future__ import annotations

import warnings

import pytest

from glowgenius.data.message import Conversation, Message
from glowgenius.errors import RenderingError
from glowgenius.rendering import TrainOn, as_renderer
from tests.support.chat_tokenizers import bpe_tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cookbook = pytest.importorskip("tinker_cookbook.renderers", reason="the package tinker-cookbook is not installed")

NAMES = (
    "role_colon",
    "llama3",
    "qwen3",
    "qwen3_disable_thinking",
    "qwen3_instruct",
    "qwen3_5",
    "deepseekv3",
    "deepseekv3_thinking",
    "kimi_k2",
    "nemotron3",
    "gpt_oss_no_sysprompt",
)
CONTROL = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|start|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"),
    *("<|channel|>", "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>"),
    *("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
    *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>"),
    "<|tool_call_argument_begin|>",
)
TALK = (
    Message("system", "Be brief."),
    Message("user", "Where is Yankee Stadium?\n"),
    Message("assistant", "The Bronx."),
    Message("user", "And the café <|im_end|>?"),
    Message("assistant", "a  b 🗽"),
)
ROWS = [{"role": message.role, "content": message.content} for message in TALK]


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = bpe_tokenizer(None, bos="<|begin_of_text|>")
    tokenizer.add_tokens(list(CONTROL), special_tokens=True)
    return tokenizer


@pytest.fixture(params=NAMES)
def theirs(request, tokenizer):
    return cookbook.get_renderer(request.param, tokenizer, model_name="a test")


def expected(theirs, rows, train_on):
    model_input, weights = theirs.build_supervised_example(rows, train_on_what=cookbook.TrainOnWhat(train_on.value))
    return model_input.to_ints(), weights.tolist()


@pytest.mark.parametrize("train_on", TrainOn)
def test_tokens_and_weights_are_the_cookbooks_for_every_value_of_train_on(theirs, train_on):
    rows, messages = ROWS, TALK
    if train_on is TrainOn.CUSTOMIZED:
        rows = [{**row, "trainable": at % 2 == 0} for at, row in enumerate(ROWS)]
        messages = [Message(row["role"], row["content"], weight=float(row["trainable"])) for row in rows]
    example = as_renderer(theirs).render(Conversation(messages=messages), train_on)
    assert (example.tokens.tolist(), example.weights.tolist()) == expected(theirs, rows, train_on)


def test_prompts_stops_and_answers_are_the_cookbooks(theirs):
    ours = as_renderer(theirs)
    assert ours.render_prompt(TALK[:-1]).tolist() == theirs.build_generation_prompt(ROWS[:-1]).to_ints()
    assert list(ours.stop_sequences) == theirs.get_stop_sequences()
    example = ours.render(Conversation(messages=TALK))
    trained = example.tokens[example.weights > 0].tolist()
    said, _ = theirs.parse_response(trained)
    assert ours.parse(trained).content == cookbook.get_text_content(said)


def test_conversations_are_split_as_the_cookbook_splits_them(theirs):
    theirs_split = theirs.build_supervised_examples(ROWS, train_on_what=cookbook.TrainOnWhat.ALL_ASSISTANT_MESSAGES)
    examples = as_renderer(theirs).render_examples(Conversation(messages=TALK), TrainOn.ALL_ASSISTANT_MESSAGES)
    assert len(examples) == (1 if theirs.has_extension_property else 2)
    assert [(example.tokens.tolist(), example.weights.tolist()) for example in examples] == [
        (model_input.to_ints(), weights.tolist()) for model_input, weights in theirs_split
    ]


@pytest.mark.parametrize("name", ["qwen3", "deepseekv3_thinking"])
def test_a_renderer_that_drops_thoughts_is_split_where_messages_choose_and_refused_where_it_cannot_be(name, tokenizer):
    ours = as_renderer(cookbook.get_renderer(name, tokenizer, model_name="a test"))
    assert not ours._renderer.has_extension_property
    chosen = [Message(row.role, row.content, weight=float(row.role == "assistant")) for row in TALK]
    customized = ours.render_examples(Conversation(messages=chosen), TrainOn.CUSTOMIZED)
    assert customized == ours.render_examples(Conversation(messages=TALK), TrainOn.ALL_ASSISTANT_MESSAGES)
    with pytest.raises(RenderingError) as caught:
        ours.render_examples(Conversation(messages=TALK), TrainOn.ALL_MESSAGES)
    assert str(caught.value) == (
        f"the conversation cannot be rendered\n  messages: {type(ours._renderer).__name__} writes earlier answers "
        "otherwise once later messages follow, and train_on='all_messages' trains more than answers, so that it cannot "
        "be divided by turn → train_on='all_assistant_messages'"
    )
    asked = ours.render_examples(Conversation(messages=TALK), TrainOn.ALL_USER_AND_SYSTEM_MESSAGES)
    assert asked == (ours.render(Conversation(messages=TALK), TrainOn.ALL_USER_AND_SYSTEM_MESSAGES),)


def test_tool_calls_are_handed_over_as_the_cookbooks_own(tokenizer):
    theirs = cookbook.get_renderer("qwen3_instruct", tokenizer, model_name="a test")
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"place": "Citi Field"}'}}
    messages = [Message("user", "Where?"), Message("assistant", "", tool_calls=[call])]
    rows = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "", "tool_calls": [cookbook.ToolCall.model_validate(call)]},
    ]
    example = as_renderer(theirs).render(Conversation(messages=messages))
    assert (example.tokens.tolist(), example.weights.tolist()) == expected(theirs, rows, TrainOn.LAST_ASSISTANT_MESSAGE)
    spelt = Message(
        "assistant", "", tool_calls=[{**call, "function": {"name": "find", "arguments": {"place": "Citi Field"}}}]
    )
    assert as_renderer(theirs).render(Conversation(messages=[messages[0], spelt])) == example
    read = as_renderer(theirs).parse(example.tokens[example.weights > 0].tolist())
    assert [one["function"] for one in read.tool_calls] == [spelt.tool_calls[0]["function"]]


def test_calls_and_reasoning_are_read_back(tokenizer):
    ours = as_renderer(cookbook.get_renderer("qwen3", tokenizer, model_name="a test"))
    calls = [{"function": {"name": name, "arguments": {"k": 1}}} for name in ("find", "gauge")]
    for content in ("", "Look."):
        answer = Message("assistant", content, tool_calls=calls)
        example = ours.render(Conversation(messages=[Message("user", "Where?"), answer]))
        read = ours.parse(example.tokens[example.weights > 0].tolist())
        assert (read.content, [call["function"]["name"] for call in read.tool_calls]) == (content, ["find", "gauge"])
    inline, apart = (
        ours.render(Conversation(messages=[Message("user", "Where?"), answer]))
        for answer in (
            Message("assistant", "<think>\nHm.\n</think>\n\nThere."),
            Message("assistant", "There.", reasoning_content="Hm."),
        )
    )
    assert inline == apart
    with pytest.raises(RenderingError, match="the text holds '</think>', at which Qwen3Renderer cuts it"):
        ours.render(Conversation(messages=[Message("user", "Hm?"), Message("assistant", "Use </think> so.")]))
