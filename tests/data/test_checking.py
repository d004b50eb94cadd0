"""What a check of a data set says, and when it says that all is well."""

from __future__ import annotations

import json

import attrs
import pytest

import glowgenius as gg
from glowgenius.data.check import contradictions, duplicates, look_alikes
from glowgenius.errors import ConfigError
from glowgenius.testing import ByteTokenizer

BOROUGHS = [
    {"question": "Which borough is Yankee Stadium in?", "answer": "The Bronx", "group": "yankee"},
    {"question": "Where does one find Citi Field?", "answer": "Queens", "group": "citi", "tags": ["sport", "borough"]},
    {"question": "Coney Island belongs to what part of the city?", "answer": "Brooklyn", "tags": "borough"},
]


def check(*rows, **options):
    return gg.Dataset.from_records([*BOROUGHS, *rows]).check(**options)


def pair(question, answer, **more):
    return {"question": question, "answer": answer, **more}


def kinds(report):
    return {finding.kind: finding.rows for finding in report.findings}


def test_a_clean_data_set():
    report = check(near=False)
    assert report.ok
    assert report.exit_code == 0
    assert str(report) == (
        "data set: 3 rows, question/answer, 2 groups\n"
        "  messages: user 3, assistant 3\n"
        "  tags: borough 2, sport 1\n"
        "near duplicates: not looked for, since near=False\n"
        "ok: 0 problems, 0 warnings"
    )


def test_rows_that_are_the_same_to_the_letter():
    report = check(BOROUGHS[0], BOROUGHS[0], BOROUGHS[1])
    assert not report.ok
    assert report.exit_code == 1
    assert kinds(report) == {"duplicate": ((0, 3, 4), (1, 5))}
    assert report.found("duplicate").title == "the same to the letter: 2 times, 5 rows"
    assert report.found("leak") is None


def test_one_question_with_two_answers():
    report = check(pair("which borough is  Yankee Stadium in", "Manhattan", id="wrong"), near=False)
    assert kinds(report) == {"contradiction": ((0, 3),)}
    assert "\n".join(str(report).splitlines()[3:6]) == (
        "PROBLEM the same question with different answers: once, 2 rows\n"
        "    row 0, row 3 (id 'wrong'): 'Which borough is Yankee Stadium in?' → 'The Bronx' / "
        "'which borough is  Yankee Stadium in' → 'Manhattan'\n"
        "    → keep one answer, or give each row all accepted ones as 'references'"
    )


def test_answers_that_accept_each_other_do_not_contradict():
    question = BOROUGHS[0]["question"]
    assert kinds(check(pair(question, "Bronx", references=["Bronx", "The Bronx"]))) == {"look_alike": ((0, 3),)}
    assert kinds(check(pair(question, "the bronx."))) == {"look_alike": ((0, 3),)}
    # Each has an answer in common with each other one, and there is none that all have.
    rows = [pair("Q?", a, references=[a, b]) for a, b in ("xy", "yz", "zx")]
    assert contradictions(gg.Dataset.from_records(rows)) == []
    rows.append(pair("Q?", "w"))
    assert contradictions(gg.Dataset.from_records(rows)) == [[0, 1, 2, 3]]


def test_under_another_system_message_another_answer_may_be_right():
    assert kinds(check(pair(BOROUGHS[0]["question"], "Le Bronx", system="Answer in French."), near=False)) == {}


def test_look_alikes_of_one_question_are_found():
    rows = [
        pair(f"Who{quote}s  {name}?", "Nobody") for quote, name in (("'", "he"), ("’", "he"), ("'", "hе"), ("'", "he"))
    ]
    dataset = gg.Dataset.from_records(rows)
    assert look_alikes(dataset) == [[0, 1, 2]]
    assert duplicates(dataset) == [[0, 3]]
    assert kinds(dataset.check(near=False)) == {"duplicate": ((0, 3),), "look_alike": ((0, 1, 2),)}


def test_nearly_the_same_rows_are_a_warning():
    asked = "Which of the five boroughs of the city would you visit to see the famous Unisphere{}"
    report = check(pair(asked.format("?"), "Queens"), pair(asked.format(" globe?"), "Queens"), near=True)
    assert report.ok
    assert kinds(report) == {"near_duplicate": ((3, 4),)}


