from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from glowgenius.markup.html import escape, join, page, tag


class Reader(HTMLParser):
    """Collects the text of a page, and its elements."""

    def __init__(self):
        super().__init__()
        self.text = ""
        self.names = []

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\"a\" & 'b'", "&#34;a&#34; &amp; &#39;b&#39;"),
        ("one\ntwo\tthree", "one\ntwo\tthree"),
        ("a\x00b\x1b[2J", "a\\x00b\\x1b[2J"),
        ("\ud800", "\\ud800"),
        ("right\u202eleft", "right\\u202eleft"),
        ("é 👩‍👩‍👧 日本", "é 👩‍👩‍👧 日本"),
    ],
)
def test_escape(text, expected):
    assert escape(text) == expected


def test_tags():
    assert tag("p", "a < b", tag("b", "c"), class_="x", data_label='"', hidden=True, open=False, x=1.0, y=2.345) == (
        '<p class="x" data-label="&#34;" hidden x="1" y="2.35">a &lt; b<b>c</b></p>'
    )
    assert str(join(["<", Markup("<br>")])) == "&lt;<br>"


@given(
    st.text(
        st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\u202a\u202b\u202c\u202d\u202e"), max_size=30
    )
)
def test_a_text_is_read_back_as_it_was(text):
    plain = "".join(char for char in text if not "\u2066" <= char <= "\u2069")
    found = read(tag("p", plain, title=plain))
    assert found.text == plain
    assert found.names == ["p"]


def test_a_page_is_whole():
    html = page("<title>", [tag("p", "text")])
    assert html.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "<title>&lt;title&gt;</title>" in html
    assert html.endswith("<main>\n<p>text</p>\n</main>\n</body>\n</html>\n")
