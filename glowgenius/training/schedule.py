"""The plan of a run: rows and learning rate of every step, as a pure function of the settings.

With N steps, W of them warm-up, and s = 0 … N−1, the rate of a step is the peak times

- `s < W`: (s + 1) / (W + 1), so that the first step already learns and step W is the first at the peak;
- `linear`: 1 − (s − W) / (N − W), the last step at 1 / (N − W) and not at 0;
- `cosine`: ½ · (1 + cos(π · (s − W) / (N − W)));
- `constant`: 1.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, assert_never, final

from attrs import field, frozen

from glowgenius.batching.order import batches

if TYPE_CHECKING:
    from glowgenius.training.config import Cadence, LRSchedule, TrainingConfig


def rate_factor(index: int, *, num_steps: int, schedule: LRSchedule, warmup_steps: int = 0) -> float:
    """Factor of the peak learning rate at one step; above 0 for every step of the run.

    Args:
        index: 0-based; below *num_steps*.
        num_steps: How many steps the run has.
        schedule: The form of the decay.
        warmup_steps: How many steps the rise takes.
    """
    if index < warmup_steps:
        return (index + 1) / (warmup_steps + 1)
    decayed = (index - warmup_steps) / (num_steps - warmup_steps)
    match schedule:
        case "linear":
            return 1.0 - decayed
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * decayed))
        case "constant":
            return 1.0
        case _:
            assert_never(schedule)


@final
@frozen(kw_only=True)
class PlannedStep:
    """Rows and learning rate of one planned update."""

    step: int
    """1-based: the number of updates when it is done."""

    epoch: int
    """1-based."""

    batch: int
    """1-based place of its batch in the epoch."""

    rows: tuple[int, ...]
    """Positions of its rows among those that are trained."""

    learning_rate: float
    """The rate of the update."""

    ends_epoch: bool
    """Whether it is the last of its epoch, all of whose rows have then been visited."""


@final
@frozen(kw_only=True)
class Plan:
    """Every step of a run, in order."""

    num_rows: int
    """Rows of one epoch, those in `left_out` included."""

    batch_size: int
    """Rows of one step."""

    num_epochs: int
    """Visits of each row."""

    max_steps: int | None
    """Where the run is cut off."""

    learning_rate: float
    """The peak rate."""

    lr_schedule: LRSchedule
    """The form of the decay."""

    warmup_steps: int
    """Steps of the rise."""

    seed: int
    """Of the order of rows."""

    left_out: tuple[int, ...] = ()
    """Places in the order of the data, ascending, in which nothing comes any more; all others keep theirs."""

    _epochs: dict[int, list[list[int]]] = field(factory=dict[int, list[list[int]]], init=False, eq=False, repr=False)

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, including a shorter last one."""
        return -(-self.num_rows // self.batch_size)

    @property
    def total_steps(self) -> int:
        """Number of updates in the whole run."""
        planned = self.steps_per_epoch * self.num_epochs
        return planned if self.max_steps is None else min(planned, self.max_steps)

    @property
    def cut_short(self) -> bool:
        """Whether `max_steps` ends the run before its last epoch ends."""
        return self.total_steps < self.steps_per_epoch * self.num_epochs

    def step(self, number: int) -> PlannedStep:
        """The planned step of update *number*, `1 … total_steps`."""
        epoch, batch = divmod(number - 1, self.steps_per_epoch)
        factor = rate_factor(
            number - 1, num_steps=self.total_steps, schedule=self.lr_schedule, warmup_steps=self.warmup_steps
        )
        return PlannedStep(
            step=number,
            epoch=epoch + 1,
            batch=batch + 1,
            rows=tuple(self._batches(epoch)[batch]),
            learning_rate=self.learning_rate * factor,
            ends_epoch=batch + 1 == self.steps_per_epoch,
        )

    def is_due(self, every: Cadence, step: PlannedStep) -> bool:
        """Whether something that happens *every* so many steps happens after *step*."""
        if every is None:
            return False
        return step.ends_epoch if every == "epoch" else step.step % every == 0

    def times_due(self, every: Cadence, *, after: int = 0) -> int:
        """After how many of the steps from *after* on it happens."""
        if every is None:
            return 0
        length = self.steps_per_epoch if every == "epoch" else every
        return self.total_steps // length - after // length

    def ever_due(self, every: Cadence) -> bool:
        """Whether it happens after any step of the run."""
        if every is None:
            return False
        return (self.steps_per_epoch if every == "epoch" else every) <= self.total_steps

    def _batches(self, epoch: int) -> list[list[int]]:
        # Only the current epoch's order is kept: ten orders of a million rows would be ten million integers.
        if epoch not in self._epochs:
            self._epochs.clear()
            whole = batches(self.num_rows, self.batch_size, seed=self.seed, epoch=epoch)
            self._epochs[epoch] = [self._without(batch) for batch in whole] if self.left_out else whole
        return self._epochs[epoch]

    def _without(self, batch: list[int]) -> list[int]:
        """Positions of the batch's remaining examples, counted without the dropped ones."""
        at = [(place, bisect_left(self.left_out, place)) for place in batch]
        return [place - before for place, before in at if place not in self.left_out[before : before + 1]]


def make_plan(config: TrainingConfig, *, num_rows: int, learning_rate: float, left_out: tuple[int, ...] = ()) -> Plan:
    """The plan of *config* for a number of rows, minus *left_out*, with the resolved peak learning rate."""
    return Plan(
        num_rows=num_rows,
        batch_size=config.batch_size,
        num_epochs=config.num_epochs,
        max_steps=config.max_steps,
        learning_rate=learning_rate,
        lr_schedule=config.lr_schedule,
        warmup_steps=config.warmup_steps,
        seed=config.seed,
        left_out=left_out,
    )
