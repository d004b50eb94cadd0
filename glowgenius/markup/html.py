"""HTML pages: escaping, page layout and style sheet."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final, final

from attrs import frozen
from typing_extensions import override

from glowgenius._output import showable

if TYPE_CHECKING:
    from collections.abc import Iterable

LIGHT: Final = """\
  --paper: #ffffff; --ink: #1d2129; --soft: #5b6470; --line: #d8dce2; --shade: #f4f6f8;
  --base: #3b6fb6; --tuned: #b4530a; --good: #1a7f4b; --bad: #b3261e; --warn: #8a6100; --warn-shade: #fff6df;
  --mark: #c9efd0; --one: #3b6fb6; --two: #b4530a; --three: #1a7f4b; --four: #8e3a9c; --five: #8a6100; --six: #4b5563;
"""
"""The colours of a light page."""

DARK: Final = """\
    --paper: #14171c; --ink: #e6e9ee; --soft: #9aa4b2; --line: #343b46; --shade: #1c2128;
    --base: #82aeea; --tuned: #f0a05a; --good: #5fc98e; --bad: #f2897f; --warn: #e3bd5a; --warn-shade: #2b2617;
    --mark: #1f4d2f; --one: #82aeea; --two: #f0a05a; --three: #5fc98e; --four: #d58be0; --five: #e3bd5a; --six: #a8b0bd;
"""
"""The colours of a dark page."""

_BODY: Final = "background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;"

_RULES: Final = """\
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; }
.soft { color: var(--soft); font-size: .875rem; }
dl.facts { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .3rem 1.25rem; margin: 0; }
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
ul.warnings { margin: 1.25rem 0 0; padding: .6rem 1rem .6rem 2rem; background: var(--warn-shade);
  border-left: 4px solid var(--warn); }
