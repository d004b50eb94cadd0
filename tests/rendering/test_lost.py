"""Nothing of a conversation is lost: on every family of `renderers`, every renderer of the cookbook, every template."""

from __future__ import annotations

import json
import re
import warnings
from functools import cache

import pytest
from attrs import evolve

from glowgenius.data import Dataset
from glowgenius.data.message import Conversation
from glowgenius.errors import ConfigError, RenderingError
from glowgenius.rendering import FamilyRenderer, TrainOn, as_renderer, family_names
from tests.rendering.test_trl_templates import NAMES, TAKEN
from tests.support import trl_templates
from tests.support.family_tokenizers import cookbook_names, tokenizer

try:
    FAMILIES = [("family", name) for name in family_names()]
except Exception:  # noqa: BLE001 - the package is not installed
    FAMILIES = []
COOKBOOK = [("cookbook", name) for name in cookbook_names()]
TEMPLATES = [("template", f"{name}|{mode}") for name, mode in TAKEN] if NAMES else []
RENDERERS = [*FAMILIES, *COOKBOOK, *TEMPLATES]

SCHEMA = {
    "type": "object",
    "properties": {"h": {"type": "string", "description": "argument_words"}},
    "required": ["h"],
}
TOOL = {"type": "function", "function": {"name": "tide", "description": "schema_words", "parameters": SCHEMA}}
TOOLS = {
    "wrapped": TOOL,
    "bare": TOOL["function"],
    "Anthropic's": {"name": "tide", "description": "schema_words", "input_schema": SCHEMA},
}
ARGUMENTS = {"object": {"h": "value_words"}, "text": '{"h": "value_words"}', "spaced": '{ "h" : "value_words" }'}

ASKS, SAYS = {"role": "user", "content": "asks_words"}, {"role": "assistant", "content": "answer_words"}


def calls(*arguments, content=None, ids=True):
    made = [
        {
            "type": "function",
            "function": {"name": "tide", "arguments": given},
            **({"id": f"functions.tide:{at}"} if ids else {}),
        }
        for at, given in enumerate(arguments)
    ]
    return {"role": "assistant", "content": content, "tool_calls": made}


def result(text="result_words", at=0):
    return {"role": "tool", "content": text, "tool_call_id": f"functions.tide:{at}", "name": "tide"}


CASES = {
    "plain": [ASKS, SAYS],
    "system": [{"role": "system", "content": "system_words"}, ASKS, SAYS],
    "developer": [{"role": "developer", "content": "system_words"}, ASKS, SAYS],
    "two systems": [{"role": "system", "content": word} for word in ("system_words", "second_words")] + [ASKS, SAYS],
    "later system": [
        ASKS,
        SAYS,
        {"role": "system", "content": "system_words"},
        ASKS | {"content": "later_words"},
        SAYS,
    ],
    "name": [ASKS | {"name": "anna_words"}, SAYS],
    "named answer": [ASKS, SAYS | {"name": "anna_words"}],
    "reasoning": [ASKS, SAYS | {"reasoning_content": "thinks_words"}],
    "reasoning and call": [ASKS, calls(ARGUMENTS["object"]) | {"reasoning_content": "thinks_words"}],
    "call": [ASKS, calls(ARGUMENTS["object"])],
    "call without id": [ASKS, calls(ARGUMENTS["object"], ids=False)],
    "two calls": [ASKS, calls(ARGUMENTS["object"], {"h": "other_words"})],
    "content and call": [ASKS, calls(ARGUMENTS["object"], content="beside_words")],
    "result": [ASKS, calls(ARGUMENTS["object"]), result(), SAYS],
    "content, call and result": [ASKS, calls(ARGUMENTS["object"], content="beside_words"), result(), SAYS],
    "two results": [
        *(ASKS, calls(ARGUMENTS["object"], {"h": "other_words"}), result(), result("second_words", 1), SAYS),
    ],
    "answer first": [SAYS | {"content": "hello_words"}, ASKS, SAYS],
    "two questions": [ASKS, ASKS | {"content": "later_words"}, SAYS],
}


@cache
def made(kind, name):
    """The renderer, or None where it cannot be made without a hub."""
    if kind == "template":
        return trl_templates.renderer(*name.split("|"))
    if kind == "family":
        try:
            return FamilyRenderer(tokenizer(), name)
        except ConfigError:  # files of a hub, or control tokens that the sources do not write out
            return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tinker_cookbook import renderers

    return as_renderer(renderers.get_renderer(name, tokenizer(), model_name="a test"))


