"""The rows of a run, rendered and ready to send, without rows dropped by name."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast, final

import numpy as np
from attrs import evolve, frozen

from glowgenius._spelling import times
from glowgenius._validators import is_integer
from glowgenius.batching.overflow import Fitted, fit_all
from glowgenius.batching.shift import ShiftedExample, shift
from glowgenius.data.splits import REPLAY
from glowgenius.errors import PROBLEMS_SHOWN, ConfigError, Problem, RenderingError, RequestRejectedError
from glowgenius.rendering.encoder import num_shared
from glowgenius.rendering.renderer import TrainOn, message_weights

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from glowgenius.batching.shift import SoftExample
    from glowgenius.data.message import Conversation
    from glowgenius.data.trained import Trained
    from glowgenius.rendering.renderer import RenderedExample, Renderer
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.schedule import Plan, PlannedStep
    from glowgenius.typing import Tools

TRAINS_ANSWER: Final = frozenset(
    {TrainOn.LAST_ASSISTANT_MESSAGE, TrainOn.LAST_ASSISTANT_TURN, TrainOn.ALL_ASSISTANT_MESSAGES}
)
"""What trains the assistant's last message, from where it begins to speak to its end."""

_SNIPPET: Final = 8

NONE_DROPPED: Final[Mapping[int, int | None]] = MappingProxyType({})
"""Every row is there."""


@final
@frozen(kw_only=True)
class RowCounts:
    """Number of rows and tokens of one data set that take part."""

    rows: int
    """Rows given."""

    examples: int
    """Examples made of them: one each, and several of a conversation that a renderer has to divide by turn."""

    used: int
    """Examples that are left."""

    dropped: int
    """Examples left out because they are over `max_length`."""

    truncated: int
    """Examples of which the beginning was cut to `max_length`."""

    cut_answers: int
    """Those of `truncated` that lost the end of an answer too."""

    input_tokens: int
    """Tokens that the model reads in one visit of all rows."""

    trained_tokens: int
    """Tokens that carry loss in one visit of all rows."""

    longest: int
    """Tokens of the longest example."""

    replay_rows: int = 0
    """Rows tagged `replay`, which are there to keep what the model knew."""

    replay_tokens: int = 0
    """Tokens of theirs that carry loss, before any row is left out or cut."""

    left_out: int = 0
    """Examples of rows that a resumed run goes on without."""

    turns: int = 0
    """Messages of the assistant in the rows given."""

    trained_turns: int = 0
    """Those of `turns` that `train_on` and their own weights train."""


@final
@frozen(kw_only=True, eq=False)
class PreparedRows:
    """One rendered data set, ready to be sent."""

    examples: tuple[ShiftedExample | SoftExample, ...]
    """The examples that are left, in the order of the data."""

    replay: tuple[bool, ...]
    """Of each example, whether its row is tagged `replay`."""

    rows: tuple[int, ...]
    """Of each example, the number of its row in the data set."""

    source: Sequence[Conversation]
    """The data set."""

    left_out: Mapping[int, int]
    """How many examples each of the rows had that a resumed run goes on without."""

    counts: RowCounts
    """What became of the rows."""

    num_without_stop: int
    """Examples that train the assistant's last message, but not the token at which sampling stops."""


