"""What an engine has stored: checkpoints that are verified where they lie on this machine, and deleted again.

A checkpoint of the local engine is a folder of safetensors and JSON. Its `glowgenius.json` is written last, and has the
size and the SHA-256 of every other file, the number of updates, and a digest of all that. Nothing here loads torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final

from attrs import frozen

from glowgenius._files import sync
from glowgenius.engines.protocol import SupportsDeletion
from glowgenius.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from glowgenius.engines.protocol import FutureLike, TrainingClient
    from glowgenius.typing import JSON

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

    if isinstance(client, tinker.TrainingClient):
        # Over the client's own connection: a RestClient of its own would ask the environment for a key, which need not
        # be that of the service.
        return tinker.RestClient(client.holder).delete_checkpoint_from_tinker_path(path)
    return client.delete_checkpoint(path) if isinstance(client, SupportsDeletion) else None
