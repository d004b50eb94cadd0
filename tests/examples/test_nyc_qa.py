"""The example's own rules: what it says of its figures, and where it writes."""

import sys
from pathlib import Path

import pytest

from examples.nyc import data


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch):
    """The script, imported as Python runs it: with its own folder first."""
    monkeypatch.syspath_prepend(str(Path(data.__file__).resolve().parents[1]))
    import importlib

    module = importlib.import_module("nyc_qa")
    yield module
    for name in [name for name in sys.modules if name == "nyc_qa" or name.split(".")[0] == "nyc"]:
        del sys.modules[name]


def part(seen: float, paraphrase: float) -> dict[str, dict[str, object]]:
    return {
        "seen": {"interval_95": [seen, seen + 0.1]},
        "paraphrase": {"interval_95": [paraphrase, paraphrase + 0.1]},
        "unseen": {"tuned": {"exact_match": 0.05}},
        # Of 54 right answers 3 became wrong; what became right besides does not make up for them.
        "control": {"n": 60, "base": {"contains": 0.9}, "tuned": {"contains": 0.9}, "broken": 3},
    }


@pytest.mark.parametrize(
    ("seen", "paraphrase", "sentence"),
    [
        (0.9, 0.8, "It learned these facts, also in words it had not met."),
        (0.9, -0.05, "It learned its training questions, and not the facts behind them: new wordings fail."),
        (-0.05, -0.05, "It learned none of the facts that this run can tell."),
        (-0.05, 0.8, "New wordings improved and trained ones did not, which too few questions can do."),
    ],
)
def test_what_the_differences_say_together(example, seen: float, paraphrase: float, sentence: str) -> None:
    assert example.reading(part(seen, paraphrase), {"unseen": 0.08}) == (
        f"{sentence} Of facts it was not shown it gets 5%; naming the most frequent answer to each kind of question "
        "gets 8%. It keeps 94% of the general knowledge."
    )


def test_an_earlier_run_is_moved_aside(example, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    for number in (1, 2):
        output.mkdir()
        (output / "results.json").write_text(str(number), encoding="utf-8")
        example.make_room(output)
        assert not output.exists()
    assert (tmp_path / "run.1" / "results.json").read_text(encoding="utf-8") == "1"
    assert (tmp_path / "run.2" / "results.json").read_text(encoding="utf-8") == "2"
    assert capsys.readouterr().out.splitlines() == [
        f"The earlier run is kept in {tmp_path / 'run.1'}",
        f"The earlier run is kept in {tmp_path / 'run.2'}",
    ]


def test_the_flags_that_others_rely_on(example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["nyc_qa.py"])
    options = vars(example.parse())
    assert {"engine", "base_model", "rank", "learning_rate", "num_epochs", "seed", "quick", "output_dir"} <= set(
        options
    )
    assert (options["engine"], options["output_dir"]) == ("local", "runs/nyc_qa")
