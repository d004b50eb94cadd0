"""The tables of pages that benchmarks write: they are those that the recorded results give."""

from __future__ import annotations

import pytest

from tests.benchmarks import page


def test_every_table_is_what_a_benchmark_recorded():
    texts = [path.read_text(encoding="utf-8") for path in page.PAGES]
    assert [page.with_tables(text) for text in texts] == texts
    text = "\n".join(texts)
    assert [name for name in page.TABLES if f"<!-- table: {name} -->" not in text] == []
    assert text.count("<!-- table: ") == text.count("<!-- end of table -->") == len(page.TABLES)


def test_a_changed_figure_is_noticed_and_a_missing_result_said(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    text = "<!-- table: questions -->\n| 9 |\n<!-- end of table -->\n"
    missing = "*Not measured yet: `docs/benchmarks/local_sampling.json` is not there.*"
    assert page.with_tables(text) == f"<!-- table: questions -->\n{missing}\n<!-- end of table -->\n"
    (tmp_path / "local_sampling.json").write_text(
        '{"questions": {"questions": 300, "most_tokens": 16, "glowgenius": {"seconds": 12.34, "cpu_seconds": 20}}}'
    )
    assert page.with_tables(text).splitlines()[1:-1] == [
        "| who | questions | seconds | CPU seconds |",
        "| --- | --- | --- | --- |",
        "| glowgenius | 300 | 12.3 | 20.0 |",
    ]


@pytest.mark.parametrize("name", ["local_engine", "local_sampling", "ideas", "scale", "footprint"])
def test_every_result_names_a_command_that_exists(name):
    assert (page.ROOT / "tests" / "benchmarks" / f"{name}.py").is_file()
    if (page.RESULTS / f"{name}.json").exists():
        assert page.results(name)["command"].startswith(f"python -m tests.benchmarks.{name}")
