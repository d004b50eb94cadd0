"""Run identity: everything that determines the sequence of updates, and its description in the header."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final

import attrs
from attrs import frozen

from glowgenius._version import __version__
from glowgenius.data.dataset import Dataset
from glowgenius.data.message import Conversation
from glowgenius.engines.protocol import SupportsTemporary
from glowgenius.errors import ConfigError, GlowGeniusError
from glowgenius.lora.known_models import KNOWN_MODELS, base_name
from glowgenius.lora.learning_rate import suggest_learning_rate
from glowgenius.models.catalog import missing, model_directory
from glowgenius.models.weight_files import weights_fingerprint
from glowgenius.rendering.preview import preview
from glowgenius.training.checkpoints import NO_BEARING
from glowgenius.training.initial_weights import INITIAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.engines.protocol import ServiceClient
    from glowgenius.lora.config import LoRAConfig
    from glowgenius.rendering.preview import Preview
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.connection import Engine
    from glowgenius.training.initial_weights import InitialWeights
    from glowgenius.training.sampler import Sampler
    from glowgenius.typing import JSON

PREVIEWED: Final = 3
"""Rows whose masks the page of a run shows."""

_PACKAGES: Final = ("tinker", "transformers", "torch")


def as_dataset(rows: Dataset | Sequence[Conversation], name: str) -> Dataset:
    """Convert *rows* to a `Dataset`.

    Raises:
        ConfigError: They are none; the message says how to make one.
        DatasetError: Some of the conversations cannot be trained on.
    """
    if isinstance(rows, Dataset):
        return rows
    # Untyped callers pass paths, lists of dictionaries, and more.
    given: Any = rows
    kind = type(given).__name__
    hint = "Dataset.from_file(...)"
    if isinstance(given, list | tuple):
        items = tuple(cast("Sequence[Any]", given))
        if all(isinstance(item, Conversation) for item in items):
            return Dataset(items)
        hint = "Dataset.from_records(...)"
    elif hasattr(given, "__iter__") and not isinstance(given, str):
        from_hub = type(given).__module__.partition(".")[0] == "datasets"
        hint = "Dataset.from_huggingface(..., split=...)" if from_hub else "Dataset.from_records(...)"
    raise ConfigError(f"{name} must be a Dataset, got {kind}; make one with {hint}")


def as_datasets(
    train: Dataset | Sequence[Conversation], evaluation: Dataset | Sequence[Conversation] | None
) -> tuple[Dataset, Dataset | None]:
    """Convert the arguments of `train`, `preflight` and `estimate` to data sets; errors as in `as_dataset`."""
    held = None if evaluation is None else as_dataset(evaluation, "eval_dataset")
    return as_dataset(train, "train"), held


def peak_rate(config: TrainingConfig, base_model: str) -> tuple[float, str]:
    """The peak learning rate and its source."""
    if config.learning_rate != "auto":
        return float(config.learning_rate), "as configured"
    suggestion = suggest_learning_rate(base_model)
    trust = "calibrated" if suggestion.calibrated else "not calibrated"
    return suggestion.value, f"auto: {suggestion.source}; {trust}"


def run_identity(
    *,
    base_model: str,
    lora: LoRAConfig | None,
    config: TrainingConfig,
    learning_rate: float,
    renderer: Renderer,
    train: Dataset,
    evaluation: Dataset | None,
    weights: str | None = None,
    initial: InitialWeights | None = None,
) -> dict[str, JSON]:
    """Everything that determines the updates, as JSON; *weights* is the fingerprint of the base model's weights."""
    settings = {name: value for name, value in config.to_json().items() if name not in NO_BEARING}
    # `auto` and the number it resolves to are the same run.
    settings["learning_rate"] = learning_rate
    identity: dict[str, JSON] = {
        "base_model": base_model,
        "lora": None if lora is None else attrs.asdict(lora),
        "config": settings,
        "renderer": renderer.fingerprint,
        "train": train.fingerprint,
        "eval": None if evaluation is None else evaluation.fingerprint,
        **({} if weights is None else {"weights": weights}),
        **({} if initial is None else {INITIAL: initial.identity}),
    }
    if renderer.day is not None:
        identity["day"] = renderer.day.isoformat()
    return cast("dict[str, JSON]", json.loads(json.dumps(identity)))