def conversation(messages, tools=(), reasoning=None):
    [row] = Dataset.from_records([{"messages": messages, "tools": list(tools)}])
    if reasoning is None:
        return row
    thoughtful = [
        evolve(message, reasoning_content=message.reasoning_content or reasoning)
        if message.role == "assistant"
        else message
        for message in row.messages
    ]
    return Conversation(messages=thoughtful, tools=row.tools)


def rendered(renderer, messages, tools=()):
    """The examples; with reasoning in each answer where the model is made to think first. Else the refusal."""
    error = None
    for reasoning in (None, "ponders_words"):
        try:
            return renderer.render_examples(conversation(messages, tools, reasoning), TrainOn.ALL_ASSISTANT_MESSAGES)
        except RenderingError as caught:
            error = error or caught
    return error


def said(messages, tools):
    """Every word of ours that a conversation holds."""
    return set(re.findall(r"[a-z]+_words|tide(?=\")", json.dumps([messages, list(tools)])))


def renderer_of(kind, name):
    renderer = made(kind, name)
    if renderer is None:
        pytest.skip("it cannot be made without files of a hub")
    return renderer


@pytest.mark.parametrize(("kind", "name"), RENDERERS)
def test_nothing_is_lost_or_it_is_refused_with_its_place(kind, name):
    renderer, taken = renderer_of(kind, name), 0
    for case, messages in CASES.items():
        tools = () if case in ("plain", "system", "name", "answer first") else (TOOL,)
        for given in [(), tools] if tools else [()]:
            examples = rendered(renderer, messages, given)
            if isinstance(examples, RenderingError):
                assert all(problem.field for problem in examples.problems), case
                continue
            taken += 1
            text = "".join(renderer.tokenizer.decode(example.tokens.tolist()) for example in examples)
            assert {word for word in said(messages, given) if word not in text} == set(), case
            trained = "".join(
                renderer.tokenizer.decode(example.tokens[example.weights > 0].tolist()) for example in examples
            )
            answers = [message for message in messages if message["role"] == "assistant" and message is not messages[0]]
            assert {word for word in said(answers, ()) if word not in trained and word != "anna_words"} == set(), case
            for word in ("asks_words", "system_words", "result_words", "schema_words"):
                assert word not in trained, case
    assert taken


@pytest.mark.parametrize(("kind", "name"), RENDERERS)
def test_every_spelling_has_the_same_tokens_or_the_same_refusal(kind, name):
    renderer = renderer_of(kind, name)

    def outcome(arguments, tool):
        found = rendered(renderer, [ASKS, calls(arguments), result(), SAYS], [tool])
        return str(found) if isinstance(found, RenderingError) else found

    first = outcome(ARGUMENTS["object"], TOOL)
    for arguments in ARGUMENTS.values():
        assert outcome(arguments, TOOL) == first
    for tool in TOOLS.values():
        assert outcome(ARGUMENTS["object"], tool) == first


def problem(renderer, messages, tools=(), **more):
    with pytest.raises(RenderingError) as caught:
        renderer.render_examples(conversation(messages, tools, **more), TrainOn.ALL_ASSISTANT_MESSAGES)
    [found] = caught.value.problems
    return f"{found.field}: {found.found} → {found.accepted}"


GLM = "the renderer of the family 'glm-4.5' does not write it"

needs_families = pytest.mark.skipif(not FAMILIES, reason="the package renderers is not installed")
needs_cookbook = pytest.mark.skipif(not COOKBOOK, reason="the package tinker-cookbook is not installed")


@needs_families
def test_a_role_that_is_not_written_is_refused_and_the_advice_works():
    renderer = made("family", "glm-4.5")
    found = problem(renderer, CASES["developer"])
    assert found == f"messages[0].content: {GLM} → a role that this renderer writes, instead of 'developer'"
    assert rendered(renderer, CASES["system"])
    assert problem(renderer, CASES["name"]).startswith(f"messages[0].name: {GLM} → no 'name', or the name within")
    with pytest.raises(RenderingError, match=r"messages\[0\]\.content: .* instead of 'developer'"):
        renderer.render_prompt(CASES["developer"][:2])


