"""`{layers}`: the package's layers as a picture, drawn from its imports at every build."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "glowgenius"
ROW, WIDTH, LEFT, BOX = 34, 560, 20, 180
STYLE = 'style="max-width:560px;font:13px sans-serif;color:var(--color-foreground-primary)"'


def order() -> list[str]:
    """The layers from the first to the last, as the import contract has them."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(item for item in metadata["tool"]["importlinter"]["contracts"] if item["id"] == "layers")
    several = [layer.replace("(", "").replace(")", "") for layer in reversed(contract["layers"])]
    return [name.strip() for layer in several for name in layer.replace("|", ":").split(":")]


def layer_of(path: Path) -> str:
    """The layer that a file of the package belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def edges() -> Counter[tuple[str, str]]:
    """How many imports lead from one layer to another, those inside functions included."""
    found: Counter[tuple[str, str]] = Counter()
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == PACKAGE / "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("glowgenius."):
                target = str(node.module).split(".")[1]
                if target != layer_of(path):
                    found[layer_of(path), target] += 1
    return found


def picture() -> str:
    """One box a layer, the first on top; an arc for each pair, as thick as the imports are many."""
    existing = {layer_of(path) for path in PACKAGE.rglob("*.py")}
    names = [name for name in order() if name in existing]
    place = {name: number for number, name in enumerate(names)}
    height = ROW * len(names) + 8
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" role="img" xmlns="http://www.w3.org/2000/svg" {STYLE}>',
        "<title>Imports between the layers of the package</title>",
    ]
    for (source, target), count in sorted(edges().items()):
        low, high = place[source], place[target]
        span = low - high
        x = LEFT + BOX
        y1, y2 = ROW * low + 17, ROW * high + 17
        bend = x + 22 + 24 * span
        parts.append(
            f'<path d="M{x} {y1} C{bend} {y1} {bend} {y2} {x} {y2}" fill="none" stroke="currentColor" '
            f'stroke-opacity="0.35" stroke-width="{min(1 + count / 8, 5):.1f}">'
            f"<title>{escape(source)} imports {escape(target)}: {count} times</title></path>"
        )
    for name, number in place.items():
        y = ROW * number + 4
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{BOX}" height="26" rx="5" fill="var(--color-background-secondary)" '
            f'stroke="currentColor" stroke-opacity="0.5"/>'
            f'<text x="{LEFT + BOX / 2}" y="{y + 17}" text-anchor="middle" fill="currentColor">{escape(name)}</text>'
        )
    return "".join([*parts, "</svg>"])


class Layers(SphinxDirective):
    """The picture, as inline SVG, so that it takes the page's colours."""

    def run(self) -> list[nodes.Node]:
        """Draw."""
        return [nodes.raw("", f"<figure>{picture()}</figure>", format="html")]


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("layers", Layers)
    return {"parallel_read_safe": True}