def weights_of(engine: str, base_model: str, lora: LoRAConfig | None) -> str | None:
    """Fingerprint of the base model's weights for the local engine; None for other engines.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    if engine != "local" or lora is None or missing(base_model) is not None:
        return None  # the engine reports what is missing
    return weights_fingerprint(model_directory(base_model))


def for_one_run(engine: Engine, output_dir: Path | None) -> Engine:
    """*engine* for one run; without a run folder, its local files are removed with the result."""
    if output_dir is None and isinstance(engine.service, SupportsTemporary):
        return attrs.evolve(engine, service=engine.service.with_temporary_checkpoints())
    return engine


def describe_model(base_model: str, lora: LoRAConfig | None, rank: int | None, *, look_up: bool) -> str:
    """Header line of model and adapter, with the number of trainable parameters if known.

    Args:
        base_model: The model that is adapted.
        lora: The adapter, unless it came with a client.
        rank: Its rank.
        look_up: Whether a model that is not in the table may be looked for on the hub. A name that only the engine
            knows would be looked for in vain, for half a minute where there is no network.
    """
    if lora is None:
        return f"model: {base_model}, LoRA rank {'unknown' if rank is None else rank} (the client was given)"
    parts = [
        name
        for name, used in (("attention", lora.train_attn), ("MLP", lora.train_mlp), ("unembedding", lora.train_unembed))
        if used
    ]
    line = f"model: {base_model}, LoRA rank {lora.rank} on {', '.join(parts)}, seed {lora.seed}"
    if not look_up and base_name(base_model) not in KNOWN_MODELS and not Path(base_model).is_dir():
        return line
    try:
        return f"{line}; {lora.parameter_count(base_model):,} trained parameters"
    except GlowGeniusError:
        return line


def serving_lines(lora: LoRAConfig | None) -> tuple[str, ...]:
    """Header warnings about servers that refuse such an adapter, while the settings can still change."""
    if lora is None or not lora.train_unembed:
        return ()
    text = (
        "vLLM refuses an adapter of the unembedding for most models, and earlier SGLang for all; to load it there, "
        "train with LoRAConfig(train_unembed=False), or export the merged model"
    )
    return (text,)


def preview_of(train: Dataset, renderer: Renderer, config: TrainingConfig) -> Preview:
    """The first rows with their masks, for the HTML report."""
    return preview(train, renderer, rows=PREVIEWED, train_on=config.train_on, max_length=config.max_length)


@final
@frozen(kw_only=True, eq=False)
class AdaptedModel:
    """The model of a run: base model, adapter, and the engine that trains it."""

    base_model: str
    """The model that is adapted."""

    lora: LoRAConfig | None
    """The adapter; None where it came with a client."""

    rank: int | None
    """Its rank, where it is known."""

    engine: str
    """The name of the engine."""

    service: ServiceClient | None
    """The service that made the client; None where only the client was given."""

    initial: InitialWeights | None
    """Weights of an earlier training that the run begins with; None where the adapter is fresh."""

    base_sampler: Callable[[], Sampler]
    """Samples from the base model, for soft targets of replay rows."""

    @property
    def can_restart(self) -> bool:
        """Whether a new client can be created; a client passed by the user cannot be replaced."""
        return self.lora is not None


def settings_file(
    model: AdaptedModel,
    *,
    config: TrainingConfig,
    renderer: Renderer,
    identity: Mapping[str, JSON],
    header: Sequence[str],
    rows: JSON,
    dropped: Mapping[str, int],
) -> dict[str, JSON]:
    """Contents of `config.json`; the first keys are the cookbook's, for tools that read its runs."""
    return {
        "model_name": model.base_model,
        "log_path": str(config.output_dir),
        "lora_rank": model.rank,
        "learning_rate": cast("dict[str, JSON]", identity["config"])["learning_rate"],
        "lr_schedule": config.lr_schedule,
        "num_epochs": config.num_epochs,
        "renderer_name": type(renderer).__name__,
        "engine": model.engine,
        "lora": None if model.lora is None else attrs.asdict(model.lora),
        "training": config.to_json(),
        "renderer": renderer.description,
        **({} if renderer.day is None else {"day": renderer.day.isoformat()}),
        "fingerprints": {
            "train": identity["train"],
            "eval": identity["eval"],
            "renderer": identity["renderer"],
            "run": hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest(),
        },
        "rows": rows,
        **({"dropped_rows": dict(dropped)} if dropped else {}),
        **(
            {}
            if model.initial is None
            else {"load_checkpoint_path": model.initial.path, INITIAL: model.initial.to_json()}
        ),
        "versions": dict(_versions()),
        "header": list(header),
    }


@functools.cache
def _versions() -> Mapping[str, str]:
    versions = {"python": platform.python_version(), "glowgenius": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def check_type(name: str, value: Any, kind: type) -> None:
    """Refuse an argument of the wrong type, with a hint about what was probably meant.

    Raises:
        ConfigError: It is of another type.
    """
    if not isinstance(value, kind):
        hint = f"; did you mean {value.__name__}()?" if isinstance(value, type) else ""
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise ConfigError(
            f"SupervisedTrainer: {name} must be {article} {kind.__name__}, got {value!r} ({type(value).__name__}){hint}"
        )
