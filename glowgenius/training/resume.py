"""Where a run starts: at step 0, or at a checkpoint to resume from."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from attrs import evolve, field, frozen

from glowgenius.data.dataset import Dataset
from glowgenius.data.trained import without
from glowgenius.engines.offered import stored_checkpoint
from glowgenius.errors import CheckpointError, ConfigError
from glowgenius.training.checkpoints import WEIGHTS, CheckpointRecord, check_identity, is_dropped
from glowgenius.training.cost import evaluation_usage
from glowgenius.training.prices import TokenUsage
from glowgenius.training.requests import Agenda
from glowgenius.training.rows import find_rows
from glowgenius.training.run_folder import CHECKPOINTS, HELD_OUT, RunFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glowgenius.data.message import Conversation
    from glowgenius.training.callbacks.base import Callbacks
    from glowgenius.training.history import Row
    from glowgenius.training.rows import PreparedRun
    from glowgenius.training.schedule import Plan
    from glowgenius.typing import JSON

_NO_CHECKPOINT: Final = "resume: the run had no checkpoint yet, so it starts anew"


def starting_point(
    resume: bool | str | os.PathLike[str] | None, folder: RunFolder | None, *, winds_back: bool
) -> Start:
    """Where the run starts; checks that its folder is free for it.

    Args:
        resume: As `SupervisedTrainer.train` takes it.
        folder: The folder of the run.
        winds_back: Whether the client can be made anew; one that was given cannot.

    Raises:
        ConfigError: The folder holds another run, there is none to look in, or the client cannot be wound back.
        CheckpointError: There is no such run or checkpoint, or what there is of it is damaged.
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
    source, wanted = source_of(resume, folder)
    if folder is not None and folder.path.resolve() != source.path.resolve():
        folder.refuse_if_taken()
    if not source.exists():
        return Start(notes=(f"resume: there is no run in {str(source.path)!r} yet, so it starts anew",))
    records = source.checkpoints()
    chosen, notes = _chosen(source, records, wanted)
    dropped, examples = _dropped(source, records)
    if chosen is None:
        return Start(anew=True, dropped=dropped, examples=examples, notes=(*notes, _NO_CHECKPOINT))
    rows, fault = source.sound_rows()
    _check_rows(source, records, chosen, rows, fault)
    kept, lost = ([row for row in rows if (row["step"] <= chosen.step) is which] for which in (True, False))
    if fault and lost:
        notes.append(f"warning: {fault.partition(';')[0]}; the rows from there on are made again")
    before = [record for record in records if record.step < chosen.step]
    if source is not folder:
        before, chosen = [evolve(each, own=False) for each in before], evolve(chosen, own=False)
    behind = records[len(before) + 1 :] if wanted is not None or notes else []
    return Start(
        rows=tuple(kept),
        records=(*before, chosen),
        lost=tuple(lost),
        behind=tuple(behind),
        notes=tuple(notes),
        dropped=dropped,
        examples=examples,
    )


def _dropped(source: RunFolder, records: Sequence[CheckpointRecord]) -> tuple[dict[int, int | None], int | None]:
    """Rows the run continues without, and how many examples it began with, if known.

    Both files say it: the checkpoint from which a run goes on may be one of before a row was dropped.
    """
    settings: dict[str, Any] = {}
    with suppress(FileNotFoundError, CheckpointError):
        settings = source.settings()
    said = [*(record.dropped_rows for record in records), settings.get("dropped_rows")]
    dropped: dict[int, int | None] = {int(row): n for each in said if is_dropped(each) for row, n in each.items()}
    examples: int | None = None
    with suppress(KeyError, TypeError):
        counts = settings["rows"]["train"]
        examples = int(counts["used"]) + int(counts.get("left_out", 0))
    return dropped, examples


def source_of(resume: bool | str | os.PathLike[str], folder: RunFolder | None) -> tuple[RunFolder, str | None]:
    """The folder to resume from, and the state path requested in it; None means the newest.

    Raises:
        ConfigError: There is no folder to look in.
        CheckpointError: There is no run in the folder that was named.
    """
    if isinstance(resume, bool):
        if folder is None:
            raise ConfigError(
                "resume_from_checkpoint=True looks in output_dir, which is None; name the run's folder there"
            )
        return folder, None
    wanted = os.fspath(resume)
    if Path(wanted).is_dir() and RunFolder(Path(wanted)).exists():
        same = folder is not None and folder.path.resolve() == Path(wanted).resolve()
        return folder if folder is not None and same else RunFolder(Path(wanted)), None
    if folder is None:
        raise CheckpointError(f"resume_from_checkpoint={wanted!r} is not the folder of a run, and output_dir is None")
    if not folder.exists():
        raise CheckpointError(f"there is no run in {str(folder.path)!r} to go on with")
    return folder, wanted