ul.verdicts { margin: 0; padding-left: 1.2rem; }
ul.verdicts li { margin: .4rem 0; overflow-wrap: anywhere; } ul.verdicts .soft { display: block; }
ul.verdicts + .charts { margin-top: 1.25rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem 1.5rem; }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .25rem; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-weight: 400; color: var(--soft); font-size: .8rem; }
.legend i { font-style: normal; }
svg { display: block; width: 100%; height: auto; font: 12.5px system-ui, sans-serif; }
svg text { fill: var(--ink); }
svg .soft { fill: var(--soft); }
svg .grid { stroke: var(--line); }
svg .zero { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .path { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
svg .stroke-base { stroke: var(--base); } svg .fill-base { fill: var(--base); }
svg .stroke-tuned { stroke: var(--tuned); } svg .fill-tuned { fill: var(--tuned); }
svg .stroke-one { stroke: var(--one); } svg .fill-one { fill: var(--one); } .key-one { color: var(--one); }
svg .stroke-two { stroke: var(--two); } svg .fill-two { fill: var(--two); } .key-two { color: var(--two); }
svg .stroke-three { stroke: var(--three); } svg .fill-three { fill: var(--three); } .key-three { color: var(--three); }
svg .stroke-four { stroke: var(--four); } svg .fill-four { fill: var(--four); } .key-four { color: var(--four); }
svg .stroke-five { stroke: var(--five); } svg .fill-five { fill: var(--five); } .key-five { color: var(--five); }
svg .stroke-six { stroke: var(--six); } svg .fill-six { fill: var(--six); } .key-six { color: var(--six); }
svg .thin { stroke-width: 1.1; opacity: .75; }
svg.chart { max-width: 38rem; }
svg.heat { width: 100%; min-width: var(--least); max-width: var(--most); }
svg .heat-cell { fill: var(--tuned); }
svg .no-value { fill: var(--shade); stroke: var(--line); stroke-dasharray: 4 3; }
svg .value { font-weight: 600; } svg .small { font-size: 10.5px; }
svg .hollow { fill: var(--paper); stroke-width: 2; }
svg .majority { stroke: var(--ink); stroke-width: 2; }
svg .best { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.key-base { color: var(--base); } .key-tuned { color: var(--tuned); } .key-majority, .key-best { color: var(--ink); }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin: 1.25rem 0 .75rem; }
th, td { padding: .35rem .4rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
td:first-child { font-weight: 600; white-space: normal; overflow-wrap: break-word; }
table.words { width: auto; max-width: 100%; }
table.words th, table.words td { text-align: left; white-space: pre-line; padding-right: 1rem; }
td small { display: block; color: var(--soft); font-size: .75rem; }
details { margin: .5rem 0; }
summary { cursor: pointer; padding: .25rem 0; }
summary.good { color: var(--good); } summary.bad { color: var(--bad); }
article { border: 1px solid var(--line); border-left-width: 4px; border-radius: 4px; padding: .6rem .8rem;
  margin: .6rem 0; content-visibility: auto; contain-intrinsic-size: auto 8rem; }
article.good { border-left-color: var(--good); } article.bad { border-left-color: var(--bad); }
.question { font-weight: 600; } .question, .answer { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; margin-top: .5rem; }
.side { background: var(--shade); border-radius: 4px; padding: .4rem .6rem; min-width: 0; }
.who { display: block; color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
.token-line { display: flex; flex-wrap: wrap; align-items: flex-end; gap: 3px; margin-top: .4rem; }
.token-line .who { flex: 0 0 3.5rem; align-self: center; }
.token { position: relative; display: inline-flex; flex-direction: column; align-items: center; padding: .15rem .4rem;
  border: 1px solid var(--line); border-radius: 3px; overflow: hidden; max-width: 100%; }
.token .shade { position: absolute; inset: 0; } .token.base .shade { background: var(--base); }
.token.tuned .shade { background: var(--tuned); }
.token b { position: relative; font: 600 .85rem/1.4 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.token small { position: relative; font-size: .7rem; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--shade); padding: .6rem .8rem; margin: .25rem 0;
  border-radius: 4px; font: .85rem/1.5 ui-monospace, Menlo, Consolas, monospace; color: var(--soft); }
pre mark { background: var(--mark); color: var(--ink); border-radius: 2px; }
pre .over { text-decoration: line-through; opacity: .6; }
@media (max-width: 40rem) {
  dl.facts { grid-template-columns: minmax(0, 7rem) 1fr; gap: .3rem .75rem; }
  .sides { grid-template-columns: 1fr; gap: .4rem; }
  table.slices, table.slices tbody, table.slices tr, table.slices td { display: block; width: 100%; }
  table.slices thead { position: absolute; left: -9999px; }
  table.slices tr { border: 1px solid var(--line); border-radius: 4px; margin: .6rem 0; padding: .4rem .7rem; }
  table.slices td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .15rem 0;
    text-align: right; white-space: normal; }
  table.slices td::before { content: attr(data-label); color: var(--soft); font-weight: 400; text-align: left; }
  table.slices td small { display: inline; font-size: .8rem; }
  table.slices td:first-child { font-size: 1rem; } table.slices td:first-child::before { content: none; }
}
@media print { details:not([open]) > * { display: revert; } article { content-visibility: visible; } }
"""

STYLE: Final = (
    f":root {{\n{LIGHT}}}\n@media (prefers-color-scheme: dark) {{\n  :root {{\n{DARK}  }}\n}}\n"
    f"* {{ box-sizing: border-box; }}\nbody {{ margin: 0; {_BODY} }}\n{_RULES}"
)
"""The style sheet of every page."""

FRAGMENT_STYLE: Final = (
    f".glowgenius {{\n{LIGHT}}}\n@media (prefers-color-scheme: dark) {{\n  .glowgenius {{\n{DARK}  }}\n}}\n"
    f".glowgenius {{ padding: .75rem 1rem; {_BODY}\n* {{ box-sizing: border-box; }}\n{_RULES}}}\n"
)
"""The same for a piece of somebody else's page, such as a notebook: it touches nothing outside the piece."""


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
