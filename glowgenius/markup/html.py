"""HTML pages: escaping, elements, and the templates that they stand in."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from markupsafe import escape as escaped

from glowgenius._output import showable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jinja2 import Environment


def escape(text: str) -> str:
    """*text* as HTML shows it literally, with what cannot be shown written as an escape sequence."""
    return str(escaped(showable(text)))


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
    return Markup(f"<{name}{written}>{join(content)}</{name}>")  # noqa: S704 - each piece of it was escaped


def join(content: Iterable[str | Markup]) -> Markup:
    """Pieces side by side; strings are escaped."""
    return Markup("".join(map(_safe, content)))  # noqa: S704 - each piece of it was escaped


def page(title: str, body: Iterable[Markup]) -> str:
    """A whole document, with its style and without any reference to the outside."""
    return rendered("page.html", title=title, body=tuple(body))


def fragment(body: Iterable[Markup]) -> str:
    """A piece of another page, such as a notebook's output, with a style that touches nothing outside it."""
    return rendered("fragment.html", body=tuple(body))


def rendered(template: str, **values: Any) -> str:
    """The template of that name with *values* put in; strings are escaped, `Markup` stays.

    Args:
        template: A file in `markup/templates`.
        values: What the template names.
    """
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> Environment:
    import jinja2  # not at import: most runs write no page

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _shown(value: object) -> object:
    return showable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _safe(piece: str) -> str:
    return str(piece) if isinstance(piece, Markup) else escape(piece)


def _number(value: str | float) -> str:
    """An attribute's value; coordinates need no more than two decimals."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
