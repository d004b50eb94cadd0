"""Tool calls on every template: both spellings give the same tokens, nothing is lost, and what is sampled is read."""

from __future__ import annotations

import json
from functools import cache

import pytest

from glowgenius.data.message import Conversation, Message
from glowgenius.errors import RenderingError
from glowgenius.rendering import ChatTemplateRenderer, TrainOn
from tests.rendering.test_trl_templates import NAMES, TAKEN
from tests.support import trl_templates
from tests.support.chat_tokenizers import CHATML, bpe_tokenizer

needs_trl = pytest.mark.skipif(not NAMES, reason="the package trl is not installed")

ARGUMENTS = {"place": 'Citi "Field"', "deep": [True, {"n": 1.5}], "é": "naïve\nline"}
FIND = {
    "type": "function",
    "function": {"name": "find", "description": "Finds.", "parameters": {"type": "object", "properties": {}}},
}
GAUGE = {
    "type": "function",
    "function": {"name": "gauge", "description": "Measures.", "parameters": {"type": "object", "properties": {}}},
}

WITHOUT_CALLS = {
    *("cohere", "cohere2", "gemma", "gemma3", "lfm2", "llama3", "phi3", "phi3_5", "qwen2_5_vl"),
}
"""Their templates leave calls out, which is refused."""

CALL_STOPS = {
    "gptoss": "<|call|>",
    **dict.fromkeys(["gemma4", "gemma4_v3", "gemma4_v4", "gemma4_v5", "diffusion_gemma"], "<|tool_response>"),
}
"""Templates that end a call with a token of its own."""


@cache
def made(name, mode):
    return trl_templates.renderer(name, mode)


def call(name, arguments, number=1):
    return {"id": f"call0000{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def asked(*calls, content="", reasoning=None):
    answer = Message("assistant", content, tool_calls=calls, reasoning_content=reasoning)
    return Conversation(messages=[Message("user", "Where?"), answer], tools=[FIND, GAUGE])


def reasoning_of(mode):
    return "Hm." if mode == "with reasoning" else None


@needs_trl
@pytest.mark.parametrize(("name", "mode"), TAKEN)
def test_both_spellings_of_arguments_are_the_tokens_that_the_template_writes_for_an_object(name, mode):
    renderer = made(name, mode)
    rows = [
        asked(call("find", arguments), reasoning=reasoning_of(mode))
        for arguments in (ARGUMENTS, json.dumps(ARGUMENTS), json.dumps(ARGUMENTS, ensure_ascii=False, indent=1))
    ]
    if name in WITHOUT_CALLS:
        for row in rows:
            with pytest.raises(
                RenderingError, match="the chat template does not write it → a model whose chat template"
            ):
                renderer.render(row)
        return
    first, *others = [renderer.render(row) for row in rows]
    assert all(other == first for other in others)
    tokenizer, options = renderer.tokenizer, trl_templates.OPTIONS[mode]
    messages = [message.to_dict() for message in rows[0].messages]
    expected = tokenizer.apply_chat_template(messages, tools=[FIND, GAUGE], return_dict=False, **options)
    assert first.tokens.tolist() == expected
    trained = first.tokens[first.weights > 0].tolist()
    assert (
        tokenizer.decode(trained)
        .strip()
        .endswith(CALL_STOPS.get(name, tokenizer.decode(list(renderer.stop_sequences[:1]))))
    )
    assert {*trained[-2:]} & {*renderer.stop_sequences}


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ("call.function.arguments", '{"place": "Leith", "at": 3}'),
        ("call.function.arguments | tojson", '{"place": "Leith", "at": 3}'),
        ("call.function['arguments'] + ''", '{"place": "Leith", "at": 3}'),
        ("call.function.arguments if call.function.arguments is string else call.function.arguments | tojson",) * 1
        + ('{"place": "Leith", "at": 3}',),
        ("call.function.arguments.items() | map('join', '=') | join(';')", "place=Leith;at=3"),
    ],
)
def test_a_template_gets_the_arguments_as_it_asks_for_them(arguments, written):
    source = CHATML.replace(
        "+ '<|im_end|>'",
        "}}{% for call in message['tool_calls'] or [] %}{{ call.function.name + ' ' }}{{ "
        + arguments
        + " }}{% endfor %}{{ '<|im_end|>'",
    )
    renderer = ChatTemplateRenderer(bpe_tokenizer(source))
    examples = [
        renderer.render(Conversation(messages=asked(call("find", said)).messages))
        for said in ({"place": "Leith", "at": 3}, '{"place":"Leith","at":3}')
    ]
    assert examples[0] == examples[1]
    assert (
        renderer.tokenizer.decode(examples[0].tokens[examples[0].weights > 0].tolist()) == f"find {written}<|im_end|>"
    )


