"""What the documentation's build adds to Sphinx: code in docstrings, and the picture of the layers."""

from __future__ import annotations

import importlib.util
import re

from tests.support.source import ROOT


def load(name):
    """An extension of the pages, as the build finds it."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_indented_block_is_code_and_a_section_is_not():
    lines = [
        "Summary.",
        "",
        "    x = 1",
        "    y = 2",
        "",
        "More.",
        "",
        "Args:",
        "    x: One.",
        "",
        "    y: Another.",
    ]
    assert load("docstrings").mark_code(lines) == [
        *("Summary.", "", "::", "", "    x = 1", "    y = 2", "", "More.", ""),
        *("Args:", "    x: One.", "", "    y: Another."),
    ]


def test_a_blank_line_within_code_does_not_begin_another_block():
    lines = ["Summary.", "", "    x = 1", "", "    y = 2"]
    assert load("docstrings").mark_code(lines) == ["Summary.", "", "::", "", "    x = 1", "", "    y = 2"]


def test_the_picture_of_the_layers_shows_what_is_imported_and_nothing_downwards():
    layers = load("layers")
    place = {name: number for number, name in enumerate(layers.order())}
    assert layers.edges()["training", "engines"] > 0
    assert {pair for pair in layers.edges() if place[pair[0]] < place[pair[1]]} == set()
    drawn = re.findall(r"<text [^>]*>(\w+)</text>", layers.picture())
    assert drawn == [name for name in layers.order() if name in drawn]
    assert {"errors", "training", "local"} <= set(drawn)
