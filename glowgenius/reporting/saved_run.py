"""`open_run`: a run read back from its folder, with its settings, rows, checkpoints and models."""

from __future__ import annotations

import copy
import os
from contextlib import suppress
from datetime import date
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, cast, final

import attrs
from typing_extensions import override

from glowgenius._files import read_object, regular
from glowgenius._output import logger
from glowgenius._validators import is_integer
from glowgenius.data.dataset import Dataset
from glowgenius.data.trained import Trained
from glowgenius.engines.errors import mapped
from glowgenius.engines.keys import KEY_SOURCES
from glowgenius.engines.offered import context_length
from glowgenius.engines.sdk import adapted
from glowgenius.errors import (
    AuthenticationError,
    CheckpointError,
    ConfigError,
    ModelNotFoundError,
    NotPicklableError,
    RenderingError,
    nearest,
)
from glowgenius.lora.config import LoRAConfig
from glowgenius.reporting.run_page import comparison_of, keep_comparison, write_report
from glowgenius.training.adapter_export import export_adapter
from glowgenius.training.config import TrainingConfig
from glowgenius.training.connection import Connection, connect
from glowgenius.training.history import History
from glowgenius.training.recorder import Recorder
from glowgenius.training.run_folder import CONFIG, HELD_OUT, MADE_AGAIN, TRAINED, RunFolder
from glowgenius.training.run_identity import weights_of
from glowgenius.training.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.engines.protocol import ServiceClient
    from glowgenius.evaluation.compare import Comparison
    from glowgenius.export.destinations import Exported, Format, Tuned, Upload
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.checkpoints import CheckpointRecord

Step: TypeAlias = int | Literal["best", "last"] | None
"""Which weights: of a step, of the best evaluated step, of the last step; None takes those that the run ended with."""

Status: TypeAlias = Literal["completed", "interrupted", "failed", "not finished"]
"""How a run ended, or that it has not ended."""

_CHECKED: Final = 8
"""How many of the evaluation rows a merged model is compared on."""

_SHOWN: Final = 5
"""How many runs a message names."""

_LOG = logger("glowgenius.reporting")


def open_run(
    path: str | os.PathLike[str],
    *,
    renderer: object | None = None,
    service: ServiceClient | Connection | None = None,
    base_model: str | None = None,
) -> Run:
    """Open the folder of a run, moved or not: settings, history, checkpoints, and models to ask.

        run = open_run("runs/nyc")
        print(run.history.eval_loss)
        print(run.sampler().generate("Which borough is Yankee Stadium in?"))
        print(compare(run.base_sampler(), run.sampler(), run.held_out))

    No model is loaded and nothing is sent before a sampler is asked for.

    Args:
        path: The folder, which is the `output_dir` of the training.
        renderer: The renderer of the training, where it was not the one that fits the base model.
        service: The engine that has the weights, where it is neither this machine nor Tinker's hosted service: a
            service, or what `connect()` returns.
        base_model: Where the base model is now, if its folder was moved or its name has changed.

    Raises:
        ConfigError: There is no run in *path*; the message names those nearby. Or an argument does not fit.
        CheckpointError: A file of the run is damaged.
    """
    folder = _folder(path)
    require_run(folder)
    return Run(RunFolder(folder), renderer=renderer, service=service, base_model=base_model)


