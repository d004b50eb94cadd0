"""The settings of a run that several verbs ask for, and what is chosen where nothing is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from glowgenius.cli import words
from glowgenius.cli.common import DEFAULT_MODEL, say

if TYPE_CHECKING:
    from glowgenius.data.dataset import Dataset

_FEWEST: Final = 10
"""Rows below which none are held out by default: there would be too few to tell anything."""

_TRAIN: Final = ("train", "training")
_HELD: Final = ("validation", "valid", "val", "dev", "eval", "test")
"""Names of the parts that the column `split` may give, the likeliest first."""

EvalOption = Annotated[
    Path | None, typer.Option("--eval", help="Rows to evaluate on; by default a tenth of DATA is held out.")
]
TestSizeOption = Annotated[float, typer.Option(help="The share of DATA that is held out; 0 holds nothing out.")]
BaseModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        autocompletion=words.base_models,
        help=f"Base model; on this machine {DEFAULT_MODEL} by default.",
    ),
]
EpochsOption = Annotated[int, typer.Option(help="How often every row is visited.")]
BatchOption = Annotated[int, typer.Option(help="Rows of one step.")]
MaxStepsOption = Annotated[int | None, typer.Option(help="A run ends after so many steps.")]
MaxLengthOption = Annotated[int | None, typer.Option(help="The most tokens that a row may have.")]
OverflowOption = Annotated[
    str,
    typer.Option(
        autocompletion=words.overflows, help="Rows over --max-length: error, drop, truncate or truncate_answers."
    ),
]
EvalEveryOption = Annotated[str | None, typer.Option(help="Evaluate every so many steps, or each 'epoch'.")]
RankOption = Annotated[int, typer.Option(help="Rank of the adapter.")]


def split(
    rows: Dataset, eval_data: Path | None, test_size: float, seed: int, *, as_json: bool
) -> tuple[Dataset, Dataset | None]:
    """The rows to train on, and those to evaluate on; says which they are."""
    from glowgenius.data.dataset import Dataset

    if eval_data is not None:
        return rows, Dataset.from_file(eval_data)
    parts = {name.casefold(): (name, part) for name, part in rows.splits.items()}
    kept, held = (next((parts[name] for name in names if name in parts), None) for names in (_TRAIN, _HELD))
    if kept is not None and held is not None:
        left = len(rows) - len(kept[1]) - len(held[1])
        more = f"; {left} other rows are left out" if left else ""
        trained = f"trained are the {len(kept[1])} whose split is {kept[0]!r}{more}"
        say(f"evaluation: the {len(held[1])} rows whose split is {held[0]!r}; {trained}", as_json=as_json, prose=True)
        return kept[1], held[1]
    if test_size == 0 or len(rows) < _FEWEST:
        few = f"there are too few rows ({len(rows)}) to hold some out"
        say(f"evaluation: none, as {few if test_size else '--test-size is 0'}", as_json=as_json, prose=True)
        return rows, None
    first, second = rows.train_test_split(test_size, seed=seed)
    how = f"--test-size {test_size:g}, seed {seed}"
    say(f"evaluation: {len(second)} of {len(rows)} rows are held out ({how})", as_json=as_json, prose=True)
    return first, second


def number(text: str | None) -> Any:
    """`auto` and `epoch` stay words, and so does what is no number: the setting refuses it in its own words."""
    if text is None:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def base_model(model: str | None, engine: str) -> str:
    """*model*, or the small one where it costs nothing.

    Raises:
        ConfigError: The engine would be Tinker, where the model has to be named.
    """
    from glowgenius.errors import ConfigError
    from glowgenius.training.connection import which_engine

    if model is not None:
        return model
    chosen, reason = which_engine(engine, os.environ)
    if chosen == "local":
        return DEFAULT_MODEL
    raise ConfigError(
        f"name the base model: --model Qwen/Qwen3-8B, for example, as the engine is Tinker because {reason}; "
        "or choose this machine with --engine local"
    )
