"""What the commands share: options, error messages and JSON output."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, ParamSpec, cast

import typer

from glowgenius._lazy import defined_in
from glowgenius._output import Output, showable, showable_json
from glowgenius.errors import ConfigError, GlowGeniusError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable


def engines() -> list[str]:
    """Behind --engine."""
    from glowgenius.training.connection import ENGINES

    return list(ENGINES)


def overflows() -> list[str]:
    """Behind --on-overflow."""
    from glowgenius.batching.overflow import Overflow

    return [str(word) for word in Overflow]


def formats() -> list[str]:
    """Behind --format."""
    from glowgenius.data.columns import SHAPES

    return list(SHAPES)


def schedules() -> list[str]:
    """Behind --lr-schedule."""
    from glowgenius.training.config import SCHEDULES

    return list(SCHEDULES)


def targets() -> list[str]:
    """Behind --replay-targets."""
    return ["answers", "distributions"]


def trackers() -> list[str]:
    """Behind --report-to."""
    return ["tensorboard", "wandb", "mlflow", "trackio", "csv", "jsonl"]


def metrics() -> list[str]:
    """Behind --metric."""
    from glowgenius.evaluation.metrics import METRICS

    return list(METRICS)


def base_models() -> list[str]:
    """Behind --model."""
    from glowgenius.lora.known_models import KNOWN_MODELS
    from glowgenius.models.catalog import SHORT_NAMES

    return sorted({*SHORT_NAMES, *KNOWN_MODELS})


P = ParamSpec("P")

DEFAULT_MODEL: Final = "smollm2-135m-instruct"
"""What is trained where nothing is said: small enough for any machine."""

PROBLEMS, USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes besides 0."""

DataFile = Annotated[Path, typer.Argument(metavar="DATA", help="Rows: .jsonl, .json, .csv, .tsv or .parquet.")]
RunFolderArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, such as runs/nyc.")]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        autocompletion=base_models,
        help="Base model: a hub name, a local folder, or a short name.",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        autocompletion=engines,
        help="auto takes Tinker where there is a key, else this machine; or local, or tinker.",
    ),
]
StepOption = Annotated[
    int | None, typer.Option(help="The step whose weights are meant; by default those that the run ended with.")
]
AnswerLengthOption = Annotated[int, typer.Option(help="The longest answer, in tokens.")]
QuestionsArgument = Annotated[
    Path | None, typer.Argument(metavar="[DATA]", help="Questions; by default the held-out rows.")
]
JSONOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", autocompletion=formats, help="How the rows are to be read; recognised where not given."),
]


def verb(function: Callable[P, int | None]) -> Callable[P, None]:
    """Make a command of *function*, which returns the exit code; an error of ours is one message, not a traceback."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = function(*args, **kwargs) or 0
        except (ConfigError, MissingDependencyError) as error:
            raise typer.Exit(say_error(error, USAGE)) from None
        except GlowGeniusError as error:
            raise typer.Exit(say_error(error, PROBLEMS)) from None
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(say_error(interrupt, interrupted_code(interrupt))) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - nobody is behind this but the user, who is told what it is
            raise typer.Exit(_unexpected(error)) from None
        raise typer.Exit(code)

    return command


def interrupted_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code after *interrupt*: 130 for Ctrl-C, 128 + signal for others."""
    return int(getattr(interrupt, "code", INTERRUPTED))


def _unexpected(error: Exception) -> int:
    """Say what an error that is not ours means, and return the exit code: a file's is the user's, others are bugs."""
    if isinstance(error, OSError) and error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
        Output(sys.stderr).say(f"error: {name}: {error.strerror or error}")
        return PROBLEMS
    from glowgenius._secrets import redact

    out = Output(sys.stderr)
    out.say(redact("".join(traceback.format_exception(error)).rstrip()))
    out.say(
        "error: this is a bug in glowgenius, not a mistake of yours; please report it with the lines above and what "
        "`glowgenius env` prints"
    )
    return PROBLEMS


def say_error(error: BaseException, code: int) -> int:
    """Print *error* and its notes on standard error, as advice for a shell, and return *code*."""
    text = "interrupted" if isinstance(error, KeyboardInterrupt) else f"error: {in_shell(str(error))}"
    if isinstance(error, KeyboardInterrupt) and str(error):
        text += f" by {error}"  # the name of a signal
    Output(sys.stderr).say("\n".join([text, *map(in_shell, getattr(error, "__notes__", []))]))
    return code


def progress(what: str) -> Callable[[int, int], None]:
    """Tells on standard error how many of *what* have arrived: on one line in a terminal, elsewhere in tenths."""
    out = Output(sys.stderr)
    people = out.isatty()

    def tell(done: int, total: int) -> None:
        if people:
            out.write(f"\r{what}: {done} of {total}" + ("\n" if done == total else ""))
            out.flush()
        elif done == total or done * 10 // total > (done - 1) * 10 // total:
            out.say(f"{what}: {done} of {total}")

    return tell


