"""Bars as an SVG file of its own: labelled in text, the same bytes for the same figures, nothing to install."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowgenius.markup.html import tag

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from markupsafe import Markup

OURS, OTHERS = "#0b6e4f", "#9aa0a6"
_NAMES, _BARS, _VALUES, _ROW, _TITLE = 210, 300, 70, 24, 34


def bars(panels: Mapping[str, Mapping[str, float]], unit: str, path: Path) -> None:
    """Write *panels*, title → name → value in *unit*, one below the other; names with "glowgenius" stand out."""
    parts: list[Markup] = []
    y = 0.0
    for title, values in panels.items():
        parts.append(tag("text", f"{title}, {unit}", x=8, y=y + 22, font_weight="bold"))
        y += _TITLE
        largest = max(values.values())
        for name, value in values.items():
            width = round(_BARS * value / largest, 1)
            fill = OURS if "glowgenius" in name else OTHERS
            parts += [
                tag("text", name, x=_NAMES - 8, y=y + 15, text_anchor="end"),
                tag("rect", x=_NAMES, y=y + 3, width=width, height=_ROW - 7, fill=fill),
                tag("text", f"{value:g}", x=_NAMES + width + 6, y=y + 15),
            ]
            y += _ROW
        y += 12
    size = {"width": _NAMES + _BARS + _VALUES, "height": y}
    drawing = tag(
        "svg",
        tag("rect", fill="white", **size),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {size['width']} {y:g}",
        font_family="sans-serif",
        font_size=12,
        **size,
    )
    path.write_text(f"{drawing}\n", encoding="utf-8")
