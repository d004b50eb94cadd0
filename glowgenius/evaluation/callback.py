"""`AnswerEvaluation`: generates and scores answers of the model in training at every evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from attrs import evolve
from typing_extensions import override

from glowgenius._files import make_folder, read_object, write_whole
from glowgenius.errors import CheckpointError, ConfigError, EvaluationError
from glowgenius.evaluation.answers import EvaluationResult
from glowgenius.evaluation.evaluate import announce_all, ask, asked
from glowgenius.evaluation.judgeable import judging_warnings
from glowgenius.evaluation.metrics import Metric, resolve_metrics
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.prices import TokenUsage
from glowgenius.training.requests import LogMetrics
from glowgenius.training.sampler import sampling_problems, sampling_usage, scoring_usage

if TYPE_CHECKING:
    from glowgenius.data.message import Conversation
    from glowgenius.errors import Problem
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.events import EvaluateBegin, TrainBegin

ANSWERS: Final = "answers"
"""The folder within the run folder that keeps the answers, a file per evaluated step."""

WHOLE: Final = "all"
"""The name of the questions where one data set is asked."""


@final
class AnswerEvaluation(Callback):
    """Generates answers of the model in training at every evaluation, and scores them.

    Teacher-forced loss does not say whether a model would give the right answer by itself; this does. The means become
    part of the evaluation: `eval/exact_match` in history and `metrics.jsonl`, at step 0, at every evaluation, and at
    the last step; so `metric_for_best="exact_match"` and `EarlyStopping("eval_exact_match")` can go by them. Of slices,
    `eval/<slice>/exact_match`.

    `results` keeps every answer, and the run folder too (`answers/000000.json`, …): the report of the run shows the
    first and the last side by side.

    Args:
        dataset: The questions, as one data set or by slice.
        metrics: As in `evaluate`.
        max_tokens: The longest answer, in tokens.
        seed: Of the sampler.
        nll: Whether to measure the likelihood of the reference answers as well, as `eval/nll`.

    Raises:
        ConfigError: A metric is unknown.
        EvaluationError: There are no questions.
    """

    needs_sampler = True

    def __init__(
        self,
        dataset: Sequence[Conversation] | Mapping[str, Sequence[Conversation]],
        metrics: Sequence[str | Metric] | Mapping[str, Metric] = ("exact_match", "contains"),
        *,
        max_tokens: int = 32,
        seed: int = 0,
        nll: bool = False,
    ) -> None:
        self._slices = dict(dataset) if isinstance(dataset, Mapping) else {WHOLE: dataset}
        if not self._slices or not all(map(len, self._slices.values())):
            raise EvaluationError("AnswerEvaluation has nothing to ask: a data set is empty")
        self._metrics = resolve_metrics(metrics)
        self._max_tokens, self._seed, self._nll = max_tokens, seed, nll
        self._folder: Path | None = None
        self.results: dict[int, dict[str, EvaluationResult]] = {}
        """What was answered, by step and slice."""

    @override
    def __repr__(self) -> str:
        return f"AnswerEvaluation({sum(map(len, self._slices.values()))} questions, {', '.join(self._metrics)})"

    @override
    def sampling_usage(self, renderer: Renderer) -> TokenUsage:
        rows = [row for part in self._slices.values() for row in part]
        usage = sampling_usage(renderer, asked(rows), max_tokens=self._max_tokens)
        return usage + (scoring_usage(renderer, rows) if self._nll else TokenUsage())

    @override
    def sampling_problems(self, renderer: Renderer, context: int | None) -> Sequence[Problem]:
        return [
            problem if part == WHOLE else evolve(problem, field=part)
            for part, rows in self._slices.items()
            for problem in sampling_problems(renderer, rows, max_tokens=self._max_tokens, context=context)
        ]

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        if not event.has_evaluation:
            raise ConfigError(
                "AnswerEvaluation asks its questions at every evaluation, but there is no evaluation set; "
                "train(..., eval_dataset=...), or take the callback out"
            )
        for rows in self._slices.values():
            announce_all(judging_warnings(rows, self._metrics))
        self.results = {}
        self._folder = None if event.config.output_dir is None else Path(event.config.output_dir) / ANSWERS
        for step, path in answer_files(self._folder):
            if event.resumed and step <= event.start_step:
                self.results[step] = read_answers(path)
            else:
                path.unlink()  # from another run, or from steps that will be repeated

    @override
    def on_evaluate_begin(self, event: EvaluateBegin) -> LogMetrics:
        if event.sampler is None:
            raise ConfigError(
                f"the evaluation of step {event.step} came without a sampler, which AnswerEvaluation needs"
            )
        found = {
            part: ask(event.sampler, rows, self._metrics, max_tokens=self._max_tokens, seed=self._seed, nll=self._nll)
            for part, rows in self._slices.items()
        }
        self.results[event.step] = found
        if self._folder is not None:
            make_folder(self._folder)
            values = {part: result.to_dict() for part, result in found.items()}
            text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
            write_whole(self._folder / f"{event.step:06d}.json", f"{text}\n")
        return LogMetrics(
            {
                f"eval/{name}" if part == WHOLE else f"eval/{part}/{name}": value
                for part, result in found.items()
                for name, value in result.means.items()
            }
        )


def answer_files(folder: Path | None) -> list[tuple[int, Path]]:
    """Step and file of every evaluation stored in *folder*, in step order."""
    if folder is None or not folder.is_dir():
        return []
    return sorted((int(path.stem), path) for path in folder.glob("*.json") if path.stem.isdecimal())


def read_answers(path: Path) -> dict[str, EvaluationResult]:
    """The answers in one file, by slice.

    Raises:
        EvaluationError: It is not such a file.
    """
    try:
        values = read_object(path, within=path.parent.parent, remedy="delete it")
        return {part: EvaluationResult.from_dict(found) for part, found in values.items()}
    except CheckpointError as error:
        raise EvaluationError(f"not a file of answers: {error}") from error
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise EvaluationError(f"{path}: not a file of answers: {error}; delete it") from error
