"""`TrackioLogger`: a run in Trackio, on this machine or on a Hugging Face Space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, final

from typing_extensions import override

from glowgenius._lazy import require
from glowgenius.training.callbacks.trackers.base import Ending, Tracker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.training.events import TrainBegin


@final
class TrackioLogger(Tracker):
    """Writes every row to Trackio; `trackio show` opens its dashboard.

    Args:
        project: The project.
        name: The name of the run; None lets Trackio choose.
        space_id: A Space such as `someone/trackio` to send it to; None keeps it on this machine.

    Raises:
        MissingDependencyError: The library is not installed (extra `trackio`).
    """

    MODULE: ClassVar[str] = "trackio"
    EXTRA: ClassVar[str] = "trackio"

    def __init__(self, project: str = "glowgenius", *, name: str | None = None, space_id: str | None = None) -> None:
        super().__init__(project)
        self._name = name
        self._space_id = space_id
        self._run: Any = None

    @override
    def _open_run(self, event: TrainBegin) -> None:
        resumed = self._run_id is not None
        self._run = self._library.init(
            project=self._target,
            name=self._run_id if resumed else self._name,
            space_id=self._space_id,
            config=dict(event.settings),
            resume="allow" if resumed else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        # Its runs go by their names.
        self._run_id = str(self._run.name)
        if resumed and self._space_id is None:
            storage: Any = require("trackio.sqlite_storage", extra=self.EXTRA, purpose="TrackioLogger")
            last = storage.SQLiteStorage.get_max_step_for_run(self._target, self._run_id)
            self._last_step = -1 if last is None else int(last)

    @override
    def _send(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    @override
    def _close_run(self, ending: Ending) -> None:
        run, self._run = self._run, None
        run.finish()
