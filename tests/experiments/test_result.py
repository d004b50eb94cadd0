from __future__ import annotations

import json
import math
import re

import pytest

from glowgenius.errors import ConfigError, EvaluationError
from glowgenius.evaluation.intervals import Interval, clopper_pearson
from glowgenius.experiments.cell import standing_of
from tests.support.sweeps import cell, result

ONES, ZEROS = [1.0] * 40, [0.0] * 40
HUNDRED = [1.0] * 100
MOST = [1.0] * 36 + [0.0] * 4


def test_the_best_of_equals_is_the_smallest_rank_and_then_the_lowest_rate():
    found = result([cell(rank, rate, HUNDRED) for rank in (8, 2) for rate in (0.3, 0.1)])
    assert (found.best().rank, found.best().learning_rate) == (2, 0.1)
    assert [point.standing for point in found.points()] == ["best", "flat", "flat", "flat"]


def test_low_is_good_for_losses_and_high_for_scores():
    found = result([cell(2, 0.1, ZEROS, nll=1.0, eval_loss=0.2), cell(4, 0.1, ONES, nll=2.0, eval_loss=0.4)])
    assert [found.best(metric).rank for metric in ("exact_match", "nll", "eval_loss")] == [4, 2, 2]


def test_values_are_means_over_seeds_and_questions_with_intervals():
    cells = [cell(2, 0.1, scores, seed=seed, eval_loss=seed) for seed, scores in enumerate((ONES, MOST, MOST))]
    point = result(cells).points()[0]
    assert point.value == pytest.approx((40 + 36 + 36) / 120)
    # Four questions are wrong in two seeds of three, so the interval reaches far below.
    assert point.interval.low < 0.86
    assert point.interval.high > 0.99
    loss = result(cells).points("eval_loss")[0]
    assert loss.value == 1.0
    # Student's t with 2 degrees of freedom: 4.303 · 1 / √3.
    assert (loss.interval.low, loss.interval.high) == pytest.approx((1 - 2.4841, 1 + 2.4841), abs=1e-4)


def test_scores_that_are_all_right_still_have_an_interval():
    found = result([cell(2, 0.1, ONES, per_group=4)]).points()[0]
    assert (found.interval.low, found.interval.high) == (clopper_pearson(10, 10).low, 1.0)


def test_a_point_with_a_diverged_seed_keeps_its_mean_and_is_never_the_best():
    cells = [
        cell(2, 0.1, ONES),
        cell(2, 0.1, ONES, seed=1, diverged="it did"),
        cell(2, 0.2, ZEROS),
        cell(2, 0.2, ZEROS, seed=1),
    ]
    first, second = result(cells).points()
    assert (first.value, first.standing, first.diverged) == (1.0, "diverged", ("seed 1: it did",))
    assert second.standing == "best"


def test_no_best_where_every_run_diverged():
    with pytest.raises(EvaluationError) as error:
        result([cell(2, 0.1, ONES, diverged="it did")]).best()
    assert str(error.value) == "the sweep has no best point: Every run diverged: try lower learning rates."


@pytest.mark.parametrize(
    ("low", "high", "low_is_good", "standing"),
    [
        (-0.05, 0.05, False, "flat"),
        (-0.051, 0.01, False, "unclear"),
        (-0.2, -0.01, False, "worse"),
        (-0.04, -0.01, False, "worse"),  # by little, and surely
        (0.06, 0.2, True, "worse"),
        (-0.2, 0.2, True, "unclear"),
        (-0.2, -0.06, True, "unclear"),
    ],
)
def test_the_standing(low, high, low_is_good, standing):
    assert standing_of(Interval(low=low, high=high), margin=0.05, low_is_good=low_is_good) == standing


def test_one_loss_per_point_cannot_be_judged():
    found = result([cell(2, 0.1, ONES, eval_loss=0.2), cell(4, 0.1, ONES, eval_loss=0.3)])
    assert [point.standing for point in found.points("eval_loss")] == ["best", "unknown"]
    assert found.findings("eval_loss") == (
        "The best eval_loss is 0.2 nats, at rank 2 and learning rate 0.1; before training it was 3 nats.",
        "One number a run cannot tell ranks apart at learning rate 0.1: add seeds, or questions.",
    )


