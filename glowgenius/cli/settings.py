"""The options that several verbs share: where rows come from, and everything that decides a run."""

from __future__ import annotations

import functools
import inspect
import json
import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, final

import attrs
import typer
from typing_extensions import override

from glowgenius.cli.common import (
    DEFAULT_MODEL,
    base_models,
    engines,
    formats,
    in_shell,
    metrics,
    overflows,
    say,
    schedules,
    targets,
)
from glowgenius.cli.common import trackers as words_trackers
from glowgenius.errors import ConfigError, nearest
from glowgenius.lora.config import LoRAConfig
from glowgenius.rendering.renderer import TrainOn
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.config import TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from glowgenius.data.dataset import Dataset
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.reporting.saved_run import Run
    from glowgenius.training.connection import Connection
    from glowgenius.training.events import TrainBegin
    from glowgenius.training.trainer import SupervisedTrainer

Options = dict[str, Any]
"""What was given, by the name of the parameter."""

_FEWEST: Final = 10
"""Rows below which none are held out by default: there would be too few to tell anything."""

_TRAIN: Final = ("train", "training")
_HELD: Final = ("validation", "valid", "val", "dev", "eval", "test")
"""Names of the parts that the column `split` may give, the likeliest first."""

_NOTHING: Final = ("none", "never", "off")
"""Words for None, where a setting has another default."""

_TEXTS: Final = ("learning_rate", "eval_every", "save_every", "metric_for_best")
"""Settings of which a word or a number may be given."""


def _option(kind: Any, text: str, *names: str, complete: Callable[[], list[str]] | None = None) -> Any:
    return Annotated[kind, typer.Option(*names, help=text, autocompletion=complete)]


TRAINING_OPTIONS: Final[dict[str, Any]] = {
    "num_epochs": _option(int, "How often every row is visited."),
    "max_steps": _option(int | None, "A run ends after so many steps."),
    "batch_size": _option(int, "Rows of one step."),
    "learning_rate": _option(str, "Peak rate; auto is the one suggested for the model."),
    "lr_schedule": _option(str, "How the rate falls: linear, cosine or constant.", complete=schedules),
    "warmup_steps": _option(int, "Steps over which the rate rises to its peak."),
    "beta1": _option(float, "AdamW's decay of the mean gradient."),
    "beta2": _option(float, "AdamW's decay of the mean squared gradient."),
    "eps": _option(float, "AdamW's term against division by zero."),
    "weight_decay": _option(float, "Decoupled weight decay of the adapter."),
    "grad_clip_norm": _option(float | None, "Scale the gradient down to this norm."),
    "max_length": _option(int | None, "The most tokens that a row may have."),
    "on_overflow": _option(
        str, "Rows over --max-length: error, drop, truncate or truncate_answers.", complete=overflows
    ),
    "train_on": _option(TrainOn, "Which messages are trained."),
    "replay_targets": _option(
        str, "What replay rows are trained on: answers, or distributions of the base model.", complete=targets
    ),
    "eval_every": _option(str | None, "Evaluate every so many steps, or each 'epoch'."),
    "save_every": _option(str, "Keep a state to resume from, as --eval-every; 'none' keeps the last one only."),
    "save_top_k": _option(int | None, "Keep only so many of the best evaluated steps."),
    "metric_for_best": _option(str, "Which metric decides on the best step; 'none' keeps no evaluated weights."),
    "stop_on_nan": _option(bool, "Whether a loss that is no number ends the run."),
    "seed": _option(int, "Seed of the split, the order of rows and the adapter."),
    "lookahead": _option(int, "Steps sent before the one being waited for is done."),
    "max_restarts": _option(int, "How often a run resumes by itself after the service has failed."),
    "output_dir": _option(Path | None, "Folder of the run; by default a new one in runs/.", "--output-dir", "-o"),
}
"""One option for each field of `TrainingConfig`, by its name; the default is the field's."""

