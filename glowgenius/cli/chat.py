"""`glowgenius chat`: talk to the base and the tuned model of a run, side by side."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from glowgenius._output import Output, showable
from glowgenius.cli.common import AnswerLengthOption, JSONOption, RunFolderArgument, StepOption, print_json, say, verb
from glowgenius.errors import SequenceTooLongError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glowgenius.data.message import Message
    from glowgenius.training.sampler import Sampler

_PIECE: Final = 4
"""Tokens that are asked for at once where answers are shown as they grow."""

_HELP: Final = (
    "Ask something. /help says this, /reset forgets the conversation, /quit or Ctrl-D leaves, Ctrl-C ends an answer."
)
_COMMANDS: Final = ("/help", "/reset", "/quit", "/exit")
_LEAVE: Final = "(/quit or Ctrl-D leaves, and so does another Ctrl-C)"


@verb
def chat(
    run: RunFolderArgument,
    *,
    tuned_only: Annotated[bool, typer.Option("--tuned-only", help="Ask the tuned model alone.")] = False,
    system: Annotated[str | None, typer.Option(help="A system message that the conversation begins with.")] = None,
    conversation: Annotated[
        bool, typer.Option("--conversation", help="What is piped in is one conversation, not a question a line.")
    ] = False,
    step: StepOption = None,
    max_tokens: AnswerLengthOption = 128,
    as_json: JSONOption = False,
) -> int:
    """Ask the base and the tuned model of RUN the same things; answers are shown as they grow.

    Questions are read from the terminal, where they are one conversation, or from what is piped in, a line each, where
    each is asked by itself.

    Example: `glowgenius chat runs/nyc`
    """
    from glowgenius.reporting.saved_run import open_run

    opened = open_run(run)
    people = Output(sys.stdin).isatty() and not as_json
    if people:
        say(f"opening {run} …", as_json=True)
    trained = opened.checkpoint(step).step
    grows = opened.engine == "local"
    tuned = opened.sampler(step)
    samplers = [tuned] if tuned_only else [opened.base_sampler(), tuned]
    talks = [_Talk(sampler, system, max_tokens, piece=_PIECE if grows else max_tokens) for sampler in samplers]
    if people:
        say(f"{opened.base_model}, trained {trained} steps in {run}. {_HELP}", as_json=False, prose=True)
    for question in _questions(prompt="you> " if people else None):
        if question.startswith("/"):
            if question == "/reset":
                for talk in talks:
                    talk.reset()
            else:
                say(_about(question), as_json=not people, prose=True)
            continue
        if not people and not conversation:
            for talk in talks:  # lines of a file are questions, not a conversation
                talk.reset()
        answers = {talk.name: _ask(talk, question, width=5, shown=not as_json, forgiving=people) for talk in talks}
        if as_json:
            print_json({"question": question, **answers})
    return 0


def _about(command: str) -> str:
    """What to say to a line that begins with a slash and is not for the models."""
    if command in ("/help", "/?"):
        return _HELP
    return f"there is no {command.split(maxsplit=1)[0]}{nearest(command, _COMMANDS)}. {_HELP}"


def _questions(prompt: str | None) -> Iterator[str]:
    if prompt:
        # Line editing and the questions before, where there is such a library: input() looks for it.
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")
    warned = False
    while True:
        try:
            line = input(prompt) if prompt else _piped()
        except EOFError:
            if prompt:
                Output(sys.stdout).write("\n")
            return
        except KeyboardInterrupt:
            # It may have been meant for an answer that had just ended.
            if not prompt or warned:
                raise
            Output(sys.stdout).write(f"\n{_LEAVE}\n")
            warned = True
            continue
        warned = False
        if line.strip() in ("/quit", "/exit"):
            return
        if line.strip():
            yield line.strip()


def _piped() -> str:
    """The next line of standard input, whatever became of standard output; `input` asks for both.

    Raises:
        EOFError: There is none.
    """
    line = "" if sys.stdin is None else sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _ask(talk: _Talk, question: str, *, width: int, shown: bool, forgiving: bool) -> str:
    """Ask, and show the answer as it grows; Ctrl-C ends it. Where *forgiving*, a question may be too long."""
    said = ""
    out = Output(sys.stdout if shown else None)
    out.write(f"{talk.name:>{width}}> ")
    out.flush()
    try:
        for text in talk.answer(question):
            # What was shown before is never taken back.
            if text.startswith(said):
                out.write(showable(text[len(said) :]))
                out.flush()
                said = text
    except SequenceTooLongError as error:
        if not forgiving:
            raise
        out.write(showable(str(error)))
    except KeyboardInterrupt:
        said += " … (ended)"
        out.write(" … (ended)")
    out.say("")
    if talk.cut:
        say(talk.cut, as_json=True, prose=True)
    return said


class _Talk:
    """One model, and what has been said with it.

    Args:
        sampler: The model.
        system: The system message.
        max_tokens: The longest answer.
        piece: How many tokens are asked for at once.
    """

    def __init__(self, sampler: Sampler, system: str | None, max_tokens: int, *, piece: int) -> None:
        self._sampler = sampler
        self._system = system
        self._max_tokens = max_tokens
        self._piece = piece
        self._messages: list[Message] = []
        self.name = sampler.name
        self.cut = ""
        """Why the last answer was cut off in front of its longest length; empty where it was not."""
        self.reset()

    def reset(self) -> None:
        """Forget what was said."""
        from glowgenius.data.message import Message

        self._messages = [] if self._system is None else [Message("system", self._system)]

    def answer(self, question: str) -> Iterator[str]:
        """The answer so far, again and again, until it is complete."""
        from glowgenius.data.message import Message

        self._messages.append(Message("user", question))
        text = self.cut = ""
        try:
            for text in self._pieces():
                yield text
        finally:
            # An answer that was ended early is part of what was said; a question without one is as if not asked.
            if text:
                self._messages.append(Message("assistant", text))
            else:
                self._messages.pop()

    def _longest_answer(self, prompt: int) -> int:
        """How many tokens an answer may have behind a prompt of so many.

        Raises:
            SequenceTooLongError: None, as the conversation alone has as many as the model takes.
        """
        context = self._sampler.context_length
        if context is None:
            return self._max_tokens
        if prompt >= context:
            raise SequenceTooLongError(
                f"{self.name!r} takes {context:,} tokens, and the conversation with this question has {prompt:,}: "
                "/reset begins a new one, or ask less at once"
            )
        return min(self._max_tokens, context - prompt)

    def _pieces(self) -> Iterator[str]:
        from glowgenius.engines.errors import mapped
        from glowgenius.engines.tinker_types import ModelInput, SamplingParams

        renderer = self._sampler.renderer
        prompt: list[int] = renderer.render_prompt(self._messages).tolist()
        limit = self._longest_answer(len(prompt))
        stop: list[Any] = list(renderer.stop_sequences)
        tokens: list[int] = []
        while len(tokens) < limit:
            count = min(self._piece, limit - len(tokens))
            params = SamplingParams(max_tokens=count, temperature=0.0, stop=stop)
            with mapped("sample"):
                answer = self._sampler.client.sample(ModelInput.from_ints(prompt + tokens), 1, params).result()
            tokens += answer.sequences[0].tokens
            ended = answer.sequences[0].stop_reason == "stop" or len(tokens) >= limit
            text = renderer.parse(tokens).content
            # The end of a piece can be half a character.
            yield text if ended else text.rstrip("\ufffd")
            if ended:
                if limit < self._max_tokens and answer.sequences[0].stop_reason != "stop":
                    self.cut = (
                        f"{self.name!r} takes {len(prompt) + limit:,} tokens, and the conversation has reached them: "
                        "the answer is cut off, and /reset begins a new one"
                    )
                return