SEVERAL = [
    cell(1, 0.1, [1.0] * 20 + [0.0] * 20),
    cell(4, 0.1, ONES),
    cell(16, 0.1, [1.0] * 38 + [0.0] * 2),
    cell(64, 0.1, ONES),
    cell(1, 0.3, ZEROS, diverged="the training loss is nan at step 3"),
    cell(4, 0.3, ZEROS),
    cell(16, 0.3, ZEROS, diverged="the training loss is nan at step 5"),
    cell(64, 0.3, ZEROS),
]


def test_the_findings():
    assert result(SEVERAL).findings() == (
        (
            "The best exact_match is 100 % (95 % interval 91 to 100), at rank 4 and learning rate 0.1; before training "
            "it was 0 %."
        ),
        (
            "Against rank 4 at learning rate 0.1: 1 is worse by 50 points (95 % interval of the difference -66 to "
            "-32); 16 and 64 not to be told apart with so few questions and seeds."
        ),
        (
            "Against learning rate 0.1 at rank 4: 0.3 is worse by 100 points (95 % interval of the difference -100 to "
            "-88)."
        ),
        "The best learning rate is the lowest of the grid; a better one may lie below 0.1.",
        (
            "2 of 8 runs diverged: learning rate 0.3 with rank 1 and 16. For rank 1 and learning rate 0.3, seed 0: the "
            "training loss is nan at step 3."
        ),
    )


def test_flat_is_called_flat():
    found = result([cell(rank, rate, HUNDRED) for rank in (1, 8, 64) for rate in (0.1, 0.2, 0.3)])
    assert found.findings()[1:3] == (
        "Flat in rank at learning rate 0.1: 1, 8 and 64 differ from the best by at most 5 points either way.",
        "Flat in learning rate at rank 1: 0.1, 0.2 and 0.3 differ from the best by at most 5 points either way.",
    )


def test_no_word_about_the_edge_where_the_best_rate_lies_inside():
    found = result([cell(2, rate, scores) for rate, scores in ((0.1, ZEROS), (0.2, ONES), (0.3, ZEROS))])
    assert not [text for text in found.findings() if "grid" in text]


TABLE = """\
exact_match: mean of 40 questions and 1 seed, with its 95 % interval over the questions of this seed

rank \\ rate          0.1       0.3
----------------------------------
          1       50 %       0 %
              34 to 66    diverged
          4      100 % *     0 %
             91 to 100    0 to 9
         16       95 % ?     0 %
              83 to 99    diverged
         64      100 % ?     0 %
             91 to 100    0 to 9

* best   ? not to be told apart
"""


def test_the_table():
    text = str(result(SEVERAL))
    assert text.startswith(TABLE)
    assert max(map(len, text.splitlines())) <= 100


def test_a_wide_grid_is_shown_in_blocks():
    text = str(result([cell(2, rate / 1000, ONES) for rate in range(1, 20)]))
    assert text.count("rank \\ rate") == 4
    assert max(map(len, text.splitlines())) <= 100


def test_as_json():
    found = json.loads(json.dumps(result(SEVERAL).to_dict(), allow_nan=False))
    assert (found["ranks"], found["learning_rates"], found["seeds"]) == ([1, 4, 16, 64], [0.1, 0.3], [0])
    assert found["best"]["rank"] == 4
    assert found["points"][1] == {
        "rank": 1,
        "learning_rate": 0.3,
        "seeds": [0],
        "value": 0.0,
        "interval_95": [0.0, clopper_pearson(0, 40).high],
        "difference": None,
        "difference_interval_95": None,
        "standing": "diverged",
        "diverged": ["seed 0: the training loss is nan at step 3"],
    }
    assert found["cells"][0]["means"] == {"all": {"exact_match": 0.5, "nll": pytest.approx(1.195)}}
    assert found["base"] == {"all": {"exact_match": 0.0, "nll": pytest.approx(4.195)}}


