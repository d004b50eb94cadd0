"""Loggers that write files: `JSONLLogger`, `CSVLogger` and `SampleLogger`."""

from __future__ import annotations

import csv
import io
import json
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, final

from typing_extensions import override

from glowgenius._files import append, json_line, make_folder, parse_object, whole_lines, write_whole, writing
from glowgenius._output import Output, logger
from glowgenius._validators import is_integer, is_number, reject
from glowgenius.data.message import Conversation, as_messages
from glowgenius.errors import ConfigError
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.events import TrainBegin, to_json
from glowgenius.training.run_folder import CONFIG
from glowgenius.training.sampler import sampling_problems, sampling_usage

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.errors import Problem
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.events import (
        EvaluateBegin,
        Event,
        StepLogged,
    )
    from glowgenius.training.prices import TokenUsage
    from glowgenius.training.sampler import Completion, Prompt
    from glowgenius.typing import JSON

_SHOWN: Final = 5
"""How many lines a message names."""

_LOG = logger("glowgenius.training")


def choose_path(owner: str, path: Path | None, name: str, event: TrainBegin, *, blank: bytes = b"") -> Path:
    """*path*, or *name* in the run folder; creates the parent folder.

    Args:
        owner: Whose file it is.
        path: The one that was given.
        name: Its name in the run folder otherwise.
        event: The beginning of the run.
        blank: What it holds before anything has been measured.

    Raises:
        ConfigError: There is neither, or a run that is not resumed would write into what another one has left there.
    """
    if path is None and event.config.output_dir is None:
        raise ConfigError(
            f"{owner} has nowhere to write: give it a path, or set TrainingConfig.output_dir, where it writes {name}"
        )
    chosen = Path(event.config.output_dir or ".") / name if path is None else path
    if chosen.is_dir():
        raise ConfigError(f"{owner}: {str(chosen)!r} is a folder; name a file")
    holds = chosen.exists() and chosen.read_bytes()[: len(blank) + 1] not in {b"", blank}
    if holds and not event.resumed and not _is_left_over(chosen, event):
        raise ConfigError(
            f"{owner}: {str(chosen)!r} holds another run already; name another file, delete this one, or go on with "
            "that run: train(..., resume_from_checkpoint=True)"
        )
    make_folder(chosen.parent)
    return chosen


def _is_left_over(path: Path, event: TrainBegin) -> bool:
    """Whether an earlier run in the folder left the file without completing a step; else it would be resumed."""
    folder = event.config.output_dir
    return folder is not None and path.parent == Path(folder) and (Path(folder) / CONFIG).exists()


def sound_lines(owner: str, path: Path, accepts: Callable[[dict[str, Any]], bool]) -> list[tuple[str, dict[str, Any]]]:
    """The complete lines of a JSON Lines file with their end offsets and parsed objects.

    A last line that a kill has cut off is left out, and a missing file has none. Where others are damaged, the whole
    file is kept beside as `<name>.damaged`, the log says so, and the run goes on with the lines that are sound: nothing
    that a run computes depends on them.

    Args:
        owner: Whose file it is.
        path: The file.
        accepts: Whether an object is one that the owner writes.
    """
    if not path.exists():
        return []
    found, damaged = list[tuple[str, dict[str, Any]]](), list[int]()
    lines = whole_lines(path)
    for number, line in enumerate(lines, 1):
        try:
            record = parse_object(line)
        except ValueError:
            record = {}
        if accepts(record):
            found.append((f"{line.decode()}\n", record))
        else:
            damaged.append(number)
    if b"\0" in path.read_bytes().rpartition(b"\n")[2]:
        damaged.append(len(lines) + 1)  # a killed process does not write NUL bytes
    if damaged:
        aside = path.with_name(f"{path.name}.damaged")
        with writing(aside):
            shutil.copyfile(path, aside)
        _LOG.warning(
            "%s: %s is damaged in line%s %s; the run goes on without, and the whole file is kept as %s",
            owner,
            path,
            "s" * (len(damaged) > 1),
            ", ".join(map(str, damaged[:_SHOWN])) + ", …" * (len(damaged) > _SHOWN),
            aside,
        )
    return found


