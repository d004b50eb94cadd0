"""What a template is given beside the conversation: the day stays the same, chance is refused, costs have a limit."""

from __future__ import annotations

import re
from datetime import date, datetime

import pytest

from glowgenius.data.message import Conversation
from glowgenius.errors import ConfigError, RenderingError
from glowgenius.rendering import ChatTemplateRenderer, Renderer, chat_template
from tests.rendering.test_trl_templates import NAMES
from tests.support import trl_templates
from tests.support.chat_tokenizers import CHATML, bpe_tokenizer

ROW = Conversation.from_question("Where?", "Queens.")
DATED = "{{ 'Today is ' + strftime_now('%d %b %Y, %H') + '. ' }}" + CHATML
CHOSEN, OTHER = date(2026, 1, 2), date(2027, 3, 4)


class _Day(date):
    @classmethod
    def today(cls):
        return OTHER


def dated(**options):
    return ChatTemplateRenderer(bpe_tokenizer(DATED), **options)


def text(renderer):
    return renderer.tokenizer.decode(renderer.render(ROW).tokens.tolist())


def test_the_day_is_the_one_that_was_chosen_and_said():
    renderer = dated(today=CHOSEN)
    assert text(renderer).startswith("Today is 02 Jan 2026, 00. <|im_start|>")
    assert renderer.description == (
        "chat template of the tokenizer (masks from prefix differences, stop token <|im_end|>, "
        "writes the date 2026-01-02 into every prompt)"
    )
    assert (renderer.day, renderer.on_day(OTHER)) == (CHOSEN, renderer)


def test_the_day_is_that_on_which_the_renderer_is_made_and_belongs_to_its_fingerprint(monkeypatch):
    monkeypatch.setattr(chat_template, "date", _Day)
    renderer = dated(max_loops=7)
    assert renderer.day == OTHER
    assert text(renderer).startswith("Today is 04 Mar 2027, 00. ")
    earlier = renderer.on_day(CHOSEN)
    assert text(earlier) == text(dated(today=CHOSEN))
    assert earlier.fingerprint == dated(today=CHOSEN).fingerprint != renderer.fingerprint
    assert earlier.on_day(CHOSEN) is earlier


@pytest.mark.skipif(not NAMES, reason="the package trl is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_no_template_changes_with_the_day_unless_it_says_so(name):
    try:
        made = [ChatTemplateRenderer(trl_templates.tokenizer(name), today=day) for day in (CHOSEN, OTHER)]
    except RenderingError:
        return
    days = [renderer.day for renderer in made]
    same = [renderer.render_prompt(trl_templates.CONVERSATIONS["two turns"][:3]).tolist() for renderer in made]
    if days == [None, None]:
        assert same[0] == same[1]
        assert made[0].fingerprint == made[1].fingerprint
    else:
        assert days == [CHOSEN, OTHER]
        assert made[0].fingerprint != made[1].fingerprint
        assert "strftime_now" in trl_templates.source(name)


def test_a_date_that_only_a_system_message_brings_is_found():
    only = CHATML.replace(
        "message['content'] +", "message['content'] + (strftime_now('%Y') if message.role == 'system' else '') +"
    )
    assert ChatTemplateRenderer(bpe_tokenizer(only), today=CHOSEN).day == CHOSEN


def test_a_date_that_is_given_to_the_template_is_no_day():
    source = "{{ date_string if date_string is defined else strftime_now('%Y') }}" + CHATML
    renderer = ChatTemplateRenderer(bpe_tokenizer(source), chat_template_kwargs={"date_string": "1 May"}, today=CHOSEN)
    assert renderer.day is None


@pytest.mark.parametrize("chance", ["{{ [1, 2, 3] | random }}", "{{ lipsum(n=1) }}"])
def test_a_template_that_draws_is_refused(chance):
    with pytest.raises(RenderingError, match="it draws at random, so no row would be the same twice"):
        ChatTemplateRenderer(bpe_tokenizer(chance + CHATML))


@pytest.mark.parametrize("today", ["2026-01-02", datetime(2026, 1, 2), 5])  # noqa: DTZ001 - what is refused
def test_what_is_no_day_is_refused(today):
    with pytest.raises(ConfigError, match=re.escape(f"today must be a datetime.date, got {today!r}")):
        dated(today=today)


def test_the_renderer_that_fits_a_model_takes_the_day_and_keeps_it():
    made = Renderer.for_model("any", tokenizer=bpe_tokenizer(DATED), today=CHOSEN)
    assert made.fingerprint == dated(today=CHOSEN).fingerprint
    assert made.on_day(OTHER) is made  # it was chosen
    plain = [Renderer.for_model("any", tokenizer=bpe_tokenizer(CHATML), today=day) for day in (None, CHOSEN)]
    assert plain[0].fingerprint == plain[1].fingerprint
    with pytest.raises(ConfigError, match=r"today must be a datetime\.date, got '2026-01-02' \(str\)"):
        Renderer.for_model("any", tokenizer=bpe_tokenizer(CHATML), today="2026-01-02")


LONG = (
    "{% for message in messages %}{% for n in range(message.content | length * 1000) %}{{ 'abc' }}"
    "{% endfor %}{% endfor %}"
)
LOOPS = (
    "{% for message in messages %}{% for n in range(message.content | length * 1000) %}{% for m in range(1000) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)
AT_ONCE = "{{ messages[-1].content * 1000 }}"


@pytest.mark.parametrize(
    ("source", "settings", "problem"),
    [
        (
            LONG,
            {"max_characters": 100_000},
            "it writes more than 100,000 characters → if that is meant, ChatTemplateRenderer(…, max_characters=…)",
        ),
        (
            AT_ONCE,
            {"max_characters": 100_000},
            "it writes more than 100,000 characters → if that is meant, ChatTemplateRenderer(…, max_characters=…)",
        ),
        (
            LOOPS,
            {},
            "its loops turn more than 1,000,000 times → if that is meant, ChatTemplateRenderer(…, max_loops=…)",
        ),
    ],
)
def test_a_template_that_does_too_much_is_refused_and_a_limit_can_be_raised(source, settings, problem):
    row = Conversation.from_question("Where " * 50, "a" * 300)
    # Only rows with a long text cost much: the template is tried out with short ones.
    guarded = "{% if messages[-1].content | length > 200 %}" + source + "{% endif %}" + CHATML
    with pytest.raises(RenderingError) as caught:
        ChatTemplateRenderer(bpe_tokenizer(guarded), **settings).render(row)
    [found] = caught.value.problems
    assert f"{found.found} → {found.accepted}" == f"the chat template does too much: {problem}"
    if source is AT_ONCE:
        ChatTemplateRenderer(bpe_tokenizer(guarded), max_characters=1_000_000).render_prompt(row.messages)


@pytest.mark.parametrize("name", ["max_characters", "max_loops"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, None])
def test_a_limit_is_a_number(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be an integer ≥ 1, got"):
        dated(**{name: value})
