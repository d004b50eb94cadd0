"""Soft targets for replay rows: the top-k tokens of the base model at each position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from attrs import evolve, frozen
from typing_extensions import override

from glowgenius.batching.shift import ShiftedExample, SoftExample, softened, widened
from glowgenius.data.dataset import Dataset
from glowgenius.data.message import Conversation, Message
from glowgenius.data.splits import REPLAY
from glowgenius.errors import DatasetError
from glowgenius.training.sampler import prompt_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.rows import PreparedRun
    from glowgenius.training.sampler import Completion, OnProgress, Prompt, Sampler
    from glowgenius.typing import Tools


@final
@frozen(kw_only=True)
class ReplayRows:
    """The model's own answers as training rows, and the questions without a usable answer."""

    dataset: Dataset
    """One row per answer, tagged `replay`."""

    cut_off: tuple[str, ...]
    """Questions whose answers did not end within `max_tokens`: trained, they would teach never to stop."""

    silent: tuple[str, ...]
    """Questions that were answered with nothing."""

    unread: tuple[str, ...] = ()
    """Questions that were answered with a call that could not be read."""

    @override
    def __str__(self) -> str:
        left = [
            f"{len(questions)} {what}"
            for questions, what in (
                (self.cut_off, "cut off at max_tokens"),
                (self.silent, "answered with nothing"),
                (self.unread, "answered with a call that could not be read"),
            )
            if questions
        ]
        return f"{len(self.dataset)} replay rows" + (f"; left out: {', '.join(left)}" if left else "")


def make_replay(
    sampler: Sampler,
    prompts: Iterable[Prompt],
    *,
    max_tokens: int = 96,
    temperature: float = 0.0,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> ReplayRows:
    """Ask a model, usually the base model, and return its answers as training rows.

    Training on new rows alone overwrites how a model answers everything else. Its own answers mixed in
    (`Dataset.with_replay`) hold that still, and need no other source: what is replayed is what it would have said,
    right or wrong (self-distillation; compare "Learning without Forgetting", Li and Hoiem 2016, arXiv 1606.09282).
    Take many and varied questions, and others than those that measure what was kept.

    Args:
        sampler: The model to keep: `trainer.base_sampler()`.
        prompts: Questions as text, messages, or conversations, of which the last answer is replaced.
        max_tokens: The longest answer; longer ones are left out, and listed in the result.
        temperature: 0 takes the most probable answer.
        seed: Makes draws repeatable where the temperature is not 0.
        on_progress: Called after each answer.

    Raises:
        DatasetError: No answer is left.
        ConfigError: A setting is out of range, or a prompt is not one.
        EngineError: The engine refused or failed.
    """
    questions = list(prompts)
    answers = sampler.complete(
        questions, max_tokens=max_tokens, temperature=temperature, seed=seed, on_progress=on_progress
    )
    cut_off, silent, unread, rows = list[str](), list[str](), list[str](), list[Conversation]()
    for prompt, answer in zip(questions, answers, strict=True):
        messages, tools = prompt_parts(prompt)
        if answer.stop_reason == "length":
            cut_off.append(messages[-1].content)
        elif not answer.text.strip() and not answer.tool_calls:
            silent.append(messages[-1].content)
        elif answer.unread_call:
            unread.append(messages[-1].content)
        else:
            rows.append(_row(messages, tools, answer, sampler.name))
    if not rows:
        raise DatasetError(
            f"none of {len(questions)} questions gave a replay row: {len(cut_off)} answers were cut off at "
            f"max_tokens={max_tokens} and {len(silent)} were empty"
            + (f"; {len(unread)} held a call that could not be read" if unread else "")
        )
    return ReplayRows(dataset=Dataset(rows), cut_off=tuple(cut_off), silent=tuple(silent), unread=tuple(unread))


def _row(messages: Sequence[Message], tools: Tools, answer: Completion, name: str) -> Conversation:
    said = Message("assistant", answer.text, reasoning_content=answer.reasoning_content, tool_calls=answer.tool_calls)
    return Conversation(messages=(*messages, said), tools=tools, tags=(REPLAY,), metadata={"answered_by": name})


WIDTH: Final = 20
"""How many tokens of a distribution are asked for, the most that Tinker gives; they hold nearly all of it."""


def teacher_lines(config: TrainingConfig) -> tuple[str, ...]:
    """Report lines about soft targets of replay rows; empty where their targets are the answers."""
    if config.replay_targets == "answers":
        return ()
    found = f"the {WIDTH} tokens that the base model finds likeliest at each place"
    return (f"replay targets: {found}, asked for before the first step",)


def taught(run: PreparedRun, config: TrainingConfig, base: Callable[[], Sampler]) -> PreparedRun:
    """*run* with teacher targets for its replay rows, if the settings ask for them.

    An answer pulls each token towards certainty, which the base model did not have: it is changed even where it knew.
    Its own distribution pulls nowhere until something else has moved it (Li & Hoiem 2016, "Learning without
    Forgetting", section 3.2).

    Args:
        run: The checked rows; some are tagged `replay` where distributions are asked for.
        config: The settings.
        base: Makes the sampler of the base model.

    Raises:
        EngineError: The engine refused, failed, or left the likeliest tokens out.
    """
    if config.replay_targets == "answers":
        return run
    rows = run.train
    marked = [one for one, replay in zip(rows.examples, rows.replay, strict=True) if replay]
    chosen = [one for one in marked if isinstance(one, ShiftedExample)]
    tops = iter(base().likeliest(chosen, WIDTH))
    examples: list[ShiftedExample | SoftExample] = []
    for one, replay in zip(rows.examples, rows.replay, strict=True):
        if isinstance(one, ShiftedExample):
            examples.append(softened(one, *next(tops)) if replay else widened(one, WIDTH))
    return evolve(run, train=evolve(rows, examples=tuple(examples)))