def say(text: object, *, as_json: bool, prose: bool = False, styled: bool = False) -> None:
    """Print *text* for people; beside JSON it goes to standard error.

    In a terminal, *prose* is divided at words. Nothing in *text* steers the terminal, unless it is *styled*: made
    by us with colours, and with all data in it made showable.
    """
    out = Output(sys.stderr if as_json else sys.stdout)
    if prose and out.isatty():
        from glowgenius.training.callbacks.progress import wrapped

        text = wrapped(str(text), shutil.get_terminal_size().columns)
    out.write(f"{text if styled else showable(str(text))}\n")
    out.flush()


def print_json(value: Any) -> None:
    """Print *value* as JSON, with NaN as null."""
    out = Output(sys.stdout)
    # JSON has to arrive whole, whatever the encoding of the stream can hold; and JSON has escapes of its own for what
    # would steer a terminal.
    readable = out.encoding.lower().replace("-", "") == "utf8"
    text = json.dumps(_plain(value), indent=2, ensure_ascii=not readable, allow_nan=False, default=str)
    out.write(f"{showable_json(text)}\n")
    out.flush()


_GOOD_ROWS: Final = "; to learn from the good ones only, leave the others out of the file"
_BAD_ROWS: Final = "leave such rows out of the file"
_PARTS: Final = "write each part into a file of its own (--eval FILE is the second), or remove the column from the file"

_PHRASES: Final = (
    (r"(?:trainer\.)?train\(\.\.\., resume_from_checkpoint=True\)", "--resume"),
    (r"train\(\.\.\., resume_from_checkpoint=True, dropped_rows=\[(.*?)\]\)", r"--resume --drop-row \1"),
    (r"\bresume_from_checkpoint(?:=True)?\b(?!=)", "--resume"),
    (r"(?:trainer\.)?train\(\.\.\., initial_weights=([^,()]*)\)", r"--initial-weights \1"),
    (r"\binitial_weights\b(?![\w])", "--initial-weights"),
    (r"(?:trainer\.)?train\(\.\.\., eval_dataset=\.\.\.\)", "--eval FILE"),
    (r"\bdropped_rows\b(?![\w=])", "--drop-row"),
    (r"Dataset\.with_replay\(rows\)", "--replay FILE"),
    (r"SupervisedTrainer\(prices=\.\.\.\)", "--prices FILE"),
    (r"\brenderer=Renderer\.for_model\(…, today=…\)", "--today"),
    (r"\beval_dataset\b(?![\w=])", "--eval"),
    (r"connect\(engine='local'\)", "--engine local"),
    (r"connect\(engine=\.\.\.\)", "--engine"),
    (r"\.? ?connect\(check=False\) leaves out this question", ""),
    (r"\bTerminateOnNaN\(\) ends such a run [^,]*, and TrainingConfig\(stop_on_nan=False\)", "--no-stop-on-nan"),
    (r"\bmake it with base_model=", "give --model "),
    (r"; then dataset\.filter\(lambda row: [^\n]*\) leaves the good ones", _GOOD_ROWS),
    (r"columns=\{[^{}]*\} keeps the column, and dataset\.filter\(lambda row: [^\n]*\) leaves such rows out", _BAD_ROWS),
    (r"\bleave them out with dataset\.filter\(…\)", "leave them out of the file"),
    (r"use dataset\.splits\[[^\n]*, or forget the column: dataset\.map\([^\n]*\)", _PARTS),
    (r" \(all of them in error\.problems\)", " (all of them: glowgenius check DATA --json)"),
    (r", and \w+\(gradient_checkpointing=False\) turns it off", ""),
    (r"\blearning_rates of sweep\(\)", "--learning-rate"),
    (r"\branks of sweep\(\)", "--rank"),
    (r"\bmetric of sweep\(\)", "--metric"),
    (r"\bmax_tokens of (?:compare|evaluate)\(\)", "--max-tokens"),
    (r"; your own: metrics=\{'name': function\}", ""),
    (r", which glowgenius\.rendering\.\w+\([^()]*\) does", ""),
    (r"choose another name or pass overwrite=True to save_state\(\)", "choose another name"),
)
"""What our messages call things in Python → what they are called here."""

_IN_A_SCRIPT: Final = "The call named here is Python, for a script: no option does it"