def _chosen(
    source: RunFolder, records: Sequence[CheckpointRecord], wanted: str | None
) -> tuple[CheckpointRecord | None, list[str]]:
    """The checkpoint to resume from, and warnings about newer ones that were skipped.

    The newest whose state is whole, or the one that was asked for; None where the run has none yet.

    Raises:
        CheckpointError: There is no such checkpoint, or none is whole.
    """
    resumable = [record for record in records if record.state_path is not None]
    if wanted is not None:
        asked = [record for record in resumable if record.state_path in {wanted, source.located(wanted)}]
        if not asked:
            known = ", ".join(str(record.state_path) for record in resumable) or "none"
            raise CheckpointError(
                f"resume_from_checkpoint={wanted!r} is neither the folder of a run nor a checkpoint of the run in "
                f"{str(source.path)!r}; its checkpoints: {known}"
            )
        _verify(source, asked[-1])
        return asked[-1], []
    notes = list[str]()
    for record in reversed(resumable):
        try:
            _verify(source, record)
        except CheckpointError as error:
            notes.append(f"warning: the checkpoint of step {record.step} is not whole, and is passed over: {error}")
        else:
            return record, notes
    if resumable:
        raise CheckpointError(
            f"no checkpoint of the run in {str(source.path)!r} is whole:\n  "
            + "\n  ".join(note.removeprefix("warning: ") for note in notes)
            + "\nRestore one from a copy, or begin anew in another output_dir"
        )
    return None, notes


def _verify(source: RunFolder, record: CheckpointRecord) -> None:
    """Check that the state of *record* is unchanged since it was saved, as far as it is on this machine.

    Raises:
        CheckpointError: It is not.
    """
    path = source.checked(record, str(record.state_path), outside=True)
    found = stored_checkpoint(path)
    if found is None:
        return  # it is stored by the service
    if record.state_digest not in {None, found.digest}:
        raise CheckpointError(f"the state at {path!r} is whole, but not the one that was saved there")
    if not found.resumable or found.updates != record.step:
        raise CheckpointError(
            f"the state at {path!r} holds {found.updates} updates, and its line in {CHECKPOINTS} says {record.step}"
        )


def _check_rows(
    source: RunFolder,
    records: Sequence[CheckpointRecord],
    chosen: CheckpointRecord,
    rows: Sequence[Row],
    fault: str,
) -> None:
    """Check that the rows are those that *chosen* was saved with.

    Raises:
        CheckpointError: They are not; the message names an earlier checkpoint whose rows are whole.
    """
    try:
        source.check_rows(chosen, rows)
    except CheckpointError as error:
        told = fault or str(error)
        for record in reversed(records):
            with suppress(CheckpointError):
                source.check_rows(record, rows)
                if record.state_path is not None and record.step < chosen.step:
                    told += (
                        f", or go on from step {record.step}, up to which the rows are whole: "
                        f"resume_from_checkpoint={record.state_path!r}"
                    )
                    break
        raise CheckpointError(told) from None


def as_begun(
    start: Start, folder: RunFolder | None, train: Dataset, held: Dataset | None
) -> tuple[Dataset, Dataset | None]:
    """The training and held-out rows of the run, split again from the whole file where the user passes that.

    `glowgenius train` divides its file by itself, and the run folder keeps what was held out.
    """
    kept = None if folder is None else folder.path / HELD_OUT
    trained = start.records[-1].identity.get("train") if start.records else None
    if trained in (None, train.fingerprint) or kept is None or not kept.is_file():
        return train, held
    out = Dataset.from_file(kept)
    rest = without(train, out)
    if rest is None or rest.fingerprint != trained:
        return train, held
    return rest, out if held is None else held