@final
class JSONLLogger(Callback):
    """Appends one line per event: `{"event": "StepEnd", "step": 3, "loss": 1.2, …}`.

    A run that is resumed goes on in the same file with a `TrainBegin` of its own. What the file holds of the steps that
    are made again is taken out, so that each of them is there once; a `TrainFailed` stays. Another run is added behind.
    A value that is not finite is null.

    Args:
        path: The file; its folder is made if it is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    @override
    def __repr__(self) -> str:
        return f"JSONLLogger({str(self._path)!r})"

    @override
    def on_event(self, event: Event) -> None:
        if isinstance(event, TrainBegin):
            self._begin(event)
        # Opened for each line, so that the file is complete at every moment and another process can follow it.
        append(self._path, json_line(to_json(event)), synced=False)

    def _begin(self, event: TrainBegin) -> None:
        make_folder(self._path.parent)
        if event.resumed:
            lines = sound_lines("JSONLLogger", self._path, _is_event)
            write_whole(self._path, "".join(_up_to(lines, event.start_step)))


def _is_event(record: dict[str, Any]) -> bool:
    return isinstance(record.get("event"), str) and type(record.get("step", 0)) is int


def _up_to(lines: list[tuple[str, dict[str, Any]]], start_step: int) -> list[str]:
    """*lines* without the last run's events after *start_step*; the event that ended it stays."""
    events = [event for _, event in lines]
    begins = [
        place for place, event in enumerate(events) if event["event"] == "TrainBegin" and not event.get("resumed")
    ]
    end = begin = begins[-1] if begins else 0
    if start_step:
        later = (place for place in range(begin, len(events)) if events[place].get("step", 0) > start_step)
        end = next(later, len(events))
        # It has no step, and is delivered again with the first step of the epoch.
        while end > begin and events[end - 1]["event"] == "EpochBegin":
            end -= 1
    failures = [line for line, event in lines[end:] if event["event"] == "TrainFailed"]
    return [*(line for line, _ in lines[:end]), *failures]