_NAMES: Final = [
    "format",
    "engine",
    "device",
    "near",
    "rank",
    "alpha",
    "seed",
    "eps",
    "beta1",
    "beta2",
    "lookahead",
    "num_epochs",
    "max_steps",
    "batch_size",
    "learning_rate",
    "lr_schedule",
    "warmup_steps",
    "weight_decay",
    "grad_clip_norm",
    "max_length",
    "on_overflow",
    "train_on",
    "replay_targets",
    "eval_every",
    "save_every",
    "save_top_k",
    "metric_for_best",
    "max_restarts",
    "output_dir",
    "test_size",
    "max_tokens",
    "train_attn",
    "train_mlp",
    "train_unembed",
]
"""Settings that are options here, with dashes for underscores."""


def typed(path: Path) -> str:
    """*path* as it is typed in a shell: in quotes where it needs them, and never like an option."""
    text = f"./{path}" if str(path).startswith("-") else str(path)
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)


def in_shell(text: str) -> str:
    """*text* with the settings under the names that they have as options: `max_length=512` is `--max-length 512`."""
    for pattern, phrase in _PHRASES:
        text = re.sub(pattern, phrase, text)
    text = re.sub(r"(?:[Mm]ake the trainer with )?\b(?:lora=)?LoRAConfig\((\w[^()]*)\)", _lora_options, text)
    text = _columns(text)
    known = "|".join(sorted(_NAMES, key=len, reverse=True))
    owner = r"(?:(?:TrainingConfig|LoRAConfig|config|lora)\.)"
    given = re.compile(rf"(?<![\w./'\"-]){owner}?({known})=(?:'([^']*)'|\"([^\"]*)\"|([\w.+-]*\w))")
    either = re.compile(rf"(?<![\w./'\"-]){owner}?({known})='(\w+)' or '(\w+)'")
    text = either.sub(lambda found: f"{_flag(found[1])} {found[2]} or {_flag(found[1])} {found[3]}", text)
    text = given.sub(lambda found: f"{_flag(found[1])} {shlex.quote(next(filter(None, found.groups()[1:]), ''))}", text)
    text = re.sub(rf"\b{owner}({known})\b", lambda found: _flag(found[1]), text)
    bare = "|".join(name for name in _NAMES if "_" in name)
    return _marked(re.sub(rf"(?<![\w./'\"=,-])({bare})\b(?!['\"(./])", lambda found: _flag(found[1]), text))


def _marked(text: str) -> str:
    """*text*, with a word about the calls of Python in it that no option replaces."""
    called = {found[1] for found in re.finditer(r"(?<![\w.'\"/-])([A-Za-z_]\w*)(?:\.\w+)*\(", text)}
    if _IN_A_SCRIPT in text or "for a command" in text or not called & _public():
        return text
    return f"{text}{'' if text.endswith('.') else '.'} {_IN_A_SCRIPT}"


@functools.cache
def _public() -> frozenset[str]:
    """What a call in Python begins with, where it is one of ours."""
    return frozenset({*defined_in(str(Path(__file__).parents[1] / "__init__.py")), "glowgenius", "dataset"})


def _lora_options(found: re.Match[str]) -> str:
    """`--rank 8 --no-train-unembed`, where *found* is `lora=LoRAConfig(rank=8, train_unembed=False)`."""
    pairs = [pair.partition("=") for pair in found[1].split(", ")]
    if not all(name in _NAMES for name, _, _ in pairs):
        return found[0]
    no = {"False": "no-"}
    told = (
        f"--{no.get(value, '')}{name.replace('_', '-')}{'' if value in {'True', 'False'} else f' {value}'}"
        for name, _, value in pairs
    )
    return f"Use {' '.join(told)}" if found[0][0] == "M" else " ".join(told)


def _columns(text: str) -> str:
    """*text* with `--columns question=Q,answer=A` for `columns={'Q': 'question', 'A': 'answer'}`.

    Names with a comma, an equals sign or white space around them are given as JSON, which `--columns` takes as well.
    """
    told, at = "", 0
    for found in re.finditer(r"\bcolumns=(?=\{)", text):
        for end in (brace.end() for brace in re.finditer(r"\}", text[found.end() :])):
            with suppress(ValueError, SyntaxError):
                renamed: Any = ast.literal_eval(text[found.end() : found.end() + end])
                if not isinstance(renamed, dict):
                    break
                told += f"{text[at : found.start()]}--columns {shlex.quote(_pairs(cast('dict[str, str]', renamed)))}"
                at = found.end() + end
                break
    return told + text[at:]


def _pairs(renamed: dict[str, str]) -> str:
    if any(set(name) & set(",=") or name != name.strip() or name[0] == "{" for name in renamed):
        return json.dumps(renamed, ensure_ascii=False)
    return ",".join(f"{ours}={theirs}" for theirs, ours in renamed.items())


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in cast("dict[object, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    return None if isinstance(value, float) and value - value != 0 else value
