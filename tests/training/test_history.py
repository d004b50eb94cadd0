"""What can be read off the rows of a run."""

from __future__ import annotations

import json
import math
import re

import pytest

from glowgenius.errors import ConfigError
from glowgenius.training.history import History, canonical, direction, is_better, row_from_json

ROWS = [
    {"step": 0, "eval/loss": 3.0},
    {"step": 1, "train/loss": 2.5, "learning_rate": 0.1},
    {"step": 2, "train/loss": 2.0, "learning_rate": 0.05, "eval/loss": 1.5, "eval/exact_match": 0.5},
    {"step": 3, "train/loss": math.nan, "learning_rate": 0.01, "eval/loss": math.nan, "eval/exact_match": 0.25},
]
HISTORY = History(ROWS)


def test_it_is_a_sequence_of_rows():
    assert len(HISTORY) == 4
    assert HISTORY[1] == HISTORY.rows[1] == ROWS[1]
    assert HISTORY[1:] == History(ROWS[1:])
    assert HISTORY.last["step"] == 3
    assert next(iter(HISTORY)) == {"step": 0, "eval/loss": 3.0}
    assert History().last == {}
    assert repr(HISTORY) == "History(4 rows, metrics: eval/loss, train/loss, learning_rate, eval/exact_match)"
    assert repr(History()) == "History(0 rows, metrics: none)"


def test_notebooks_show_its_curves_and_one_line():
    shown = HISTORY[:3]._repr_html_()
    line = "<p>2 steps; training loss 2.5 → 2; held-out loss 3 → 1.5, lowest 1.5 at step 2</p>"
    assert line in shown
    assert re.findall(r"<figcaption>([^<]*)", shown) == ["Loss", "At evaluations", "Learning rate"]
    assert shown.count("<svg") == 3
    assert "<p>3 steps; training loss 2.5 → nan; held-out loss 3 → nan, lowest 1.5 at step 2</p>" in (
        HISTORY._repr_html_()
    )
    assert "<p>0 steps</p>" in History()._repr_html_()
    assert "<svg" not in History()._repr_html_()
    assert "<p>1 step</p>" in History([{"step": 1, "train/time": 2.0}])._repr_html_()


def test_a_metric_in_a_notebook_is_text_and_only_shares_are_drawn():
    rows = [{"step": 1, "eval/<b>": 0.5, "eval/length": 12.0, "eval/broken": math.nan}]
    shown = History(rows)._repr_html_()
    assert "● &lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "length" not in shown
    assert "broken" not in shown


def test_two_are_equal_by_their_rows():
    assert History(ROWS[:3]) == History(ROWS[:3])
    assert hash(History(ROWS[:3])) == hash(History(ROWS[:3]))
    assert History(ROWS[:3]) != History(ROWS[:2])
    assert History(ROWS[:1]) != ROWS[:1]


def test_changing_what_it_was_made_of_changes_nothing():
    rows = [{"step": 1, "train/loss": 2.0}]
    history = History(rows)
    rows[0]["train/loss"] = 9.0
    assert history.train_loss == (2.0,)


def test_losses_and_series():
    assert HISTORY.train_loss[:2] == (2.5, 2.0)
    assert HISTORY.eval_loss[:2] == (3.0, 1.5)
    named = ("exact_match", "eval_exact_match", "eval/exact_match")
    assert [HISTORY.series(name) for name in named] == [((2, 0.5), (3, 0.25))] * 3


def test_the_best_row_by_the_direction_of_its_name():
    assert HISTORY.best()["step"] == 2
    assert HISTORY.best("eval/loss")["step"] == 2
    assert HISTORY.best("eval_exact_match")["step"] == 2
    assert HISTORY.best("eval_exact_match", mode="min")["step"] == 3


def test_an_unknown_metric_lists_what_there_is():
    with pytest.raises(ConfigError) as raised:
        HISTORY.best("eval_los")
    assert str(raised.value) == (
        "no step has a value of 'eval/los' (did you mean 'eval/loss'?); measured were: eval/loss, train/loss, "
        "learning_rate, eval/exact_match"
    )
    with pytest.raises(ConfigError) as raised:
        History().best()
    assert str(raised.value) == "no step has a value of 'eval/loss'; measured were: nothing"


def test_a_metric_that_was_always_nan_has_no_best():
    with pytest.raises(ConfigError):
        History([{"step": 1, "eval/loss": math.nan}]).best()


def test_as_json_and_back():
    text = json.dumps(HISTORY.to_json(), allow_nan=False)
    assert json.loads(text)[3] == {
        "step": 3,
        "train/loss": None,
        "learning_rate": 0.01,
        "eval/loss": None,
        "eval/exact_match": 0.25,
    }
    back = [row_from_json(record) for record in json.loads(text)]
    assert back[:3] == ROWS[:3]
    assert math.isnan(back[3]["eval/loss"])


def test_names():
    names = ["eval_loss", "train_loss", "eval/f1", "learning_rate", "training_loss"]
    assert [canonical(name) for name in names] == [
        "eval/loss",
        "train/loss",
        "eval/f1",
        "learning_rate",
        "training_loss",
    ]
    directions = [direction(name) for name in ("eval_loss", "eval/nll", "eval_perplexity", "eval_exact_match")]
    assert directions == ["min", "min", "min", "max"]


def test_better():
    assert is_better(1.0, 2.0, "min")
    assert not is_better(2.0, 2.0, "min")
    assert not is_better(1.0, 2.0, "max")
    assert not is_better(1.5, 2.0, "min", by=0.5)
    assert is_better(1.0, None, "max")
    assert is_better(1.0, math.nan, "min")
    assert not is_better(math.nan, None, "min")