def test_unknown_names_are_answered_with_what_there_is():
    found = result(SEVERAL)
    with pytest.raises(ConfigError) as error:
        found.best("exact_mach")
    known = "'exact_match', 'nll', 'eval_loss', 'train_loss'"
    assert str(error.value) == (
        f"the sweep has not measured 'exact_mach' (did you mean 'exact_match'?); measured: {known}"
    )
    with pytest.raises(ConfigError) as error:
        found.point(2, 0.1)
    assert str(error.value) == "the sweep has no rank 2 with learning rate 0.1; ranks: 1, 4, 16, 64; rates: 0.1, 0.3"
    assert found.point(4, 0.3).value == 0


def test_a_notebook_is_shown_the_map_and_the_curves():
    html = result(SEVERAL)._repr_html_()
    assert html.count("<svg") == 2
    assert len(re.findall(r'class="heat-cell"', html)) == 8
    assert len(re.findall(r'class="no-value"', html)) == 0
    assert "rank 1, learning rate 0.3: 0 %; seed 0: the training loss is nan at step 3" in html
    assert "body {" not in html  # the notebook around it keeps its looks


def test_one_learning_rate_needs_no_curve():
    assert result([cell(2, 0.1, ONES), cell(4, 0.1, ONES)])._repr_html_().count("<svg") == 1


def test_groups_are_the_sample():
    scores = [1.0, 0.0] * 20
    narrow = result([cell(2, 0.1, scores)]).points()[0].interval
    wide = result([cell(2, 0.1, sorted(scores), per_group=8)]).points()[0].interval
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_two_questions_tell_nothing():
    for scores in ([0.0, 0.0], [1.0, 1.0], [1.0, 0.0]):
        found = result([cell(2, 0.1, [1.0, 1.0]), cell(4, 0.1, scores)])
        assert found.point(4, 0.1).standing == "unclear"
        assert not [text for text in found.findings() if "Flat" in text or "worse" in text]
        assert (
            "Too few questions to tell points apart: 2 independent ones, and the rule asks for 10." in found.findings()
        )


def test_groups_and_not_questions_must_be_ten():
    found = result([cell(2, 0.1, ONES, per_group=8), cell(4, 0.1, ZEROS, per_group=8)])
    assert found.point(4, 0.1).standing == "unclear"


@pytest.mark.parametrize("number", [2, 40, 400])
@pytest.mark.parametrize("seeds", [1, 3])
def test_where_everything_is_wrong_everywhere_there_is_nothing_to_tell(number, seeds):
    cells = [cell(rank, 0.1, [0.0] * number, seed=seed) for rank in (2, 4, 8) for seed in range(seeds)]
    found = result(cells)
    nothing = (
        "No run scores above 0 by exact_match, so there is nothing to tell: judge by nll, which moves first, or train "
        "for longer."
    )
    assert found.findings() == (nothing,)
    assert {point.standing for point in found.points()} == {"unknown"}
    assert found.to_dict()["best"] is None
    assert "= flat" not in str(found)
    with pytest.raises(EvaluationError, match="No run scores above 0 by exact_match"):
        found.best()


def test_one_diverged_seed_hides_no_mean():
    cells = [cell(2, 0.1, HUNDRED, seed=seed) for seed in range(3)]
    cells[1] = cell(2, 0.1, [0.0] * 100, seed=1, diverged="the held-out loss ended at 4", eval_loss=math.nan)
    found = result([*cells, *(cell(4, 0.1, HUNDRED, seed=seed) for seed in range(3))])
    point = found.point(2, 0.1)
    assert (point.value, point.standing, len(point.diverged)) == (pytest.approx(2 / 3), "diverged", 1)
    assert "67 %" in str(found)
    assert "1 of 3 diverged" in str(found)
    assert found.point(2, 0.1, "eval_loss").value == 1.0  # of the two that have a number
    assert found.best().rank == 4
