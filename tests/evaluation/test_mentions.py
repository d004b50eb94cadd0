"""When a text that names an answer gives it as its answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.evaluation.metrics import contains


@pytest.mark.parametrize(
    ("prediction", "accepted", "expected"),
    [
        ("Jane Austen's own writing", ["Jane Austen"], 1),
        ("Often confused with a calf, but it is a fawn.", ["calf"], 0),
        ("Often confused with a calf, but it is a fawn.", ["fawn"], 1),
        ("東京は日本の首都です。", ["東京"], 1),
        ("日本の首都は東京ではありません。", ["東京"], 0),
        ("100", ["10"], 0),
        ("It costs 11.5", ["1.5"], 0),
        ("not Paris", ["Paris"], 0),
        ("It isn't Paris.", ["Paris"], 0),
        ("It has never been Paris", ["Paris"], 0),
        ("Paris, London or Rome", ["Paris"], 0),
        ("Paris, London or Rome", ["London"], 0),
        ("Paris, London or Rome", ["Rome"], 0),
        ("Paris or London", ["Paris"], 0),
        ("It is not only Paris, but", ["Paris"], 1),
        ("No, it is Paris", ["Paris"], 1),
        ("No. It's Paris.", ["Paris"], 1),
        ("The capital is Paris, not London.", ["Paris"], 1),
        ("The capital is Paris, not London.", ["London"], 0),
        ("Not London but Paris", ["Paris"], 1),
        ("Paris rather than London", ["London"], 0),
        ("Paris is not the capital", ["Paris"], 0),
        ("Did you mean Paris?", ["Paris"], 0),
        ("What is the capital? Paris.", ["Paris"], 1),
        ("C++ is a language", ["C"], 0),
        ("I use C#.", ["C"], 0),
        ("I use C.", ["C"], 1),
        ("It gives us hope", ["US"], 0),
        ("In the US, yes", ["US"], 1),
        ("Take a train", ["A"], 0),
        ("Take the A train", ["A"], 1),
        ("서울은 한국의 수도입니다", ["서울"], 1),
        ("수도는 서울이 아닙니다", ["서울"], 0),
        ("Столица — Париж.", ["Париж"], 1),
        ("Это не Париж", ["Париж"], 0),
        ("באתי לירושלים", ["ירושלים"], 1),
        ("في باريس", ["باريس"], 1),
        ("वह दिल्ली में है", ["दिल्ली"], 1),
        ("It was 1969.", ["1969"], 1),
        ("on 1969-07-20", ["1969"], 1),
        ("1969-1972", ["1969"], 0),
        ("-5 degrees", ["5"], 0),
        ("1,000 people", ["1000"], 1),
        ("10,000 people", ["10"], 0),
        ("10 % of them", ["10"], 0),
        ("$5", ["5"], 0),
        ("5 km away", ["5"], 1),
        ("twenty-one", ["one"], 1),
        ("NYC or New York City", ["NYC", "New York City"], 1),
        ("Brooklynites", ["Brooklyn"], 0),
        ("The dog's name is Rex", ["Rex"], 1),
        ("non-toxic", ["toxic"], 0),
        ("It is toxic.", ["toxic"], 1),
        ("not toxic", ["not toxic"], 1),
        ("There is no evidence", ["no"], 0),
        ("No, it isn't", ["no"], 1),
        ("no", ["no"], 1),
        ("The answer is no.", ["No"], 1),
        ("None other than Paris", ["Paris"], 1),
        ("Without doubt, Paris", ["Paris"], 1),
        ("without a doubt it is Paris", ["Paris"], 1),
        ("二十", ["十"], 0),
        ("It did not open until 1931.", ["1931"], 1),
        ("I don't think it is Paris.", ["Paris"], 0),
        ("I don't know where Paris is", ["Paris"], 0),
        ("neither Paris nor Rome", ["Rome"], 0),
        ("instead of Paris", ["Paris"], 0),
        ("Par", ["Paris"], 0),
        ("**Paris**", ["Paris"], 1),
        ('"Paris"', ["Paris"], 1),
        ("The Bronx", ["Bronx"], 1),
        ("St. Mark’s Place", ["St. Mark's Place"], 1),
        ("Paris/London", ["Paris"], 0),
        ("MAY I go", ["May"], 1),
        ("you may go", ["May"], 0),
        ("In May 1999", ["May"], 1),
        ("mistaken for a calf", ["calf"], 0),
        ("It's easily mixed up with a calf.", ["calf"], 0),
        ("Unlike Paris, Rome is old", ["Paris"], 0),
        ("Unlike Paris, Rome is old", ["Rome"], 1),
        ("ist nicht Berlin", ["Berlin"], 0),
        ("ce n'est pas Paris", ["Paris"], 0),
        ("no es Madrid", ["Madrid"], 0),
        ("不是北京", ["北京"], 0),
        ("是北京", ["北京"], 1),
        ("パリジャン", ["パリ"], 0),
        ("首都はパリです", ["パリ"], 1),
        ("Istanbul'da", ["Istanbul"], 1),
        ("version 3.11.2", ["3.11"], 0),
        ("x > 5", ["5"], 0),
        ("x = 5", ["5"], 1),
        ("2+2", ["2"], 0),
        ("2 + 2 = 4", ["4"], 1),
        ("2nd", ["2"], 0),
        ("A", ["A"], 1),
        ("so am i", ["I"], 0),
        ("It's Manhattan, or New York County.", ["New York County"], 1),
        ("It is either Paris or Rome", ["Rome"], 0),
        ("between 5 and 10", ["5"], 0),
        ("between 5 and 10", ["10"], 0),
        ("between Queens and Brooklyn", ["Brooklyn"], 0),
        ("Brooklyn, between Queens and the sea", ["Brooklyn"], 1),
        ("people say it is Paris, and it is", ["Paris"], 1),
        ("some think Paris, but it is Rome", ["Paris"], 0),
        ("some think Paris, but it is Rome", ["Rome"], 1),
        ("Paris? Nope: Rome", ["Paris"], 0),
        ("Paris? Of course.", ["Paris"], 1),
        ("It was once Paris, but now Rome", ["Paris"], 0),
        ("It was once called Lutetia.", ["Lutetia"], 1),
        ("opened May 4th", ["4 May", "May 4"], 1),
        ("4th avenue", ["4"], 0),
    ],
)
def test_mentions(prediction, accepted, expected):
    assert contains(prediction, accepted) == expected


@given(st.text(), st.text())
def test_any_text_can_be_judged(prediction, answer):
    assert contains(prediction, [answer]) in {0, 1}


@given(st.sampled_from(["Paris", "C++", "1969", "東京", "O'Brien", "5 km", ".NET", "A+", "दिल्ली", "???"]))
def test_an_answer_contains_itself(answer):
    assert contains(answer, [answer]) == 1
    assert contains(f"It is {answer}.", [answer]) == 1 or answer == "???"
    assert contains(f"It is not {answer}.", [answer]) == 0
