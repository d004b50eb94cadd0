"""What a user sees of a mask before a run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from glowgenius.data.message import Conversation, Message, Source
from glowgenius.errors import ConfigError
from glowgenius.rendering import ChatTemplateRenderer, TrainOn, preview
from glowgenius.testing import ByteTokenizer
from tests.support.chat_tokenizers import family_tokenizer

RENDERER = ChatTemplateRenderer(ByteTokenizer())
ROW = Conversation.from_question("Where is the café?", "In <b>Queens</b> & 🗽\x1b[31m", id="nyc-1")
HEADER = "chat template of the tokenizer (masks from prefix differences, stop token <|im_end|>)"


def test_without_colour_the_trained_text_stands_in_brackets():
    assert str(preview(ROW, RENDERER, color=False)) == (
        f"{HEADER}, train_on=last_assistant_message   ⟦trained⟧ context\n"
        "\n"
        "row 0 (id 'nyc-1'): 68 tokens, 29 trained; stop token <|im_end|> is trained\n"
        "<|im_start|>user\nWhere is the café?<|im_end|>\n<|im_start|>assistant\n"
        "⟦In <b>Queens</b> & 🗽\\x1b[31m<|im_end|>⟧\n"
    )


def test_with_colour_nothing_of_the_text_steers_the_terminal():
    text = str(preview(ROW, RENDERER, color=True))
    assert "\x1b[1;32mIn <b>Queens</b> & 🗽\\x1b[31m<|im_end|>\x1b[0m" in text
    assert set(re.findall(r"\x1b\[[0-9;]*m", text)) == {"\x1b[1;32m", "\x1b[2m", "\x1b[0m"}


def test_the_terminal_decides_about_colour(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;32m" in str(preview(ROW, RENDERER))
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b" not in str(preview(ROW, RENDERER))
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in str(preview(ROW, RENDERER))


def test_rows_are_named_and_the_rest_is_counted():
    row = Conversation.from_question("a", "b")
    here = Conversation(messages=row.messages, source=Source("nyc.jsonl", 7, 6))
    shown = preview([row, here, row, row, row], RENDERER, rows=2)
    assert [one.title for one in shown.rows] == ["row 0", "nyc.jsonl:7"]
    assert str(shown).endswith("\n\n… and 3 more")
    assert "<p>… and 3 more</p>" in shown.to_html()
    assert preview([], RENDERER).rows == ()


def test_the_point_of_truncation_is_marked():
    row = Conversation.from_question("a", "bcdef")
    text = str(preview(row, RENDERER, max_length=24, color=False))
    assert "row 0: 27 tokens, 6 trained, 3 over max_length=24; stop token" in text
    assert text.endswith("<|im_start|>assistant\n⟦bcde⟧✂⟦f<|im_end|>⟧\n")
    html = preview(row, RENDERER, max_length=24).to_html()
    assert html.count('<span class="cut" title="the length limit">✂</span>') == 1
    assert (
        '<mark class="trained over" title="weight 1">f</mark>'
        '<mark class="trained control over" title="weight 1">&lt;|im_end|&gt;</mark><span class="context over">'
    ) in html
    assert "✂" not in str(preview(row, RENDERER, max_length=27, color=False))
    assert "\x1b[1;31m✂\x1b[0m" in str(preview(row, RENDERER, max_length=24, color=True))


def test_fractions_are_shown():
    messages = [Message("user", "a"), Message("assistant", "b", weight=0.5)]
    shown = preview(Conversation(messages=messages), RENDERER, color=False)
    assert "⟦b<|im_end|>⟧×0.5\n" in str(shown)
    assert '<mark class="trained" title="weight 0.5">b</mark>' in shown.to_html()


def test_an_end_that_is_no_stop_token_is_said():
    messages = [Message("user", "a"), Message("assistant", "b")]
    shown = preview(Conversation(messages=messages), RENDERER, train_on=TrainOn.ALL_TOKENS, color=False)
    assert shown.rows[0].stop == r"the last trained token is '\n'"


def test_losses_of_two_models_are_shown_below_one_another():
    row = Conversation.from_question("a", "é<|im_end|>")
    base, tuned = [2.0, 1.0, *[0.5] * 10, 6.5], [0.0] * 13
    shown = preview(row, RENDERER, losses={"base": [base], "<tuned>": [tuned]}, color=False)
    assert [view.name for view in shown.rows[0].views] == ["base", "<tuned>"]
    assert "\nbase: 1.208 nats per trained token; most for '<|im_end|>' 6.50, 'é' 3.00, '<' 0.50\n" in f"{shown}\n"
    html = shown.to_html()
    # A letter of two bytes is one piece, and text that reads like a control token is none.
    assert (
        '<mark class="trained loss" title="weight 1, loss 3.000 nats, probability 0.0498" style="--nats:0.500">é'
        in html
    )
    assert html.count('<mark class="trained control loss"') == 2
    assert 'style="--nats:1.000">&lt;|im_end|&gt;</mark>' in html
    assert "&lt;tuned&gt;: 0.000 nats per trained token" in html


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"base": []}, "losses['base'] must have one list for each of 1 examples, got 0"),
        ({"base": [[1.0]]}, "losses must have one number for each trained token, got 1 for 29"),
    ],
)
def test_losses_that_do_not_fit_are_refused(losses, message):
    with pytest.raises(ConfigError) as caught:
        preview(ROW, RENDERER, losses=losses)
    assert str(caught.value) == message


def test_a_conversation_that_is_divided_is_shown_as_its_examples():
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")]
    thinking = ChatTemplateRenderer(family_tokenizer("thinking"))
    shown = preview(Conversation(messages=turns), thinking, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)
    assert [row.title for row in shown.rows] == ["row 0, example 1 of 2", "row 0, example 2 of 2"]


class Tags(HTMLParser):
    """The tags and the text of a piece of HTML."""

    def __init__(self):
        super().__init__()
        self.opened, self.closed, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.opened.append(tag)
        assert not {name for name, _ in attrs} - {"class", "title", "style"}

    def handle_endtag(self, tag):
        self.closed.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("evil", ["</pre><script>alert(1)</script>", '" onmouseover="x', "</style>", "<img src=x>"])
def test_html_is_self_contained_and_escaped(evil):
    row = Conversation.from_question(evil, evil, id=evil)
    page = preview(row, RENDERER)
    html = page.to_html()
    assert html == page._repr_html_()
    tags = Tags()
    tags.feed(html)
    assert set(tags.opened) == {"div", "style", "p", "h4", "pre", "span", "mark"}
    assert sorted(tags.opened) == sorted(tags.closed)
    assert "".join(tags.text).count(evil) == 3
    assert "http" not in html
    assert "src=" not in html.replace("&lt;img src=x&gt;", "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": 0}, "rows must be an integer ≥ 1, got 0 (int)"),
        ({"rows": None}, "rows must be an integer ≥ 1, got None (NoneType)"),
        ({"max_length": True}, "max_length must be an integer ≥ 1, got True (bool)"),
        ({"max_length": -1}, "max_length must be an integer ≥ 1, got -1 (int)"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError) as caught:
        preview(ROW, RENDERER, **settings)
    assert str(caught.value) == message


def test_of_a_long_row_the_beginning_and_the_end_are_shown():
    row = Conversation.from_question("q" * 5000, "a" * 50)
    renderer = ChatTemplateRenderer(ByteTokenizer())
    whole = preview(row, renderer, max_shown=100_000, color=False)
    short = preview(row, renderer, max_shown=200, max_length=5_000, color=False)
    number = whole.rows[0].num_tokens
    assert (short.rows[0].num_tokens, short.rows[0].num_trained) == (number, 51)
    assert f"qq […{number - 200:,} tokens not shown…] qq" in str(short)
    assert str(short).count("⟦") == 2  # the legend, and the answer
    assert "✂" in str(short)
    assert sum(len(piece.text) for piece in short.rows[0].views[0].pieces) < 400
    assert "tokens not shown" in short.to_html()
    assert "tokens not shown" not in str(whole)
    losses = {"m": [[float(at) for at in range(51)]]}
    [view] = preview(row, renderer, max_shown=60, losses=losses).rows[0].views
    assert [piece.loss for piece in view.pieces if piece.loss is not None] == [float(at) for at in range(22, 51)]
    with pytest.raises(ConfigError, match="max_shown must be an integer ≥ 1"):
        preview(row, renderer, max_shown=0)
