from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glowgenius.evaluation.normalize import SHORT_FORMS, normalize, words

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
    assert normalize(text) == expected


def test_the_two_spellings_of_a_station_are_one():
    assert normalize("34th Street–Penn Station") == normalize("34 St-Penn Station")


def test_letters_that_only_look_alike_stay_different():
    assert normalize("А") != normalize("A")  # Cyrillic and Latin


def test_words_can_keep_their_case():
    assert words("Take the A train to a Street", fold_case=False) == ("Take", "the", "A", "train", "to", "a", "st")


def test_short_forms_are_stable():
    assert [normalize(word) for word in SHORT_FORMS.values()] == list(SHORT_FORMS.values())


@given(TEXTS)
@example("'̈a'̈")
def test_normalizing_twice_changes_nothing(text):
    assert normalize(normalize(text)) == normalize(text)


@given(TEXTS)
def test_what_can_be_seen_never_becomes_nothing(text):
    visible = [
        char
        for char in unicodedata.normalize("NFKC", text)
        if not char.isspace()
        and unicodedata.category(char) not in {"Cc", "Cf", "Me"}
        and "VARIATION SELECTOR" not in unicodedata.name(char, "")
    ]
    assert bool(normalize(text)) == bool(visible)


@given(TEXTS)
def test_cased_words_line_up_with_folded_ones(text):
    assert len(words(text)) == len(words(text, fold_case=False))


@given(TEXTS, st.sampled_from([" ", "\n", "\u00a0", "\u200b"]))
def test_surrounding_space_means_nothing(text, space):
    assert normalize(f"{space} {text}{space}") == normalize(text)
