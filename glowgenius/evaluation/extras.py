"""What a comparison measures besides the answers, where it was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final

from attrs import evolve, frozen

from glowgenius._validators import is_integer
from glowgenius.errors import ConfigError
from glowgenius.evaluation.baselines import name_baseline
from glowgenius.evaluation.evaluate import ask
from glowgenius.evaluation.few_shot import with_examples
from glowgenius.evaluation.ranking import rank_answers
from glowgenius.evaluation.result import EvaluationResult
from glowgenius.evaluation.token_losses import token_losses

if TYPE_CHECKING:
    from glowgenius.data.message import Conversation
    from glowgenius.evaluation.evaluate import OnProgress
    from glowgenius.evaluation.metrics import Metric
    from glowgenius.evaluation.ranking import Candidates
    from glowgenius.evaluation.slices import SliceComparison

    CandidatesBySlice: TypeAlias = Candidates | Mapping[str, Candidates]


@final
@frozen(kw_only=True)
class Extras:
    """What was asked for besides the answers."""

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
        """Refuse what could not be measured, before any question is asked.

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
        """*part* with everything that was asked for."""
        # `check` has made sure that these are models where they are asked.
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
