"""Which checkpoints a run keeps: the best, the newest, and what a resume may ask for; the others are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from glowgenius._output import logger
from glowgenius.engines.stored import delete_checkpoint
from glowgenius.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from glowgenius.engines.protocol import FutureLike, TrainingClient
    from glowgenius.training.agenda import Agenda
    from glowgenius.training.callbacks.dispatch import Callbacks
    from glowgenius.training.checkpoints import CheckpointRecord
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.recorder import Recorder

_LOG = logger("glowgenius.training")


@final
class Retention:
    """Keeps to `TrainingConfig.save_top_k`, and deletes only what this run has saved itself.

    A run that goes on from its newest state may find other steps to be the best than it did the first time, as services
    are not exact to the last bit. So what was wanted when that state was saved is kept as long as it is the newest.

    Args:
        client: Deletes what it has saved.
        config: How many are kept, and by which metric.
        callbacks: May need weights of certain steps.
        recorder: The checkpoints.
        agenda: May have chosen the weights that the run ends with.

    Raises:
        CheckpointError: A callback needs weights that have been deleted; only a resume from a checkpoint before the
            newest can come to that.
    """

    def __init__(
        self,
        client: TrainingClient,
        *,
        config: TrainingConfig,
        callbacks: Callbacks,
        recorder: Recorder,
        agenda: Agenda,
    ) -> None:
        self._client = client
        self._config = config
        self._callbacks = callbacks
        self._recorder = recorder
        self._agenda = agenda
        self._under_way: list[tuple[str, FutureLike[Any] | None]] = []
        self._of_newest_state = self._wanted()
        if config.save_top_k is not None:
            self._check_callbacks()

    def apply(self, record: CheckpointRecord) -> None:
        """*record* has just been added: let go of what is neither among the best nor needed to go on.

        The run folder forgets a checkpoint before the engine deletes it: a kill in between leaves files behind, and
        never a line that points nowhere.
        """
        if self._config.save_top_k is None:
            return
        if record.state_path is not None:
            self._of_newest_state = self._wanted()
        records = self._recorder.records
        states = [each.step for each in records if each.state_path is not None]
        kept = {record.step, *states[-1:], *self._wanted(), *self._of_newest_state}
        dropped = [each for each in records if each.step not in kept]
        if dropped:
            self._recorder.forget({each.step for each in dropped})
            self._delete(path for each in dropped if each.own for path in each.paths)
            self._leave([path for each in dropped if not each.own for path in each.paths])

    def finish(self) -> None:
        """Wait for the deletions, and say which of them failed; that never ends a run."""
        for path, future in self._under_way:
            try:
                if future is None:
                    _LOG.warning("save_top_k: the engine offers no way to delete %s, so it stays there", path)
                else:
                    future.result()
            except Exception as error:  # noqa: BLE001 - a file too many is no reason to lose a run
                _LOG.warning("save_top_k: %s could not be deleted and stays there: %s", path, error)
        self._under_way.clear()

    def _wanted(self) -> set[int]:
        """The best steps so far, and those that somebody may choose in the end."""
        if self._config.save_top_k is None:
            return set()
        chosen = None if self._agenda.stop is None else self._agenda.stop.use_step
        best = self._recorder.best_steps(self._config.metric_for_best, self._config.save_top_k)
        return {*best, *self._callbacks.needed_steps, *([] if chosen is None else [chosen])}

    def _check_callbacks(self) -> None:
        for step in sorted(self._callbacks.needed_steps):
            if step <= self._recorder.step and self._recorder.record_of(step) is None:
                raise CheckpointError(
                    f"a callback needs the weights of step {step}, which save_top_k={self._config.save_top_k} has "
                    "deleted since; go on from the newest checkpoint instead, by resume_from_checkpoint=True"
                )

    def _leave(self, paths: Sequence[str]) -> None:
        """Say what is not deleted, as another run may need it."""
        for path in paths:
            _LOG.warning(
                "save_top_k: %s stays where it is, as this run has not saved it itself in this folder: the run that it "
                "was resumed or copied from may need it",
                path,
            )

    def _delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                future = delete_checkpoint(self._client, path)
            except Exception as error:  # noqa: BLE001 - as in `finish`
                _LOG.warning("save_top_k: %s could not be deleted and stays there: %s", path, error)
            else:
                self._under_way.append((path, future))
