from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from attrs import evolve

from glowgenius.data.message import Conversation
from glowgenius.errors import ConfigError
from glowgenius.evaluation import compare
from glowgenius.rendering.preview import Preview, PreviewRow, PreviewRun
from glowgenius.reporting import write_report
from tests.support.answers import ScriptedModel

EVIL = "<script>alert(1)</script>"

HISTORY = [
    {"step": 0, "eval/loss": 3.0},
    {"step": 1, "train/loss": 3.2, "learning_rate": 1e-3},
    {"step": 2, "train/loss": 1.0, "learning_rate": 5e-4, "eval/loss": 1.5},
]

PREVIEW = Preview(
    header=f"renderer {EVIL}",
    rows=(
        PreviewRow(
            title="row 0",
            runs=(
                PreviewRun(text=f"user\n{EVIL}", weight=0.0, over=False),
                PreviewRun(text="Queens", weight=1.0, over=False),
                PreviewRun(text="<end>", weight=0.5, over=True),
            ),
            num_tokens=9,
            num_trained=2,
            stop="stop token <end> is trained",
        ),
    ),
    num_hidden=2,
    max_length=None,
    color=None,
)


class Checker(HTMLParser):
    """Follows a page element by element: every element is closed, in order, and nothing points outside."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.names = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name not in {"src", "href", "srcset", "action"}, (tag, name, value)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def check(path):
    """The text of a page that is well formed and needs nothing else."""
    html = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(checker.names)
    assert "url(" not in html
    assert "@import" not in html
    assert "http:" not in html
    assert "https:" not in html
    return " ".join(" ".join(checker.text).split())


@pytest.fixture(scope="module")
def comparison():
    rows = {
        "all right": [Conversation.from_question(f"easy {index}?", "Yes") for index in range(12)],
        "mixed": [
            Conversation.from_question("fixed?", f"{EVIL} Queens", id="f<1>", references=("Queens", f"{EVIL}")),
            Conversation.from_question(f"broken {EVIL}?", "Bronx"),
            Conversation.from_question("wrong?", "Brooklyn"),
        ],
        "many": [Conversation.from_question(f"many {index}?", "Yes") for index in range(21)],
    }
    said = {
        "broken": ("It is the Bronx, of course, and has long been", EVIL),
        "wrong": ("", "Nowhere"),
        "fixed": (EVIL[:9], "Queens"),
    }

    def answer(side):
        def to(question):
            word = question.split()[0].rstrip("?")
            return said[word][side] if word in said else "Yes" if side or word == "easy" else "No"

        return to

    base = ScriptedModel("base", answer(0), nll=3.5, longest=30)
    tuned = ScriptedModel("tuned", answer(1), nll=0.25)
    return compare(base, tuned, rows, metric={"mixed": "contains"})


def test_the_whole_page(tmp_path, comparison):
    path = write_report(
        tmp_path / "new" / "report.html",
        comparison=comparison,
        history=HISTORY,
        header={
            "base model": EVIL,
            "LoRA": {"rank": 8},
            "seeds": [0, 1],
            "rate": 0.00012345678,
            "resumed": False,
            "cost": None,
        },
        previews=PREVIEW,
        warnings=[f"look: {EVIL}"],
        title=f"A run {EVIL}",
    )
    assert path == tmp_path / "new" / "report.html"
    text = check(path)
    assert EVIL not in path.read_text(encoding="utf-8")
    for part in (
        f"A run {EVIL}",
        f"base model {EVIL} LoRA rank 8 seeds 0, 1 rate 0.000123457 resumed no cost –",
        f"look: {EVIL}",
        "How it went Loss — training ● held-out ○ lowest held-out",
        "What changed all right : 0 fixed, 0 broken, 12 same: too few questions to tell: 0 points (95 % interval ",
        "mixed : 1 fixed, 1 broken, 1 same: too few questions to tell, as 3 questions are fewer than 10: 0 points",
        "1 of 3 answers of base were cut off at max_tokens=32",
        "all right All 12 answers were right before and after.",
        (
            f"mixed 1 broken broken {EVIL}? accepted: Bronx base, cut off at max_tokens=32, 3.5 nats per token "
            f"It is the Bronx, of course, an tuned, 0.25 nats per token {EVIL}"
        ),
        (
            f"1 fixed fixed? accepted (f<1>): Queens / {EVIL} "
            "base, 3.5 nats per token <script>a tuned, 0.25 nats per token Queens"
        ),
        "1 wrong before and after wrong? accepted: Brooklyn base, 3.5 nats per token nothing",
        (
            f"What was trained Marked tokens carry loss; the others are context. renderer {EVIL} "
            f"row 0: 9 tokens, 2 trained; stop token <end> is trained user {EVIL} Queens <end> … and 2 more rows"
        ),
    ):
        assert part in text


def test_the_table_has_a_row_for_each_slice(tmp_path, comparison):
    html = write_report(tmp_path / "report.html", comparison=comparison).read_text(encoding="utf-8")
    rows = [
        [(name, re.sub(r"<[^>]*>", "", text)) for name, text in re.findall(r'<td data-label="([^"]*)">(.*?)</td>', row)]
        for row in re.findall(r"<tr>(.*?)</tr>", html)
    ]
    assert [dict(row) for row in rows[2:]] == [
        {
            "slice": "mixed",
            "judged by": "contains",
            "n": "3",
            "base": "33 % 1 to 91",
            "tuned": "33 % 1 to 91",
            "majority": "33 %",
            "kept": "0 %",
            "fixed": "1",
            "broken": "1",
            "points": "0",
            "95 % interval": "-79 to +79",
            "p": "-",
            "nats / token": "3.500 → 0.250",
        },
        {
            "slice": "many",
            "judged by": "exact_match",
            "n": "21",
            "base": "0 % 0 to 16",
            "tuned": "100 % 84 to 100",
            "majority": "100 %",
            "kept": "–",
            "fixed": "21",
            "broken": "0",
            "points": "+100",
            "95 % interval": "+77 to +100",
            "p": "&lt;0.001",
            "nats / token": "3.500 → 0.250",
        },
    ]


def test_long_lists_are_folded_and_short_ones_are_not(tmp_path, comparison):
    html = write_report(tmp_path / "report.html", comparison=comparison).read_text(encoding="utf-8")
    assert re.findall(r"<details( open)?><summary[^>]*>([^<]*)<", html) == [
        (" open", "1 broken"),
        (" open", "1 fixed"),
        ("", "1 wrong before and after"),
        ("", "21 fixed"),
    ]
    assert html.count("<article") == 3 + 21


def test_the_same_run_gives_the_same_bytes(tmp_path, comparison):
    pages = [
        write_report(
            tmp_path / name, comparison=comparison, history=HISTORY, previews=[PREVIEW, evolve(PREVIEW, num_hidden=0)]
        ).read_bytes()
        for name in ("one.html", "two.html")
    ]
    assert pages[0] == pages[1]


def test_a_comparison_without_likelihoods(tmp_path):
    rows = [Conversation.from_question(f"{index}?", "Yes") for index in range(3)]
    model = ScriptedModel("model", lambda _: "No")
    text = check(write_report(tmp_path / "report.html", comparison=compare(model, model, rows, nll=False)))
    assert "accepted: Yes base No tuned No" in text
    assert "→" not in text


# Warnings


def warnings_of(path):
    html = path.read_text(encoding="utf-8")
    found = re.search(r'<ul class="warnings">(.*?)</ul>', html)
    return re.findall(r"<li>(.*?)</li>", found[1]) if found else []


def test_a_good_run_has_no_warnings(tmp_path, comparison):
    assert warnings_of(write_report(tmp_path / "report.html", comparison=comparison, history=HISTORY)) == []


def test_a_run_that_diverged(tmp_path):
    history = [
        {"step": 1, "train/loss": 3.0},
        {"step": 2, "train/loss": math.nan, "eval/loss": None},
        {"step": 3, "train/loss": math.inf, "eval/loss": math.nan},
    ]
    path = write_report(tmp_path / "report.html", history=history)
    assert warnings_of(path) == [
        "The training loss is not finite at 2 steps, first at step 2: the run diverged.",
        "The held-out loss is not finite at 1 steps, first at step 3: the run diverged.",
    ]
    assert "held-out" not in check(path).split("How it went")[1]


def test_a_held_out_loss_that_rose(tmp_path):
    history = [{"step": step, "eval/loss": loss} for step, loss in ((0, 3.0), (5, 1.0), (10, 1.25))]
    assert warnings_of(write_report(tmp_path / "report.html", history=history)) == [
        "The held-out loss was lowest at step 5 (1) and ended higher at step 10 (1.25)."
    ]


@pytest.mark.parametrize("last", [1.25, 1.0001])
def test_a_held_out_loss_that_rose_is_said_once_and_its_last_digit_never(tmp_path, last):
    """The diagnosis says it with the training losses, where there are some."""
    history = [{"step": step, "train/loss": 3.0 / (step + 1)} for step in range(1, 61)]
    history[19]["eval/loss"], history[59]["eval/loss"] = 1.0, last
    path = write_report(tmp_path / "report.html", history=history)
    assert warnings_of(path) == []
    assert check(path).count("rose from 1 at step 20 to 1.25 at step 60") == (last == 1.25)
    assert "lowest at step" not in check(path)


def test_likelihoods_that_are_no_numbers(tmp_path, comparison):
    part = comparison["many"]
    rows = (evolve(part.tuned.rows[0], nll=math.nan), *part.tuned.rows[1:])
    broken = evolve(comparison, slices={"many": evolve(part, tuned=evolve(part.tuned, rows=rows))})
    path = write_report(tmp_path / "report.html", comparison=broken)
    assert warnings_of(path) == ["many: the likelihood of the answers under the tuned model is not finite."]


def test_a_history_of_other_things_draws_nothing(tmp_path):
    path = write_report(tmp_path / "report.html", history=[{"step": 1, "tokens/trained": 5}], header={"a": 1})
    assert "How it went" not in check(path)


# What cannot be written


def test_nothing_to_show(tmp_path):
    with pytest.raises(ConfigError) as error:
        write_report(tmp_path / "report.html", history=[], header={}, previews=[])
    assert (
        str(error.value)
        == "write_report() has nothing to show; give run, comparison, history, header, previews or sweep"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_showed_more_is_kept_once_and_said(tmp_path, comparison, caplog):
    path = write_report(tmp_path / "report.html", comparison=comparison, history=HISTORY)
    before = path.read_bytes()
    for _ in range(3):
        write_report(path, history=HISTORY)
        assert (tmp_path / "report-1.html").read_bytes() == before
        write_report(path, comparison=comparison, history=HISTORY)  # which shows no less
    assert sorted(found.name for found in tmp_path.iterdir()) == ["report-1.html", "report.html"]
    assert caplog.messages[0] == (
        f"{path} showed a comparison, which the new page does not: the older page is kept as {tmp_path}/report-1.html"
    )
    write_report(path, header={"run": "another"})
    assert sorted(found.name for found in tmp_path.iterdir()) == ["report-1.html", "report.html"]
    write_report(path, previews=[PREVIEW])
    write_report(path, history=HISTORY)
    assert caplog.messages[-1].endswith(
        f"showed previews, which the new page does not: the older page is kept as {tmp_path}/report-2.html"
    )


def test_a_file_that_is_no_page_is_replaced(tmp_path, caplog):
    path = tmp_path / "report.html"
    path.write_bytes(b"\xff\x00 notes")
    write_report(path, history=HISTORY)
    assert ([found.name for found in tmp_path.iterdir()], caplog.messages) == (["report.html"], [])


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError) as error:
        write_report(tmp_path, header={"a": 1})
    assert (
        str(error.value)
        == f"write_report() needs the name of a file, got the folder {str(tmp_path)!r}; try report.html in it, "
        "or run= for the report of a run"
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"train/loss": 1.0}, "history[1] needs the integer 'step', got None; it has train/loss"),
        ({}, "history[1] needs the integer 'step', got None; it has nothing"),
        ({"step": 1.5}, "history[1] needs the integer 'step', got 1.5; it has step"),
        ({"step": 1, "eval/loss": "low"}, "history[1]['eval/loss'] must be a number or None, got 'low'"),
        ({"step": 1, "learning_rate": True}, "history[1]['learning_rate'] must be a number or None, got True"),
    ],
)
def test_a_row_that_is_none(tmp_path, row, message):
    with pytest.raises(ConfigError) as error:
        write_report(tmp_path / "report.html", history=[{"step": 0}, row])
    assert str(error.value) == message


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = write_report(tmp_path / "report.html", header={"run": 1})
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glowgenius._files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(path, header={"run": 2})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