@final
class Run:
    """A run on disk. Made by `open_run`.

    Args:
        folder: Its folder.
        renderer: As for `open_run`.
        service: As for `open_run`.
        base_model: As for `open_run`.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        renderer: object | None = None,
        service: ServiceClient | Connection | None = None,
        base_model: str | None = None,
    ) -> None:
        self._folder = folder
        self._given = (renderer, service, base_model)
        self._samplers: dict[tuple[int, str], Sampler] = {}
        self._settings = folder.settings()
        self._result = folder.result()
        if not isinstance(self._settings.get("model_name"), str):
            raise CheckpointError(f"{folder.path / CONFIG}: it does not say which model was trained; {MADE_AGAIN}")

    @override
    def __repr__(self) -> str:
        steps = int(self.history.last.get("step", 0))
        return f"Run({str(self.path)!r}, base_model={self.base_model!r}, steps={steps}, status={self.status!r})"

    @override
    def __reduce__(self) -> Any:
        if self._given[1] is not None:
            raise NotPicklableError(
                "a Run with a service cannot be pickled, as that may hold an API key; call open_run() there"
            )
        renderer, _, base_model = self._given
        return _reopened, (str(self.path.resolve()), renderer, base_model)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __fspath__(self) -> str:
        return str(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the samplers and the service that were made here; the folder stays as it is."""
        self._samplers.clear()
        vars(self).pop("service", None)

    # --- what the folder says ---

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def base_model(self) -> str:
        """The model that was adapted."""
        return self._given[2] or str(self._settings["model_name"])

    @property
    def engine(self) -> str:
        """Where the run was trained: `local`, `tinker`, or the class of a service of the user's own."""
        return str(self._settings.get("engine"))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that `config.json` says, the versions of the packages and the header of the run included."""
        return MappingProxyType(copy.deepcopy(self._settings))

    @property
    def outcome(self) -> Mapping[str, Any]:
        """Everything that `result.json` says; empty for a run that is not finished."""
        return MappingProxyType(copy.deepcopy(self._result))

    @property
    def status(self) -> Status:
        """How the run ended."""
        return cast("Status", self._result.get("status", "not finished"))

    @cached_property
    def config(self) -> TrainingConfig:
        """The training settings.

        Raises:
            CheckpointError: They are not those of a run of this version.
        """
        return cast("TrainingConfig", self._made("training", TrainingConfig))

    @cached_property
    def lora(self) -> LoRAConfig | None:
        """The adapter's settings; None where the run was made around a client of the user's own.

        Raises:
            CheckpointError: They are not those of a run of this version.
        """
        return None if self._settings.get("lora") is None else self._made("lora", LoRAConfig)

    @cached_property
    def history(self) -> History:
        """One row per step.

        Raises:
            CheckpointError: A line of `metrics.jsonl` is damaged.
        """
        return History(self._folder.rows())

    @cached_property
    def checkpoints(self) -> tuple[CheckpointRecord, ...]:
        """Every checkpoint that was kept, in the order of the steps, with the paths as they are now.

        Raises:
            CheckpointError: A line of `checkpoints.jsonl` is damaged.
        """
        return tuple(self._folder.checkpoints())

    @cached_property
    def best_step(self) -> int | None:
        """The evaluated step with the best `config.metric_for_best`; None without an evaluation."""
        if "best_step" in self._result:
            return cast("int | None", self._result["best_step"])
        return Recorder(None, self.history, self.checkpoints).best_step(self.config.metric_for_best)

    @property
    def comparison(self) -> Comparison | None:
        """Base against tuned, as on the HTML report of the run; None where neither model was asked anything.

        That is what `keep_comparison` was given; else the first against the last `AnswerEvaluation` of the training.

        Raises:
            CheckpointError: A file of the comparison is damaged.
        """
        return comparison_of(self.path)

    @cached_property
    def trained(self) -> Trained | None:
        """The training rows as hashes, so that an evaluation can tell which questions were trained.

        None where the run was made by a version that kept none.

        Raises:
            CheckpointError: `trained.json` is damaged.
        """
        path = self.path / TRAINED
        try:
            values = read_object(path, within=self.path, remedy="remove it, and nothing is known of what was trained")
        except FileNotFoundError:
            return None
        return Trained.from_json(values, str(path))

    @cached_property
    def held_out(self) -> Dataset | None:
        """The rows of `eval_dataset`; None where the run was trained without one.

        Raises:
            CheckpointError: `held_out.jsonl` leads out of the folder.
            DatasetError: It is damaged.
        """
        kept = self.path / HELD_OUT
        return Dataset.from_file(regular(kept, self.path)) if kept.is_file() else None

    # --- weights ---

    def checkpoint(self, step: Step = None) -> CheckpointRecord:
        """The checkpoint with the weights of *step*.

        Args:
            step: A step; `"best"`; `"last"`; None takes the weights that the run ended with, and of a run that is not
                finished the last that it saved.

        Raises:
            ConfigError: *step* is none of these, or there is no best step.
            CheckpointError: The run has no such weights; the message lists those that it has.
        """
        wanted = self._number(step)
        kept = [record for record in self.checkpoints if record.sampler_path is not None]
        chosen = [record for record in kept if wanted in (None, record.step)]
        if chosen:
            return chosen[-1]
        steps = ", ".join(str(record.step) for record in kept) or "none"
        named = "" if wanted is None else f" of step {wanted}"
        more = "" if self.status == "completed" or kept else f": it is {self._told()}; {_RESUME}"
        raise CheckpointError(
            f"the run in {str(self.path)!r} has no weights{named} to sample from; it has those of: {steps}{more}"
        )

    def weights_path(self, step: Step = None) -> str:
        """Where the weights of *step* are: a folder in PEFT's format on this machine, or a `tinker://` path.

        Raises:
            ConfigError: As `checkpoint`.
            CheckpointError: As `checkpoint`; or they are gone, or lie outside of a folder that was copied here.
        """
        record = self.checkpoint(step)
        return self._folder.checked(record, str(record.sampler_path))

    @cached_property
    def service(self) -> ServiceClient:
        """The engine that has the weights, connected on first use.

        Raises:
            AuthenticationError: The weights are on Tinker, and there is no usable key.
            ConfigError: The run was trained on a service of the user's own, which `open_run` has to be given.
            MissingDependencyError: The weights are on this machine, and torch is not installed.
        """
        given = self._given[1]
        if given is not None:
            return adapted(given.service if isinstance(given, Connection) else given)
        if self.engine not in ("local", "tinker"):
            raise ConfigError(
                f"the run in {str(self.path)!r} was trained on a service of its own ({self.engine}); pass it, as in "
                f"open_run({str(self.path)!r}, service=...)"
            )
        try:
            return connect(self.engine).service
        except AuthenticationError as error:
            raise AuthenticationError(
                f"the weights of the run in {str(self.path)!r} are on Tinker, and opening them takes an API key "
                f"({KEY_SOURCES}): {error}"
            ) from None

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of the training, on the day of the training.

        Raises:
            CheckpointError: What was given, or what fits the base model here, is another renderer than that of the
                training.
            ModelNotFoundError: The tokenizer of the base model is not to be had here.
        """
        from glowgenius.rendering import as_renderer

        fingerprints: dict[str, Any] = self._settings.get("fingerprints") or {}
        then = fingerprints.get("renderer")
        given = self._given[0]
        candidates = [as_renderer(given)] if given is not None else self._offered()
        for candidate in candidates:
            renderer = candidate
            with suppress(KeyError, TypeError, ValueError):  # most renderers write no day
                renderer = candidate.on_day(date.fromisoformat(self._settings["day"]))
            if renderer.fingerprint == then:
                return renderer
        was, found = self._settings.get("renderer"), candidates[0].description
        if given is not None:
            raise CheckpointError(
                f"the run in {str(self.path)!r} was trained with another renderer than the one that was given "
                f"({was} then, {found} now): another template, vocabulary or settings; pass the one of the training"
            )
        raise CheckpointError(
            f"the run was trained with another renderer than the one that fits {self.base_model!r} here "
            f"({was} then, {found} now); use it from Python, with that one: "
            f"open_run({str(self.path)!r}, renderer=...)"
        )

    def sampler(self, step: Step = None, *, name: str = "tuned") -> Sampler:
        """The trained model.

        Args:
            step: As for `checkpoint`.
            name: What the model is called in tables and reports.

        Raises:
            ConfigError: As `checkpoint`, or as `service`.
            CheckpointError: As `weights_path`, or as `renderer`.
            EngineError: The engine refused or failed.
        """
        record, path = self.checkpoint(step), self.weights_path(step)
        key = (record.step, name)
        if key not in self._samplers:
            if step is None and self.status != "completed":
                _LOG.warning("the run in %s is %s: these are the weights of step %d", self.path, self._told(), key[0])
            renderer = self.renderer
            with mapped(f"create_sampling_client of step {record.step}", model=self.base_model):
                client = self._client(model_path=path, **self._moved())
            self._samplers[key] = Sampler(
                client, renderer, name=name, trained=self.trained, context_length=self._context_length
            )
        return self._samplers[key]

    def base_sampler(self) -> Sampler:
        """The base model without the adapter, with the same renderer: what to compare with.

        Raises:
            ConfigError: As `service`.
            CheckpointError: As `renderer`.
            EngineError: The engine refused or failed.
        """
        renderer = self.renderer
        self._moved()
        with mapped("create_sampling_client", model=self.base_model):
            client = self._client(base_model=self.base_model)
        return Sampler(client, renderer, name="base", context_length=self._context_length)

    def save_adapter(self, directory: str | os.PathLike[str], *, step: Step = None) -> Path:
        """Copy the adapter in PEFT's format, with a model card as README.md; from Tinker it is downloaded.

        Args:
            directory: A folder that does not exist yet, or is empty.
            step: As for `checkpoint`.

        Returns:
            The folder.

        Raises:
            ConfigError: The folder holds something already; or as `checkpoint`.
            CheckpointError: As `weights_path`; or the weights are on a service that gives none out.
            EngineError: The service refused or failed.
        """
        record, path = self.checkpoint(step), self.weights_path(step)
        return export_adapter(
            directory,
            sampler_path=path,
            state_path=record.state_path,
            step=record.step,
            base_model=self.base_model,
            service=self.service if "://" in path else None,
            settings=self._settings,
            rows=self.history.rows,
        )

    def export(
        self,
        directory: str | os.PathLike[str],
        *,
        format: Format = "adapter",  # noqa: A002 - as pandas and others call it
        dtype: str = "auto",
        step: Step = None,
        check: bool = True,
    ) -> Exported:
        """Write the weights in the form that a destination takes; the folder appears whole or not at all.

        | format | what is written |
        | --- | --- |
        | `adapter` | the adapter for `peft`, as `save_adapter` |
        | `merged` | a model that `transformers` and vLLM open without us, compared with the adapter on the spot |
        | `gguf` | the merged model as one file for llama.cpp, LM Studio and Ollama, with a `Modelfile` |
        | `gguf-adapter` | the adapter alone, for `llama-server --lora` |
        | `vllm` | an adapter that vLLM and SGLang load, with the lines that serve it |

        Args:
            directory: A folder that does not exist yet, or is empty.
            format: As in the table.
            dtype: Of a merged model `auto` (as the base model's files), `float32`, `float16` or `bfloat16`; of a GGUF
                file `auto` (f16), `f32`, `f16`, `bf16` or `q8_0`. An adapter stays as it is.
            step: As for `checkpoint`.
            check: Whether a merged model is compared with the adapter beside its base, on questions of the run.

        Returns:
            What was written, with the lines to copy; printed, it says all of it.

        Raises:
            ConfigError: There is no such format or type, the folder holds something, or the destination refuses the
                adapter.
            CheckpointError: As `weights_path`; or the merged model is not the tuned model.
            ModelNotFoundError: The base model is not to be had here, or has no such form.
            MissingDependencyError: A package is not installed.
            EngineError: The service refused or failed.
        """
        from glowgenius.export.destinations import export_tuned

        return export_tuned(self._tuned(step), directory, format=format, dtype=dtype, check=check)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = True,
        format: Format = "adapter",  # noqa: A002 - as in export
        dtype: str = "auto",
        step: Step = None,
        dry_run: bool = False,
        token: str | None = None,
        endpoint: str | None = None,
    ) -> Upload:
        """Upload the adapter, or another export, with its model card, and nothing else of the run.

        Args:
            repository: `owner/name`, or `name` for one of your own.
            private: Whether only you see a repository that is made.
            format: As for `export`.
            dtype: As for `export`.
            step: As for `checkpoint`.
            dry_run: Whether nothing is sent, and only the files listed.
            token: Of the hub; None takes that of `hf auth login` or `HF_TOKEN`.
            endpoint: Where the hub is; None takes the public one, or `HF_ENDPOINT`.

        Returns:
            Where it is, and the files; printed, it lists them.

        Raises:
            ConfigError: The name is none, or the repository is public and *private* was asked for; or as `export`.
            AuthenticationError: There is no token, or it may not write there.
            ServiceUnavailableError: The hub does not answer.
            EngineError: The hub refused.
        """
        from glowgenius.export.destinations import push

        return push(
            self._tuned(step),
            repository,
            private=private,
            format=format,
            dtype=dtype,
            dry_run=dry_run,
            token=token,
            endpoint=endpoint,
        )

    def _tuned(self, step: Step) -> Tuned:
        """The weights of *step*, for an export."""
        from glowgenius.export.destinations import Tuned

        record, path = self.checkpoint(step), self.weights_path(step)
        held = self.held_out
        return Tuned(
            sampler_path=path,
            state_path=record.state_path,
            step=record.step,
            base_model=self.base_model,
            service=lambda: self.service,
            settings=self._settings,
            rows=self.history.rows,
            renderer=lambda: self.renderer,
            questions=() if held is None else tuple(held[:_CHECKED]),
            name=self.path.resolve().name,
        )

    # --- afterwards ---

    def keep_comparison(self, comparison: Comparison, label: str = "") -> None:
        """Write *comparison* into the folder, where `report` and the command line find it.

        Args:
            comparison: What `glowgenius.compare` returned.
            label: What was asked, such as the name of a file; one of the same label is replaced.
        """
        keep_comparison(self.path, comparison, label)

    def report(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        comparison: Comparison | None = None,
        header: Mapping[str, object] | None = None,
    ) -> Path:
        """Write the run on one HTML page: settings, masks, curves, and answers where they were asked.

        Args:
            path: The file to write; None is `report.html` in the folder.
            comparison: Kept in the folder, and shown.
            header: Further facts of the run, name and value.

        Returns:
            The path of the page.

        Raises:
            CheckpointError: A file of the run is damaged.
        """
        return write_report(path, run=self.path, comparison=comparison, header=header)

    # --- inside ---

    def _made(self, name: str, kind: type[Any]) -> Any:
        """The settings under *name* in `config.json` as a *kind*."""
        values: Any = self._settings.get(name)
        try:
            known = {one.name for one in attrs.fields(kind)}
            return kind(**{name: value for name, value in dict(values).items() if name in known})
        except (ConfigError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path / CONFIG}: {name!r} holds what no run writes ({error}); {MADE_AGAIN}"
            ) from error

    def _number(self, step: Any) -> int | None:
        """The step that is meant; None for the last weights that there are."""
        if step is None:
            return cast("int | None", self._result.get("sampler_step"))
        if step == "last":
            return None
        if step == "best":
            if self.best_step is None:
                raise ConfigError(
                    f"the run in {str(self.path)!r} has no best step: it takes an eval_dataset, metric_for_best, and "
                    "one evaluation after an update"
                )
            return self.best_step
        if not is_integer(step):
            raise ConfigError(
                f"step must be None, a step of the run, 'best' or 'last', got {step!r} ({type(step).__name__})"
                f"{nearest(step, ('best', 'last')) if isinstance(step, str) else ''}"
            )
        return int(step)

    def _told(self) -> str:
        if self.status == "not finished":
            return "not finished"
        return f"not finished ({self.status} at step {self._result.get('step')})"

    def _offered(self) -> list[Renderer]:
        """The renderers that can be made from the name of the base model alone."""
        from glowgenius.rendering import QuestionAnswerRenderer, Renderer

        try:
            first = Renderer.for_model(self.base_model)
        except ModelNotFoundError as error:
            raise ModelNotFoundError(f"{error}. {self._elsewhere('renderer')}") from error
        offered = [first]
        if self._settings.get("renderer_name") == QuestionAnswerRenderer.__name__:
            with suppress(RenderingError):
                offered.append(QuestionAnswerRenderer(first.tokenizer))
        return offered

    def _elsewhere(self, more: str) -> str:
        """What to do where the base model is not found under the name that it had."""
        opened = f"open_run({str(self.path)!r}"
        return (
            f"The run in {str(self.path)!r} was trained on {self._settings['model_name']!r}: if that was moved, say "
            f"where it is now, {opened}, base_model=...)"
            + (f"; if the run had a tokenizer or renderer of its own, pass it, {opened}, renderer=...)" if more else "")
        )

    def _moved(self) -> dict[str, str]:
        """The base model as an argument, where it is not what the checkpoint names.

        Raises:
            CheckpointError: It has other weights than the one that was adapted.
        """
        given = self._given[2]
        if given is None or given == self._settings["model_name"]:
            return {}
        then = self.checkpoints[-1].identity.get("weights") if self.checkpoints else None
        if self.engine == "local" and then is not None and weights_of("local", given, self.lora) not in (None, then):
            raise CheckpointError(
                f"base_model={given!r} has other weights than the {self._settings['model_name']!r} that the run in "
                f"{str(self.path)!r} adapted; name the same model"
            )
        return {"base_model": given}

    def _context_length(self) -> int | None:
        return context_length(self.service, self.base_model)

    def _client(self, **which: str) -> Any:
        try:
            return self.service.create_sampling_client(**which).result()
        except ModelNotFoundError as error:
            raise ModelNotFoundError(f"{error}. {self._elsewhere('')}") from error


