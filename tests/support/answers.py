"""A model for evaluation tests: it answers from a function, and remembers what it was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from glowgenius.data.message import Conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.data.message import Message


@frozen
class Said:
    """One answer."""

    text: str
    stop_reason: str = "stop"


@define
class ScriptedModel:
    """Answers each question by looking it up; satisfies `AnswersQuestions`."""

    name: str
    answers: Mapping[str, str] | Callable[[str], str]
    nll: float = 1.0
    longest: int = 10_000
    calls: list[dict[str, object]] = field(factory=list)

    def complete(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int = 64,
        temperature: float = 0.0,
        seed: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Said]:
        self.calls.append({"max_tokens": max_tokens, "temperature": temperature, "seed": seed})
        answers = []
        for number, prompt in enumerate(prompts, start=1):
            question = prompt[-1].content
            text = self.answers(question) if callable(self.answers) else self.answers[question]
            answers.append(Said(text[: self.longest], "length" if len(text) > self.longest else "stop"))
            if on_progress is not None:
                on_progress(number, len(prompts))
        return answers

    def answer_nll(self, conversations: Sequence[Conversation]) -> list[float]:
        return [self.nll] * len(conversations)


def questions(pairs: Mapping[str, str], *, group: Callable[[int], str] | None = None) -> list[Conversation]:
    """A data set of question and answer, in order."""
    return [
        Conversation.from_question(question, answer, group=None if group is None else group(index))
        for index, (question, answer) in enumerate(pairs.items())
    ]