LORA_OPTIONS: Final[dict[str, Any]] = {
    "rank": _option(int, "Rank of the adapter."),
    "alpha": _option(float | None, "Scale of the adapter; on the local engine only."),
    "train_attn": _option(bool, "Whether attention carries an adapter."),
    "train_mlp": _option(bool, "Whether the MLP carries one."),
    "train_unembed": _option(bool, "Whether the unembedding (lm_head) carries one."),
}
"""One option for each field of `LoRAConfig` but its seed, which is --seed."""

DATA_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "format": (
        _option(str | None, "How the rows are to be read; recognised where not given.", complete=formats),
        None,
    ),
    "columns": (
        _option(str | None, "The file's columns under their names here: question=text,answer=label."),
        None,
    ),
}
"""How a file is read: annotation and default by name."""

RUN_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "eval_data": (_option(Path | None, "Rows to evaluate on; by default a tenth of DATA is held out.", "--eval"), None),
    "test_size": (_option(float, "The share of DATA that is held out; 0 holds nothing out."), 0.1),
    "replay": (_option(Path | None, "Rows that keep what the model knew, trained beside DATA."), None),
    "replay_share": (_option(float | None, "Which part of all rows --replay becomes; all of it by default."), None),
    "model": (
        _option(
            str | None,
            f"Base model; on this machine {DEFAULT_MODEL} by default.",
            "--model",
            "-m",
            complete=base_models,
        ),
        None,
    ),
    "engine": (
        _option(
            str,
            "auto takes Tinker where there is a key, else this machine; or local, or tinker.",
            complete=engines,
        ),
        "auto",
    ),
    "device": (_option(str | None, "Where the local engine computes: cpu, cuda, cuda:0 or mps."), None),
    "today": (
        _option(
            str | None,
            "The date, as 2026-01-31, for chat templates that write today's into every prompt.",
        ),
        None,
    ),
    "metric": (
        _option(
            list[str] | None,
            "Ask the held-out rows at every evaluation and measure this; may be given several times.",
            complete=metrics,
        ),
        None,
    ),
    "max_tokens": (_option(int, "The longest answer of --metric, in tokens."), 32),
    "report_to": (
        _option(
            list[str] | None,
            "A tracker: tensorboard, wandb, mlflow, trackio, csv or jsonl; may be given several times.",
            complete=words_trackers,
        ),
        None,
    ),
    "patience": (_option(int | None, "End the run after so many evaluations without improvement."), None),
    "budget": (_option(float | None, "End the run before it costs more than so many USD."), None),
    "prices": (_option(Path | None, "A price table of your own, as JSON."), None),
    "drop_row": (
        _option(list[str] | None, "With --resume: a row to go on without, by place, id or number.", "--drop-row"),
        None,
    ),
    "initial_weights": (
        _option(
            str | None,
            "Begin with the weights of this run, saved state or adapter: a second stage, on other data.",
            "--initial-weights",
        ),
        None,
    ),
    "resume": (_option(bool, "Resume the run in --output-dir.", "--resume"), False),
}
"""What else decides a run of the command line."""