@needs_trl
@pytest.mark.parametrize("name", CALL_STOPS)
def test_a_call_with_a_stop_token_of_its_own_is_trained_beside_its_answer(name):
    renderer = made(name, "")
    row = asked(call("find", ARGUMENTS))
    talk = [
        *row.messages,
        Message("tool", "Queens", name="find", tool_call_id="call00001"),
        Message("assistant", "There."),
    ]
    whole = Conversation(messages=talk, tools=row.tools)
    if name == "diffusion_gemma":
        # Behind a result its prompt does not begin the assistant's turn, which the model would write in plain tokens.
        with pytest.raises(RenderingError, match=r"so that the model would have to write '<.turn>model"):
            renderer.render(whole)
        assert renderer.render(row).tokens[-1] == renderer.stop_sequences[1]
        return
    examples = renderer.render_examples(whole, TrainOn.ALL_ASSISTANT_MESSAGES)
    ends = {renderer.tokenizer.decode([int(example.tokens[example.weights > 0][-1])]) for example in examples}
    trained = "".join(renderer.tokenizer.decode(row.tokens[row.weights > 0].tolist()) for row in examples)
    assert CALL_STOPS[name] in trained
    plain, of_calls = (renderer.tokenizer.decode([stop]) for stop in renderer.stop_sequences)
    assert (of_calls, plain in ends) == (CALL_STOPS[name], True)
    assert f"of calls {of_calls}" in renderer.description


SMALL = {"place": "Citi", "n": 5, "deep": [True, {"n": 1.5, "s": "x"}], "flag": False}
SAID = {
    "one": ((call("find", SMALL),), ""),
    "none": ((call("find", {}),), ""),
    "text": ((call("find", {"q": 'a "b" it\'s\nc, d'}),), ""),
    "two": ((call("find", SMALL), call("gauge", {"k": 1}, 2)), ""),
    "twice": ((call("find", {}), call("find", {"k": 1}, 2)), ""),
    "content": ((call("find", SMALL),), "Look here."),
    "both": ((call("find", SMALL), call("gauge", {}, 2)), "Look."),
}


@needs_trl
@pytest.mark.parametrize(("name", "mode"), [case for case in TAKEN if case[0] not in WITHOUT_CALLS])
@pytest.mark.parametrize("thought", ["", "Hm, so."])
def test_what_is_trained_is_read_back(name, mode, thought):
    renderer, taken = made(name, mode), 0
    for calls, content in SAID.values():
        row = asked(*calls, content=content, reasoning=thought or reasoning_of(mode))
        try:
            example = renderer.render(row)
        except RenderingError:
            continue
        taken += 1
        read, answer = renderer.parse(example.tokens[example.weights > 0].tolist()), row.messages[1]
        assert [one["function"] for one in read.tool_calls] == [one["function"] for one in answer.tool_calls]
        assert not renderer.holds_unread_call(read)
        if (name, content) == ("gptoss", "Look here."):  # what it says beside a call, it thinks
            assert (read.content, read.reasoning_content) == ("", content)
        else:
            assert (read.content, read.reasoning_content) == (answer.content, answer.reasoning_content)
    assert taken >= (0 if thought else 3)


@needs_trl
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("qwen2_5", '<tool_call>\n{"name": "find", "arguments": {"place": \n</tool_call>'),
        ("qwen2_5", '<tool_call>\n{"name": "find", "arguments": 5}\n</tool_call>'),
        ("qwen3_5_nothink", "<tool_call>\n<function=find\n</tool_call>"),
        ("gemma4", "<|tool_call>call:find{place"),
    ],
)
def test_a_call_that_cannot_be_read_is_told_from_an_answer(name, said):
    renderer = made(name, "")
    message = renderer.parse(renderer.tokenizer.encode(said, add_special_tokens=False))
    assert (message.content, message.tool_calls) == (said, ())
    assert renderer.holds_unread_call(message)
    assert not renderer.holds_unread_call(
        renderer.parse(renderer.tokenizer.encode("Queens.", add_special_tokens=False))
    )


@needs_trl
@pytest.mark.parametrize(
    "written", ['{"name":"find","arguments":{"place":"Citi"}}', '{ "arguments": {"place": "Citi"}, "name": "find" }']
)
def test_a_call_is_read_in_any_spelling_of_its_json(written):
    renderer = made("qwen2_5", "")
    tokens = renderer.tokenizer.encode(f"<tool_call>\n{written}\n</tool_call>", add_special_tokens=False)
    [found] = renderer.parse([*tokens, *renderer.stop_sequences]).tool_calls
    assert found["function"] == {"name": "find", "arguments": {"place": "Citi"}}
