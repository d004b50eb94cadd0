"""A finished run, opened from its folder: what was trained, and models to ask."""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from glowgenius._files import read_object, regular
from glowgenius.errors import CheckpointError, ConfigError, nearest
from glowgenius.training.run_folder import CONFIG, HELD_OUT, MADE_AGAIN, TRAINED, RunFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.data.dataset import Dataset
    from glowgenius.data.trained import Trained
    from glowgenius.engines.protocol import ServiceClient
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.sampler import Sampler

_SHOWN: Final = 5
"""How many runs a message names."""


class _Run:
    """The folder of a run, read.

    Args:
        folder: The folder.
        step: The step whose weights are meant; None takes those that the run ended with.
    """

    def __init__(self, folder: Path, step: int | None = None) -> None:
        folder = folder.expanduser()
        self.folder = RunFolder(folder)
        require_run(folder)
        self.settings = self.folder.settings()
        self.result = self.folder.result()
        if not isinstance(self.settings.get("model_name"), str):
            raise CheckpointError(f"{folder / CONFIG}: it does not say which model was trained; {MADE_AGAIN}")
        kept = [record for record in self.folder.checkpoints() if record.sampler_path is not None]
        wanted = self.result.get("sampler_step") if step is None else step
        chosen = [record for record in kept if wanted in (None, record.step)]
        if not chosen:
            steps = ", ".join(str(record.step) for record in kept) or "none"
            raise CheckpointError(
                f"the run in {str(folder)!r} has no weights of step {wanted} to sample from; it has those of: {steps}"
            )
        self.record = chosen[-1]
        self._ended_with = self.result.get("sampler_step", self.record.step)

    @property
    def base_model(self) -> str:
        """The model that was adapted."""
        return str(self.settings["model_name"])

    @property
    def sampler_path(self) -> str:
        """Where the weights are, wherever the folder has been moved to."""
        return self.folder.checked(self.record, str(self.record.sampler_path))

    @cached_property
    def service(self) -> ServiceClient:
        """The engine that the run was made on."""
        from glowgenius.training.connection import ENGINES, connect

        engine = str(self.settings.get("engine"))
        return connect(engine if engine in ENGINES else "auto").service

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of the training."""
        from glowgenius.rendering.renderer import Renderer

        renderer = Renderer.for_model(self.base_model)
        with suppress(KeyError, TypeError, ValueError):  # most renderers write no day
            renderer = renderer.on_day(date.fromisoformat(self.settings["day"]))
        fingerprints: dict[str, Any] = self.settings.get("fingerprints") or {}
        then = fingerprints.get("renderer")
        if renderer.fingerprint != then:
            raise CheckpointError(
                f"the run was trained with another renderer than the one that fits {self.base_model!r} here "
                f"({self.settings.get('renderer')} then, {renderer.description} now); use it from Python, with that one"
            )
        return renderer

    def tuned(self) -> Sampler:
        """The trained model."""
        from glowgenius.engines.errors import mapped
        from glowgenius.training.sampler import Sampler

        with mapped(f"create_sampling_client of step {self.record.step}"):
            client = self.service.create_sampling_client(model_path=self.sampler_path).result()
        return Sampler(client, self.renderer, name="tuned", trained=self.trained)

    @cached_property
    def trained(self) -> Trained | None:
        """What it was trained on, as hashes; None where the run has kept none."""
        from glowgenius.data.trained import Trained

        path = self.folder.path / TRAINED
        try:
            values = read_object(
                path, within=self.folder.path, remedy="remove it, and nothing is known of what was trained"
            )
        except FileNotFoundError:
            return None
        return Trained.from_json(values, str(path))

    def base(self) -> Sampler:
        """The model as it was before."""
        from glowgenius.engines.errors import mapped
        from glowgenius.training.sampler import Sampler

        with mapped("create_sampling_client", model=self.base_model):
            client = self.service.create_sampling_client(base_model=self.base_model).result()
        return Sampler(client, self.renderer, name="base")

    def label(self, data: Path | None) -> str:
        """What a comparison on *data* is called in the folder."""
        asked = "held-out rows" if data is None else data.name
        return asked if self.record.step == self._ended_with else f"{asked}, step {self.record.step}"

    def questions(self, data: Path | None, options: Mapping[str, Any] | None = None) -> Dataset:
        """The rows of *data*, or those that the run has kept from training."""
        from glowgenius.cli.settings import read_rows
        from glowgenius.data.dataset import Dataset

        if data is not None:
            return read_rows(data, {"format": None, "columns": None, **(options or {})})
        kept = self.folder.path / HELD_OUT
        if not kept.is_file():
            raise ConfigError(f"the run in {str(self.folder.path)!r} has kept no rows to ask; name a file of questions")
        return Dataset.from_file(regular(kept, self.folder.path))


def require_run(folder: Path) -> None:
    """Look whether there is a run in *folder*.

    Raises:
        ConfigError: There is none; the message names those nearby.
    """
    folder = folder.expanduser()
    if (folder / CONFIG).is_file():
        return
    wrong = "is not the folder of a run: there is no config.json in it" if folder.exists() else "does not exist"
    within = _runs_in(folder) or _runs_in(folder.parent) or _runs_in(Path("runs"))
    more = f"; there {'is' if len(within) == 1 else 'are'} {', '.join(within[:_SHOWN])}" if within else ""
    raise ConfigError(f"{str(folder)!r} {wrong}{more}{nearest(str(folder), within)}")


def _runs_in(folder: Path) -> list[str]:
    """The runs in *folder*, the latest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if (path / CONFIG).is_file()]
    return [str(path) for path in sorted(found, key=lambda path: (-path.stat().st_mtime, path.name))]


def open_run(folder: Path, step: int | None = None) -> _Run:
    """The run in *folder*, with the weights of *step*, or those that it ended with.

    Raises:
        ConfigError: There is no run.
        CheckpointError: It has no such weights.
    """
    return _Run(folder, step)