def prepare(
    conversations: Sequence[Conversation],
    renderer: Renderer,
    config: TrainingConfig,
    *,
    name: str,
    dropped: Mapping[int, int | None] = NONE_DROPPED,
    total: int | None = None,
) -> tuple[PreparedRows, list[Problem]]:
    """Render every row of a data set.

    Args:
        conversations: The rows.
        renderer: Makes tokens and masks.
        config: What is trained, and what becomes of long rows.
        name: What the data set is called in problems of rows that came from memory.
        dropped: Rows that are left out, with the number of examples that they had, where that is known.
        total: Examples that there were before any row was dropped, where that is known.

    Returns:
        The rows without a problem, and the problems of all others.

    Raises:
        ConfigError: How many examples a dropped row had cannot be told.
    """
    rendered, gone, problems = _rendered(conversations, renderer, config, dropped)
    fitted, kept, too_long = _fit(rendered, conversations, renderer, config)
    had = {row: _examples_of(row, examples, conversations, renderer, config) for row, examples in gone}
    counted = count_left_out(dropped, had, len(kept), total)
    rest = [conversation for row, conversation in enumerate(conversations) if row not in dropped]
    shifted = tuple(shift(example) for example in fitted.examples)
    weights = [_turn_weights(conversation, config.train_on) for conversation in rest]
    counts = RowCounts(
        rows=len(rest),
        examples=len(rendered),
        used=len(shifted),
        dropped=len(fitted.dropped),
        truncated=len(fitted.truncated),
        cut_answers=len(fitted.cut_answers),
        input_tokens=sum(map(len, shifted)),
        trained_tokens=sum(example.num_trained for example in shifted),
        longest=max((len(example) for example in fitted.examples), default=0),
        replay_rows=sum(REPLAY in conversation.tags for conversation in rest),
        replay_tokens=sum(example.num_trained for row, example in rendered if REPLAY in conversations[row].tags),
        left_out=sum(counted.values()),
        turns=sum(map(len, weights)),
        trained_turns=sum(weight > 0 for turns in weights for weight in turns),
    )
    without_stop = sum(not _trains_stop(example, renderer) for example in fitted.examples)
    in_order = sorted([*problems, *too_long], key=lambda item: item[0])
    located = [_located(problem, row, name) for row, problem in in_order if row not in dropped]
    replay = tuple(REPLAY in conversations[row].tags for row in kept)
    prepared = PreparedRows(
        examples=shifted,
        replay=replay,
        rows=tuple(kept),
        source=conversations,
        left_out=counted,
        counts=counts,
        num_without_stop=without_stop,
    )
    return prepared, located


def _rendered(
    conversations: Sequence[Conversation],
    renderer: Renderer,
    config: TrainingConfig,
    dropped: Mapping[int, int | None],
) -> tuple[list[tuple[int, RenderedExample]], list[tuple[int, tuple[RenderedExample, ...]]], list[tuple[int, Problem]]]:
    """The examples of the rows, those of the dropped rows, and the problems of all, each with its row."""
    rendered: list[tuple[int, RenderedExample]] = []
    problems: list[tuple[int, Problem]] = []
    gone: list[tuple[int, tuple[RenderedExample, ...]]] = []
    for row, examples in enumerate(renderer.render_rows(conversations, config.train_on)):
        if isinstance(examples, RenderingError):
            found = examples.problems or (Problem(found=examples.message, accepted="see the message"),)
            problems += [(row, problem) for problem in found]
            continue
        if row in dropped:
            gone.append((row, examples))
            continue
        for example in examples:
            problems += [(row, problem) for problem in _doubled_bos(example, conversations[row], renderer)]
            rendered.append((row, example))
        problems += [(row, problem) for problem in _prompt(examples[-1], conversations[row], renderer, config.train_on)]
    return rendered, gone, problems


def _examples_of(
    row: int,
    examples: tuple[RenderedExample, ...],
    conversations: Sequence[Conversation],
    renderer: Renderer,
    config: TrainingConfig,
) -> int | None:
    """Number of examples a dropped row would make; None if it is too long."""
    _, kept, too_long = _fit([(row, example) for example in examples], conversations, renderer, config)
    return None if too_long else len(kept)