@final
class CSVLogger(Callback):
    """Writes one row per step with one column per metric; a cell without a measurement is empty.

    The rows are those of `metrics.jsonl`. A resumed run goes on in the same file, and leaves one row per step. A metric
    that is first measured in the middle of the run gets its column then, by rewriting the file.

    Args:
        path: The file; None is `metrics.csv` in the run folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._given = None if path is None else Path(path)
        self._path = Path()
        self._columns: list[str] = []
        self._rows: list[dict[str, str]] = []

    @override
    def __repr__(self) -> str:
        return f"CSVLogger({'' if self._given is None else repr(str(self._given))})"

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        self._path = choose_path("CSVLogger", self._given, "metrics.csv", event, blank=b"step\n")
        # The run's own rows, so that later changes to the file do not matter.
        self._rows = [_cells(row) for row in event.rows]
        self._columns = list(dict.fromkeys(["step", *(name for row in self._rows for name in row)]))
        self._rewrite()

    @override
    def on_step_logged(self, event: StepLogged) -> None:
        if self._rows and event.step <= int(self._rows[-1]["step"]):
            return  # repeated after a restart, with the same row
        row = _cells({"step": event.step, **event.metrics})
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._rewrite()
            return
        # Opened for each row, so that the file is complete at every moment and another process can follow it.
        append(self._path, self._lines([row], header=False), synced=False)

    def _rewrite(self) -> None:
        write_whole(self._path, self._lines(self._rows, header=True))

    def _lines(self, rows: Sequence[dict[str, str]], *, header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def _cells(row: Mapping[str, float]) -> dict[str, str]:
    return {name: str(int(value)) if name == "step" else repr(value) for name, value in row.items()}


@final
class SampleLogger(Callback):
    """Asks the model in training the same questions at every evaluation.

    What it answers is printed, and written into `samples.jsonl`, a line per question: `step`, `index`, `prompt`,
    `answer`, `expected` where a conversation brought the right one, and `stop_reason`. A resumed run goes on in the
    same file, and leaves the answers of each step once.

    Args:
        questions: Strings, messages, or conversations such as `dataset[:5]`; the last answer of a conversation is not
            shown to the model, but printed beside its own.
        path: The file; None is `samples.jsonl` in the run folder, or no file where the run has no folder.
        file: Where it is printed; None is standard output as it is then.
        show: Whether to print at all.
        max_tokens: The longest answer, in tokens.
        temperature: 0 takes the most probable token every time.
        seed: Makes draws repeatable where the temperature is not 0; the same at every evaluation.

    Raises:
        ConfigError: There is no question, or an argument is not valid.
    """

    needs_sampler = True

    def __init__(
        self,
        questions: Sequence[Prompt],
        *,
        path: str | os.PathLike[str] | None = None,
        file: TextIO | None = None,
        show: bool = True,
        max_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        if isinstance(questions, str) or not len(questions):
            raise reject(SampleLogger, "questions", "a list of questions, at least one", questions)
        if not is_integer(max_tokens) or max_tokens < 1:
            raise reject(SampleLogger, "max_tokens", "an integer ≥ 1", max_tokens)
        if not is_number(temperature) or temperature < 0:
            raise reject(SampleLogger, "temperature", "a number ≥ 0", temperature)
        if not is_integer(seed) or seed < 0:
            raise reject(SampleLogger, "seed", "an integer ≥ 0", seed)
        self._questions = tuple(questions)
        self._given = None if path is None else Path(path)
        self._path: Path | None = None
        self._file = file
        self._show = show
        self._last_step = -1
        self._max_tokens, self._temperature, self._seed = max_tokens, temperature, seed

    @override
    def __repr__(self) -> str:
        return f"SampleLogger({len(self._questions)} question{'' if len(self._questions) == 1 else 's'})"

    @override
    def sampling_usage(self, renderer: Renderer) -> TokenUsage:
        return sampling_usage(renderer, self._questions, max_tokens=self._max_tokens)

    @override
    def sampling_problems(self, renderer: Renderer, context: int | None) -> Sequence[Problem]:
        return sampling_problems(renderer, self._questions, max_tokens=self._max_tokens, context=context)

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        if not event.has_evaluation:
            raise ConfigError(
                "SampleLogger asks its questions at every evaluation, but there is no evaluation set; "
                "train(..., eval_dataset=...), or take the callback out"
            )
        self._path, self._last_step = None, -1
        if self._given is None and event.config.output_dir is None:
            return
        self._path = choose_path("SampleLogger", self._given, "samples.jsonl", event)
        lines = sound_lines("SampleLogger", self._path, lambda record: type(record.get("step")) is int)
        kept = [line for line, record in lines if event.start_step and record["step"] <= event.start_step]
        write_whole(self._path, "".join(kept))

    @override
    def on_evaluate_begin(self, event: EvaluateBegin) -> None:
        if event.step <= self._last_step:
            return  # repeated after a restart, with the same answers
        self._last_step = event.step
        if event.sampler is None:
            raise ConfigError(f"the evaluation of step {event.step} came without a sampler, which SampleLogger needs")
        answers = event.sampler.complete(
            self._questions, max_tokens=self._max_tokens, temperature=self._temperature, seed=self._seed
        )
        records = [
            _record(event.step, index, question, answer)
            for index, (question, answer) in enumerate(zip(self._questions, answers, strict=True))
        ]
        if self._path is not None:
            append(self._path, "".join(map(json_line, records)), synced=False)
        if self._show:
            Output.standard(self._file).say(_described(event.step, records))


def _record(step: int, index: int, question: Prompt, answer: Completion) -> dict[str, JSON]:
    record: dict[str, JSON] = {"step": step, "index": index, "prompt": _prompt(question), "answer": answer.text}
    if isinstance(question, Conversation):
        record["expected"] = question.answer
    record["stop_reason"] = answer.stop_reason
    return record


def _prompt(question: Prompt) -> JSON:
    """The prompt as text if it is a single user message, else its messages."""
    if isinstance(question, str):
        return question
    messages = question.prompt if isinstance(question, Conversation) else as_messages(question, "a question")
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    return [{"role": message.role, "content": message.content} for message in messages]


def _described(step: int, records: Sequence[dict[str, JSON]]) -> str:
    lines = [f"samples at step {step}:"]
    for record in records:
        prompt = record["prompt"]
        question = prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)
        lines += [f"  {question}", textwrap.indent(str(record["answer"]) or "(nothing)", "    ")]
        if record["stop_reason"] == "length":
            lines[-1] += " … (cut off at max_tokens)"
        if "expected" in record and record["expected"] != record["answer"]:
            lines.append(f"    expected: {record['expected']}")
    return "\n".join(lines)
