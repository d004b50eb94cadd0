"""Where a run begins: at nothing, or behind a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from attrs import evolve, frozen

from glowgenius.errors import ConfigError
from glowgenius.training.agenda import Agenda
from glowgenius.training.checkpoints import CheckpointRecord, check_identity
from glowgenius.training.cost import evaluation_usage
from glowgenius.training.prices import TokenUsage
from glowgenius.training.run_folder import find_checkpoint

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from glowgenius.training.callbacks.dispatch import Callbacks
    from glowgenius.training.history import Row
    from glowgenius.training.prepared import PreparedRun
    from glowgenius.training.run_folder import RunFolder
    from glowgenius.training.schedule import Plan
    from glowgenius.typing import JSON


def starting_point(
    resume: bool | str | os.PathLike[str] | None, folder: RunFolder | None, output_dir: Path | None, *, winds_back: bool
) -> Start:
    """Where the run begins; its folder is free for it.

    Args:
        resume: As `SupervisedTrainer.train` takes it.
        folder: The folder of the run.
        output_dir: The same, as configured.
        winds_back: Whether the client can be made anew; one that was given cannot.

    Raises:
        ConfigError: The folder holds another run, or the client cannot be wound back.
        CheckpointError: There is no run, or no such checkpoint.
    """
    if resume is None or resume is False:
        if folder is not None:
            folder.refuse_if_taken()
        return Start()
    if not winds_back:
        raise ConfigError(
            "a trainer made from a client cannot resume, as a client cannot be wound back; make the trainer with "
            "base_model and service instead"
        )
    found = find_checkpoint(resume, output_dir)
    if found is None:
        return Start(anew=True)
    source, rows, records, lost = found
    if folder is not None and folder.path.resolve() != source.resolve():
        folder.refuse_if_taken()
    return Start(rows=tuple(rows), records=tuple(records), lost=tuple(lost))


@final
@frozen(kw_only=True)
class Start:
    """Where a run begins: at nothing, or behind the last of `records`."""

    rows: tuple[Row, ...] = ()
    """The rows up to there."""

    records: tuple[CheckpointRecord, ...] = ()
    """The checkpoints up to there."""

    lost: tuple[Row, ...] = ()
    """Rows behind the checkpoint: steps that were made, and are made again."""

    anew: bool = False
    """Whether a run was to be resumed that had no checkpoint yet."""

    @property
    def step(self) -> int:
        """Updates that have been made."""
        return self.records[-1].step if self.records else 0

    @property
    def state_path(self) -> str | None:
        """What to go on from."""
        return self.records[-1].state_path if self.records else None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to train."""
        return bool(self.records) and self.records[-1].final

    def checked(self, identity: Mapping[str, JSON], total_steps: int) -> Start:
        """The start of a run that goes on with the same updates, up to *total_steps*.

        A run that has ended is complete, whatever ended it, as long as its length is what it was.

        Raises:
            ResumeMismatchError: Something that decides the updates has changed.
            ConfigError: There is nothing left to do.
        """
        if not self.records:
            return self
        last = self.records[-1]
        check_identity(last, identity)
        if last.final and last.total_steps == total_steps:
            return self
        if last.step >= total_steps:
            raise ConfigError(
                f"there is nothing left to train: the checkpoint has {last.step} updates, and the run is to have "
                f"{total_steps}; raise num_epochs or max_steps to go on"
            )
        # What ended it then does not end it now.
        last = evolve(last, final=False, requests={}) if last.final else last
        return evolve(self, records=(*self.records[:-1], last))

    def spent(self, run: PreparedRun) -> TokenUsage:
        """What had been paid for before, as far as it was reported."""
        usage = TokenUsage(**self.records[-1].usage) if self.records else TokenUsage()
        for row in self.lost:
            usage += TokenUsage(trained=int(row.get("tokens/input", 0)))
            usage += evaluation_usage(run) if "eval/loss" in row else TokenUsage()
        return usage

    def agenda(self, total_steps: int) -> Agenda:
        """What callbacks had asked for, and where the run ends."""
        if not self.records:
            return Agenda(end=total_steps)
        last = self.records[-1]
        agenda = Agenda.from_json(last.requests, total_steps=total_steps)
        if last.final:
            agenda.end = last.step
        return agenda

    def lines(self, callbacks: Callbacks, plan: Plan) -> list[str]:
        """What the header says about it."""
        if self.anew:
            return ["resume: the run had no checkpoint yet, so it starts anew"]
        if not self.records:
            return []
        last = self.records[-1]
        lines = [f"resume: from step {last.step}, at {last.state_path}"]
        if last.final:
            stop = self.agenda(plan.total_steps).stop
            why = "" if stop is None else f" ({stop.reason})"
            lines = [f"resume: the run is complete, it ended at step {last.step}{why}; nothing is left to train"]
        elif last.total_steps != plan.total_steps:
            lines.append(self._new_length(last, plan))
        lines += [
            f"warning: the checkpoint holds the state of a callback {key!r}, which is not among the callbacks"
            for key in callbacks.strangers(last.callbacks)
        ]
        return lines

    def _new_length(self, last: CheckpointRecord, plan: Plan) -> str:
        """What becomes of the learning rate in a run of another length than it had when it began."""
        begins = f"resume: the run was to have {last.total_steps} steps and now has {plan.total_steps}; "
        if plan.lr_schedule == "constant":
            return begins + "a constant learning rate is the same either way"
        before, after = self.rows[-1]["learning_rate"], plan.step(last.step + 1).learning_rate
        return (
            f"{begins}the steps so far followed the {plan.lr_schedule} schedule of {last.total_steps}, the others "
            f"follow that of {plan.total_steps}: the learning rate was {before:.3g} at step {last.step} and is "
            f"{after:.3g} at step {last.step + 1}"
        )
