"""`compare`: base and tuned model on the same questions, by slice."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

from attrs import evolve, field, frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius._validators import is_integer
from glowgenius.data.message import require_rows
from glowgenius.errors import ConfigError, EvaluationError, nearest
from glowgenius.evaluation.answers import EvaluationResult
from glowgenius.evaluation.evaluate import (
    AnswersQuestions,
    OnProgress,
    announce_all,
    ask,
    baseline_of,
    name_baseline,
    token_losses,
    with_examples,
)
from glowgenius.evaluation.judgeable import judging_warnings
from glowgenius.evaluation.metrics import METRICS, Metric, resolve_metrics
from glowgenius.evaluation.ranking import rank_answers
from glowgenius.evaluation.slices import SliceComparison
from glowgenius.evaluation.tables import comparison_table
from glowgenius.evaluation.tables import sentences as reading_sentences

if TYPE_CHECKING:
    from glowgenius.data.message import Conversation
    from glowgenius.evaluation.ranking import Candidates
    from glowgenius.evaluation.slices import Pair

    CandidatesBySlice: TypeAlias = Candidates | Mapping[str, Candidates]


@final
@frozen(kw_only=True)
class Comparison:
    """Base and tuned model compared on every slice; `print` shows the table."""

    slices: Mapping[str, SliceComparison] = field(hash=False)
    """By name, in the order in which they were given; at least one."""

    @property
    def rows(self) -> list[SliceComparison]:
        """Every slice, followed by its trained and untrained questions where that is known."""
        return [each for part in self.slices.values() for each in (part, *part.parts)]

    def __getitem__(self, name: str) -> SliceComparison:
        """The slice named *name*.

        Raises:
            EvaluationError: There is no such slice.
        """
        if name not in self.slices:
            known = ", ".join(map(repr, self.slices))
            raise EvaluationError(f"there is no slice {name!r}{nearest(name, self.slices)}; slices: {known}")
        return self.slices[name]

    def changed(self, name: str | None = None) -> tuple[Pair, ...]:
        """Questions whose answer became right or wrong, fixed ones first; of all slices by default.

        Raises:
            EvaluationError: There is no such slice.
        """
        parts = self.slices.values() if name is None else [self[name]]
        return tuple(pair for part in parts for pair in (*part.fixed, *part.broken))

    @property
    def sentences(self) -> tuple[str, ...]:
        """Conclusions by rule, with the numbers; from slices named `seen`, `paraphrase`, `unseen`, `control`.

        `retention` is read as `control` is, and a slice that `abstains` judges as one of invented things.
        """
        return reading_sentences(self.slices)

    def to_dict(self) -> dict[str, Any]:
        """The `slices` object of `results.json`."""
        return {name: part.to_dict() for name, part in self.slices.items()}

    def details(self) -> dict[str, Any]:
        """`to_dict` with metric, verdict and every changed answer of each slice."""
        return {name: part.details() for name, part in self.slices.items()}

    def to_record(self) -> dict[str, Any]:
        """All answers and numbers as JSON values, for `from_record`."""
        return {"slices": [part.to_record() for part in self.slices.values()]}

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_record` wrote.

        Raises:
            EvaluationError: Something is missing in *values*.
        """
        from glowgenius.evaluation.slices import SliceComparison

        try:
            parts = [SliceComparison.from_record(part) for part in values["slices"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise EvaluationError(f"these values are no Comparison.to_record(): {error!r}") from error
        return cls(slices={part.name: part for part in parts})

    def _repr_html_(self) -> str:
        """Notebook display: the verdicts, both charts, and the table of the slices."""
        from glowgenius.evaluation.tables import comparison_figures
        from glowgenius.markup.html import fragment, tag

        said = [tag("ul", *(tag("li", text) for text in self.sentences), class_="verdicts")] if self.sentences else []
        return fragment([*comparison_figures(self.rows), *said])

    @override
    def __str__(self) -> str:
        return showable(comparison_table(self.rows, self.sentences))


@final
@frozen(kw_only=True)
class Extras:
    """Optional measurements besides the answers."""

    train: Sequence[Conversation] | None
    """Where worked examples and guesses by name come from."""

    few_shot: int
    """Worked examples before each question, for the base model; 0 asks none."""

    candidates: CandidatesBySlice | None
    """The possible answers to rank, of all slices or by slice."""

    token_losses: int
    """Questions of each slice whose answers are compared token by token."""

    metrics: Mapping[str, Metric]
    """What is measured."""

    max_tokens: int
    """The longest answer."""

    seed: int
    """Of the worked examples."""

    def check(self, base: object, tuned: object) -> None:
        """Refuse measurements that are impossible, before any question is asked.

        Raises:
            ConfigError: A setting is not valid, or takes a model or a training set that is not there.
        """
        for name, value in (("few_shot", self.few_shot), ("token_losses", self.token_losses)):
            if not is_integer(value) or value < 0:
                raise ConfigError(f"{name} of compare() must be an integer ≥ 0, got {value!r}")
        if self.few_shot and not self.train:
            raise ConfigError("few_shot of compare() draws its examples from train=…, which is missing")
        needs = {"few_shot": [base], "candidates": [base, tuned], "token_losses": [base, tuned]}
        for name, sides in needs.items():
            if getattr(self, name) and any(isinstance(side, EvaluationResult | Mapping) for side in sides):
                raise ConfigError(f"{name} of compare() needs models to ask, and was given results")

    def add_to(
        self,
        part: SliceComparison,
        rows: Sequence[Conversation],
        base: object,
        tuned: object,
        on_progress: Callable[[], OnProgress | None],
    ) -> SliceComparison:
        """Add the optional measurements to *part*."""
        # `check` has ensured that these are models if they are asked.
        old, new = cast("Any", base), cast("Any", tuned)
        found: dict[str, Any] = {}
        if self.train:
            found["name_baseline"] = name_baseline(rows, self.train, self.metrics[part.metric])
        if self.few_shot and self.train:
            shown = with_examples(rows, self.train, shots=self.few_shot, seed=self.seed)
            found["few_shot"] = ask(
                old,
                shown,
                self.metrics,
                max_tokens=self.max_tokens,
                seed=self.seed,
                nll=False,
                on_progress=on_progress(),
            )
        given: Any = self.candidates
        possible = given.get(part.name) if isinstance(self.candidates, Mapping) else given
        if possible is not None:
            found["ranking"] = (rank_answers(old, rows, possible), rank_answers(new, rows, possible))
        if self.token_losses:
            found["tokens"] = token_losses(old, new, rows[: self.token_losses])
        return evolve(part, **found) if found else part


Side: TypeAlias = AnswersQuestions | EvaluationResult | Mapping[str, EvaluationResult]
"""A model to ask, or what it answered already: to one data set, or by slice."""

WHOLE: Final = "all"
"""The name of the slice when one data set is given."""


def compare(
    base: Side,
    tuned: Side,
    dataset_or_slices: Sequence[Conversation] | Mapping[str, Sequence[Conversation]],
    *,
    metric: str | Mapping[str, str] = "exact_match",
    metrics: Sequence[str | Metric] | Mapping[str, Metric] = ("exact_match", "contains"),
    train: Sequence[Conversation] | None = None,
    max_tokens: int = 32,
    seed: int = 0,
    nll: bool = True,
    few_shot: int = 0,
    candidates: CandidatesBySlice | None = None,
    token_losses: int = 0,
    num_resamples: int | None = None,
    on_progress: OnProgress | None = None,
) -> Comparison:
    """Ask both models the same questions, and compare their answers in pairs.

    Args:
        base: The model before training, or its results.
        tuned: The model after training, or its results.
        dataset_or_slices: One data set (its slice is called `all`), or data sets by slice name.
        metric: Which metric decides what is right: one for all slices, or by slice (`exact_match` where none is named).
            A base model answers in sentences, so judge what it already knew by `contains`.
        metrics: What to measure, as in `evaluate`; whatever *metric* names is measured too. Ready results keep what
            they measured.
        train: Where the majority baseline counts answers; each slice's own answers if None. Given, every slice also
            has a baseline by names: what the most similar training question of another group would answer.
        max_tokens: The longest answer, in tokens.
        seed: Of the sampler.
        nll: Whether to measure the likelihood of the reference answers.
        few_shot: Ask the base model again with so many worked examples from *train* before each question (see
            `with_examples`): what it knew, told apart from the form of the answers.
        candidates: The possible answers to each question, or by slice: both models rank them by likelihood (see
            `rank_answers`).
        token_losses: For so many questions of each slice, compare the reference answers token by token.
        num_resamples: Has no effect any more: the intervals are exact, and nothing is drawn.
        on_progress: Called as answers arrive, counted over all slices and both models.

    Returns:
        One `SliceComparison` per slice, in the order given; `print` shows the table.

    Raises:
        ConfigError: A metric or slice name is unknown, or a setting is out of range.
        EvaluationError: There is no question, or results do not pair with the questions.
    """
    slices = dict(dataset_or_slices) if isinstance(dataset_or_slices, Mapping) else {WHOLE: dataset_or_slices}
    if not slices:
        raise EvaluationError("there is nothing to compare: no slices were given")
    if num_resamples is not None:
        message = "num_resamples of compare() has no effect: the intervals draw nothing any more; leave it out"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
    judges = _judges(metric, slices)
    functions = _functions(metrics, judges.values())
    for role, side in (("base", base), ("tuned", tuned)):
        _require_slices(role, side, slices)
    wanted: dict[str, Any] = {"few_shot": few_shot, "candidates": candidates, "token_losses": token_losses}
    extras = Extras(train=train, metrics=functions, max_tokens=max_tokens, seed=seed, **wanted)
    extras.check(base, tuned)
    asked = sum(not isinstance(side, EvaluationResult | Mapping) for side in (base, tuned)) + bool(few_shot)
    progress = _Progress(on_progress, asked * sum(map(len, slices.values())))

    def answers(side: Side, name: str) -> EvaluationResult:
        if isinstance(side, EvaluationResult):
            return side
        if isinstance(side, Mapping):
            return side[name]
        rows = slices[name]
        report = progress.next(len(rows))
        settings: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed, "nll": nll, "on_progress": report}
        return ask(side, rows, functions, decides=judges[name], **settings)

    for name, rows in slices.items():
        announce_all(judging_warnings(rows, functions, decides=judges[name]))
    counted = None if train is None else [row.accepted_answers for row in train]
    compared: list[SliceComparison] = []
    for name, rows in slices.items():
        before, after, judge = answers(base, name), answers(tuned, name), judges[name]
        for role, result in (("base", before), ("tuned", after)):
            _require_pairing(name, role, result, rows, judge)
        accepted = [row.accepted_answers for row in rows]
        baseline = baseline_of(accepted, functions[judge], counted=counted or accepted)
        part = SliceComparison.of(name, before, after, metric=judge, baseline=baseline)
        part = evolve(part, parts=_parts(part, functions[judge], counted))
        compared.append(extras.add_to(part, rows, base, tuned, functools.partial(progress.next, len(rows))))
    return Comparison(slices={part.name: part for part in compared})


def _parts(
    whole: SliceComparison, judge: Metric, counted: Sequence[Sequence[str]] | None
) -> tuple[SliceComparison, ...]:
    """The slice's questions that the tuned model was trained on, and the others, if there are both."""
    found: list[SliceComparison] = []
    for trained, name in ((True, "trained"), (False, "not trained")):
        chosen = [at for at, row in enumerate(whole.tuned.rows) if row.was_trained is trained]
        if not chosen or whole.tuned.trained_counts is None:
            return ()
        sides = [evolve(side, rows=tuple(side.rows[at] for at in chosen)) for side in (whole.base, whole.tuned)]
        accepted = [row.accepted for row in sides[0].rows]
        baseline = baseline_of(accepted, judge, counted=counted or accepted)
        part = SliceComparison.of(f"{whole.name}: {name}", *sides, metric=whole.metric, baseline=baseline)
        found.append(part)
    return tuple(found)


class _Progress:
    """Progress of several evaluations as one total."""

    def __init__(self, on_progress: OnProgress | None, total: int) -> None:
        self._on_progress = on_progress
        self._total = total
        self._started = 0

    def next(self, size: int) -> OnProgress | None:
        """Progress callback of the next evaluation, of *size* questions."""
        on_progress, before = self._on_progress, self._started
        self._started += size
        if on_progress is None:
            return None
        return lambda done, _: on_progress(before + done, self._total)


def _judges(metric: str | Mapping[str, str], slices: Mapping[str, object]) -> dict[str, str]:
    """The deciding metric of each slice."""
    for name, rows in slices.items():
        require_rows(rows, "dataset_or_slices" if name == WHOLE else f"dataset_or_slices[{name!r}]")
    if isinstance(metric, str):
        return dict.fromkeys(slices, metric)
    for name in metric:
        if name not in slices:
            known = ", ".join(map(repr, slices))
            raise ConfigError(f"metric names the unknown slice {name!r}{nearest(name, slices)}; slices: {known}")
    return {name: metric.get(name, "exact_match") for name in slices}


def _functions(metrics: Sequence[str | Metric] | Mapping[str, Metric], judges: Iterable[str]) -> dict[str, Metric]:
    """All metrics to measure, including the deciding ones."""
    functions = resolve_metrics(metrics)
    for name in judges:
        if name not in functions:
            if name not in METRICS:
                known = [*functions, *(known for known in METRICS if known not in functions)]
                listed = ", ".join(map(repr, known))
                raise ConfigError(f"metric names the unknown metric {name!r}{nearest(name, known)}; known: {listed}")
            functions[name] = METRICS[name]
    return functions


def _require_slices(role: str, side: Side, slices: Mapping[str, object]) -> None:
    """Refuse results for other slices than the questions', before any question is asked."""
    if isinstance(side, EvaluationResult) and len(slices) > 1:
        raise EvaluationError(
            f"{role} is one EvaluationResult for {len(slices)} slices; give a mapping from slice name to result"
        )
    if isinstance(side, Mapping):
        missing = [name for name in slices if name not in side]
        if missing:
            found = ", ".join(map(repr, side)) or "none"
            raise EvaluationError(f"{role} has no result for the slice {missing[0]!r}; results: {found}")


def _require_pairing(name: str, role: str, result: EvaluationResult, rows: Sequence[Conversation], metric: str) -> None:
    """Refuse results of other questions, or without the deciding metric."""
    remedy = "evaluate both models on the same data set, in the same order"
    if len(result.rows) != len(rows):
        counts = f"it has {len(rows)} questions and {role} answered {len(result.rows)}"
        raise EvaluationError(f"slice {name!r} cannot be paired: {counts}; {remedy}")
    for index, (answered, row) in enumerate(zip(result.rows, rows, strict=True)):
        for what, found, expected in (
            ("asks", answered.question, row.question),
            ("accepts", answered.accepted, row.accepted_answers),
        ):
            if found != expected:
                raise EvaluationError(
                    f"slice {name!r} cannot be paired: its question {index} {what} {expected!r}, "
                    f"but for {role} it {what} {found!r}; {remedy}"
                )
    result.require(metric)