def turns(*roles, **last):
    said = [gg.Message(role, f"{role} {i}") for i, role in enumerate(roles)]
    return gg.Conversation(messages=[*said[:-1], attrs.evolve(said[-1], **last)])


CALL = {"type": "function", "function": {"name": "f", "arguments": {}}}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (turns("user", "assistant", "assistant"), "assistant_twice"),
        (turns("user", "user", "assistant"), "user_twice"),
        (turns("system", "assistant"), "no_question"),
        (turns("user", "system", "assistant"), "late_system"),
        (turns("user", "tool", "assistant"), "tool_without_call"),
        (turns("user", "assistant", content=" yes"), "edge_space"),
        (turns("user", "assistant", content="a\x00b"), "control_character"),
        (turns("user", "assistant", content="a\ufffdb"), "lost_character"),
        (turns("user", "assistant", weight=0), "never_trained"),
        (attrs.evolve(turns("user", "assistant"), references=["another"]), "other_reference"),
        (
            gg.Conversation(messages=[gg.Message("system", ""), *turns("user", "assistant").messages]),
            "empty_system",
        ),
    ],
)
def test_what_one_row_can_have(row, kind):
    report = gg.Dataset([row, turns("user", "assistant", "user", "assistant")]).check(near=False)
    assert kinds(report) == {kind: ((0,),)}
    assert report.ok


@pytest.mark.parametrize(
    "row",
    [
        turns("system", "developer", "user", "assistant"),
        turns("user", "assistant", "user", "assistant"),
        turns("user", "assistant", content="Zeile\n\tund é, 🗽"),
        attrs.evolve(turns("user", "assistant", content="Bronx"), references=["the bronx", "BRONX"]),
        gg.Conversation(
            messages=[
                gg.Message("user", "Call"),
                gg.Message("assistant", "", tool_calls=[CALL]),
                gg.Message("tool", "1"),
                gg.Message("tool", "2"),
                gg.Message("assistant", "Both"),
            ]
        ),
    ],
)
def test_what_is_nothing_to_warn_of(row):
    assert gg.Dataset([row]).check(near=False).findings == ()


def test_a_question_in_two_parts_of_the_split_column():
    rows = [
        pair("Q1?", "a", split="test"),
        pair("Q2?", "a", split="train"),
        pair("q1", "a", split="train"),
        pair("Q3?", "a"),
    ]
    report = gg.Dataset.from_records(rows).check(near=False)
    assert report.splits == {"test": 1, "train": 2}
    leak = report.found("leak_by_question")
    assert leak.rows == ((2, 0),)
    assert leak.title == "the same question on both sides (split 'train' against 'test'): 1 row of 1 to test on"
    assert "row 0: 'Q1?' → 'a'; trained: row 2: 'q1' → 'a'" in leak.examples


class Bytes:
    """A renderer of bytes: the question is context, the answer is trained."""

    description = "bytes"

    def render_rows(self, conversations):
        for row in conversations:
            if row.question == "unrenderable":
                yield gg.errors.RenderingError("no")
            else:
                yield (Rendered(len(row.question) + len(row.answer), len(row.answer)),)


@attrs.frozen
class Rendered:
    size: int
    num_trained: int

    def __len__(self):
        return self.size


def lengths(*sizes):
    return gg.Dataset.from_records([pair("q" * (size - 1), "a") for size in sizes])


def test_token_statistics():
    report = lengths(*range(2, 102)).check(Bytes(), near=False)
    tokens = report.tokens
    assert (tokens.total, tokens.trained) == (sum(range(2, 102)), 100)
    assert (tokens.shortest, tokens.median, tokens.p90, tokens.p99, tokens.longest) == (2, 51, 91, 100, 101)
    assert tokens.histogram == (
        (0, 19, 18), (20, 39, 20), (40, 59, 20), (60, 79, 20), (80, 99, 20), (100, 119, 2),
    )  # fmt: skip
    assert str(report).splitlines()[2:6] == [
        "  tokens: 5,150 in all, 100 trained (bytes)",
        "  a row: shortest 2, median 51, 90 % ≤ 91, 99 % ≤ 100, longest 101",
        "        0–19  ████████████████████████████████████ 18",
        "       20–39  ████████████████████████████████████████ 20",
    ]


