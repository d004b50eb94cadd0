from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.markup.plots import Dot, Row, Series, line_chart, log_ticks, ticks, whisker_chart


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (-0.35, 1.05, [0, 0.5, 1]),
        (3, 47, [10, 20, 30, 40]),
        (2.9, 3.05, [2.9, 2.95, 3.0, 3.05]),
    ],
)
def test_ticks(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(3, 8))
def test_ticks_are_few_and_within(low, extent, most):
    found = ticks(low, low + extent, most=most)
    assert 1 <= len(found) <= most
    assert all(low - extent * 1e-6 <= value <= low + extent * (1 + 1e-6) for value in found)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.02, 3.4, [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]), (1e-4, 20, [1e-4, 1e-3, 1e-2, 0.1, 1, 10])],
)
def test_log_ticks(low, high, expected):
    assert log_ticks(low, high) == pytest.approx(expected)


def curve(*values, **settings):
    points = tuple((float(step), value) for step, value in enumerate(values))
    return Series(name="loss", points=points, colour="base", **settings)


def paths(chart):
    return re.findall(r'<path d="([^"]*)"', chart)


def test_a_line_lies_where_its_numbers_say():
    # x from 52 to 428 over steps 0 to 2; y from 200 (loss 0) to 22 (loss 4).
    chart = line_chart("Loss", [curve(4.0, 2.0, 1.0)], x_label="step", y_label="nats")
    assert paths(chart) == ["M52.0,22.0L240.0,111.0L428.0,155.5"]


def test_a_wide_range_is_logarithmic():
    # Ticks at 0.02 to 2; the axis spans 0.02 to 2, two decades over 178 units.
    chart = line_chart("Loss", [curve(2.0, 0.2, 0.02)], x_label="step", y_label="nats", may_be_logarithmic=True)
    assert paths(chart) == ["M52.0,22.0L240.0,111.0L428.0,200.0"]
    assert "nats, log scale" in chart
    straight = line_chart("Loss", [curve(2.0, 0.2, 0.02)], x_label="step", y_label="nats")
    assert "log scale" not in straight


@pytest.mark.parametrize("values", [(0.5, 0.2, 0.02), (2.0, 0.0, 0.02)])
def test_a_narrow_range_or_a_zero_is_not_logarithmic(values):
    chart = line_chart("Loss", [curve(*values)], x_label="step", y_label="nats", may_be_logarithmic=True)
    assert "log scale" not in chart


def test_what_is_not_finite_leaves_a_gap():
    chart = line_chart("Loss", [curve(4.0, math.nan, 2.0, math.inf, 1.0)], x_label="step", y_label="nats")
    assert paths(chart) == ["M52.0,22.0M240.0,111.0M428.0,155.5"]
    assert "nan" not in chart
    assert "inf" not in chart


def test_a_single_point_is_a_dot():
    chart = line_chart("Loss", [curve(3.0)], x_label="step", y_label="nats")
    assert '<circle cx="240" cy="' in chart
    assert "<title>loss 3 at 0</title>" in chart


def test_a_flat_line_at_zero_has_an_axis():
    chart = line_chart("Rate", [curve(0.0, 0.0)], x_label="step", y_label="rate")
    assert paths(chart) == ["M52.0,111.0L428.0,111.0"]


def test_the_lowest_point_gets_a_ring():
    chart = line_chart("Loss", [curve(4.0, 1.0, 2.0, dots=True, ring_lowest=True)], x_label="step", y_label="nats")
    assert chart.count("<circle") == 4
    assert '<circle cx="240" cy="155.5" r="7" class="best"><title>lowest: 1 at 1</title></circle>' in chart
    assert "○ lowest loss" in chart


def test_dots_and_whiskers_lie_where_their_numbers_say():
    dot = Dot(value=0.5, low=0.25, high=1.0, colour="tuned", title="half")
    chart = whisker_chart("Score", [Row(label="abcd", dots=(dot,), tick=0.0)], low=0, high=1, show=str)
    # The labels take 16 + 4 · 7.2 = 44.8 units, the axis goes from there to 420.
    assert '<circle cx="232.4" cy="26" r="4.5" class="fill-tuned"><title>half</title></circle>' in chart
    assert '<line x1="138.6" y1="26" x2="420" y2="26" class="path stroke-tuned"></line>' in chart
    assert '<line x1="44.8" y1="11" x2="44.8" y2="41" class="majority"></line>' in chart


def test_a_long_label_is_shortened_and_kept_as_a_title():
    label = "a slice with a rather long name"
    chart = whisker_chart("Score", [Row(label=label, dots=())], low=0, high=1, show=str, zero=True)
    assert f"<title>{label}</title>a slice with a ra…</text>" in chart
    assert 'class="zero"' in chart


def test_labels_are_escaped():
    chart = whisker_chart("<b>", [Row(label="<i>", dots=())], low=0, high=1, show=str)
    assert "<b>" not in chart
    assert "<i>" not in chart
