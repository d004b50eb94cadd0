"""`evaluate`: generated answers, token losses, few-shot prompts and baselines."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final, runtime_checkable

import numpy as np
from attrs import evolve, frozen
from typing_extensions import override

from glowgenius._output import WARNING, announce, columns, showable
from glowgenius._validators import is_integer, is_number
from glowgenius.data.grouping import question_key
from glowgenius.data.message import require_rows
from glowgenius.data.message_fields import answer_text
from glowgenius.data.splits import permutation
from glowgenius.errors import ConfigError, EvaluationError, Problem, list_problems
from glowgenius.evaluation.answers import EvaluationResult, EvaluationRow
from glowgenius.evaluation.judgeable import judging_warnings
from glowgenius.evaluation.metrics import Metric, resolve_metrics
from glowgenius.evaluation.normalize import normalize, words

if TYPE_CHECKING:
    from glowgenius.data.message import Conversation, Message
    from glowgenius.data.trained import Trained
    from glowgenius.rendering.renderer import Renderer

_LOG = logging.getLogger("glowgenius.evaluation")

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with how many answers have arrived, and how many there will be."""


class Answer(Protocol):
    """One generated answer."""

    @property
    def text(self) -> str:
        """Text of the answer."""
        ...

    @property
    def stop_reason(self) -> str:
        """`stop` if the model ended the answer, `length` if it was truncated."""
        ...


class AnswersQuestions(Protocol):
    """The model interface that evaluation needs; `glowgenius.Sampler` implements it."""

    @property
    def name(self) -> str:
        """Name of the model in tables."""
        ...

    def complete(
        self,
        prompts: Sequence[Sequence[Message] | Conversation],
        *,
        max_tokens: int = ...,
        temperature: float = ...,
        seed: int | None = ...,
        on_progress: OnProgress | None = ...,
    ) -> Sequence[Answer]:
        """One answer per prompt, in order; a row with tools is passed whole, and its last answer is ignored."""
        ...

    def answer_nll(self, conversations: Sequence[Conversation]) -> Sequence[float]:
        """Mean negative log-likelihood of each answer, in nats per trained token."""
        ...


def evaluate(
    sampler: AnswersQuestions,
    dataset: Sequence[Conversation],
    metrics: Sequence[str | Metric] | Mapping[str, Metric] = ("exact_match", "contains", "token_f1"),
    *,
    max_tokens: int = 32,
    seed: int = 0,
    nll: bool = True,
    on_progress: OnProgress | None = None,
) -> EvaluationResult:
    """Generate an answer to every question, greedily, and score it.

    Args:
        sampler: The model.
        dataset: The questions with their accepted answers (`references`, or else the answer of the row; each tool call
            is a line of JSON there, `{"arguments": {…}, "name": …}`).
        metrics: Names of metrics and functions, which have their own name; or a mapping from name to function.
        max_tokens: The longest answer, in tokens; answers that hit it are counted in the result.
        seed: Passed to the sampler.
        nll: Whether to measure the likelihood of the reference answers as well, which needs no generation.
        on_progress: Called as answers arrive.

    Returns:
        A row per question, in the order of *dataset*; what the metrics cannot judge in it is logged before the first
        question, and in `warnings`.

    Raises:
        ConfigError: A metric is unknown or a setting is out of range.
        EvaluationError: There is no question, a question accepts nothing visible, or a metric or the sampler broke
            its promise.
        SequenceTooLongError: A question and its answer are more than the model takes; nothing has been asked.
    """
    settings: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed, "nll": nll, "on_progress": on_progress}
    return ask(sampler, dataset, resolve_metrics(metrics), warn=True, **settings)


