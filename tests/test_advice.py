"""Every piece of advice in a message names what exists, in the language of the place where it is read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("typer", reason="not installed: typer; pip install '.[cli]'")
from glowgenius.cli.common import in_shell
from glowgenius.lora.config import LoRAConfig
from glowgenius.training.config import TrainingConfig
from tests.support.advice import Known, messages, options_of, own_messages
from tests.support.source import Module, modules

KNOWN = Known(modules())

SPOKEN_IN_BOTH = {"--no-deps"}
"""An option of pip, which a message gives with the whole command."""


def found_in(text):
    """What is wrong with the fragments of a module that raises *text*."""
    source = f"raise ConfigError({text!r})"
    (message,) = messages((Module("glowgenius.made_up", Path("made_up.py"), source, ast.parse(source)),))
    return [fault for fault in map(KNOWN.fault, message.fragments) if fault]


def test_what_advice_names_exists():
    faults = [
        f"{message.place}: {fault}, in {message.text!r}"
        for message in own_messages()
        for fault in map(KNOWN.fault, message.fragments)
        if fault
    ]
    assert faults == []


def test_the_messages_are_found():
    assert len(own_messages()) > 250
    kinds = {fragment.kind for message in own_messages() for fragment in message.fragments}
    assert kinds >= {"call", "setting", "dotted", "word", "class", "option", "command", "variable", "extra"} - {"extra"}


@pytest.mark.parametrize(
    "text",
    [
        "read it by Dataset.from_nowhere(…)",
        "use trainer.train(..., resume_from_nowhere=True)",
        "pass maximum_length=12 instead",
        "set metric_for_worst as well",
        "look at error.solutions for all of them",
        "pass a TrainingSettings instead",
        "go on by --no-such-option",
        "see it: glowgenius destroy runs/nyc",
        "set GLOWGENIUS_NO_SUCH_THING first",
        "needs torch: pip install 'glowgenius[nothing]'",
        "see docs/no_such_page.md for more",
    ],
)
def test_false_advice_is_caught(text):
    assert found_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "read it by Dataset.from_records(…)",
        "use trainer.train(..., resume_from_checkpoint=True)",
        "set metric_for_best as well",
        "see it: glowgenius chat runs/nyc --engine local",
        "needs torch: pip install 'glowgenius[local]'",
    ],
)
def test_true_advice_is_not(text):
    assert found_in(text) == []


def test_values_that_advice_writes_out_are_taken():
    """`on_overflow='drop'` and the like, given to the config that has the setting."""
    tried = set()
    for message in own_messages():
        for fragment in message.fragments:
            if fragment.kind != "setting" or fragment.literal is None or not fragment.literal.strip("'"):
                continue
            for config in (TrainingConfig, LoRAConfig):
                if fragment.text in {each.name for each in config.__attrs_attrs__}:
                    config(**{fragment.text: ast.literal_eval(fragment.literal)})
                    tried.add(f"{fragment.text}={fragment.literal}")
    assert {"on_overflow='drop'", "replay_targets='answers'", "train_unembed=True"} <= tried


# --- the language ---


def test_messages_speak_the_language_of_their_place():
    """Those of the command line name options, those of the library arguments."""
    wrong = [
        f"{message.place}: {fragment.kind} {fragment.text}, in {message.text!r}"
        for message in own_messages()
        for fragment in message.fragments
        if (
            fragment.kind in {"call", "dotted", "class"}
            if message.module.startswith("glowgenius.cli")
            else fragment.kind in {"option", "command"} and fragment.text not in SPOKEN_IN_BOTH
        )
    ]
    assert wrong == []


def test_no_option_stands_inside_a_call_or_behind_a_dot():
    """Advice is translated whole or not at all: neither `connect(--engine local)` nor `trainer.--resume`."""
    mixed = [
        (message.place, said)
        for message in own_messages()
        if re.search(r"\w\([^)]*--[a-z]|\w\.--[a-z]|dataset\.filter", said := in_shell(message.text))
        and not message.module.startswith(("glowgenius.cli", "glowgenius.data.check"))  # whose rows are put in later
    ]
    assert mixed == []


def test_what_the_library_says_is_said_with_options_that_exist():
    """Of every message of the library that names a setting of `train`: its option, and none that is not there."""
    train = {flag.removeprefix("--").replace("-", "_") for flag in options_of()["train"]}
    everywhere = frozenset().union(*options_of().values()) | SPOKEN_IN_BOTH
    for message in own_messages():
        if message.module.startswith("glowgenius.cli"):
            continue
        said = in_shell(message.text)
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", said)) <= everywhere, message.place
        for fragment in message.fragments:
            if fragment.kind == "word" and fragment.text in train:
                assert f"--{fragment.text.replace('_', '-')}" in said, (message.place, said)


@pytest.mark.parametrize(
    ("library", "shell"),
    [
        ("go on with it: train(..., resume_from_checkpoint=True). Or", "go on with it: --resume. Or"),
        ("see to that, and go on with resume_from_checkpoint=True", "see to that, and go on with --resume"),
        ("resume_from_checkpoint goes on from it", "--resume goes on from it"),
        ("raise max_length, or on_overflow='drop' or", "raise --max-length, or --on-overflow drop or"),
        ("train(..., eval_dataset=...), or eval_every=None", "--eval FILE, or --eval-every None"),
        ("choose another output_dir", "choose another --output-dir"),
        ("num_epochs above 3", "--num-epochs above 3"),
        ("columns={'Q': 'question'} reads it", "--columns question=Q reads it"),
        ("columns={'Q': 'question', 'A': 'answer'} reads it", "--columns question=Q,answer=A reads it"),
        ("columns={\"the 'A'\": 'answer', 'my Q': 'question'}", "--columns 'answer=the '\"'\"'A'\"'\"',question=my Q'"),
    ],
)
def test_advice_is_put_into_the_words_of_the_shell(library, shell):
    assert in_shell(library) == shell
