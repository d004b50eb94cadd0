"""What the library says in Python is said with options on the command line, and the options are taken as advised."""

from __future__ import annotations

import json
import shlex

import pytest

pytest.importorskip("typer", reason="not installed: typer; pip install '.[cli]'")
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from glowgenius.cli.app import app
from glowgenius.cli.common import in_shell
from glowgenius.cli.settings import columns_of
from glowgenius.errors import ConfigError


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("TrainingConfig.batch_size must be an integer ≥ 1", "--batch-size must be an integer ≥ 1"),
        ("set max_length=512, which lists them", "set --max-length 512, which lists them"),
        ("rows over max_length", "rows over --max-length"),
        ("Go on with it: train(..., resume_from_checkpoint=True). Start", "Go on with it: --resume. Start"),
        ("or format='question/answer'", "or --format question/answer"),
        ("train(..., eval_dataset=...), or eval_every=None", "--eval FILE, or --eval-every None"),
        ("columns={'text': 'question'}", "--columns question=text"),
        ("or train on this machine with engine='local'", "or train on this machine with --engine local"),
        ("dropped_rows: there is no row", "--drop-row: there is no row"),
        ("output_dir='my runs/a'", "--output-dir 'my runs/a'"),
        ("or on_overflow='drop' or 'truncate'", "or --on-overflow drop or --on-overflow truncate"),
        ("without a key, connect(engine='local') trains", "without a key, --engine local trains"),
        ("Check the address. connect(check=False) leaves out this question", "Check the address"),
        ("has 'b'; make it with base_model='b'", "has 'b'; give --model 'b'"),
        (
            (
                "TerminateOnNaN() ends such a run without an error and keeps its best weights, and "
                "TrainingConfig(stop_on_nan=False) lets it go on"
            ),
            "--no-stop-on-nan lets it go on",
        ),
        (
            (
                "columns={'s': 'metadata'} trains every row alike; then "
                "dataset.filter(lambda row: float(row.metadata['s']) > 0) leaves the good ones"
            ),
            (
                "--columns metadata=s trains every row alike; to learn from the good ones only, leave the others out "
                "of the file"
            ),
        ),
        ("learning_rates of sweep() must be numbers, got 'x'", "--learning-rate must be numbers, got 'x'"),
        ("max_tokens of compare() must be an integer ≥ 1", "--max-tokens must be an integer ≥ 1"),
        # What no option does is said to be Python.
        (
            "no chat template; use QuestionAnswerRenderer(tokenizer)",
            (
                "no chat template; use QuestionAnswerRenderer(tokenizer). "
                "The call named here is Python, for a script: no option does it"
            ),
        ),
        ("in row 3: solve(x) = 2", "in row 3: solve(x) = 2"),
        # What is the user's own stays as it is.
        ("'max_length' is no column", "'max_length' is no column"),
        ("/home/max_length/file", "/home/max_length/file"),
        ("my_seed=3, seeds=[1]", "my_seed=3, seeds=[1]"),
        ("rank and seed", "rank and seed"),
    ],
)
def test_advice_for_python_is_given_for_a_shell(python, shell):
    assert in_shell(python) == shell


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1).filter(str.strip)


@given(st.dictionaries(NAMES, st.sampled_from(["question", "answer", "context", "metadata"]), min_size=1))
@example({"Frage, kurz": "question", "a=b": "answer", " c": "context", "{": "metadata"})
@example({"lr_schedule": "question", "max_length": "answer"})
def test_columns_that_are_advised_are_taken_as_they_were_meant(columns):
    """Whatever a column is called, a shell hands the advised option over, and it names the same columns."""
    option, given_text = shlex.split(in_shell(f"columns={columns!r}"))
    assert option == "--columns"
    assert columns_of(given_text) == columns


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": ', "it is not JSON (Expecting value: line 1 column 7 (char 6))"),
        ('{"a": "question", "a": "answer"}', "it is not JSON (a name stands twice)"),
        ('{"a": 1}', "each value must be the name here, as text"),
        ("{}", "each value must be the name here, as text"),
    ],
)
def test_columns_in_json_that_are_none(text, reason):
    with pytest.raises(ConfigError) as caught:
        columns_of(text)
    example = """'{"the text, short": "question"}'"""
    assert str(caught.value) == (
        f"--columns takes names in the file and names here as JSON, as in {example}, got {text!r}: {reason}"
    )


def test_check_names_options_and_leaves_the_texts_of_rows_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"question": f"Is max_length=3 right, {row}?", "answer": "columns={'a': 'b'}", "correct": row != 2, "note": "x"}
        for row in range(4)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    shown = CliRunner().invoke(app, ["check", str(path), "--no-near"]).stdout
    assert "kept, not trained: correct (3 rows, such as true): it seems to judge the answer" in shown
    assert 'kept, not trained: note (3 rows, such as "x"): --columns context=note puts it before the question' in shown
    assert "→ rows to learn from; leave such rows out of the file\n" in shown
    assert "dataset" not in shown
