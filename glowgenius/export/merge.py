"""A merged model: a folder that `transformers` opens without us, checked against the adapter beside its base."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from attrs import frozen
from typing_extensions import override

from glowgenius._files import make_folder, writing
from glowgenius._lazy import installed
from glowgenius.errors import CheckpointError, ConfigError
from glowgenius.export.weights import DTYPES, INDEX, Adapter, MergedWeights, shards, write_safetensors
from glowgenius.models.hub import load_config
from glowgenius.training.sampler import Sampler, prompt_tokens

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from glowgenius.engines.protocol import ServiceClient
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.sampler import Prompt

SHARD_BYTES: Final = 5 * 10**9
"""The most that one file of weights takes, as the hub's own tools divide them."""

TOLERANCES: Final[Mapping[str, float]] = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}
"""The mean difference of a log-probability that the rounding of the weights accounts for, in nats."""

_TIE: Final = 10.0
"""Two tokens are as likely as each other where they are within so many times the tolerance."""

CHECKED_TOKENS: Final = 24
"""The most tokens of one greedy answer of the check."""

CHECKED_QUESTIONS: Final = 8
"""The most questions of the check."""

_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
_NOT_COPIED: Final = ("config.json", "generation_config.json", "converted_from.json", "README.md", INDEX)


@final
@frozen(kw_only=True)
class MergeCheck:
    """A merged model compared with the adapter beside its base; printed, one line."""

    questions: int
    """How many were asked."""

    equal: int
    """How many greedy answers are the same, token for token."""

    ties: int
    """How many differ first where the two tokens are as likely as each other, within the tolerance."""

    difference: float
    """The mean difference of a log-probability of a token of prompts and answers, in nats."""

    largest: float
    """The largest of these."""

    tolerance: float
    """What the rounding of the weights accounts for, in the mean."""

    @property
    def passed(self) -> bool:
        """Whether the merged model is the tuned model."""
        return self.equal + self.ties == self.questions and self.difference <= self.tolerance

    @override
    def __str__(self) -> str:
        ties = f" ({self.ties} more differ at a tie)" if self.ties else ""
        return (
            f"{self.equal} of {self.questions} greedy answers equal those of the adapter beside its base{ties}; "
            f"log-probabilities differ by {self.difference:.2g} nats in the mean (accepted {self.tolerance:g}) and by "
            f"{self.largest:.2g} at most"
        )


@final
@frozen(kw_only=True)
class MergedModel:
    """What was written."""

    path: Path
    """The folder."""

    dtype: str
    """What the weights are written as."""

    size_bytes: int
    """The bytes of all weights."""

    untied: bool
    """Whether the unembedding has become a matrix of its own."""

    check: MergeCheck | None
    """How it compares with the adapter beside its base; None where that was not looked at."""

    unchecked: str = ""
    """Why it was not."""