def ask(
    sampler: AnswersQuestions,
    dataset: Sequence[Conversation],
    functions: Mapping[str, Metric],
    *,
    max_tokens: int,
    seed: int,
    nll: bool,
    on_progress: OnProgress | None = None,
    warn: bool = False,
    decides: str | None = None,
) -> EvaluationResult:
    """`evaluate` with metrics as functions; warnings about the metrics only if *warn*."""
    for setting, value, least in (("max_tokens", max_tokens, 1), ("seed", seed, 0)):
        if not is_integer(value) or value < least:
            found = f"{value!r} ({type(value).__name__})"
            raise ConfigError(f"{setting} of evaluate() must be an integer ≥ {least}, got {found}")
    _require_answers(dataset)
    warnings = judging_warnings(dataset, functions, decides=decides)
    announce_all(warnings if warn else ())
    _check_lengths(sampler, dataset, max_tokens=max_tokens, scored=nll)
    answers = sampler.complete(
        asked(dataset), max_tokens=max_tokens, temperature=0.0, seed=seed, on_progress=on_progress
    )
    _require_one_each(sampler.name, "complete", len(answers), len(dataset))
    likelihoods: list[float | None] = [None] * len(dataset)
    if nll:
        likelihoods = [float(value) for value in sampler.answer_nll(dataset)]
        _require_one_each(sampler.name, "answer_nll", len(likelihoods), len(dataset))
    trained: Trained | None = getattr(sampler, "trained", None)
    how = [None] * len(dataset) if trained is None else [known or "not" for known in trained.known(dataset)]
    spelled = [answer_text(answer.text, getattr(answer, "tool_calls", ())) for answer in answers]
    rows = tuple(
        EvaluationRow(
            index=index,
            question=row.question,
            accepted=row.accepted_answers,
            prediction=said,
            stop_reason=answer.stop_reason,
            scores={name: _score(name, function, said, row, index) for name, function in functions.items()},
            nll=likelihood,
            group=row.group,
            id=row.id,
            tags=row.tags,
            trained=seen,
        )
        for index, (row, answer, said, likelihood, seen) in enumerate(
            zip(dataset, answers, spelled, likelihoods, how, strict=True)
        )
    )
    return EvaluationResult(
        name=sampler.name, rows=rows, metrics=tuple(functions), max_tokens=max_tokens, seed=seed, warnings=warnings
    )


@runtime_checkable
class _ChecksLengths(Protocol):
    """A sampler that knows its context length."""

    def check_lengths(self, rows: Sequence[Conversation], *, max_tokens: int, scored: bool = False) -> None:
        """Refuse rows that exceed the context length."""
        ...


def _check_lengths(sampler: object, rows: Sequence[Conversation], *, max_tokens: int, scored: bool) -> None:
    if isinstance(sampler, _ChecksLengths):
        sampler.check_lengths(rows, max_tokens=max_tokens, scored=scored)


def announce_all(warnings: Sequence[str]) -> None:
    """Log warnings about answers the metrics cannot judge."""
    for warning in warnings:
        announce(_LOG, f"{WARNING}{warning}")


def asked(dataset: Sequence[Conversation]) -> list[Sequence[Message] | Conversation]:
    """Prompt of each row: the messages before the answer, and the tools if there are any."""
    return [row if row.tools else row.prompt for row in dataset]


@final
@frozen(kw_only=True)
class MajorityBaseline:
    """Score of one fixed answer to every question."""

    answer: str
    """The most frequent accepted answer, as it was first written."""

    score: float
    """Its mean score, from 0 to 1."""


def majority_baseline(
    dataset: Sequence[Conversation],
    metric: str | Metric = "exact_match",
    *,
    reference: Sequence[Conversation] | None = None,
) -> MajorityBaseline:
    """Score of always giving the most frequent answer: a model must beat it to show that it learned.

    Args:
        dataset: The questions to score on.
        metric: The name of a metric, or a function.
        reference: Where the answers are counted, such as the training set; *dataset* itself if None.

    Raises:
        ConfigError: The metric is unknown.
        EvaluationError: *dataset* or *reference* is empty, or a row accepts nothing visible.
    """
    _require_answers(dataset)
    if reference is not None:
        _require_answers(reference)
    counted = [row.accepted_answers for row in (dataset if reference is None else reference)]
    return baseline_of([row.accepted_answers for row in dataset], metric, counted=counted)


def baseline_of(
    accepted: Sequence[Sequence[str]], metric: str | Metric, *, counted: Sequence[Sequence[str]]
) -> MajorityBaseline:
    """`majority_baseline` for a list of answers.

    Args:
        accepted: The accepted answers of each question, at least one each.
        metric: The name of a metric, or a function.
        counted: The accepted answers among which the most frequent is sought; the first seen wins a tie.
    """
    function = next(iter(resolve_metrics([metric] if isinstance(metric, str) else {"metric": metric}).values()))
    spelling: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for answers in counted:
        # In order, and each once: a row that accepts "Av" and "Ave" is one row.
        for key, answer in {normalize(answer): answer for answer in reversed(answers)}.items():
            if key:
                spelling.setdefault(key, answer)
                counts[key] += 1
    answer = spelling[max(counts, key=counts.__getitem__)]
    return MajorityBaseline(answer=answer, score=math.fsum(function(answer, row) for row in accepted) / len(accepted))