@needs_families
def test_a_second_system_message_that_is_not_written_is_refused_and_the_advice_works():
    renderer = made("family", "qwen3-vl")
    assert problem(renderer, CASES["two systems"]) == (
        "messages[1].content: the renderer of the family 'qwen3-vl' does not write it → its text in the first system "
        "message, or a role that this renderer writes, instead of 'system'"
    )
    joined = [{"role": "system", "content": "system_words\nsecond_words"}, *CASES["plain"]]
    assert rendered(renderer, joined)


@needs_families
def test_reasoning_that_is_not_written_is_refused_where_it_is_trained():
    renderer = made("family", "deepseek-v4")
    found = problem(renderer, CASES["reasoning"])
    assert found == (
        "messages[1].reasoning_content: the renderer of the family 'deepseek-v4' does not write it → no "
        "'reasoning_content', or a renderer, or options of this one, that write reasoning"
    )
    thinks = FamilyRenderer(tokenizer(), "deepseek-v4", enable_thinking=True)
    assert thinks.render_examples(conversation(CASES["reasoning"]))
    asked = renderer.render_examples(conversation(CASES["reasoning"]), TrainOn.ALL_USER_AND_SYSTEM_MESSAGES)
    assert asked


@needs_families
@pytest.mark.parametrize("name", ["glm-5", "qwen3.5", "nemotron-3", "minimax-m2"])
def test_an_answer_without_reasoning_of_a_model_that_thinks_first_is_refused_with_advice_that_works(name):
    renderer = made("family", name)
    found = problem(renderer, CASES["plain"])
    start = f"messages[1]: the renderer of the family {name!r} does not write it as sampling would begin it → "
    option = "" if name == "minimax-m2" else f", or FamilyRenderer(tokenizer, {name!r}, enable_thinking=False)"
    assert found == f"{start}'reasoning_content' in every trained answer{option}"
    assert renderer.render_examples(conversation(CASES["plain"], reasoning="Hm."))
    if option:
        quiet = FamilyRenderer(tokenizer(), name, enable_thinking=False)
        assert quiet.render_examples(conversation(CASES["plain"]))
        assert problem(quiet, CASES["plain"], reasoning="Hm.") == (
            f"{start}answers without 'reasoning_content', or FamilyRenderer(tokenizer, {name!r}, enable_thinking=True)"
        )


@needs_families
def test_an_assistant_who_speaks_first_is_refused_by_name():
    found = problem(made("family", "glm-4.5"), CASES["answer first"])
    assert found == (
        "messages[0]: nothing comes before the assistant's first message, and the renderer of the family 'glm-4.5' "
        "cannot render nothing → begin with a system or user message, or do not train the assistant's first message"
    )
    assert made("family", "glm-4.5").render_examples(conversation(CASES["answer first"]))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("family", "kimi-k2", marks=needs_families),
        pytest.param("cookbook", "kimi_k2", marks=needs_cookbook),
    ],
)
def test_an_id_in_the_place_of_the_name_is_refused_and_the_advice_works(kind, name):
    renderer = made(kind, name)
    call = calls(ARGUMENTS["object"])
    call["tool_calls"][0]["id"] = "call_1"
    assert re.fullmatch(
        r"messages\[1\]\.tool_calls\[0\]\.id: .* does not write it → an 'id' that holds the name of the "
        r"function, such as 'functions\.find:0' for 'find', or a renderer that writes tool calls",
        problem(renderer, [ASKS, call], [TOOL]),
    )
    assert not isinstance(rendered(renderer, CASES["result"], [TOOL]), RenderingError)


@needs_families
def test_text_that_the_tokenizer_spells_anew_is_not_taken_for_lost():
    from tokenizers import normalizers

    spells = bpe_nfc()
    renderer = FamilyRenderer(spells, "qwen3")
    assert isinstance(spells.backend_tokenizer.normalizer, normalizers.NFC)
    row = conversation([ASKS | {"content": "cafe\u0301 where?"}, SAYS | {"content": "cafe\u0301 there"}])
    assert renderer.render_examples(row)


def bpe_nfc():
    from copy import deepcopy

    from tokenizers import normalizers

    spells = deepcopy(tokenizer())
    spells.backend_tokenizer.normalizer = normalizers.NFC()
    return spells


@needs_cookbook
def test_calls_that_a_cookbook_renderer_leaves_out_are_refused():
    found = problem(made("cookbook", "llama3"), CASES["call"])
    assert found == "messages[1].tool_calls[0]: Llama3Renderer does not write it → a renderer that writes tool calls"
    assert problem(made("cookbook", "deepseekv3"), CASES["reasoning"]).startswith("messages[1].reasoning_content: ")