def count_left_out(
    dropped: Mapping[int, int | None], now: Mapping[int, int | None], kept: int, total: int | None
) -> dict[int, int]:
    """Number of examples of each dropped row; their positions in the order stay empty.

    Args:
        dropped: What the run folder says of each; None of rows that are named for the first time.
        now: How many each gives now; None where it can no longer be rendered or fitted.
        kept: Examples of all other rows.
        total: Examples that the run began with, as the run folder says.

    Raises:
        ConfigError: It cannot be told.
    """
    counts = {row: now.get(row) if count is None else count for row, count in sorted(dropped.items())}
    known = {row: count for row, count in counts.items() if count is not None}
    unknown = [row for row, count in counts.items() if count is None]
    missing = None if total is None else total - kept - sum(known.values())
    if unknown and missing != len(unknown) and (len(unknown) > 1 or missing is None or missing < 0):
        raise ConfigError(
            f"how many examples the dropped rows {', '.join(map(str, unknown))} had cannot be told, as they can no "
            "longer be rendered and config.json of the run does not say; leave them out of the data, and begin anew in "
            "another output_dir"
        )
    return known | {row: 1 if len(unknown) > 1 else int(missing or 0) for row in unknown}


def over_context(
    prepared: PreparedRows, conversations: Sequence[Conversation], context: int | None, *, name: str
) -> list[Problem]:
    """Rows that fit the settings but have more than the model's *context* tokens."""
    accepted = f"at most {context:,}: shorten it, or set max_length={context} and on_overflow" if context else ""
    return [
        _located(
            _problem(
                conversations[row], f"{len(example) + 1:,} tokens, more than the model takes on this engine", accepted
            ),
            row,
            name,
        )
        for example, row in zip(prepared.examples, prepared.rows, strict=True)
        if context is not None and len(example) + 1 > context
    ]


def _turn_weights(conversation: Conversation, train_on: TrainOn) -> list[float]:
    """Loss weight of every assistant message."""
    messages = conversation.messages
    found = zip(messages, message_weights(messages, train_on), strict=True)
    return [weight for message, weight in found if message.role == "assistant"]


def _fit(
    rendered: Sequence[tuple[int, RenderedExample]],
    conversations: Sequence[Conversation],
    renderer: Renderer,
    config: TrainingConfig,
) -> tuple[Fitted, list[int], list[tuple[int, Problem]]]:
    """The examples that fit `max_length` or are truncated to it, their rows, and the problems of the others."""
    parts: list[Fitted] = []
    kept: list[int] = []
    problems: list[tuple[int, Problem]] = []
    for row, example in rendered:
        try:
            # One at a time, so that a problem keeps the row's number in the data set.
            part = fit_all(
                [example],
                config.max_length,
                config.on_overflow,
                bos_token_id=renderer.tokenizer.bos_token_id,
                conversations=[conversations[row]],
            )
        except RenderingError as error:
            problems += [(row, problem) for problem in error.problems]
        else:
            parts.append(part)
            kept += [row] * len(part.examples)
    whole = Fitted(
        examples=tuple(example for part in parts for example in part.examples),
        rows=tuple(row for part in parts for row in part.rows),
        dropped=tuple(row for part in parts for row in part.dropped),
        truncated=tuple(row for part in parts for row in part.truncated),
        cut_answers=tuple(row for part in parts for row in part.cut_answers),
    )
    return whole, kept, problems


def _located(problem: Problem, row: int, name: str) -> Problem:
    """*problem* with its place: file and line if known, else the data set and the row number."""
    if problem.path is not None:
        return problem
    return evolve(problem, row=row, field=name if problem.field is None else f"{name}: {problem.field}")


def _doubled_bos(example: RenderedExample, conversation: Conversation, renderer: Renderer) -> list[Problem]:
    bos = renderer.tokenizer.bos_token_id
    if bos is None or len(example) < 2 or not bool(np.all(example.tokens[:2] == bos)):  # noqa: PLR2004 - two of them
        return []
    found = f"begins with the BOS token {renderer.tokenizer.bos_token!r} twice"
    return [_problem(conversation, found, "one BOS: either the chat template or the tokenizer may add it, not both")]


