"""`WandbLogger`: a run on Weights & Biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, final

from typing_extensions import override

from glowgenius._validators import reject
from glowgenius.errors import ConfigError, nearest
from glowgenius.training.callbacks.trackers.base import Ending, Tracker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glowgenius.training.events import TrainBegin

_MODES = ("online", "offline", "disabled")

Mode: TypeAlias = Literal["online", "offline", "disabled"]


@final
class WandbLogger(Tracker):
    """Sends every row to Weights & Biases, with the settings of the run as its config.

    The key is `wandb`'s own affair: `wandb login`, or its environment variables.

    Args:
        project: The project.
        name: The name of the run; None lets the service choose.
        mode: `offline` keeps everything on this machine, to be sent with `wandb sync`; None is what `wandb` is set to.
        group: What the run is shown together with, such as a sweep.
        tags: Words to find it by.

    Raises:
        ConfigError: An argument is not valid.
        MissingDependencyError: The library is not installed (extra `wandb`).
    """

    MODULE: ClassVar[str] = "wandb"
    EXTRA: ClassVar[str] = "wandb"

    def __init__(
        self,
        project: str = "glowgenius",
        *,
        name: str | None = None,
        mode: Mode | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        if mode is not None and mode not in _MODES:
            error = reject(WandbLogger, "mode", "None or one of 'online', 'offline', 'disabled'", mode)
            raise ConfigError(f"{error}{nearest(str(mode), _MODES)}")
        super().__init__(project)
        self._options: dict[str, Any] = {"name": name, "mode": mode, "group": group, "tags": list(tags)}
        self._run: Any = None

    @override
    def _open_run(self, event: TrainBegin) -> None:
        folder = event.config.output_dir
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._run = self._library.init(
            project=self._target,
            id=self._run_id,
            resume="allow",
            config=dict(event.settings),
            dir=None if folder is None else str(folder),
            reinit="create_new",
            **self._options,
        )
        self._run_id = str(self._run.id)
        # Where it goes on with a run, the service says how far that has come.
        self._last_step = int(self._run.step) - 1

    @override
    def _send(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    @override
    def _close_run(self, ending: Ending) -> None:
        run, self._run = self._run, None
        run.finish(exit_code=0 if ending == "completed" else 1)
