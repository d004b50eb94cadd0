from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from examples.nyc.judging import SHORT_FORMS, place, place_match

PIECES = [
    *["the ", "The", "a ", "A", "an ", "-", "−", "–", "/", "1,200", "1st", "42nd", "U.S.", "'", "’", ".", ",", "&"],
    *["Street", "St", "é", "e\u0301", "🗽️", "👩‍👩‍👧", "\u200b", "\u00a0", "ﬁ", "İ", "ς", "ß", "1", "2", "½", "𝟏", "1️⃣"],
    *["\u0345", "\ue000", "\ue001", "Ⅷ", "ǆ", "¨", "\n", "ᾳ"],
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=8).map("".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # 1: compatibility and case
        ("Ｂｒｏｏｋｌｙｎ", "brooklyn"),
        ("BROOKLYN\u00a0Bridge", "brooklyn bridge"),
        ("Straße", "strasse"),
        ("Café", "café"),
        ("Cafe\u0301", "café"),
        # 2: the invisible
        ("Brook\u200blyn", "brooklyn"),
        ("1️⃣ train", "1 train"),
        # 3: numbers
        ("1,200", "1200"),
        ("8,804,190.", "8804190"),
        ("1,200.50", "1200.50"),
        ("3.5", "3.5"),
        ("1,2,3", "1 2 3"),
        ("12,34", "12 34"),
        ("-5", "-5"),
        ("−5 °F", "-5 f"),
        ("1990-1995", "1990 1995"),
        ("pages 5 - 6", "pages 5 6"),
        # 4: initials and apostrophes
        ("U.S.", "us"),
        ("J.P. Morgan", "jp morgan"),
        ("N.Y.C. Hall", "nyc hall"),
        ("St. Mark's", "st marks"),
        ("St. Mark’s", "st marks"),
        ("end.Next", "end next"),
        # 5 and 6: marks
        ("Barnes & Noble", "barnes and noble"),
        ("34 St-Penn Station", "34 st penn station"),
        ("34 St–Penn Station", "34 st penn station"),
        ("A/C/E", "a c e"),
        ("A,C,E", "a c e"),
        ("“Brooklyn!”", "brooklyn"),
        ("Brooklyn 🗽", "brooklyn"),
        # 7: street words
        ("Saint Nicholas Avenue", "st nicholas av"),
        ("St. Nicholas Ave.", "st nicholas av"),
        ("Astoria Boulevard", "astoria blvd"),
        ("Eastern Parkway", "eastern pkwy"),
        ("Union Square", "union sq"),
        ("Jackson Heights", "jackson hts"),
        # 8: ordinals
        ("42nd Street", "42 st"),
        ("1ST Avenue", "1 av"),
        ("21th", "21"),
        ("1 St", "1 st"),
        ("fifth", "fifth"),
        # 9: articles
        ("The Bronx", "bronx"),
        ("the the Bronx", "bronx"),
        ("The", "the"),
        ("The The", "the"),
        ("over the river", "over the river"),
        ("A", "a"),
        ("An", "an"),
        ("A C E", "a c e"),
        ("The A", "a"),
        # nothing left of the rules
        ("🗽", "🗽"),
        ("???", "???"),
        ("...!", "...!"),
        # nothing there
        ("", ""),
        (" \t\n", ""),
        ("\u200b\ufe0f", ""),
    ],
)
def test_each_rule(text, expected):
    assert place(text) == expected


def test_the_two_spellings_of_a_station_are_one():
    assert place("34th Street–Penn Station") == place("34 St-Penn Station")


def test_letters_that_only_look_alike_stay_different():
    assert place("А") != place("A")  # Cyrillic and Latin


def test_short_forms_are_stable():
    assert [place(word) for word in SHORT_FORMS.values()] == list(SHORT_FORMS.values())


@given(TEXTS)
@example("'̈a'̈")
def test_normalizing_twice_changes_nothing(text):
    assert place(place(text)) == place(text)


@given(TEXTS)
def test_what_can_be_seen_never_becomes_nothing(text):
    visible = [
        char
        for char in unicodedata.normalize("NFKC", text)
        if not char.isspace()
        and unicodedata.category(char) not in {"Cc", "Cf", "Me"}
        and "VARIATION SELECTOR" not in unicodedata.name(char, "")
    ]
    assert bool(place(text)) == bool(visible)


@pytest.mark.parametrize(
    ("prediction", "accepted", "expected"),
    [
        ("34th Street-Penn Station", ["34 St-Penn Station"], 1),
        ("34 stpenn station", ["34 St-Penn Station"], 0),
        ("The A.", ["A"], 1),
        ("", ["The"], 0),
        ("", [""], 0),
        ("Bronx", ["Queens", "The Bronx"], 1),
        ("A, C, E", ["A C E"], 1),
        ("Saint Mark's Place", ["St. Marks Place"], 1),
        ("Brooklyn or Queens", ["Brooklyn"], 0),
    ],
)
def test_the_metric(prediction, accepted, expected):
    assert place_match(prediction, accepted) == expected


@given(TEXTS, st.sampled_from([" ", "\n", "\u00a0", "\u200b"]))
def test_surrounding_space_means_nothing(text, space):
    assert place(f"{space} {text}{space}") == place(text)
