"""Initial weights from an earlier run, a checkpoint or an adapter, for a second training stage.

Weights only. The optimizer, the learning rate schedule, the data and the step count of the new run start afresh; going
on with the same run is `resume_from_checkpoint`.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final

import attrs
from attrs import frozen

from glowgenius.engines.errors import mapped
from glowgenius.engines.offered import PEFT, STATE, WEIGHTS, read_state, stored_digest
from glowgenius.engines.protocol import SupportsAdapterFolders
from glowgenius.errors import CheckpointError, ConfigError
from glowgenius.lora.config import DEFAULT_ALPHA, LoRAConfig
from glowgenius.models.catalog import SHORT_NAMES
from glowgenius.training.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.engines.protocol import ServiceClient, TrainingClient
    from glowgenius.training.checkpoints import CheckpointRecord
    from glowgenius.typing import JSON

INITIAL: Final = "initial_weights"
"""Where `config.json`, and the identity of a run, name the weights that it began with."""

_ACCEPTED: Final = (
    "the folder of a run, what open_run() or train() returned, a checkpoint's path (tinker://… of a saved state), or, "
    "on the local engine, the folder of an adapter"
)


@final
@frozen(kw_only=True)
class InitialWeights:
    """Weights of an earlier training run, and where they come from."""

    path: str
    """What the engine is given: an address, or a folder on this machine."""

    base_model: str | None = None
    """The model that they were trained on, as it was named then."""

    lora: LoRAConfig | None = None
    """Size and place of their adapter, where it is known."""

    run: str | None = None
    """The folder of the run that trained them."""

    step: int | None = None
    """The updates in them, of that run."""

    data: str | None = None
    """The fingerprint of the data that they were trained on."""

    digest: str | None = None
    """The digest of the checkpoint, where it lies on this machine."""

    base_weights: str | None = None
    """The fingerprint of the base model's weights then, where those lay on this machine."""

    before: Mapping[str, JSON] | None = None
    """What that run had begun with in its turn, as its `config.json` says."""

    @property
    def identity(self) -> str:
        """The part of the run identity that identifies these weights."""
        return self.digest or self.path

    def to_json(self) -> dict[str, JSON]:
        """The entry of these weights in `config.json`."""
        values = attrs.asdict(self, recurse=True)
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> InitialWeights | None:
        """The weights that `to_json` wrote; None if the value is something else."""
        names = {each.name for each in attrs.fields(cls)}
        known: dict[str, Any] = {name: value for name, value in values.items() if name in names}
        if not isinstance(known.get("path"), str):
            return None
        known["lora"] = _lora(_object(known.get("lora")))
        return cls(**known)

    def told(self) -> str:
        """Where the weights come from, as one line for the header."""
        where = self.path if self.run is None else self.run
        step = "" if self.step is None else f", step {self.step}"
        size = "" if self.lora is None else f" (rank {self.lora.rank})"
        return f"initial weights: {where}{step}{size}; optimizer and schedule start afresh"


def weights_named(source: object) -> InitialWeights:
    """Find the weights that a user names: a run, its folder, a checkpoint or an adapter.

    Of a run, they are those that it ended with: of its last step, or of the one that `EarlyStopping` restored.

    Raises:
        ConfigError: It is none of these.
        CheckpointError: There are no such weights, or what there is of them is damaged.
    """
    step: object = getattr(source, "sampler_step", None)
    if isinstance(step, int):  # what `train` returned
        kept: object = getattr(source, "output_dir", None)
        return _of_run(RunFolder(kept), step) if isinstance(kept, Path) else _of_result(cast("Any", source), step)
    if not isinstance(source, str | os.PathLike):
        raise ConfigError(f"initial_weights must be {_ACCEPTED}; got {source!r} ({type(source).__name__})")
    path = str(os.fspath(cast("str | os.PathLike[str]", source)))
    if "://" in path:
        return InitialWeights(path=path)
    folder = Path(path).expanduser()
    if (folder / STATE).is_file() or (folder / PEFT).is_file():
        return _of_folder(folder.resolve())
    if RunFolder(folder).exists():
        return _of_run(RunFolder(folder), None)
    wrong = "holds neither a run nor a checkpoint nor an adapter" if folder.exists() else "does not exist"
    raise ConfigError(f"initial_weights: {path!r} {wrong}; accepted: {_ACCEPTED}")