@final
@frozen(kw_only=True)
class Start:
    """Where a run starts: at step 0, or after the last of `records`."""

    rows: tuple[Row, ...] = ()
    """The rows up to there."""

    records: tuple[CheckpointRecord, ...] = ()
    """The checkpoints up to there."""

    lost: tuple[Row, ...] = ()
    """Rows behind the checkpoint: steps that were made, and are made again."""

    behind: tuple[CheckpointRecord, ...] = ()
    """Checkpoints behind that, which the run does not have any more and whose files stay until it is started again."""

    anew: bool = False
    """Whether a run was to be resumed that had begun and had no checkpoint yet."""

    notes: tuple[str, ...] = ()
    """What the header says about the choice."""

    dropped: Mapping[int, int | None] = field(factory=dict[int, "int | None"])
    """Rows that the run goes on without, with how many examples each had; None of rows that are dropped just now."""

    examples: int | None = None
    """How many examples the run began with, dropped ones included, where it is known."""

    @property
    def step(self) -> int:
        """Number of updates already made."""
        return self.records[-1].step if self.records else 0

    @property
    def state_path(self) -> str | None:
        """Path of the state to resume from."""
        return self.records[-1].state_path if self.records else None

    @property
    def complete(self) -> bool:
        """Whether the run has no steps left."""
        return bool(self.records) and self.records[-1].final

    @property
    def day(self) -> date | None:
        """The date the run writes into its prompts; None for a new run, or if it writes none."""
        said = self.records[-1].identity.get("day") if self.records else None
        with suppress(TypeError, ValueError):
            return date.fromisoformat(said)  # type: ignore[arg-type]  # what a file says may be anything
        return None

    def dropping(self, train: Sequence[Conversation], names: object) -> Start:
        """The start of a run that continues without the rows the user names, and those named before.

        Raises:
            ConfigError: There is no such row, no row is left, or nothing to go on with.
        """
        named = find_rows(train, names)
        if named and not self.records and not self.anew:
            raise ConfigError(
                "dropped_rows goes on with a run that has begun, and so only with resume_from_checkpoint; to train "
                "without these rows from the start, leave them out of the data"
            )
        new = [row for row in named if row not in self.dropped]
        dropped = {row: n for row, n in self.dropped.items() if row < len(train)} | dict.fromkeys(new)
        if dropped and len(dropped) == len(train):
            raise ConfigError("dropped_rows: no row is left to train; leave at least one")
        return evolve(self, dropped=dropped)

    def noting(self, counts: Mapping[int, int]) -> Start:
        """The start whose last checkpoint records which rows the run continues without.

        Raises:
            ConfigError: The run has ended, so that a row that is named now has been trained.
        """
        new = [row for row, count in self.dropped.items() if count is None]
        if new and self.complete:
            raise ConfigError(
                f"dropped_rows: the run ended at step {self.step} and has trained row {new[0]} already; to train "
                "without it, leave it out of the data and begin anew in another output_dir"
            )
        if not self.records or not counts:
            return self
        last = evolve(self.records[-1], dropped_rows={str(row): count for row, count in counts.items()})
        return evolve(self, records=(*self.records[:-1], last))

    def checked(self, identity: Mapping[str, JSON], total_steps: int) -> Start:
        """The start, checked: the resumed run makes the same updates, up to *total_steps*.

        A run that has ended is complete, whatever ended it, as long as its length is what it was.

        Raises:
            ResumeMismatchError: Something that decides the updates has changed.
            ConfigError: There is nothing left to do.
        """
        if not self.records:
            return self
        last = self.records[-1]
        check_identity(last, identity)
        notes = self.notes
        if WEIGHTS in identity and WEIGHTS not in last.identity:
            trusted = (
                "resume: the checkpoint was saved by an earlier version, which kept no fingerprint of the base model's "
                "weights, so that they are the same is taken on trust"
            )
            notes = (*notes, trusted)
        if last.final and last.total_steps == total_steps:
            return evolve(self, notes=notes)
        if last.step >= total_steps:
            raise ConfigError(
                f"there is nothing left to train: the checkpoint has {last.step} updates, and the run is to have "
                f"{total_steps}; raise num_epochs or max_steps to go on"
            )
        # A stop requested then does not end the resumed run.
        last = evolve(last, final=False, requests={}) if last.final else last
        return evolve(self, records=(*self.records[:-1], last), notes=notes)

    def spent(self, run: PreparedRun) -> TokenUsage:
        """Token usage before the resume, as far as it was reported."""
        usage = TokenUsage(**self.records[-1].usage) if self.records else TokenUsage()
        for row in self.lost:
            usage += TokenUsage(trained=int(row.get("tokens/input", 0)))
            usage += evaluation_usage(run) if "eval/loss" in row else TokenUsage()
        return usage

    def agenda(self, total_steps: int) -> Agenda:
        """Requests that callbacks had scheduled, and where the run ends."""
        if not self.records:
            return Agenda(end=total_steps)
        last = self.records[-1]
        agenda = Agenda.from_json(last.requests, total_steps=total_steps)
        if last.final:
            agenda.end = last.step
        return agenda

    def lines(self, callbacks: Callbacks, plan: Plan) -> list[str]:
        """Header lines about the start."""
        if not self.records:
            return list(self.notes)
        last = self.records[-1]
        lines = [f"resume: from step {last.step}, at {last.state_path}"]
        if last.final:
            stop = self.agenda(plan.total_steps).stop
            why = "" if stop is None else f" ({stop.reason})"
            lines = [f"resume: the run is complete, it ended at step {last.step}{why}; nothing is left to train"]
        elif last.total_steps != plan.total_steps:
            lines.append(self._new_length(last, plan))
        lines += [
            *self.notes,
            *(
                f"warning: the checkpoint holds the state of a callback {key!r}, which is not among the callbacks"
                for key in callbacks.strangers(last.callbacks)
            ),
        ]
        return lines

    def _new_length(self, last: CheckpointRecord, plan: Plan) -> str:
        """Header lines about the learning rate of a run whose length has changed."""
        begins = f"resume: the run was to have {last.total_steps} steps and now has {plan.total_steps}; "
        if plan.lr_schedule == "constant":
            return begins + "a constant learning rate is the same either way"
        before, after = self.rows[-1]["learning_rate"], plan.step(last.step + 1).learning_rate
        return (
            f"{begins}the steps so far followed the {plan.lr_schedule} schedule of {last.total_steps}, the others "
            f"follow that of {plan.total_steps}: the learning rate was {before:.3g} at step {last.step} and is "
            f"{after:.3g} at step {last.step + 1}"
        )