def takes(
    *groups: str, without: tuple[str, ...] = ()
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Give a verb the options of *groups* (`data`, `training`, `lora`, `run`); it receives them as `options`.

    Args:
        groups: Which tables.
        without: Options that the verb has itself, or cannot have.
    """
    table = {name: pair for group in groups for name, pair in _table(group).items() if name not in without}

    def with_options(function: Callable[..., int | None]) -> Callable[..., int | None]:
        own = inspect.signature(function, eval_str=True)
        given = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in table.items()
        ]
        kept = [parameter for name, parameter in own.parameters.items() if name != "options"]
        parameters = sorted([*kept, *given], key=lambda one: (one.kind, one.name == "as_json"))

        @functools.wraps(function)
        def verb(**arguments: Any) -> int | None:
            options = {name: arguments.pop(name) for name in table}
            return function(**arguments, options=options)

        verb.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        verb.__annotations__ = {one.name: one.annotation for one in parameters}
        return verb

    return with_options


def _table(group: str) -> dict[str, tuple[Any, Any]]:
    if group == "data":
        return DATA_OPTIONS
    if group == "run":
        return RUN_OPTIONS
    kind, annotations = (TrainingConfig, TRAINING_OPTIONS) if group == "training" else (LoRAConfig, LORA_OPTIONS)
    defaults = {field.name: field.default for field in attrs.fields(kind)}
    return {name: (annotation, defaults[name]) for name, annotation in annotations.items()}


def training_config(options: Options, **more: Any) -> TrainingConfig:
    """The settings that *options* ask for."""
    found = {name: options[name] for name in TRAINING_OPTIONS if name in options}
    for name in _TEXTS:
        if name in found:
            found[name] = _number(found[name])
    return TrainingConfig(**{**found, **more})


def lora_config(options: Options) -> LoRAConfig:
    """The adapter that *options* ask for."""
    return LoRAConfig(**{name: options[name] for name in LORA_OPTIONS}, seed=options["seed"])


def _number(text: str | None) -> Any:
    """`auto` and `epoch` stay words, and so does what is no number: the setting refuses it in its own words."""
    if text is None or text.lower() in _NOTHING:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_rows(path: Path, options: Options) -> Dataset:
    """The rows of a file, as --format and --columns say.

    Raises:
        ConfigError: --columns is not a list of pairs.
        DatasetError: Rows cannot be used.
    """
    from glowgenius.data.dataset import Dataset

    return Dataset.from_file(path, format=options["format"], columns=columns_of(options["columns"]))


def questions_of(run: Run, data: Path | None, options: Options) -> Dataset:
    """The rows of *data*, or those that *run* has held out.

    Raises:
        ConfigError: There are none.
        DatasetError: Rows cannot be used.
    """
    if data is not None:
        return read_rows(data, {"format": None, "columns": None, **options})
    if run.held_out is None:
        raise ConfigError(f"the run in {str(run.path)!r} has kept no rows to ask; name a file of questions")
    return run.held_out


def label_of(run: Run, data: Path | None, step: int | None = None) -> str:
    """What a comparison on *data* is called in the folder of *run*."""
    asked = "held-out rows" if data is None else data.name
    taken = run.checkpoint(step).step
    return asked if taken == run.outcome.get("sampler_step", taken) else f"{asked}, step {taken}"


def columns_of(text: str | None) -> dict[str, str] | None:
    """`question=text,answer=label` as what `Dataset.from_file` takes: name in the file → name here.

    A JSON object is taken as it is, `{"name in the file": "name here"}`, for names that hold a comma or an equals sign.

    Raises:
        ConfigError: It is not a list of pairs.
    """
    if text is None:
        return None
    if text.lstrip().startswith("{"):
        return _columns_in_json(text)
    pairs = [tuple(part.strip() for part in pair.split("=")) for pair in text.split(",")]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):  # noqa: PLR2004 - a name here, and one in the file
        raise ConfigError(
            "--columns takes pairs of a name here and a name in the file, such as question=text,answer=label, or, for "
            """names with a comma or an equals sign, JSON such as '{"the text, short": "question"}', """
            f"got {text!r}"
        )
    return {theirs: ours for ours, theirs in pairs}


def _columns_in_json(text: str) -> dict[str, str]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    try:
        found: dict[str, Any] = json.loads(text, object_pairs_hook=once)
    except ValueError as error:
        raise _no_columns(text, f"it is not JSON ({error})") from error
    if not found or not all(isinstance(ours, str) and ours for ours in found.values()):
        raise _no_columns(text, "each value must be the name here, as text")
    return found


def _no_columns(text: str, reason: str) -> ConfigError:
    example = """'{"the text, short": "question"}'"""
    return ConfigError(
        f"--columns takes names in the file and names here as JSON, as in {example}, got {text!r}: {reason}"
    )


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


def rows_of(data: Path, options: Options, *, as_json: bool) -> tuple[Dataset, Dataset | None]:
    """The rows of a run, replay included, and those to evaluate on.

    A run that is resumed has kept the rows that it held out: they are left out of DATA again, whatever --test-size is.

    Raises:
        ConfigError: Options contradict each other.
        DatasetError: Rows cannot be used.
    """
    from glowgenius.data.dataset import Dataset
    from glowgenius.data.trained import without
    from glowgenius.training.run_folder import HELD_OUT

    rows, folder = read_rows(data, options), options["output_dir"]
    kept = None if folder is None else folder / HELD_OUT
    rest: Dataset | None = None
    held: Dataset | None = None
    if options["resume"] and options["eval_data"] is None and kept is not None and kept.is_file():
        held = Dataset.from_file(kept)
        rest = without(rows, held)
    if rest is not None and held is not None:
        say(f"evaluation: the {len(held)} rows that the run has held out", as_json=as_json, prose=True)
        rows = rest
    else:
        rows, held = split(rows, options["eval_data"], options["test_size"], options["seed"], as_json=as_json)
    if options["replay"] is not None:
        rows = rows.with_replay(Dataset.from_file(options["replay"]), options["replay_share"], options["seed"])
    elif options["replay_share"] is not None:
        raise ConfigError("--replay-share is the share of the rows of --replay; name their file")
    return rows, held


def make_trainer(
    options: Options, held: Dataset | None, *, service: Connection | None, callbacks: list[Callback]
) -> SupervisedTrainer:
    """The trainer that *options* ask for; what it asks at evaluations is among its callbacks."""
    from glowgenius.evaluation.callback import AnswerEvaluation
    from glowgenius.training.callbacks.stopping import BudgetGuard, EarlyStopping
    from glowgenius.training.trainer import SupervisedTrainer

    own: list[Callback] = []
    if options["metric"]:
        if held is None:
            raise ConfigError("--metric asks the rows that are held out, and none are; give --eval or --test-size")
        own.append(AnswerEvaluation(held, tuple(options["metric"]), max_tokens=options["max_tokens"]))
    if options["patience"] is not None:
        own.append(EarlyStopping(patience=options["patience"]))
    if options["budget"] is not None:
        own.append(BudgetGuard(options["budget"]))
    lora = lora_config(options)
    # Weights to begin with have an adapter of their own, which is taken where no other was asked for.
    asked = options.get("initial_weights") is None or lora != LoRAConfig(seed=options["seed"])
    model = base_model(options["model"], options["engine"])
    return SupervisedTrainer(
        model,
        renderer=renderer_of(model, options["today"]) if options["today"] else None,
        **({"lora": lora} if asked else {}),
        service=service,
        config=training_config(options),
        callbacks=[*callbacks, *own],
        prices=options["prices"],
    )


def renderer_of(model: str, today: str | None) -> Renderer:
    """The renderer that fits *model*, on the day of --today.

    Raises:
        ConfigError: It is no date.
        ModelNotFoundError: There is no such model.
    """
    from glowgenius.rendering.renderer import Renderer

    try:
        day = None if today is None else date.fromisoformat(today)
    except ValueError:
        raise ConfigError(f"--today takes a date such as 2026-01-31, got {today!r}") from None
    return Renderer.for_model(model, today=day)


@final
class Header(Callback):
    """Prints the header of a run, with settings under the names of options."""

    shows_header = True

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        for line in event.header:
            say(in_shell(line), as_json=self._as_json)


def trackers(names: list[str] | None, folder: Path) -> list[Callback]:
    """The loggers behind --report-to.

    Raises:
        ConfigError: There is no tracker of that name.
        MissingDependencyError: Its package is not installed.
    """
    from glowgenius.training.callbacks.loggers import CSVLogger, JSONLLogger
    from glowgenius.training.callbacks.trackers import MLflowLogger, TensorBoardLogger, TrackioLogger, WandbLogger

    made: Mapping[str, Callable[[], Callback]] = {
        "tensorboard": TensorBoardLogger,
        "wandb": WandbLogger,
        "mlflow": MLflowLogger,
        "trackio": TrackioLogger,
        "csv": CSVLogger,
        "jsonl": lambda: JSONLLogger(folder / "events.jsonl"),
    }
    chosen = [name for name in names or () if name not in _NOTHING]
    for name in chosen:
        if name not in made:
            raise ConfigError(f"--report-to: unknown tracker {name!r}{nearest(name, made)}; known: {', '.join(made)}")
    return [made[name]() for name in chosen]


def base_model(model: str | None, engine: str) -> str:
    """*model*, or the small one where it costs nothing.

    Raises:
        ConfigError: The engine would be Tinker, where the model has to be named.
    """
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
