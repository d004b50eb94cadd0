from __future__ import annotations

import pytest

from glowgenius.evaluation.intervals import p_value, percent, points


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50 %"),
        (1 / 3, "33 %"),
        (0.004, "0.4 %"),
        (0.0004, "0.04 %"),
        (0.996, "99.6 %"),
        (0.9996, "99.96 %"),
        (1 - 1e-12, "100 %"),
    ],
)
def test_a_share_claims_no_end_it_has_not_reached(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1e-17, "0"),
        (0.1, "+10"),
        (-0.104, "-10"),
        (0.002, "+0.2"),
        (-0.998, "-99.8"),
        (1, "+100"),
    ],
)
def test_points_have_a_sign(difference, text):
    assert points(difference) == text


def test_small_p_values():
    assert [p_value(p) for p in (1.0, 0.0312, 0.001, 0.0009, 0.0)] == ["1.000", "0.031", "0.001", "<0.001", "<0.001"]
