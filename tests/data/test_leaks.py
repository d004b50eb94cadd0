from __future__ import annotations

import json

import attrs
import pytest

import glowgenius as gg
from glowgenius.data.check import shared
from glowgenius.data.grouping import row_key
from glowgenius.errors import ConfigError

LONG = "Which of the five boroughs of New York City would you be standing in at Yankee Stadium{}"


def data(*rows):
    return gg.Dataset.from_records([{"question": q, "answer": a, "group": g} for q, a, g in rows])


TRAIN = data(
    ("Where is Citi Field?", "Queens", "citi"),
    ("Who’s the mayor?", "N. N.", None),
    (LONG.format("?"), "The Bronx", "yankee"),
)


def test_complaint_23_eval_rows_that_are_in_train_are_found_whatever_their_quotes_and_case():
    report = gg.find_leaks(
        TRAIN, data(("WHO'S THE MAYOR", "N. N.", None), ("Where is the Met?", "Manhattan", None)), near=False
    )
    assert not report.ok
    assert report.leaked == (0,)
    assert str(report) == (
        "2 test rows against 3 training rows\n"
        "PROBLEM the same question on both sides: 1 row of 2 to test on\n"
        "    row 0: \"WHO'S THE MAYOR\" → 'N. N.'; trained: row 1: 'Who’s the mayor?' → 'N. N.'\n"
        "    → remove it from one side: a test of what was trained says nothing about new questions\n"
        "near duplicates: not looked for, since near=False\n"
        "not ok: leaks"
    )


def test_a_group_on_both_sides_is_a_leak_in_other_words():
    report = gg.find_leaks(TRAIN, data(("In which borough does one find Citi Field?", "Queens", "citi")), near=False)
    assert [(f.kind, f.severity, f.rows) for f in report.findings] == [("leak_by_group", "problem", ((0, 0),))]


def test_a_question_that_differs_by_a_letter_is_a_warning():
    report = gg.find_leaks(TRAIN, data((LONG.format(" today?"), "The Bronx", None)), near=True)
    assert [(f.kind, f.severity, f.rows) for f in report.findings] == [("near_leak", "warning", ((2, 0),))]
    assert report.ok
    assert report.near == "looked for rows that share 80 % of their character 5-grams, in question and answer each"


def test_nothing_in_common():
    report = gg.find_leaks(TRAIN, data(("Where is the Met?", "Manhattan", "met")))
    assert report.ok
    assert report.leaked == ()
    assert report.findings == ()
    assert str(report).endswith("ok: no leak")


def test_the_report_is_json():
    report = gg.find_leaks(TRAIN, TRAIN)
    values = json.loads(json.dumps(report.to_dict()))
    assert values == report.to_dict()
    assert values["ok"] is False
    assert [finding["kind"] for finding in values["findings"]] == ["leak_by_question", "leak_by_group"]
    assert values["findings"][0]["rows"] == [[0, 0], [1, 1], [2, 2]]


def test_rows_without_a_question_or_a_group_have_nothing_in_common():
    alone = gg.Dataset([gg.Conversation(messages=[gg.Message("assistant", text)]) for text in "ab"])
    assert shared(alone, alone) == []
    assert shared(alone, alone, lambda row: row.group) == []
    assert shared(alone, alone, row_key) == [(0, 0), (1, 1)]


def test_the_system_message_does_not_hide_a_leak():
    row = TRAIN[0]
    told = attrs.evolve(row, messages=(gg.Message("system", "Be short."), *row.messages), group=None)
    assert gg.find_leaks(TRAIN, gg.Dataset([told]), near=False).leaked == (0,)


def test_near_is_one_of_three():
    with pytest.raises(ConfigError, match=r"^near must be True, False or None, got 1 \(int\)$"):
        gg.find_leaks(TRAIN, TRAIN, near=1)


def test_without_the_package_the_check_is_exact_and_says_so(monkeypatch):
    monkeypatch.setattr("glowgenius.data.check.installed", lambda name: False)
    report = gg.find_leaks(TRAIN, TRAIN)
    assert report.near == "not looked for, since the package 'rensa' is not installed: pip install 'glowgenius[check]'"