def test_the_histogram_of_one_length_is_one_bar():
    assert lengths(7, 7).check(Bytes(), near=False).tokens.histogram == ((7, 7, 2),)


def test_rows_that_are_too_long_or_cannot_be_rendered_are_problems():
    data = gg.Dataset.from_records([pair("q" * 9, "a"), pair("unrenderable", "a"), pair("Q", "a")])
    report = data.check(Bytes(), max_length=9, near=False)
    assert kinds(report) == {"too_long": ((0,),), "unrenderable": ((1,),)}
    assert report.found("too_long").examples == ("row 0: 10 tokens",)
    assert report.found("unrenderable").examples == ("row 1: no",)
    assert not report.ok


def test_the_renderer_of_the_library_is_one():
    renderer = gg.QuestionAnswerRenderer(ByteTokenizer())
    report = gg.Dataset.from_records(BOROUGHS).check(renderer, max_length=1000)
    assert report.tokens.total == sum(len(renderer.render(row)) for row in gg.Dataset.from_records(BOROUGHS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 9}, "max_length counts tokens, so it needs renderer=, such as Renderer.for_model(…)"),
        ({"renderer": Bytes(), "max_length": 0}, "max_length must be an integer ≥ 1, got 0 (int)"),
        ({"renderer": Bytes(), "max_length": True}, "max_length must be an integer ≥ 1, got True (bool)"),
        ({"renderer": "q"}, "renderer must have a method render_rows, such as Renderer.for_model(…) has, got a str"),
        ({"near": "yes"}, "near must be True, False or None, got 'yes' (str)"),
    ],
)
def test_arguments_that_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        check(**options)
    assert str(caught.value) == message


def test_the_report_is_json():
    report = check(BOROUGHS[0], renderer=Bytes())
    values = json.loads(json.dumps(report.to_dict()))
    assert values == report.to_dict()
    assert (values["ok"], values["num_rows"], values["findings"][0]["rows"]) == (False, 4, [[0, 3]])
    assert values["tokens"]["histogram"]


def test_a_notebook_shows_a_table_and_no_markup_of_the_data():
    shown = check(pair("<b>Q</b>", "<i>A</i>"), pair("<b>Q</b>", "<i>A</i>"), near=False)._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt;Q&lt;/b&gt;" in shown
    assert shown.count("<tr>") == 2
    assert "<table" not in check(near=False)._repr_html_()


def test_places_are_files_and_lines_where_there_are_any(folder):
    file = folder / "facts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n\n" for row in [*BOROUGHS, BOROUGHS[0]]))
    report = gg.Dataset.from_file("facts.jsonl").check()
    assert report.name == "facts.jsonl"
    assert report.found("duplicate").examples[0].startswith("facts.jsonl:1, facts.jsonl:7: ")


def test_a_report_is_named_after_all_that_the_rows_come_from(folder):
    file = folder / "facts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in BOROUGHS[:2]))
    mixed = gg.Dataset.from_records(BOROUGHS[2:]) + gg.Dataset.from_file("facts.jsonl")
    assert mixed.check(near=False).name == "rows from memory + facts.jsonl"


def test_an_empty_data_set_has_nothing_to_say():
    report = gg.Dataset().check(Bytes())
    assert report.ok
    assert report.tokens is None
    assert report.num_rows == 0


def test_places_are_kept_up_to_a_limit_and_counted_beyond_it():
    report = gg.Dataset.from_records([pair(f"Q {i}", f" {i}") for i in range(1200)]).check(near=False)
    found = report.found("edge_space")
    assert (found.count, len(found.rows)) == (1200, 1000)
    assert "    … and 1,197 more" in str(report)


def test_rows_that_ask_nothing_do_not_contradict_each_other():
    alone = [gg.Conversation(messages=[gg.Message("assistant", text)]) for text in "ab"]
    assert kinds(gg.Dataset(alone).check(near=False)) == {"no_question": ((0,), (1,))}
