from __future__ import annotations

import itertools
import re

from glowgenius.markup.html import fragment, tag
from glowgenius.markup.plots import HeatCell, Series, heat_map, line_chart

EVIL = "<script>alert(1)</script>"


def drawn(cells):
    return heat_map("map", ["1", "2"], ["a", "b"], cells, row_label="rank", column_label="rate")


def test_the_shade_follows_the_value_and_no_value_has_none():
    html = drawn(
        {
            (0, 0): HeatCell(shade=0.0, text="x"),
            (0, 1): HeatCell(shade=1.0, text="y"),
            (1, 0): HeatCell(shade=None, text="z"),
        }
    )
    assert re.findall(r'fill-opacity="([\d.]+)"', html) == ["0.04", "0.62"]
    assert html.count('class="no-value"') == 1
    assert [html.count(f">{text}</text>") for text in "xyz12ab"] == [1] * 7


def test_cells_lie_in_their_row_and_column():
    html = drawn({(1, 1): HeatCell(shade=1.0, text="here", below="1 to 2", outlined=True)})
    # 56 to the left of the first column, which is 92 wide; 8 above the first row, which is 46 high.
    assert re.findall(r'<rect x="(\d+)" y="(\d+)"', html) == [("149", "55"), ("150", "56")]
    assert '<text x="194" y="74" text-anchor="middle" class="value">here</text>' in html
    assert '<text x="194" y="90" text-anchor="middle" class="small">1 to 2</text>' in html


def test_everything_is_escaped():
    cell = HeatCell(shade=1.0, text=EVIL, below=EVIL, title=EVIL)
    html = heat_map(EVIL, [EVIL], [EVIL], {(0, 0): cell}, row_label=EVIL, column_label=EVIL, keys=[EVIL])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 10


def test_a_fragment_keeps_its_style_to_itself():
    html = fragment([tag("p", EVIL)])
    assert html.startswith('<div class="glowgenius"><style>')
    assert "&lt;script&gt;" in html
    style = html.partition("<style>")[2].partition("</style>")[0]
    # Every rule stands inside the class, whose block is the only thing at the outermost level beside @media.
    depth, outer, word = 0, [], ""
    for char in style:
        if char == "{":
            outer += [word.strip()] if depth == 0 else []
            depth, word = depth + 1, ""
        elif char == "}":
            depth, word = depth - 1, ""
        else:
            word += char
    assert depth == 0
    assert outer == [".glowgenius", "@media (prefers-color-scheme: dark)", ".glowgenius"]


def test_a_logarithmic_axis_puts_factors_at_equal_distances():
    line = Series(name="rank 8", points=((0.001, 1.0), (0.01, 2.0), (0.1, 3.0)), colour="one", dots=True)
    html = line_chart("curve", [line], x_label="rate", y_label="loss", logarithmic_x=True)
    left, middle, right = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', html))
    assert middle - left == right - middle > 0
    assert [f">{label}</text>" in html for label in ("0.001", "0.01", "0.1")] == [True] * 3


def test_limits_are_drawn_as_whiskers_and_widen_the_axis():
    points = ((1.0, 5.0), (2.0, 6.0))
    plain = Series(name="a", points=points, colour="one")
    html = line_chart("c", [plain], x_label="x", y_label="y")
    limited = Series(name="a", points=points, colour="one", limits=((1.0, 40.0), None), shift=3.0)
    wide = line_chart("c", [limited], x_label="x", y_label="y")
    assert html.count("thin") == 0
    assert wide.count("thin") == 3  # one whisker with two ends
    assert ">40</text>" in wide


def test_labels_that_would_run_into_each_other_are_left_out():
    line = Series(name="a", points=tuple((0.001 * 1.1**step, 1.0) for step in range(30)), colour="one")
    html = line_chart("c", [line], x_label="x", y_label="y", logarithmic_x=True)
    labels = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="218"', html)]
    assert len(labels) < 15
    assert all(after - before > 30 for before, after in itertools.pairwise(labels))
