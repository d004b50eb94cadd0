"""A service's base models, context lengths, request order, and checkpoints with their download."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.request
from concurrent.futures import Future
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final, cast, final

from attrs import frozen

from glowgenius._files import make_folder, sync, writing
from glowgenius._output import logger
from glowgenius.engines.errors import MODELS_SHOWN, mapped, translate
from glowgenius.engines.protocol import SupportsContext, SupportsDeletion
from glowgenius.engines.sdk import adapted, lacks, original, rest_client, undeprecated, wait_for_place
from glowgenius.errors import (
    AuthenticationError,
    BillingError,
    CheckpointError,
    Problem,
    ServiceUnavailableError,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from glowgenius.engines.protocol import FutureLike, ServiceClient, TrainingClient
    from glowgenius.typing import JSON

SECONDS: Final = 15.0
"""How long the answer may take, counted from the end of everything else; the SDK itself would wait for minutes."""

_NEAREST: Final = 3
_PART: Final = 1 << 20
_NAME = "get_server_capabilities"


@final
@frozen(kw_only=True)
class OfferedModel:
    """One model that a service lists."""

    name: str
    """What `base_model` has to be."""

    trainable: bool
    """Whether it can be trained, and not only sampled from."""

    context: int | None
    """The most tokens that it takes, where the service says so."""


@final
@frozen(kw_only=True)
class Offer:
    """What a service offers: its models, or why they are unknown."""

    models: tuple[OfferedModel, ...] = ()
    """Every model that it lists; none where it does not say."""

    silence: str | None = None
    """Why it does not say."""

    def problem(self, base_model: str) -> Problem | None:
        """What is wrong with training *base_model* on this service, as far as it says."""
        known = {model.name: model for model in self.models}
        if not known:
            return None
        if base_model in known and known[base_model].trainable:
            return None
        found = f"the service does not have {base_model!r}"
        if base_model in known:
            found = f"the service has {base_model!r} for sampling only"
        return Problem(field="base_model", found=found, accepted=_near(base_model, self.models))

    def context(self, base_model: str) -> int | None:
        """The most tokens that *base_model* takes, where the service says so."""
        return next((model.context for model in self.models if model.name == base_model), None)


def context_length(service: object, base_model: str) -> int | None:
    """The most tokens that a row of *base_model* may have on *service*; None where there is no limit, or none is known.

    Raises:
        ModelNotFoundError: There is no such model.
        AuthenticationError: The service refuses the key.
        BillingError: The account cannot pay.
    """
    if isinstance(service, SupportsContext):
        return service.context_length(base_model)
    return OfferQuestion(service).answer().context(base_model)


@final
class OfferQuestion:
    """Asks *service* which models it has, and goes on; a service that cannot be asked is not.

    No row and no setting is sent, and nothing is charged for it.
    """

    def __init__(self, service: object) -> None:
        self._answer: Future[Offer] = Future()
        method = getattr(type(service), _NAME, None)
        if method is None:
            self._answer.set_result(Offer())
            return
        # The SDK has announced another place for its method, and warns; there is none yet that knows this service's
        # own address and key. A thread of ours that is left behind when the process ends is what a daemon is for.
        ask = undeprecated(method)
        threading.Thread(target=self._ask, args=(ask, service), name="glowgenius-offer", daemon=True).start()

    def answer(self, seconds: float = SECONDS) -> Offer:
        """What the service said; silence where it does not within so many seconds, or fails.

        Raises:
            AuthenticationError: It refuses the key.
            BillingError: The account cannot pay.
        """
        try:
            return self._answer.result(seconds)
        except TimeoutError:
            return Offer(silence=f"nothing came within {seconds:g} s")
        except (AuthenticationError, BillingError):
            raise
        except Exception as error:  # noqa: BLE001 - the run's own requests will say it again, if it stays so
            return Offer(silence=str(error))

    def _ask(self, ask: Callable[[Any], Any], service: object) -> None:
        try:
            told = ask(service)
            if callable(getattr(told, "result", None)):
                told = told.result()
            self._answer.set_result(_read(told))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            self._answer.set_exception(translate(error, "asking the service for its models"))


def _read(told: Any) -> Offer:
    return Offer(
        models=tuple(
            OfferedModel(
                name=str(model.model_name),
                trainable=getattr(model, "trainable", None) is not False,
                context=getattr(model, "max_context_length", None),
            )
            for model in told.supported_models
            if model.model_name
        )
    )


def _near(base_model: str, models: tuple[OfferedModel, ...]) -> str:
    """The nearest of the names that can be trained, else all of them."""
    names = sorted(model.name for model in models if model.trainable)
    if not names:
        return "another service, as it trains none of its models"
    spellings = {name.lower(): name for name in names}
    close = get_close_matches(base_model.lower(), spellings, n=_NEAREST, cutoff=0.6)
    if len(names) == 1:
        return f"{names[0]!r}, its only model"
    count = f"its {len(names)} models"
    if close:
        return f"one of {count}, such as {', '.join(repr(spellings[name]) for name in close)}"
    more = f" and {len(names) - MODELS_SHOWN} more" if len(names) > MODELS_SHOWN else ""
    return f"one of {count}: {', '.join(map(repr, names[:MODELS_SHOWN]))}{more}"


EXPORT_SECONDS: Final = 3600
"""How long the service keeps an export that could not be deleted; the least that it accepts."""

SILENCE_SECONDS: Final = 60
"""After so long without a byte a download has failed."""

_LOG = logger("glowgenius.engines")


def download_adapter(service: ServiceClient | None, state_path: str, directory: Path) -> None:
    """Let the service export the adapter of a saved state, and fetch its files into *directory*.

    The SDK exports through a training client, so a run is made from the state; the export is deleted behind it.

    Args:
        service: Where the state is.
        state_path: What `save_state` returned. Weights for sampling cannot be exported.
        directory: An empty folder.

    Raises:
        CheckpointError: *service* is not Tinker's, or what it gives out is no adapter.
        EngineError: The service refused or failed.
    """
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    by_hand = f"fetch them in PEFT's format with: tinker checkpoint download {state_path}"
    if service is None or not isinstance(original(service), tinker.ServiceClient):
        raise CheckpointError(f"the weights are on the service, at {state_path}; {by_hand}")
    if not hasattr(tinker.TrainingClient, "save_weights_external"):
        raise CheckpointError(f"the weights are on the service, at {state_path}; {lacks('exports of adapters')}")
    with mapped(f"export of {state_path}"):
        client: Any = adapted(service).create_training_client_from_state(state_path).result()
        rest: Any = rest_client(client)
        if rest is None:
            raise CheckpointError(f"the weights are on the service, at {state_path}; {by_hand}")
        exported: str = client.save_weights_external("adapter", ttl_seconds=EXPORT_SECONDS).result().path
        try:
            urls = rest.get_external_weights_urls(exported).result().urls
            for name, target in _targets(urls, directory).items():
                _fetch(urls[name], target)
        finally:
            try:
                rest.delete_checkpoint_from_tinker_path(exported).result()
            except Exception as error:  # noqa: BLE001 - it goes by itself
                _LOG.warning("the export %s could not be deleted and expires in an hour: %s", exported, error)


def _targets(urls: dict[str, str], directory: Path) -> dict[str, Path]:
    """Where each file goes; a name that leads out of the folder is refused before anything is fetched."""
    targets: dict[str, Path] = {}
    for name in sorted(urls):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
            raise CheckpointError(f"the export names a file outside of its folder, {name!r}; nothing was fetched")
        targets[name] = directory.joinpath(*path.parts)
    return targets


def _fetch(url: str, target: Path) -> None:
    if not url.startswith(("https://", "http://")):
        raise CheckpointError("the export has an address that is neither https nor http; nothing was fetched from it")
    make_folder(target.parent)
    try:
        # The scheme was checked; the address is signed, so it stays out of messages.
        with urllib.request.urlopen(url, timeout=SILENCE_SECONDS) as answer:  # noqa: S310
            _store(answer, target)
    except StorageError:
        raise
    except OSError as error:
        raise ServiceUnavailableError(f"{target.name} could not be downloaded: {error}; try again") from None


def _store(answer: IO[bytes], target: Path) -> None:
    """Write what arrives; an error of the network stays one, and one of the disk becomes a StorageError."""
    with ExitStack() as stack:
        with writing(target):
            file = stack.enter_context(target.open("wb", buffering=0))
        while part := answer.read(_PART):
            with writing(target):
                file.write(part)


def settle_place(client: TrainingClient, saved: FutureLike[object]) -> None:
    """Return when *saved*, the last call made on *client*, has its place in the order.

    A training client numbers its calls, and that number is their order on the service. tinker 0.38 takes the number
    while the method is called, with one exception: `save_weights_for_sampler` takes it later, on the SDK's own thread.
    A `forward_backward` and an `optim_step` submitted right behind it can overtake it, and the saved weights are then
    those of a later step. Call this between the two. It waits for that thread to come round, not for the service.
    """
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    if isinstance(original(client), tinker.TrainingClient):
        wait_for_place(client, saved)


FORMAT: Final = 1
"""The layout of a checkpoint folder; the files and digests of later versions are added to it."""

WEIGHTS, PEFT, STATE, OPTIMIZER = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "glowgenius.json",
    "optimizer.safetensors",
)
"""The files of a checkpoint folder; the last one is there where training can go on."""

PREFIX: Final = "base_model.model."
"""What PEFT puts in front of the name of a layer."""

_MOMENTS: Final = ("step", "exp_avg", "exp_avg_sq")
_KNOWN: Final = {"format": int, "base_model": str, "spec": dict, "updates": int, "metadata": dict}
"""What `glowgenius.json` says, beside `files` and `digest`."""

_Tensors = dict[str, tuple[str, list[int]]]
"""Tensor → its type, as safetensors calls it, and its shape."""


@final
@frozen(kw_only=True)
class StoredCheckpoint:
    """What a verified checkpoint folder says about itself."""

    path: str
    """Where it lies, as it was asked for."""

    updates: int
    """How many optimizer steps are in it."""

    resumable: bool
    """Whether it holds an optimizer, so that training can go on from it."""

    digest: str | None
    """SHA-256 over all that it holds; None where a version that kept none wrote it."""


def stored_checkpoint(path: str) -> StoredCheckpoint | None:
    """Verify the checkpoint at *path*: every byte against what was written, and every tensor against the others.

    A folder without digests, as earlier versions wrote it, is verified as far as its tensors tell.

    Returns:
        What it is; None where *path* is an address such as `tinker://…`, of which only the engine knows.

    Raises:
        CheckpointError: There is none, it is incomplete or damaged, or a newer version wrote it.
    """
    return None if "://" in path else _verified(path)[0]


def stored_digest(path: str) -> str | None:
    """The digest that the checkpoint at *path* says it has, without a look at the rest; None where there is none."""
    try:
        digest = _state(Path(path)).get("digest")
    except (OSError, ValueError):
        return None
    return digest if isinstance(digest, str) else None


def is_exported(path: str) -> bool:
    """Whether *path* is an adapter that was exported from a checkpoint, with a config that names another base model.

    Only the config may differ from what was written, and there neither rank nor alpha.
    """
    folder = Path(path)
    try:
        state = _state(folder)
        config: dict[str, Any] = json.loads((folder / PEFT).read_text(encoding="utf-8"))
        same = (config["r"], float(config["lora_alpha"])) == (state["spec"]["rank"], float(state["spec"]["alpha"]))
        return same and bool(state["files"][WEIGHTS]["sha256"] == _sha256(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_state(path: str) -> dict[str, Any]:
    """What `glowgenius.json` says of the checkpoint at *path*, which is verified.

    Raises:
        CheckpointError: As `stored_checkpoint` does.
    """
    return _verified(path)[1]


def _verified(path: str) -> tuple[StoredCheckpoint, dict[str, Any]]:
    folder = Path(path)
    if not (folder / STATE).is_file():
        raise CheckpointError(
            f"no checkpoint at {path!r}. Accepted: the `.path` that save_state() or save_weights_for_sampler() "
            f"of the local engine returned, a folder with {STATE} and {WEIGHTS}."
        )
    try:
        state = _state(folder)
        if state["format"] != FORMAT:
            raise CheckpointError(
                f"the checkpoint at {path!r} has format {state['format']!r}, this version reads {FORMAT}: "
                f"update glowgenius"
            )
        digest: str | None = state.get("digest")
        updates, resumable = state["updates"], (folder / OPTIMIZER).is_file()
        if digest is not None:
            _check_files(folder, state)
            resumable = OPTIMIZER in state["files"]
        _check_tensors(folder, state, resumable=resumable, unsure=digest is None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"the checkpoint at {path!r} cannot be read: {reason}. "
            f"Its files are incomplete or damaged; use another checkpoint of the run."
        ) from error
    return StoredCheckpoint(path=path, updates=updates, resumable=resumable, digest=digest), state


def seal(folder: Path, state: Mapping[str, JSON]) -> None:
    """Write `glowgenius.json` with *state* and the digests of the other files of *folder*; all of it is on the disk.

    The files may be read by whoever may read this one, however they were made.
    """
    files = {one.name: {"bytes": one.stat().st_size, "sha256": _sha256(one)} for one in sorted(folder.iterdir())}
    whole: dict[str, JSON] = {**state, "format": FORMAT, "files": cast("JSON", files)}
    text = json.dumps({**whole, "digest": _digest(whole)}, indent=1, sort_keys=True)
    (folder / STATE).write_text(text, encoding="utf-8")
    mode = (folder / STATE).stat().st_mode
    for one in sorted(folder.iterdir()):
        one.chmod(mode)  # safetensors keeps others out, which JSON files do not
        sync(one)
    sync(folder)


def _state(folder: Path) -> dict[str, Any]:
    try:
        state: Any = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{STATE} is not JSON: {error}") from error
    found = cast("dict[str, Any]", state) if isinstance(state, dict) else {"": state}
    wrong = [f"{found.get(name)!r} for {name!r}" for name, kind in _KNOWN.items() if type(found.get(name)) is not kind]
    # What an earlier version wrote has no more than that; with a digest, any change of a name or a value shows.
    wrong += [f"an unknown {name!r}" for name in found if "digest" not in found and name not in _KNOWN]
    if wrong:
        raise ValueError(f"{STATE} has {wrong[0]}")
    return found


def _check_files(folder: Path, state: Mapping[str, Any]) -> None:
    """Compare every file with what was written."""
    if state["digest"] != _digest({name: value for name, value in state.items() if name != "digest"}):
        raise ValueError(f"{STATE} is not what was written, as its digest shows")
    for name, written in state["files"].items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{name} is missing")
        if file.stat().st_size != written["bytes"]:
            raise ValueError(f"{name} has {file.stat().st_size:,} bytes where {written['bytes']:,} were written")
        if _sha256(file) != written["sha256"]:
            raise ValueError(f"{name} is not what was written, as its SHA-256 shows")
    if OPTIMIZER not in state["files"] and (folder / OPTIMIZER).exists():
        raise ValueError(f"{OPTIMIZER} was added to it")


def _check_tensors(folder: Path, state: Mapping[str, Any], *, resumable: bool, unsure: bool) -> None:
    """Compare the tensors with each other; where nothing else tells (*unsure*), look for zeros too."""
    adapter = _tensors(folder / WEIGHTS)
    matrices: dict[str, list[int]] = {}
    for name, (_, shape) in adapter.items():
        matrices[name.removeprefix(PREFIX).removesuffix(".weight")] = shape
    layers = {name.rpartition(".")[0] for name in matrices}
    wanted = [f"{PREFIX}{layer}.{which}.weight" for layer in layers for which in ("lora_A", "lora_B")]
    _compare(WEIGHTS, adapter, wanted)
    rank = state["spec"]["rank"]
    for name, shape in matrices.items():
        at = 0 if name.endswith("lora_A") else 1
        if len(shape) != 2 or shape[at] != rank:  # noqa: PLR2004 - a matrix
            raise ValueError(f"{WEIGHTS}: {name!r} has the shape {shape}, which is not of rank {rank}")
    if unsure:
        # A of a fresh adapter is drawn, and no update makes all of it zero.
        _refuse_zeros(folder / WEIGHTS, [name for name in wanted if name.endswith("lora_A.weight")])
    if resumable:
        _check_moments(folder / OPTIMIZER, matrices, state["updates"])


def _check_moments(file: Path, matrices: Mapping[str, list[int]], updates: int) -> None:
    moments = _tensors(file)
    shapes = {f"{name}.{key}": [] if key == "step" else shape for name, shape in matrices.items() for key in _MOMENTS}
    _compare(file.name, moments, shapes if updates else ())
    for name, (_, shape) in moments.items():
        if shape != shapes[name]:
            raise ValueError(f"{file.name}: {name!r} has the shape {shape} where its matrix needs {shapes[name]}")
    for name, value in _values(file, [name for name in moments if name.endswith(".step")]):
        if float(value) != updates:
            raise ValueError(f"{file.name}: {name!r} is {float(value):g} where {STATE} says {updates} updates")


def _compare(file: str, found: _Tensors, wanted: Iterable[str]) -> None:
    names = set(wanted)
    if missing := sorted(names - set(found)):
        raise ValueError(f"{file} lacks {len(missing)} of {len(names)} tensors, such as {missing[0]!r}")
    if unknown := sorted(set(found) - names):
        raise ValueError(f"{file} holds {unknown[0]!r}, which belongs to no matrix of the adapter")
    if not found and file == WEIGHTS:
        raise ValueError(f"{file} holds no tensors")
    if other := [name for name, (dtype, _) in found.items() if dtype != "F32"]:
        raise ValueError(f"{file}: {other[0]!r} is of the type {found[other[0]][0]} where float32 was written")


def _refuse_zeros(file: Path, names: Iterable[str]) -> None:
    for name, value in _values(file, names):
        if not value.any():
            raise ValueError(f"{file.name}: {name!r} is zero throughout")


def _tensors(file: Path) -> _Tensors:
    """What the header of *file* says."""
    with _opened(file) as tensors:
        slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - it is no mapping
        return {name: (str(one.get_dtype()), list(one.get_shape())) for name, one in slices.items()}


def _values(file: Path, names: Iterable[str]) -> list[tuple[str, Any]]:
    with _opened(file) as tensors:
        return [(name, tensors.get_tensor(name)) for name in names]


def _opened(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise ValueError(f"{file.name} is missing")
    try:
        return safe_open(str(file), framework="numpy")
    except SafetensorError as error:  # derives from Exception alone
        raise ValueError(f"{file.name}: {error}") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(state: Mapping[str, JSON]) -> str:
    return hashlib.sha256(json.dumps(dict(state), sort_keys=True).encode()).hexdigest()


def delete_checkpoint(client: TrainingClient, path: str) -> FutureLike[None] | None:
    """Delete what `save_state` or `save_weights_for_sampler` has stored at *path*.

    Returns:
        The deletion, under way; None where the engine offers none.
    """
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    if isinstance(original(client), tinker.TrainingClient):
        rest = rest_client(client)
        return None if rest is None else rest.delete_checkpoint_from_tinker_path(path)
    return client.delete_checkpoint(path) if isinstance(client, SupportsDeletion) else None