def _require_answers(dataset: Sequence[Conversation]) -> None:
    """Refuse a data set without questions, or with questions that have no accepted answer."""
    require_rows(dataset, "dataset")
    if len(dataset) == 0:
        raise EvaluationError("there is nothing to evaluate: the data set has no rows")
    problems = [
        Problem(
            path=row.source.path if row.source else None,
            line=row.source.line if row.source else None,
            row=index,
            row_id=row.id,
            field="references",
            found=f"no accepted answer with anything visible in it, in {row.accepted_answers!r}",
            accepted="at least one",
        )
        for index, row in enumerate(dataset)
        if not any(map(normalize, row.accepted_answers))
    ]
    if problems:
        raise EvaluationError(f"{len(problems)} of {len(dataset)} rows cannot be scored\n{list_problems(problems)}")


def _require_one_each(name: str, method: str, found: int, expected: int) -> None:
    """Refuse a sampler that returned too few or too many answers, because zip would mispair them silently."""
    if found != expected:
        raise EvaluationError(f"{name!r} gave {found} results to {expected} questions in {method}()")


def _score(name: str, function: Metric, prediction: str, row: Conversation, index: int) -> float:
    """The score, checked to be in [0, 1], which the intervals require."""
    value = function(prediction, row.accepted_answers)
    if isinstance(value, bool):
        return float(value)
    if not is_number(value) or not 0 <= value <= 1:
        raise EvaluationError(f"the metric {name!r} must give a number from 0 to 1, got {value!r} for row {index}")
    return float(value)


def name_baseline(
    dataset: Sequence[Conversation], reference: Sequence[Conversation], metric: str | Metric = "exact_match"
) -> float:
    """Score of answering each question with the answer of the most similar question in *reference*.

    Names give much away: a station called Astoria Boulevard is where Astoria is. Similar is what shares the rarest
    words: each shared word counts log(N / n) for the n of N reference questions that have it (Spärck Jones 1972).
    Questions of the same group are left out, so that a trained fact does not answer itself.

    Args:
        dataset: The questions to score on.
        reference: Where answers are taken from, such as the training set.
        metric: The name of a metric, or a function.

    Raises:
        ConfigError: The metric is unknown.
        EvaluationError: *dataset* or *reference* is empty.
    """
    if not len(dataset) or not len(reference):
        raise EvaluationError(f"name_baseline needs questions on both sides, got {len(dataset)} and {len(reference)}")
    function = next(iter(resolve_metrics([metric] if isinstance(metric, str) else {"metric": metric}).values()))
    known = [frozenset(words(row.question)) for row in reference]
    counts = Counter(word for question in known for word in question)
    weights = {word: math.log(len(known) / count) for word, count in counts.items()}
    places: dict[str, list[int]] = {}
    for index, question in enumerate(known):
        for word in question:
            places.setdefault(word, []).append(index)
    return math.fsum(function(_guess(row, reference, places, weights), row.accepted_answers) for row in dataset) / len(
        dataset
    )


def _guess(
    row: Conversation, reference: Sequence[Conversation], places: dict[str, list[int]], weights: dict[str, float]
) -> str:
    """Answer of the reference question that shares the rarest words; of equals the first, empty if none shares any."""
    scores: dict[int, float] = {}
    for word in sorted(set(words(row.question))):
        for index in places.get(word, ()):
            other = reference[index]
            if other.question != row.question and (row.group is None or other.group != row.group):
                scores[index] = scores.get(index, 0.0) + weights[word]
    if not scores:
        return ""
    return reference[min(scores, key=lambda index: (-scores[index], index))].answer


def with_examples(
    rows: Sequence[Conversation], examples: Sequence[Conversation], *, shots: int = 5, seed: int = 0
) -> list[Conversation]:
    """*rows* as few-shot prompts: each after *shots* solved examples as earlier turns.

    A base model answers in sentences, so exact match finds that it knows nothing. Shown the form, it says what it
    knows: the difference between zero-shot and few-shot is format, that between few-shot and trained is knowledge.
    Examples are drawn for each question from its own generator, from different groups; none is of the question's own
    group or asks the same, so no answer is given away.

    Args:
        rows: The questions.
        examples: Where worked examples are drawn from, such as the training set.
        shots: How many come before each question.
        seed: Of the draws.

    Raises:
        ConfigError: *shots* is no integer ≥ 1.
        EvaluationError: There are not enough examples of other groups for a question.
    """
    if not is_integer(shots) or shots < 1:
        raise ConfigError(f"shots must be an integer ≥ 1, got {shots!r}")
    keys = [question_key(example) for example in examples]
    return [_with(row, examples, keys, shots, seed) for row in rows]


