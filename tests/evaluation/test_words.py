from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.evaluation.normalize import normalize, read, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Jane Austen's novels", ["jane", "austen", "'s", "novels"]),
        ("the Joneses’ house", ["the", "joneses", "'", "house"]),
        ("don't", ["don", "'t"]),
        ("L'Italie", ["l'", "italie"]),
        ("O'Brien", ["o", "'brien"]),
        ("C#, C++ and .NET", ["c#", "c++", "and", ".net"]),
        ("an A+ in C.", ["an", "a+", "in", "c"]),
        ("blood type A- is", ["blood", "type", "a-", "is"]),
        ("1,200 km, 3.5 %, -5", ["1200", "km", "3.5", "%", "-5"]),
        ("3.5km, 5 mg", ["3.5", "km", "5", "mg"]),
        ("42nd, 3D, 5G and 1,000th", ["42nd", "3d", "5g", "and", "1,000th"]),
        ("1,2,3", ["1", "2", "3"]),
        ("12,34", ["12,34"]),
        ("Python 3.11.2, v1.2", ["python", "3.11.2", "v1.2"]),
        ("x > 5", ["x", ">", "5"]),
        ("2+2", ["2", "+", "2"]),
        ("2-2", ["2", "-", "2"]),
        ("1999–2004", ["1999", "-", "2004"]),
        ("x*y and x/y", ["x", "*", "y", "and", "x", "/", "y"]),
        ("$5 and 5€", ["$", "5", "and", "5", "€"]),
        ("U.S. Army, J.P. Morgan", ["us", "army", "jp", "morgan"]),
        ("AT&T", ["at", "and", "t"]),
        ("**Paris** (`x`) — “no”", ["paris", "x", "no"]),
        ("34 St-Penn Station", ["34", "st", "penn", "station"]),
        ("日本の首都は東京です。", list("日本の首都は東京です")),
        ("首都はパリです", ["首", "都", "は", "パリ", "で", "す"]),
        ("서울은 수도", ["서울은", "수도"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("กรุงเทพ", ["ก", "รุ", "ง", "เ", "ท", "พ"]),
        ("🗽", ["🗽"]),
        ("???", ["???"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert list(words(text)) == expected


def test_words_can_keep_their_case():
    assert words("Take the A train", fold_case=False) == ("Take", "the", "A", "train")


@given(st.text())
def test_every_visible_text_has_a_word(text):
    assert bool(words(text)) or not normalize(text)


@given(st.text())
def test_words_stand_where_they_say(text):
    found = read(text)
    places = [place for word in found.words for place in (word.start, word.end)]
    assert places == sorted(places)
    assert [found.whole[word.start : word.end] for word in found.words] == [word.written for word in found.words]