def recorded(folder: RunFolder) -> InitialWeights | None:
    """The initial weights in the `config.json` of the run in *folder*; None if it began with a new adapter."""
    with suppress(FileNotFoundError, CheckpointError):
        return InitialWeights.from_json(_object(folder.settings().get(INITIAL)))
    return None


def _of_run(folder: RunFolder, step: int | None) -> InitialWeights:
    """The weights of *step* of a run, or its final weights."""
    if not folder.exists():
        raise ConfigError(f"initial_weights: there is no run in {str(folder.path)!r}; accepted: {_ACCEPTED}")
    settings = folder.settings()
    ended: Any = folder.result().get("sampler_step") if step is None else step
    records = [record for record in folder.checkpoints() if record.paths]
    record = next((one for one in reversed(records) if ended in (None, one.step)), None)
    if record is None:
        steps = ", ".join(str(one.step) for one in records) or "none"
        raise CheckpointError(
            f"initial_weights: the run in {str(folder.path)!r} has no weights of step {ended}; it has those of: {steps}"
        )
    fingerprints, lora, before = (_object(settings.get(name)) for name in ("fingerprints", "lora", INITIAL))
    path = _path_of(record, str(folder.path))
    path = folder.checked(record, path, outside=True)
    return InitialWeights(
        path=path,
        base_model=str(settings.get("model_name")),
        lora=_lora(lora),
        run=str(folder.path),
        step=record.step,
        data=cast("str | None", fingerprints.get("train")),
        digest=None if "://" in path else stored_digest(path),
        base_weights=cast("str | None", record.identity.get("weights")),
        before=before or None,
    )


def _of_result(result: Any, step: int) -> InitialWeights:
    """The weights of a run without a folder, available while its result exists."""
    record: CheckpointRecord = next(one for one in result.checkpoints if one.step == step)
    path = _path_of(record, "this result")
    identity = record.identity
    return InitialWeights(
        path=path,
        base_model=cast("str | None", identity.get("base_model")),
        lora=_lora(_object(identity.get("lora"))),
        step=step,
        data=cast("str | None", identity.get("train")),
        digest=None if "://" in path else stored_digest(path),
        base_weights=cast("str | None", identity.get("weights")),
    )


def _path_of(record: CheckpointRecord, where: str) -> str:
    """State path of a checkpoint, or its weights path if no state was kept and the weights are on this machine."""
    if record.state_path is not None:
        return record.state_path
    path = str(record.sampler_path)
    if "://" in path:
        raise CheckpointError(
            f"initial_weights: of step {record.step} of {where}, the service has weights to sample from alone, and "
            "trains on from a state; keep states of evaluated steps by setting save_every as eval_every, or name the "
            "state path of another checkpoint"
        )
    return path


