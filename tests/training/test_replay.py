from __future__ import annotations

import pytest

from glowgenius.data.message import Conversation, Message
from glowgenius.errors import DatasetError
from glowgenius.testing import ScriptedService
from glowgenius.training import make_replay
from glowgenius.training.sampler import Sampler
from tests.support.training import RENDERER, TOKENIZER, questions, trainer

ANSWERS = {"Who?": "Me.", "What?": "A long story that does not end", "Why?": "  ", "Where?": "Here."}


def sampler():
    service = ScriptedService(answers=ANSWERS, tokenizer=TOKENIZER)
    return Sampler(service.create_sampling_client(base_model="m").result(), RENDERER, name="base")


def test_the_answers_of_the_model_become_rows():
    system = Message("system", "Be brief.")
    asked = Conversation(messages=[system, Message("user", "Where?"), Message("assistant", "Elsewhere.")])
    found = make_replay(sampler(), ["Who?", "What?", "Why?", asked], max_tokens=12)
    assert [(row.question, row.answer, row.tags) for row in found.dataset] == [
        ("Who?", "Me.", ("replay",)),
        ("Where?", "Here.", ("replay",)),
    ]
    assert found.dataset[1].messages[0] == system
    assert found.dataset[0].metadata == {"answered_by": "base"}
    assert (found.cut_off, found.silent) == (("What?",), ("Why?",))
    assert str(found) == "2 replay rows; left out: 1 cut off at max_tokens, 1 answered with nothing"


def test_no_answer_at_all_is_an_error():
    with pytest.raises(DatasetError) as error:
        make_replay(sampler(), ["What?", "Why?"], max_tokens=12)
    assert str(error.value) == (
        "none of 2 questions gave a replay row: 1 answers were cut off at max_tokens=12 and 1 were empty"
    )


def test_the_header_counts_replay_rows_and_their_tokens():
    rows = questions(6).with_replay(make_replay(sampler(), ["Who?", "Where?"]).dataset)
    report = trainer().preflight(rows)
    # An answer of n bytes trains n + 1 tokens: 6 of 3, one of 4, one of 6.
    assert (
        report.lines()[4] == "replay: 2 rows to keep what the model knew, 25% of the rows and 36% of the trained tokens"
    )
    assert not [line for line in trainer().preflight(questions(6)).lines() if line.startswith("replay")]


def test_calls_become_calls_and_never_text():
    from glowgenius.rendering import ChatTemplateRenderer
    from tests.support import trl_templates

    if not trl_templates.names():
        pytest.skip("the package trl is not installed")
    renderer = ChatTemplateRenderer(trl_templates.tokenizer("qwen2_5"))
    said = {
        "When?": '<tool_call>\n{"name": "tide", "arguments": {"h": "Leith"}}\n</tool_call>',
        "What?": "<tool_call>\n{no JSON}\n</tool_call>",
    }
    service = ScriptedService(answers=said, tokenizer=renderer.tokenizer)
    model = Sampler(service.create_sampling_client(base_model="m").result(), renderer, name="base")
    found = make_replay(model, ["When?", "What?"], max_tokens=200)
    call = {"type": "function", "function": {"name": "tide", "arguments": {"h": "Leith"}}}
    assert [row.messages[-1] for row in found.dataset] == [Message("assistant", "", tool_calls=[call])]
    assert found.unread == ("What?",)
    assert str(found) == "1 replay rows; left out: 1 answered with a call that could not be read"