def _prompt(
    example: RenderedExample, conversation: Conversation, renderer: Renderer, train_on: TrainOn
) -> list[Problem]:
    """Whether the example's tokens begin exactly with the prompt used in sampling."""
    if renderer.keeps_prompts or train_on not in TRAINS_ANSWER or conversation.messages[-1].role != "assistant":
        return []
    try:
        prompt = renderer.render_prompt(conversation.prompt, *_given(conversation.tools)).tolist()
    except RenderingError as error:
        reason = str(error.problems[0].found if error.problems else error.message)
        return [_problem(conversation, f"its prompt cannot be rendered: {reason}", "a renderer that can")]
    tokens = example.tokens.tolist()
    at = num_shared(prompt, tokens)
    if at == len(prompt):
        return []
    decode = renderer.tokenizer.decode
    here, there = (repr(decode(ids[at : at + _SNIPPET], skip_special_tokens=False)) for ids in (tokens, prompt))
    return [
        _problem(
            conversation,
            f"it is trained on {here} where sampling starts from {there} (token {at}), so that the answer is learned "
            "in a place where it is never asked for",
            "a renderer whose prompt is the beginning of its example",
        )
    ]


def _given(tools: Tools) -> tuple[Tools, ...]:
    """The `tools` argument, only if there are tools: a user's renderer may not accept it."""
    return (tools,) if tools else ()


def _problem(conversation: Conversation, found: str, accepted: str) -> Problem:
    """A problem of one row, with its file and line if it came from a file."""
    source = conversation.source
    return Problem(
        found=found,
        accepted=accepted,
        path=None if source is None else source.path,
        line=None if source is None else source.line,
        row_id=conversation.id,
    )


def _trains_stop(example: RenderedExample, renderer: Renderer) -> bool:
    """Whether the last trained token is, or completes, a stop; a template may put a line break after it."""
    trained = example.tokens[np.flatnonzero(example.weights)].tolist()
    stops = renderer.stop_sequences
    tokens = [stop for stop in stops if isinstance(stop, int)]
    texts = [stop for stop in stops if isinstance(stop, str)]
    if any(token in tokens for token in trained[-2:]):
        return True
    if not texts:
        return False
    said = renderer.tokenizer.decode(trained, skip_special_tokens=False).rstrip("\n")
    return any(said.endswith(text.rstrip("\n")) for text in texts)


@final
@frozen(kw_only=True, eq=False)
class PreparedRun:
    """All requests' data of a run, and their order."""

    train: PreparedRows
    """The training rows, rendered."""

    evaluation: PreparedRows | None
    """The evaluation rows, rendered."""

    plan: Plan
    """Every step of the run."""

    context: int | None = None
    """The most tokens that the model takes on this engine; None where that is not known."""

    can_resume: bool = False
    """Whether the run could be gone on with if it failed."""

    trained: Trained | None = None
    """What is trained, as hashes, for those who ask the model afterwards."""


_DATUM = re.compile(r"\bdatum (\d+)\b")

_ACCEPTED = "a row's place as errors print it ('train.jsonl:17' or 'row 16'), its id, or its 0-based number"


def row_name(rows: Sequence[Conversation], row: int) -> str:
    """Name of a row in errors: its file and line, or its number."""
    source = rows[row].source
    return f"row {row}" if source is None else str(source)


