"""The campaigns: each disturbs one run after another in its own way, and counts what that cost."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Protocol

from attrs import evolve, field, frozen

from tests.campaigns.process import (
    SETTINGS,
    SIGNALS,
    STEPS,
    Order,
    Report,
    can_mount,
    disturb,
    finish,
    timed,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

MOST_STARTS = 40
"""How often a run is started again before it counts as never finished."""

DISK_STEP = 12_000
"""How much larger every disk is than the one before, in bytes."""


@frozen(kw_only=True)
class Tally:
    """What one campaign has counted so far."""

    runs: int = 0
    faults: int = 0
    lost: int = 0
    """Updates that are missing in the end."""
    repeated: int = 0
    """Updates that were made twice."""
    empty: int = 0
    """Updates that were made without a gradient."""
    different: int = 0
    """Runs whose last weights or rows are not those of the undisturbed run."""
    raw: int = 0
    """Errors that are not of this library, and runs that never finished."""
    notes: tuple[str, ...] = ()
    """What was seen, one line for every count of the five above."""

    def __add__(self, other: Tally) -> Tally:
        names = ("runs", "faults", "lost", "repeated", "empty", "different", "raw", "notes")
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.repeated or self.empty or self.different or self.raw)


@frozen
class Stage:
    """Where the campaigns take place: a tiny model, and what an undisturbed run on it leaves."""

    model: str
    scratch: Path
    whole: Report
    seconds: float
    """How long the undisturbed run took, with the start of its process."""
    _numbers: list[int] = field(factory=lambda: [0])

    @classmethod
    def build(cls, scratch: Path) -> Stage:
        """Write the model, and run once without a disturbance.

        Raises:
            RuntimeError: The undisturbed run failed.
        """
        from tests.support.tiny_models import write_tiny_model

        model = str(write_tiny_model(scratch / "model", num_hidden_layers=1))
        whole, seconds = timed(Order(model=model, folder=scratch / "whole", report=scratch / "whole.json"))
        if not whole.finished:
            message = f"the undisturbed run failed: {whole.error}: {whole.text}"
            raise RuntimeError(message)
        return cls(model, scratch, whole, seconds)

    def order(self, **changes: Any) -> Order:
        """A run in a folder of its own."""
        self._numbers[0] += 1
        name = f"run{self._numbers[0]}"
        return Order(model=self.model, folder=self.scratch / name, report=self.scratch / f"{name}.json", **changes)

    def compared(self, end: Report, *, same_rows: bool = True, **counted: Any) -> Tally:
        """What is to be said of a run that ended like this; its rows are others where more is measured on the way."""
        if not end.finished:
            return Tally(runs=1, raw=1, notes=(f"never finished: {end.error}: {end.text}",), **counted)
        steps = [int(line.split('"step": ')[1].split(",")[0].rstrip("}")) for line in end.metrics.split("\n") if line]
        lost, repeated = len(set(range(STEPS + 1)) - set(steps)), len(steps) - len(set(steps))
        same = steps == list(range(STEPS + 1)) and (end.metrics == self.whole.metrics or not same_rows)
        different = int(end.state != self.whole.state or not same)
        weights = "as" if end.state == self.whole.state else "not as"
        notes = (f"steps {steps}, weights {weights} undisturbed, rows {'as' if same else 'not as'} undisturbed",)
        return Tally(
            runs=1, lost=lost, repeated=repeated, different=different, notes=notes if different else (), **counted
        )

    def clear(self, order: Order) -> None:
        """Remove what a run has left."""
        shutil.rmtree(order.folder, ignore_errors=True)


class Campaign(Protocol):
    """Disturbs one run, the *index*-th of its kind, by *chance*."""

    def __call__(self, stage: Stage, chance: random.Random, index: int) -> Tally | None:
        """What it cost; None when there is nothing left to try."""


def unexpected(report: Report | None) -> Tally:
    """A raw error that a disturbed process came back with."""
    if report is None or report.ours:
        return Tally()
    return Tally(raw=1, notes=(f"raw {report.error}: {report.text}",))


def signalled(number: int) -> Campaign:
    """Runs that are ended by a signal again and again, each time somewhere else, and started again."""

    def once(stage: Stage, chance: random.Random, index: int) -> Tally:
        del index
        order, tally = stage.order(settings={**SETTINGS, "lookahead": chance.choice((0, 1, 2))}), Tally()
        for _ in range(chance.randint(1, 4)):
            report, _ = disturb(order, number, chance.uniform(0, stage.seconds))
            tally += evolve(unexpected(report), faults=1)
        tally += stage.compared(finish(order))
        stage.clear(order)
        return tally

    return once


def cancelled(stage: Stage, chance: random.Random, index: int) -> Tally:
    """`train_async`, cancelled at a random moment, and resumed."""
    del index
    order = stage.order(hook="async", nth=max(1, int(chance.uniform(0, stage.seconds) * 100)))
    tally = evolve(unexpected(finish(order)), faults=1) + stage.compared(finish(evolve(order, hook="")))
    stage.clear(order)
    return tally


def raising_hooks(stage: Stage, chance: random.Random, index: int) -> Tally:
    """A callback whose hook raises: every hook in turn, at a random call of it."""
    from glowgenius.training.callbacks.base import HOOKS

    hook = HOOKS[index % len(HOOKS)]
    most = 1 if hook.startswith("on_train") else 2 if "epoch" in hook else 4
    order = stage.order(hook=hook, nth=chance.randint(1, most))
    first = finish(order)
    tally = evolve(unexpected(first), faults=0 if first.finished else 1)
    tally += stage.compared(first if first.finished else finish(evolve(order, hook="")))
    stage.clear(order)
    return tally


def full_disk(stage: Stage, chance: random.Random, index: int) -> Tally | None:
    """A disk that is full after every 12 kB more; it is made larger, and the run resumed."""
    del chance
    if not can_mount():
        return None
    whole = sum(path.stat().st_size for path in (stage.scratch / "whole").rglob("*") if path.is_file())
    room = DISK_STEP * (index + 1)
    if room > whole * 1.5:
        return None
    order = stage.order(room=room)
    report = finish(order)
    tally = evolve(unexpected(report), faults=1) + stage.compared(report)
    stage.clear(order)
    return tally


def damaged(stage: Stage, chance: random.Random, index: int) -> Tally:
    """A run that was ended halfway, one of its files damaged: resumed to the same end, or refused by name."""
    del index
    order = stage.order(hook="on_step_end", nth=chance.randint(5, 9))
    finish(order)
    path = chance.choice(sorted(path for path in order.folder.rglob("*") if path.is_file()))
    how = chance.choice(sorted(DAMAGES))
    path.write_bytes(DAMAGES[how](path.read_bytes(), chance))
    what = f"{path.relative_to(order.folder)}, {how}"
    end = finish(evolve(order, hook=""))
    tally = evolve(unexpected(end), faults=1)
    if end.finished:
        tally += stage.compared(end)
    elif end.ours and path.name not in end.text and path.parent.name not in end.text:
        tally += Tally(runs=1, raw=1, notes=(f"refused without the name of the file: {end.error}: {end.text}",))
    else:
        tally += Tally(runs=1)
    stage.clear(order)
    return tally if tally.clean else evolve(tally, notes=(what, *tally.notes))


def _flip(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return content
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :]


def _without_a_line(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    place = chance.randrange(len(lines)) if lines else 0
    return b"".join([*lines[:place], *lines[place + 1 :]])


def _line_twice(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    place = chance.randrange(len(lines)) if lines else 0
    return b"".join([*lines[:place], *lines[place : place + 1], *lines[place:]])


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda content, chance: b"",
    "cut": lambda content, chance: content[: chance.randrange(len(content) or 1)],
    "a bit flipped": _flip,
    "zeros": lambda content, chance: bytes(len(content)),
    "zeros behind a place": lambda content, chance: (
        content[: (place := chance.randrange(len(content) or 1))] + bytes(len(content) - place)
    ),
    "not UTF-8": lambda content, chance: b"\xff\xfe" + content,
    "another type": lambda content, chance: b"[1, 2]\n",
    "null": lambda content, chance: b"null\n",
    "a line twice": _line_twice,
    "a line less": _without_a_line,
}
"""What becomes of a file, by what it is called."""

REFUSED: tuple[dict[str, Any], ...] = (
    *(
        {"settings": {**SETTINGS, **change}}
        for change in (
            {"batch_size": 3},
            {"learning_rate": 0.03},
            {"lr_schedule": "linear"},
            {"warmup_steps": 2},
            {"beta1": 0.8},
            {"beta2": 0.9},
            {"eps": 1e-6},
            {"weight_decay": 0.1},
            {"grad_clip_norm": 0.5},
            {"seed": 1},
            {"train_on": "all_tokens"},
            {"on_overflow": "drop"},
            {"max_length": 200},
        )
    ),
    *(
        {"lora": {"rank": 2, **change}}
        for change in ({"rank": 4}, {"seed": 1}, {"train_mlp": False}, {"train_attn": False}, {"train_unembed": False})
    ),
    *({"edit": name} for name in ("an answer", "a row more", "a row less", "the order")),
)
HARMLESS: tuple[dict[str, Any], ...] = tuple(
    {"settings": {**SETTINGS, **change}}
    for change in ({"eval_every": 2}, {"save_every": 3}, {"lookahead": 2}, {"max_restarts": 0}, {"save_top_k": 2})
)


def changed(stage: Stage, chance: random.Random, index: int) -> Tally | None:
    """A run that is resumed with something else than it began with: refused, or without a bearing on the updates."""
    changes = (*REFUSED, *HARMLESS)
    if index >= len(changes):
        return None
    order = stage.order(hook="on_step_end", nth=chance.randint(5, 9))
    finish(order)
    end = finish(evolve(order, hook="", **changes[index]))
    tally = evolve(unexpected(end), faults=1)
    if index >= len(REFUSED):
        tally += stage.compared(end, same_rows=False)
    elif end.error == "ResumeMismatchError":
        tally += Tally(runs=1)
    else:
        note = f"{changes[index]}: {end.error or 'went on'} {end.text}"
        tally += Tally(runs=1, different=int(end.finished), raw=int(not end.finished), notes=(note,))
    stage.clear(order)
    return tally


def wire_faults(stage: Stage, chance: random.Random, index: int) -> Tally:
    """One to four faults at random moments of a run through the real SDK, which is started again until it finishes."""
    del stage, index
    from tests.wire.faults import Fault
    from tests.wire.reliability import Ours, play

    _, expected = play(Ours(), (), None)
    kinds = ("forward_backward", "optim_step", "save_weights", "retrieve_future", "retrieve_future:optim_step")
    actions = ("drop", "hang", "lose_reply", "status", "fail", "restart")
    faults: list[Fault] = []
    for _ in range(chance.randint(1, 4)):
        kind, action = chance.choice(kinds), chance.choice(actions)
        if action == "fail" and kind.startswith("retrieve"):
            action = "status"
        faults.append(
            Fault(
                kind=kind,
                action=action,
                nth=chance.randint(1, 2 if kind == "save_weights" else 12),
                times=chance.randint(1, 2),
                status=chance.choice((401, 408, 409, 429, 500, 502, 503)),
                seconds=0.2,
            )
        )
    outcome, _ = play(Ours(), faults, expected)
    raw = int(not outcome.finished) + outcome.raw
    found = outcome.lost or outcome.repeated or outcome.empty or raw
    return Tally(
        runs=1,
        faults=outcome.fired,
        lost=outcome.lost,
        repeated=outcome.repeated,
        empty=outcome.empty,
        raw=raw,
        notes=(f"{faults}: {outcome}",) if found else (),
    )


CAMPAIGNS: dict[str, Campaign] = {
    **{name: signalled(number) for name, number in SIGNALS.items()},
    "a cancelled task": cancelled,
    "an error in a hook": raising_hooks,
    "a full disk, every 12 kB": full_disk,
    "a damaged file": damaged,
    "a change at the resume": changed,
    "faults on the wire": wire_faults,
}
"""Every campaign, by the name that it has in the table."""
