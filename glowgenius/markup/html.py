"""HTML by hand: one escape for every text, one page that needs nothing but itself."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final, final

from attrs import frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.markup.style import FRAGMENT_STYLE, STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser itself refuses to load or run anything, should a text ever escape its escaping."""


@final
@frozen
class Markup:
    """HTML that is safe to put into a page: made by `tag`, never from a user's text."""

    html: str
    """The markup itself."""

    @override
    def __str__(self) -> str:
        return self.html


def escape(text: str) -> str:
    """*text* as HTML shows it literally, with what cannot be shown written as an escape sequence."""
    return html.escape(showable(text))


def tag(name: str, *content: str | Markup, **attributes: str | float | bool) -> Markup:
    """An element with its content.

    Args:
        name: The element.
        content: Strings are escaped, markup stays.
        attributes: An underscore at the end is dropped (`class_`), others become dashes (`data_label`); True gives the
            bare attribute and False leaves it out.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(_number(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(content: Iterable[str | Markup]) -> Markup:
    """Pieces side by side; strings are escaped."""
    return Markup("".join(piece.html if isinstance(piece, Markup) else escape(piece) for piece in content))


def page(title: str, body: Iterable[Markup]) -> str:
    """A whole document, with its style and without any reference to the outside."""
    content = "\n".join(piece.html for piece in body)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{content}\n</main>\n"
        "</body>\n</html>\n"
    )


def fragment(body: Iterable[Markup]) -> str:
    """A piece of another page, such as a notebook's output, with a style that touches nothing outside it."""
    return f'<div class="glowgenius"><style>\n{FRAGMENT_STYLE}</style>\n{join(body)}\n</div>'


def _number(value: str | float) -> str:
    """An attribute's value; coordinates need no more than two decimals."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