def _of_folder(folder: Path) -> InitialWeights:
    """Weights from a local checkpoint folder, or from an adapter in PEFT format."""
    missing = [name for name in (WEIGHTS, PEFT) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"initial_weights: {', '.join(missing)} is missing in {str(folder)!r}")
    try:
        config: dict[str, Any] = json.loads((folder / PEFT).read_text(encoding="utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"initial_weights: {PEFT} in {str(folder)!r} is damaged: {error}") from error
    base = config.get("base_model_name_or_path")
    lora: LoRAConfig | None = None
    step: int | None = None
    with suppress(CheckpointError):  # an adapter that was exported, and so has another config than was written
        state = read_state(str(folder))
        lora, step = _lora({**state["spec"], "rank": rank, "alpha": alpha}), int(state["updates"])
    return InitialWeights(
        path=str(folder), base_model=None if base is None else str(base), lora=lora, step=step,
        digest=stored_digest(str(folder)),
    )  # fmt: skip


def _object(value: object) -> Mapping[str, Any]:
    """The JSON object under a key of a file that another program may have written."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _lora(values: Mapping[str, Any]) -> LoRAConfig | None:
    """The recorded adapter settings; None if they are invalid."""
    if "rank" not in values:
        return None
    names = {each.name for each in attrs.fields(LoRAConfig)}
    with suppress(ConfigError, TypeError):
        return LoRAConfig(**{name: value for name, value in values.items() if name in names})
    return None


def fitting(weights: InitialWeights, lora: LoRAConfig, *, default: bool) -> LoRAConfig:
    """Adapter settings of a run that begins with *weights*: rank and layers are theirs and cannot change.

    Args:
        weights: What the run begins with.
        lora: The adapter that the trainer was made with.
        default: Whether that was not chosen, so that theirs is taken.

    Raises:
        ConfigError: Another one was chosen.
    """
    theirs = weights.lora
    if theirs is None:
        return lora
    ours = {name: _compared(name, value) for name, value in attrs.asdict(lora).items() if name != "seed"}
    found = {name: _compared(name, value) for name, value in attrs.asdict(theirs).items() if name != "seed"}
    if ours == found:
        return lora
    if default:
        return theirs
    differences = ", ".join(f"{name}={found[name]!r}, not {ours[name]!r}" for name in ours if ours[name] != found[name])
    plain = {each.name: each.default for each in attrs.fields(LoRAConfig)}
    told = ", ".join(
        f"{name}={value!r}"
        for name, value in attrs.asdict(theirs).items()
        if name != "seed" and (name == "rank" or value != plain[name])
    )
    raise ConfigError(
        f"initial_weights: their adapter has {differences}, and an adapter keeps its size and place. Make the trainer "
        f"with lora=LoRAConfig({told}), or say nothing of its adapter, which takes theirs"
    )


def _compared(name: str, value: Any) -> Any:
    if name == "alpha":
        return DEFAULT_ALPHA if value is None else value
    return [*value] if isinstance(value, tuple) else value


def check_base(weights: InitialWeights, base_model: str, fingerprint: str | None) -> tuple[str, ...]:
    """Refuse weights that were trained on another base model; warn if that is not certain.

    Args:
        weights: What the run begins with.
        base_model: The model that is adapted now.
        fingerprint: That of its weights, where they lie on this machine.

    Returns:
        Warnings for the header.

    Raises:
        ConfigError: They belong to another base model.
    """
    then = weights.base_model
    known = None not in (weights.base_weights, fingerprint)
    if then is None or (known and weights.base_weights == fingerprint) or _hub_name(then) == _hub_name(base_model):
        if known and weights.base_weights != fingerprint:
            raise ConfigError(
                f"initial_weights: the weights of {base_model!r} on this machine are not those that they were trained "
                "on; an adapter corrects one base model and no other"
            )
        return ()
    if known or fingerprint is None:
        raise ConfigError(
            f"initial_weights: they were trained on {then!r}, and this trainer has {base_model!r}; make it with "
            f"base_model={then!r}"
        )
    told = (
        f"warning: the initial weights name {then!r} as their base model, and this run has {base_model!r}; that these "
        "are the same weights is taken on trust"
    )
    return (told,)


def _hub_name(name: str) -> str:
    return SHORT_NAMES[name].hub_name if name in SHORT_NAMES else name


def client_of(service: ServiceClient, base_model: str, lora: LoRAConfig, weights: InitialWeights) -> TrainingClient:
    """A training client with *weights* as its adapter and a new optimizer.

    Raises:
        ConfigError: The engine takes no adapter from this machine, or the adapter is of another model or size.
        EngineError: The engine refused or failed.
    """
    with mapped(f"initial weights of {weights.path}"):
        if "://" in weights.path:
            client = service.create_training_client_from_state(weights.path).result()
        elif isinstance(service, SupportsAdapterFolders):
            client = service.create_training_client_from_adapter(weights.path, base_model).result()
        elif (Path(weights.path) / STATE).is_file() or not Path(weights.path).exists():
            client = service.create_training_client_from_state(weights.path).result()
        else:
            raise ConfigError(
                f"initial_weights={weights.path!r} is an adapter on this machine, and the engine takes none from here; "
                "name the run that trained it there, or the path of a state that it saved (tinker://…)"
            )
    info = client.get_info()
    rank, name = info.lora_rank, info.model_data.model_name
    if rank is not None and rank != lora.rank:
        raise ConfigError(
            f"initial_weights: their adapter has rank {rank}, and an adapter keeps its size; make the trainer with "
            f"lora=LoRAConfig(rank={rank}), and train_attn, train_mlp and train_unembed as they were"
        )
    if name and _hub_name(name) != _hub_name(base_model) and "://" in weights.path:
        raise ConfigError(
            f"initial_weights: they were trained on {name!r}, and this trainer has {base_model!r}; make it with "
            f"base_model={name!r}"
        )
    return client
