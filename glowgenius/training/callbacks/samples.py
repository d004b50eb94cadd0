"""`SampleLogger`: the same questions at every evaluation, to read what a loss does not say."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, final

from typing_extensions import override

from glowgenius._files import append, json_line, write_whole
from glowgenius._output import Output
from glowgenius._validators import is_integer, is_number, reject
from glowgenius.data.message import Conversation, as_messages
from glowgenius.errors import ConfigError
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.callbacks.step_files import choose_path, sound_lines
from glowgenius.training.sampler import sampling_usage

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.events import EvaluateBegin, TrainBegin
    from glowgenius.training.prices import TokenUsage
    from glowgenius.training.sampler import Completion, Prompt
    from glowgenius.typing import JSON


@final
class SampleLogger(Callback):
    """Asks the model that is being trained the same questions at every evaluation.

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
            return  # made again after a restart, with the same answers
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
    """The question as text where it is one message of the user, else its messages."""
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
