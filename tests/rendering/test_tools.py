"""Tools of a row: read, written back, rendered as the chat template does it, and never lost."""

from __future__ import annotations

import json

import pytest

from glowgenius.data.dataset import Dataset
from glowgenius.data.message import Conversation, Message
from glowgenius.errors import DatasetError, RenderingError
from glowgenius.rendering import ChatTemplateRenderer, QuestionAnswerRenderer, TrainOn, as_renderer
from glowgenius.testing import ByteTokenizer
from tests.support import trl_templates

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather <|im_end|> of a borough.",
        "parameters": {"type": "object", "properties": {"borough": {"type": "string"}}, "required": ["borough"]},
    },
}
TIDES = {"type": "function", "function": {"name": "tides", "description": "High tide.", "parameters": {}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": {"borough": "Queens"}}}
ROW = {
    "tools": [WEATHER, TIDES],
    "messages": [
        {"role": "user", "content": "Is it raining in Queens?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "No.", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "No."},
    ],
}
PLAIN = [WEATHER | {"function": WEATHER["function"] | {"description": "Of a borough."}}, TIDES]


def conversation(tools=PLAIN):
    return Dataset.from_records([ROW | {"tools": tools}])[0]


def renderer(name="qwen2_5"):
    return ChatTemplateRenderer(trl_templates.tokenizer(name))


def test_tools_are_read_and_written_back(tmp_path):
    dataset = Dataset.from_records([ROW, {"question": "1?", "answer": "2", "tools": json.dumps([TIDES])}][:1])
    assert dataset[0].tools == (WEATHER, TIDES)
    dataset.to_jsonl(tmp_path / "rows.jsonl")
    again = Dataset.from_file(tmp_path / "rows.jsonl")
    assert again == dataset
    assert again[0].to_record() == ROW


@pytest.mark.parametrize("written", [[TIDES], json.dumps([TIDES]), (TIDES,)])
def test_tools_may_be_written_as_json(written):
    [row] = Dataset.from_records([{"question": "When?", "answer": "Now.", "tools": written}])
    assert row.tools == (TIDES,)


@pytest.mark.parametrize("nothing", [None, [], "null", "[]", "", " "])
def test_no_tools_are_as_good_as_no_column(nothing):
    rows = [{"question": "When?", "answer": "Now."}]
    assert Dataset.from_records([rows[0] | {"tools": nothing}]) == Dataset.from_records(rows)


@pytest.mark.parametrize(
    ("tools", "field", "found"),
    [
        ("weather", "tools", "text that is no JSON: Expecting value at character 1"),
        ({"name": "weather"}, "tools", "an object"),
        ([TIDES, "weather"], "tools[1]", "the string 'weather'"),
        ([{"type": "function"}], "tools[0]", "an object without the name of a function"),
        ('[{"name": "a", "x": NaN}]', "tools", "NaN, which is no JSON"),
    ],
)
def test_what_is_no_list_of_tools_is_a_problem_of_its_row(tools, field, found):
    with pytest.raises(DatasetError) as caught:
        Dataset.from_records([{"question": "When?", "answer": "Now.", "tools": tools}])
    [problem] = caught.value.problems
    assert (problem.field, problem.found, problem.row) == (field, found, 0)


def test_functions_are_called_tools_here():
    with pytest.raises(DatasetError, match="did you mean 'tools'"):
        Dataset.from_records([{"question": "When?", "answer": "Now.", "functions": [TIDES]}])


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "llama3_1"])
def test_tokens_are_those_of_the_chat_template(name):
    made, row = renderer(name), conversation()
    tokenizer = made.tokenizer
    messages = [message.to_dict() for message in row.messages]
    text = tokenizer.apply_chat_template(messages, tools=PLAIN, tokenize=False)
    examples = made.render_examples(row, TrainOn.ALL_ASSISTANT_MESSAGES)
    assert examples[-1].tokens.tolist() == tokenizer.encode(text, add_special_tokens=False)
    prompt = tokenizer.apply_chat_template(messages[:1], tools=PLAIN, tokenize=False, add_generation_prompt=True)
    asked = made.render_prompt(row.messages[:1], row.tools)
    assert asked.tolist() == tokenizer.encode(prompt, add_special_tokens=False)
    assert examples[0].tokens[: len(asked)].tolist() == asked.tolist()
    assert not examples[0].weights[: len(asked)].any()


def test_the_calls_and_the_answer_are_trained_and_nothing_else():
    made = renderer()
    example = made.render(conversation(), TrainOn.ALL_ASSISTANT_MESSAGES)
    trained = made.tokenizer.decode(example.tokens[example.weights > 0].tolist())
    assert trained == (
        '<tool_call>\n{"name": "weather", "arguments": {"borough": "Queens"}}\n</tool_call><|im_end|>No.<|im_end|>'
    )


def test_control_tokens_in_a_tool_are_text():
    made = renderer()
    example = made.render(conversation([WEATHER, TIDES]))
    stop = made.stop_sequences[0]
    assert example.tokens.tolist().count(stop) == made.render(conversation()).tokens.tolist().count(stop)
    assert "<|im_end|> of a borough" in made.tokenizer.decode(example.tokens.tolist())


def test_rows_with_and_without_tools_are_told_apart():
    made = renderer()
    with_tools, without = conversation(), conversation(())
    first, second = made.render_rows([with_tools, without])
    assert first == made.render_examples(with_tools)
    assert second == made.render_examples(without)
    assert len(first[0]) > len(second[0])


def test_a_template_that_leaves_tools_out_is_refused():
    made = renderer("phi3")
    with pytest.raises(RenderingError) as caught:
        made.render(Conversation(messages=[Message("user", "Hi"), Message("assistant", "Ho")], tools=[TIDES]))
    [problem] = caught.value.problems
    assert (problem.field, problem.found) == ("tools[0]", "the chat template does not write it")


def test_questions_and_answers_know_no_tools():
    row = Conversation(messages=[Message("user", "Hi"), Message("assistant", "Ho")], tools=[TIDES])
    with pytest.raises(RenderingError, match="there are tools"):
        QuestionAnswerRenderer(ByteTokenizer()).render(row)


def test_the_same_question_under_other_tools_is_another():
    rows = [{"question": "When?", "answer": answer, "tools": [tool]} for answer, tool in (("1", TIDES), ("2", WEATHER))]
    assert Dataset.from_records(rows).check().ok
    assert not Dataset.from_records([row | {"tools": [TIDES]} for row in rows]).check().ok


def test_the_cookbook_words_tools_by_itself():
    qwen = pytest.importorskip("tinker_cookbook.renderers")
    tokenizer = trl_templates.tokenizer("qwen3")
    theirs = qwen.get_renderer("qwen3_instruct", tokenizer, model_name="a test")
    row = Conversation(messages=[Message("user", "When?"), Message("assistant", "Now.")], tools=PLAIN)
    specs = [tool["function"] for tool in PLAIN]
    opening = theirs.create_conversation_prefix_with_tools(specs)
    messages = [*opening, *(message.to_dict() for message in row.messages)]
    expected, weights = theirs.build_supervised_example(messages)
    example = as_renderer(theirs).render(row)
    assert example.tokens.tolist() == expected.to_ints()
    assert example.weights.tolist() == [0, *weights.tolist()[1:]]
    prompt = theirs.build_generation_prompt(messages[:-1]).to_ints()
    assert as_renderer(theirs).render_prompt(row.prompt, row.tools).tolist() == prompt


# --- which call a result answers ---

NAMELESS = {"type": "function", "function": CALL["function"]}
ANSWER = {"role": "tool", "content": "No."}


def answered(calls, *results):
    """A row in which *calls* have *results*."""
    opening, said, _, end = ROW["messages"]
    return Dataset.from_records([{"messages": [opening, {**said, "tool_calls": calls}, *results, end]}])[0]


def written_by(made, *rows):
    """The distinct tokens that *rows* are rendered to."""
    return {tuple(tuple(each.tokens.tolist()) for each in made.render_examples(row)) for row in rows}


@pytest.mark.parametrize("name", ["gemma4", "gemma4_v5", "muse_glimmer", "gptoss", "qwen3", "llama3_1"])
def test_a_result_answers_its_call_however_it_says_so(name):
    made = ChatTemplateRenderer(trl_templates.tokenizer(name), chat_template_kwargs={"enable_thinking": False})
    ways = [
        answered([CALL], {**ANSWER, "tool_call_id": "call_1"}),
        answered([CALL], ANSWER),
        answered([CALL], {**ANSWER, "role": "function", "name": "weather"}),
        answered([NAMELESS], ANSWER),
        answered([NAMELESS], {**ANSWER, "name": "weather"}),
        answered([NAMELESS], {**ANSWER, "tool_call_id": "call_1"}),
    ]
    assert len(written_by(made, *ways)) == 1


def test_results_without_ids_answer_in_order_or_by_name():
    made = renderer("muse_glimmer")
    calls = [CALL, {"id": "call_2", "type": "function", "function": {"name": "tides", "arguments": {}}}]
    said = [{**ANSWER, "tool_call_id": "call_1"}, {**ANSWER, "content": "14:05", "tool_call_id": "call_2"}]
    plain = [{key: value for key, value in each.items() if key != "tool_call_id"} for each in said]
    assert len(written_by(made, answered(calls, *said), answered(calls, *plain))) == 1
    for swapped in (said[::-1], [plain[1] | {"name": "tides"}, plain[0]]):
        with pytest.raises(RenderingError, match="answers the call 'call_2' before 'call_1'"):
            made.render(answered(calls, *swapped))


@pytest.mark.parametrize("name", ["gemma4_v5", "muse_glimmer", "qwen2_5"])
def test_a_result_of_a_call_that_nobody_made_is_refused_and_found(name):
    row = answered([CALL], {**ANSWER, "tool_call_id": "call_9"})
    with pytest.raises(RenderingError) as error:
        renderer(name).render(row)
    assert str(error.value).endswith(
        "messages[2].tool_call_id: no call before it has the id 'call_9' → the id of a call before it: 'call_1'"
    )
    kinds = {finding.kind for finding in Dataset([row]).check().findings}
    assert "tool_without_call" in kinds


@pytest.mark.parametrize(
    ("name", "calls", "remedy"),
    [
        ("cohere", [CALL], "a model whose chat template knows tool calls, or rows without them"),
        ("llama3_1", [CALL, CALL | {"id": "call_2"}], "messages with one call each, or a model whose chat template"),
    ],
)
def test_a_template_that_refuses_calls_is_told_from_one_that_refuses_roles(name, calls, remedy):
    row = answered(calls, *({**ANSWER, "tool_call_id": call["id"]} for call in calls))
    with pytest.raises(RenderingError, match=remedy):
        renderer(name).render(row)