def _with(
    row: Conversation, examples: Sequence[Conversation], keys: Sequence[tuple[str, ...]], shots: int, seed: int
) -> Conversation:
    own, taken = question_key(row), set[object]()
    turns: list[Message] = []
    # Seeded per question, so that its examples do not depend on the other questions.
    digest = hashlib.sha256(f"{seed} {own}".encode()).digest()
    for position in permutation(len(examples), int.from_bytes(digest[:6], "big")):
        example = examples[position]
        group: object = keys[position] if example.group is None else example.group
        if keys[position] == own or group in taken or (row.group is not None and example.group == row.group):
            continue
        taken.add(group)
        turns += [message for message in example.messages if message.role not in ("system", "developer")]
        if len(taken) == shots:
            opening = [message for message in row.messages if message.role in ("system", "developer")]
            return evolve(row, messages=(*opening, *turns, *row.messages[len(opening) :]))
    raise EvaluationError(
        f"{shots} worked examples were asked for, and only {len(taken)} of other groups can be had for the question "
        f"{row.question!r}; give more examples, or fewer shots"
    )


class KnowsItsTokens(Protocol):
    """The model interface that token losses need; `glowgenius.Sampler` implements it."""

    @property
    def name(self) -> str:
        """Name of the model in tables."""
        ...

    @property
    def renderer(self) -> Renderer:
        """The renderer between messages and tokens."""
        ...

    def answer_logprobs(self, conversations: Sequence[Conversation]) -> Sequence[Any]:
        """Natural-log probabilities of the answer's tokens, stop token included, `N × [T]`."""
        ...


@final
@frozen(kw_only=True)
class TokenLoss:
    """One token of a reference answer with its losses."""

    text: str
    """What it decodes to; a control token by its name."""

    base: float
    """Its loss before training, in nats."""

    tuned: float
    """Its loss after training, in nats."""


@final
@frozen(kw_only=True)
class AnswerLosses:
    """Token losses of the reference answer to one question."""

    question: str
    """What is asked."""

    tokens: tuple[TokenLoss, ...]
    """The tokens that training counts, the stop token included."""

    def to_dict(self) -> dict[str, Any]:
        """The losses as JSON values."""
        return {
            "question": self.question,
            "tokens": [{"text": token.text, "base": token.base, "tuned": token.tuned} for token in self.tokens],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AnswerLosses:
        """The losses that `to_dict` wrote."""
        return cls(question=values["question"], tokens=tuple(TokenLoss(**token) for token in values["tokens"]))

    @override
    def __str__(self) -> str:
        rows = [
            ["", *(repr(token.text) for token in self.tokens)],
            ["base", *(f"{token.base:.2f}" for token in self.tokens)],
            ["tuned", *(f"{token.tuned:.2f}" for token in self.tokens)],
        ]
        return showable("\n".join([self.question, *columns(rows, gap=1)]))


def token_losses(
    base: KnowsItsTokens, tuned: KnowsItsTokens, dataset: Sequence[Conversation]
) -> tuple[AnswerLosses, ...]:
    """Loss of every token of the reference answers, under both models.

    Raises:
        EvaluationError: The models render differently, so that their tokens are not the same.
    """
    if base.renderer.fingerprint != tuned.renderer.fingerprint:
        raise EvaluationError("the tokens of two models with different renderers cannot be compared one by one")
    old, new = base.answer_logprobs(dataset), tuned.answer_logprobs(dataset)
    return tuple(
        _losses(base.renderer, row, before, after) for row, before, after in zip(dataset, old, new, strict=True)
    )


def _losses(renderer: Renderer, row: Conversation, before: Any, after: Any) -> AnswerLosses:
    example = renderer.render(row)
    trained = [int(example.tokens[place]) for place in np.flatnonzero(example.weights[1:]) + 1]
    texts = [
        renderer.tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for token in trained
    ]
    return AnswerLosses(
        question=row.question,
        tokens=tuple(
            TokenLoss(text=text, base=-float(old), tuned=-float(new))
            for text, old, new in zip(texts, before, after, strict=True)
        ),
    )
