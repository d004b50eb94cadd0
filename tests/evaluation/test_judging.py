"""The metrics against the verdicts of a careful person, and the page against both."""

from __future__ import annotations

import pytest

from glowgenius.evaluation.metrics import METRICS
from tests.benchmarks.judging import JUDGES, MEANT_FOR, PAGE, misjudged, page_with_tables, pairs

PAIRS = pairs()
KINDS = {
    *("names", "articles", "possessives", "negations", "several answers", "refusals", "code", "JSON", "numbers"),
    *("numbers with units", "dates", "ordinals and plurals", "case", "other scripts", "cut off", "labels"),
    *("punctuation", "spelling", "symbols"),
}


def test_there_are_enough_pairs_of_every_kind_and_none_twice():
    assert len(PAIRS) >= 150
    assert {pair["category"] for pair in PAIRS} == KINDS
    assert len({(pair["question"], *pair["references"], "→", pair["answer"]) for pair in PAIRS}) == len(PAIRS)
    for kind in KINDS:
        verdicts = [pair["right"] for pair in PAIRS if pair["category"] == kind]
        assert {True, False} == set(verdicts)
        assert len(verdicts) >= 4


@pytest.mark.parametrize("metric", ["strict", "json"])
def test_these_accept_nothing_that_is_wrong(metric):
    assert misjudged(metric, PAIRS)[0] == []


def test_the_default_accepts_nothing_wrong_but_where_case_alone_is_the_meaning():
    assert [(pair["references"], pair["answer"]) for pair in misjudged("exact_match", PAIRS)[0]] == [(["CO"], "Co")]


@pytest.mark.parametrize("metric", MEANT_FOR)
def test_a_metric_of_one_kind_judges_its_kind(metric):
    meant = [pair for pair in PAIRS if pair["category"] in MEANT_FOR[metric]]
    accepted, refused = misjudged(metric, meant)
    assert len(accepted) + len(refused) <= len(meant) / 50


def test_contains_accepts_little_that_is_wrong():
    accepted, _ = misjudged("contains", PAIRS)
    assert len(accepted) <= 0.07 * sum(not pair["right"] for pair in PAIRS)


@pytest.mark.parametrize("kind", ["negations", "refusals", "possessives"])
def test_contains_reads_sentences(kind):
    accepted, refused = misjudged("contains", [pair for pair in PAIRS if pair["category"] == kind])
    assert accepted == []
    assert len(refused) <= 1


@pytest.mark.parametrize("metric", JUDGES)
def test_every_reference_is_right_by_its_own_metric(metric):
    for pair in PAIRS:
        if pair["category"] in MEANT_FOR.get(metric, (pair["category"],)) and metric not in {"json", "number"}:
            assert METRICS[metric](pair["references"][0], pair["references"]) == 1


def test_the_page_has_the_figures_of_this_run():
    page = PAGE.read_text(encoding="utf-8")
    assert page_with_tables(page) == page