@contextmanager
def new_folder(owner: str, directory: Path) -> Generator[Path]:
    """A folder to write into, which becomes *directory* when all is written: whole or not at all.

    Raises:
        ConfigError: *directory* exists and is not an empty folder.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(f"{owner}: {str(directory)!r} exists and is not an empty folder; name another")
    # Made beside and renamed, so that what breaks off leaves no half a model.
    with writing(directory):
        working = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=make_folder(directory.parent)))
        try:
            yield working
            working.chmod(0o755)  # mkdtemp keeps others out
            if directory.exists():
                directory.rmdir()
            working.replace(directory)
        finally:
            shutil.rmtree(working, ignore_errors=True)


def merged_weights(base: Path, adapter: Adapter | None) -> MergedWeights:
    """The weights of *adapter* merged into the model in *base*.

    Raises:
        ModelNotFoundError: There is no model.
        CheckpointError: They do not fit each other.
    """
    config = load_config(str(base))
    text: Mapping[str, Any] = config.get("text_config") or {}
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    return MergedWeights(base, adapter, tied=bool(tied))


def chosen_dtype(dtype: str, weights: MergedWeights) -> str:
    """*dtype*, or for `auto` the one that most of the base model's tensors have.

    Raises:
        ConfigError: There is no such type.
    """
    if dtype == "auto":
        stored = [weights.stored(name) for name in weights.names]
        return next(name for name, code in DTYPES.items() if code == max(set(stored), key=stored.count))
    if dtype not in DTYPES:
        raise ConfigError(f"dtype of a merged model must be 'auto', {', '.join(map(repr, DTYPES))}, got {dtype!r}")
    return dtype


def write_merged(
    folder: Path,
    *,
    base: Path,
    adapter: Adapter,
    dtype: str = "auto",
    stop_tokens: Sequence[int] = (),
    shard_bytes: int = SHARD_BYTES,
) -> tuple[str, int, bool]:
    """Write the merged model into *folder*, with everything that `transformers` needs.

    Memory: one block of 16 MiB, its product, and the adapter's matrices of one layer.

    Args:
        folder: An empty folder.
        base: The base model's folder.
        adapter: What is merged.
        dtype: As for `chosen_dtype`.
        stop_tokens: The tokens that end an answer, which go into `generation_config.json`.
        shard_bytes: The most that one file takes.

    Returns:
        The precision, the bytes of the weights, and whether the unembedding has become a matrix of its own.

    Raises:
        ConfigError: There is no such type, or a number is too large for it.
        ModelNotFoundError: There is no base model.
        CheckpointError: The adapter does not fit it.
    """
    weights = merged_weights(base, adapter)
    dtype = chosen_dtype(dtype, weights)
    code = DTYPES[dtype]
    parts = shards(weights, code, shard_bytes)
    files: dict[str, str] = {}
    total = 0
    for number, names in enumerate(parts, start=1):
        file = "model.safetensors" if len(parts) == 1 else f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        total += write_safetensors(folder / file, weights, names, code)
        files |= dict.fromkeys(names, file)
    if len(parts) > 1:
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": files})
    _copy_rest(base, folder)
    config = _read_json(base / "config.json")
    named = "torch_dtype" if "torch_dtype" in config else "dtype"
    changes: dict[str, Any] = {named: dtype, **({"tie_word_embeddings": False} if weights.untied else {})}
    if weights.untied and isinstance(config.get("text_config"), dict):
        config["text_config"] = {**config["text_config"], "tie_word_embeddings": False}
    _write_json(folder / "config.json", {**config, **changes})
    _write_json(folder / "generation_config.json", _generation(base, config, stop_tokens))
    return dtype, total, weights.untied


def _copy_rest(base: Path, folder: Path) -> None:
    """Tokenizer, template and licence; what is no weight and no config."""
    for file in sorted(base.iterdir()):
        if file.name.startswith(".") or file.name in _NOT_COPIED or file.suffix in _WEIGHTS:
            continue
        if file.name.endswith(".index.json"):
            continue
        if file.is_file():
            shutil.copyfile(file, folder / file.name)  # through the links of the hub's cache
        elif file.name in {"additional_chat_templates", "chat_templates"}:
            shutil.copytree(file, folder / file.name)


def _generation(base: Path, config: Mapping[str, Any], stop_tokens: Sequence[int]) -> dict[str, Any]:
    """The base model's `generation_config.json`, whose answers also end where the trained ones do."""
    file = base / "generation_config.json"
    found: dict[str, Any] = _read_json(file) if file.is_file() else {"_from_model_config": True}
    for name in ("bos_token_id", "pad_token_id", "eos_token_id"):
        if found.get(name) is None and config.get(name) is not None:
            found[name] = config[name]
    given: Any = found.get("eos_token_id")
    known: list[int] = [] if given is None else list(given) if isinstance(given, list) else [given]  # pyright: ignore[reportUnknownArgumentType] - what a file says
    ends = list(dict.fromkeys([*known, *stop_tokens]))
    if ends:
        found["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    return found


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{str(file)!r} cannot be read: {error}; copy the base model again") from error


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(f"{json.dumps(values, indent=2, ensure_ascii=False)}\n", encoding="utf-8")


# --- the check ---


def room_to_check(base: Path, free: int | None) -> str:
    """Why a merged model of *base* cannot be looked at here; empty where it can."""
    if not installed("torch"):
        return "torch is not installed (pip install 'glowgenius[local]')"
    needed = sum(file.stat().st_size * (2 if _halves(file) else 1) for file in base.glob("*.safetensors"))
    if free is not None and needed * 1.3 > free:
        gib = 2**30
        return f"the model takes {needed / gib:.1f} GiB in float32, and {free / gib:.1f} GiB are free"
    return ""


def _halves(file: Path) -> bool:
    from glowgenius.export.weights import read_header

    return any(tensor.dtype != "F32" for tensor in read_header(file).values())


def check_merged(
    merged: Path,
    *,
    base: Path,
    adapter: Path,
    renderer: Renderer,
    questions: Sequence[Prompt],
    service: ServiceClient,
    tolerance: float,
) -> MergeCheck:
    """Ask the merged model and the adapter beside its base the same *questions*, greedily, in float32.

    Args:
        merged: The merged model's folder.
        base: The base model's folder.
        adapter: The adapter's folder.
        renderer: Of the training.
        questions: What is asked.
        service: The local engine.
        tolerance: As in `TOLERANCES`.

    Raises:
        CheckpointError: They are not the same model.
    """
    client = service.create_sampling_client(model_path=str(adapter), base_model=str(base)).result()
    beside = Sampler(client, renderer)
    answers = beside.complete(questions, max_tokens=CHECKED_TOKENS, temperature=0)
    pairs = [
        (prompt_tokens(renderer, question).tolist(), list(answer.tokens))
        for question, answer in zip(questions, answers, strict=True)
    ]
    theirs = [_logprobs(beside, [*prompt, *answer]) for prompt, answer in pairs]
    alone = Sampler(service.create_sampling_client(base_model=str(merged)).result(), renderer, name="merged")
    equal = ties = 0
    apart: list[float] = []
    answers = alone.complete(questions, max_tokens=CHECKED_TOKENS, temperature=0)
    for (prompt, before), answer, wanted in zip(pairs, answers, theirs, strict=True):
        found = _logprobs(alone, [*prompt, *before])
        apart += [abs(one - other) for one, other in zip(found, wanted, strict=True)]
        if list(answer.tokens) == before:
            equal += 1
        elif _is_tie(beside, prompt, before, list(answer.tokens), tolerance):
            ties += 1
    check = MergeCheck(
        questions=len(pairs),
        equal=equal,
        ties=ties,
        difference=sum(apart) / len(apart),
        largest=max(apart),
        tolerance=tolerance,
    )
    if not check.passed:
        raise CheckpointError(
            f"the merged model is not the tuned model: {check}. Nothing was written; please report it with the "
            "names of the models, and use the adapter meanwhile"
        )
    return check


def _logprobs(sampler: Sampler, tokens: list[int]) -> list[float]:
    from glowgenius.engines.tinker_types import ModelInput

    found = sampler.client.compute_logprobs(ModelInput.from_ints(tokens)).result()
    return [float(value) for value in found if value is not None]


def _is_tie(sampler: Sampler, prompt: list[int], one: list[int], other: list[int], tolerance: float) -> bool:
    """Whether two answers part at tokens that are as likely as each other, within the tolerance."""
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if at is None:
        return False
    likely = [_logprobs(sampler, [*prompt, *answer[: at + 1]])[-1] for answer in (one, other)]
    return abs(likely[0] - likely[1]) <= _TIE * tolerance