_RESUME: Final = "go on with it, train(..., resume_from_checkpoint=True)"


def _reopened(path: str, renderer: object, base_model: str | None) -> Run:
    return open_run(path, renderer=renderer, base_model=base_model)


def _folder(path: object) -> Path:
    """*path* as the folder of a run; callers without types pass all sorts of things."""
    try:
        return Path(os.fspath(cast("str", path))).expanduser()
    except TypeError:
        raise ConfigError(f"open_run takes the folder of a run, got {path!r} ({type(path).__name__})") from None


def require_run(folder: Path) -> None:
    """Check that there is a run in *folder*, or raise `ConfigError` that names those nearby."""
    folder = folder.expanduser()
    if RunFolder(folder).is_run():
        return
    wrong = "does not exist"
    if folder.exists():
        held = (folder / CONFIG).exists()
        found = "config.json in it is not one of a run" if held else "there is no config.json in it"
        wrong = f"is not the folder of a run: {found}"
    within = _runs_in(folder) or _runs_in(folder.parent) or _runs_in(Path("runs"))
    more = f"; there {'is' if len(within) == 1 else 'are'} {', '.join(within[:_SHOWN])}" if within else ""
    raise ConfigError(f"{str(folder)!r} {wrong}{more}{nearest(str(folder), within)}")


def _runs_in(folder: Path) -> list[str]:
    """The runs in *folder*, the latest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if RunFolder(path).is_run()]
    return [str(path) for path in sorted(found, key=lambda path: (-path.stat().st_mtime, path.name))]