def find_rows(rows: Sequence[Conversation], names: object) -> tuple[int, ...]:
    """Numbers of the rows that the user named.

    Raises:
        ConfigError: A name is that of no row, or of several.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ConfigError(f"dropped_rows must be a list, got {names!r} ({type(names).__name__}); in it: {_ACCEPTED}")
    wanted = cast("Sequence[object]", names)
    texts = {name for name in wanted if isinstance(name, str)}
    found: dict[str, list[int]] = {}
    for row, conversation in enumerate(rows if texts else ()):
        known = {f"row {row}", row_name(rows, row), str(row), conversation.id}
        for name in known & texts:
            found.setdefault(str(name), []).append(row)
    return tuple(_found(rows, name, found.get(name, []) if isinstance(name, str) else [name]) for name in wanted)


def _found(rows: Sequence[Conversation], name: Any, found: Sequence[Any]) -> int:
    if len(found) > 1:
        listed = ", ".join(f"row {row} ({row_name(rows, row)})" for row in found[:PROBLEMS_SHOWN])
        raise ConfigError(
            f"dropped_rows: {name!r} names several rows: {listed}; write the one that is meant as 'row N'"
        )
    if found and is_integer(found[0]) and 0 <= found[0] < len(rows):
        return int(found[0])
    raise ConfigError(
        f"dropped_rows: there is no row {name!r} among the {times(len(rows), 'row')} of the training data; "
        f"accepted is {_ACCEPTED}"
    )


def empty_places(rows: Sequence[int], counts: Mapping[int, int]) -> tuple[int, ...]:
    """Positions of dropped examples in the data.

    Args:
        rows: The row of each example that is left, in order.
        counts: How many examples each dropped row had.
    """
    places: list[int] = []
    for row, count in sorted(counts.items()):
        first = bisect_left(rows, row) + len(places)
        places += range(first, first + count)
    return tuple(places)


def check_steps(plan: Plan, after: int) -> None:
    """Check that every step after *after* has at least one row; an empty update cannot be made.

    Raises:
        ConfigError: One has none.
    """
    if plan.left_out and (
        empty := next((n for n in range(after + 1, plan.total_steps + 1) if not plan.step(n).rows), 0)
    ):
        raise ConfigError(
            f"dropped_rows: step {empty} would have no row left, and no update can be made of none; leave the rows out "
            f"of the data, and begin anew in another output_dir{_or_end(empty, after)}"
        )


def _or_end(empty: int, after: int) -> str:
    return f", or end the run before it with max_steps={empty - 1}" if empty - 1 > after else ""


def dropped_lines(rows: Sequence[Conversation], counts: Mapping[int, int]) -> list[str]:
    """Header lines about rows that the run continues without."""
    if not counts:
        return []
    named = [f"row {row}" if rows[row].source is None else f"row {row} ({rows[row].source})" for row in sorted(counts)]
    shown = ", ".join(named[:PROBLEMS_SHOWN])
    more = f" and {len(named) - PROBLEMS_SHOWN} more" if len(named) > PROBLEMS_SHOWN else ""
    left = len(rows) - len(named)
    return [f"dropped: {shown}{more}, by dropped_rows; {times(left, 'row')} {'is' if left == 1 else 'are'} left"]


@contextmanager
def naming_rows(run: PreparedRun, planned: PlannedStep) -> Generator[None]:
    """Add to a refused gradient request which rows its step had, and how to continue without one of them."""
    try:
        yield
    except RequestRejectedError as error:
        rows, source = sorted({run.train.rows[place] for place in planned.rows}), run.train.source
        names = [row_name(source, row) for row in rows]
        # Engines name a row by its index in the request.
        named = _DATUM.search(str(error))
        if named and int(named[1]) < len(planned.rows):
            refused = row_name(source, run.train.rows[planned.rows[int(named[1])]])
            error.add_note(f"{named[0]} is {refused}")
            names.insert(0, names.pop(names.index(refused)))
        told = ", ".join(names[:PROBLEMS_SHOWN])
        more = f" and {len(names) - PROBLEMS_SHOWN} more" if len(names) > PROBLEMS_SHOWN else ""
        if run.can_resume and len(names) > 1:
            advice = (
                "where one of them was refused, go on without it, naming that one: train(..., "
                f"resume_from_checkpoint=True, dropped_rows=[{names[0]!r}])"
            )
        else:
            advice = "where one of them was refused, leave it out of the data and begin anew"
        error.add_note(f"step {planned.step} had the rows {told}{more}; {advice}")
        raise
