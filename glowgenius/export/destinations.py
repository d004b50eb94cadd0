"""Exports in the form that each destination takes: folders, adapters for vLLM and SGLang, repositories of the hub."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, final

from attrs import field, frozen
from typing_extensions import override

from glowgenius._lazy import require
from glowgenius._secrets import redact
from glowgenius.data.message import Message
from glowgenius.errors import (
    AuthenticationError,
    ConfigError,
    EngineError,
    GlowGeniusError,
    MissingDependencyError,
    ServiceUnavailableError,
    nearest,
)
from glowgenius.export.gguf import gguf_type, modelfile, write_adapter, write_model
from glowgenius.export.merge import (
    CHECKED_QUESTIONS,
    TOLERANCES,
    check_merged,
    new_folder,
    room_to_check,
    write_merged,
)
from glowgenius.export.weights import DTYPES, Adapter
from glowgenius.models.catalog import SHORT_NAMES, model_directory
from glowgenius.models.hub import load_tokenizer
from glowgenius.training.adapter_export import export_adapter, model_card

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Mapping, Sequence

    from glowgenius.engines.protocol import ServiceClient
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.history import Row
    from glowgenius.training.sampler import Prompt

MAX_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank`; 16 where nothing is said."""

_LAYERS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def check_servable(adapter: Adapter) -> int:
    """Look whether vLLM and SGLang load *adapter*.

    Returns:
        The `--max-lora-rank` that it takes.

    Raises:
        ConfigError: They refuse it; the message says what to do.
    """
    names = {layer.rpartition(".")[2] for layer in adapter.layers}
    if "lm_head" in names:
        raise ConfigError(
            "the adapter changes the unembedding (lm_head), which vLLM refuses for most architectures (Qwen's among "
            "them) and SGLang's earlier versions for all. Export the merged model, which they serve as any other, or "
            "train with LoRAConfig(train_unembed=False)"
        )
    if unknown := sorted(names - set(_LAYERS)):
        raise ConfigError(
            f"the adapter changes {', '.join(unknown)}, and vLLM and SGLang adapt {', '.join(_LAYERS)}; export the "
            "merged model"
        )
    fitting = [rank for rank in MAX_RANKS if rank >= adapter.rank]
    if not fitting:
        raise ConfigError(
            f"the adapter has rank {adapter.rank}, and vLLM takes at most {MAX_RANKS[-1]}; export the merged model"
        )
    return fitting[0]


def serving_lines(folder: Path, base_model: str, max_rank: int, name: str = "tuned") -> Sequence[str]:
    """The command lines that serve the adapter in *folder*: for vLLM, for SGLang, and a request to either."""
    base, path = shlex.quote(base_model), shlex.quote(str(folder))
    sglang = f"python -m sglang.launch_server --model-path {base} --enable-lora --max-lora-rank {max_rank}"
    message = f'{{"model": "{name}", "temperature": 0, "messages": [{{"role": "user", "content": "Hello"}}]}}'
    address = "http://127.0.0.1:8000/v1/chat/completions"
    return (
        f"vllm serve {base} --enable-lora --max-lora-rank {max_rank} --lora-modules {name}={path}",
        f"{sglang} --lora-paths {name}={path} --port 8000",
        f"curl {address} -H 'Content-Type: application/json' -d {shlex.quote(message)}",
    )


NOT_UPLOADED: Final = ("glowgenius.json", "optimizer.safetensors", "converted_from.json")
"""What an exported folder may hold of the training itself."""

_UNAUTHORIZED, _FORBIDDEN = 401, 403


@final
@frozen(kw_only=True)
class Upload:
    """What was uploaded, or would be; printed, a line for each file."""

    repository: str
    """Its name on the hub."""

    url: str | None
    """Where it is now; None of a dry run."""

    private: bool
    """Whether only its owner sees it."""

    files: tuple[tuple[str, int], ...]
    """The files and their bytes."""

    @override
    def __str__(self) -> str:
        seen = "private" if self.private else "public"
        head = f"would upload to {self.repository} ({seen}):" if self.url is None else f"{self.url} ({seen}):"
        return "\n".join([head, *(f"  {name}  {size:,} bytes" for name, size in self.files)])


def upload_folder(
    folder: Path,
    repository: str,
    *,
    private: bool = True,
    dry_run: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
    message: str = "Upload by glowgenius",
) -> Upload:
    """Upload the files of *folder* as one commit.

    Args:
        folder: What was exported.
        repository: `owner/name`, or `name` for one of the owner of the token. Made if it is not there.
        private: Whether only its owner sees a repository that is made. One that is there already stays as it is.
        dry_run: Whether nothing is sent, and only the list of files returned.
        token: Of the hub; None takes that of `hf auth login` or `HF_TOKEN`.
        endpoint: Where the hub is; None takes the public one, or `HF_ENDPOINT`.
        message: Of the commit.

    Raises:
        ConfigError: The name is none, or the repository is public and *private* was asked for.
        AuthenticationError: There is no token, or it may not write there.
        ServiceUnavailableError: The hub does not answer.
        EngineError: It refused.
    """
    files = tuple(
        (path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in NOT_UPLOADED and not path.name.startswith(".")
    )
    hub = cast("Any", require("huggingface_hub", extra="local", purpose="uploading to the hub"))
    with _hub_errors(repository):
        hub.utils.validate_repo_id(repository)
        if dry_run:
            return Upload(repository=repository, url=None, private=private, files=files)
        api: Any = hub.HfApi(endpoint=endpoint, token=token, library_name="glowgenius")
        name = str(api.create_repo(repository, private=private, exist_ok=True).repo_id)
        info: Any = api.repo_info(name)
        if private and not info.private:
            raise ConfigError(
                f"the repository {name!r} exists and is public; name another, or upload with private=False"
            )
        api.upload_folder(
            repo_id=name,
            folder_path=str(folder),
            allow_patterns=[file for file, _ in files],
            commit_message=message,
        )
        return Upload(repository=name, url=f"{api.endpoint}/{name}", private=bool(info.private), files=files)


@contextmanager
def _hub_errors(repository: str) -> Generator[None]:
    """The hub's errors as ours."""
    from huggingface_hub import errors

    library = cast("Any", errors)
    # The hub's library has moved from httpx to a package of another name; whichever it is, it is loaded by now.
    clients: list[Any] = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    # A file that could not be sent is a RuntimeError of the library, with the reason behind it.
    unreachable = (OSError, RuntimeError, *(client.HTTPError for client in clients))
    try:
        yield
    except GlowGeniusError:
        raise
    except library.HFValidationError as error:
        raise ConfigError(f"{repository!r} is no name of a repository: {error}") from error
    except library.LocalTokenNotFoundError as error:
        raise AuthenticationError(
            "there is no token for the hub; run `hf auth login`, or set HF_TOKEN to a token that may write"
        ) from error
    except library.HfHubHTTPError as error:
        status: Any = getattr(getattr(error, "response", None), "status_code", None)
        told = redact(str(error).strip().splitlines()[0])
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            raise AuthenticationError(
                f"the hub does not let this token write to {repository!r} ({status}); take one that may "
                f"(`hf auth login`), or another owner: {told}"
            ) from error
        raise EngineError(f"the hub refused the upload to {repository!r}: {told}") from error
    except unreachable as error:
        reason = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error
        raise ServiceUnavailableError(
            f"the hub does not answer ({redact(str(reason)) or type(reason).__name__}); nothing of {repository!r} was "
            "finished: upload again"
        ) from error


Format: TypeAlias = Literal["adapter", "merged", "gguf", "gguf-adapter", "vllm"]
"""In what form the weights leave."""

FORMATS: Final = ("adapter", "merged", "gguf", "gguf-adapter", "vllm")

_QUESTIONS: Final = ("What can you do?", "Which day comes after Tuesday?", "Name a bridge in New York.")
"""What is asked of a run that has kept no questions."""


@final
@frozen(kw_only=True)
class Tuned:
    """The weights of one step of a run, and what is known of them."""

    sampler_path: str
    """Where they are."""

    state_path: str | None
    """The state of the same step, where one was kept."""

    step: int
    """The updates in them."""

    base_model: str
    """The model that was adapted, as it is named here."""

    service: Callable[[], ServiceClient] = field(repr=False)
    """The engine that has them; asked for where they are not on this machine."""

    settings: Mapping[str, Any] = field(repr=False)
    """What `config.json` of the run says."""

    rows: Sequence[Row] = field(repr=False)
    """The rows of the run."""

    renderer: Callable[[], Renderer] = field(repr=False)
    """The renderer of the training."""

    questions: Sequence[Prompt] = field(repr=False, default=())
    """Questions of the run, on which an export is checked."""

    name: str = "tuned"
    """What the model is called where it is served."""

    def save_adapter(self, directory: str | os.PathLike[str]) -> Path:
        """Copy or download the adapter in PEFT's format; as `export_adapter`."""
        return export_adapter(
            directory,
            sampler_path=self.sampler_path,
            state_path=self.state_path,
            step=self.step,
            base_model=self.base_model,
            service=self.service() if "://" in self.sampler_path else None,
            settings=self.settings,
            rows=self.rows,
        )


@final
@frozen(kw_only=True)
class Exported:
    """What was written, and what was found out about it; printed, in lines."""

    path: Path
    """The folder."""

    format: str
    """As it was asked for."""

    dtype: str | None
    """What the weights are written as; None of an adapter, which stays as it is."""

    step: int
    """The updates in them."""

    files: tuple[tuple[str, int], ...]
    """The files and their bytes."""

    seconds: float
    """How long it took, the check included."""

    notes: tuple[str, ...] = ()
    """The check, and what to know."""

    commands: tuple[str, ...] = ()
    """Lines to copy."""

    @property
    def size_bytes(self) -> int:
        """The bytes of all files."""
        return sum(size for _, size in self.files)

    @override
    def __str__(self) -> str:
        kind = self.format if self.dtype is None else f"{self.format}, {self.dtype}"
        head = f"written: {self.path} ({kind}, step {self.step}, {self.size_bytes / 1e6:,.1f} MB, {self.seconds:.1f} s)"
        return "\n".join([head, *self.notes, *(f"  {command}" for command in self.commands)])

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {
            "path": str(self.path),
            "format": self.format,
            "dtype": self.dtype,
            "step": self.step,
            "files": dict(self.files),
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "commands": list(self.commands),
        }


def export_tuned(
    tuned: Tuned,
    directory: str | os.PathLike[str],
    *,
    format: str = "adapter",  # noqa: A002 - as pandas and others call it
    dtype: str = "auto",
    check: bool = True,
) -> Exported:
    """Write the weights of a run in the form that a destination takes; the folder appears whole or not at all.

    Args:
        tuned: The weights.
        directory: A folder that does not exist yet, or is empty.
        format: One of `FORMATS`.
        dtype: For `merged`, `auto` (as the base model's files), `float32`, `float16` or `bfloat16`; for `gguf`, `auto`
            (f16), `f32`, `f16`, `bf16` or `q8_0`. An adapter stays as it is.
        check: Whether a merged model is compared with the adapter beside its base, where memory allows.

    Raises:
        ConfigError: There is no such format or type, the folder holds something, or the destination refuses the
            adapter.
        CheckpointError: The weights are gone or damaged, or the merged model is not the tuned model.
        ModelNotFoundError: The base model is not to be had, or has no such form.
        MissingDependencyError: A package is not installed.
        EngineError: The service refused or failed.
    """
    if format not in FORMATS:
        raise ConfigError(f"format must be {', '.join(map(repr, FORMATS))}, got {format!r}{nearest(format, FORMATS)}")
    _check_dtype(format, dtype)
    target, began = Path(directory).expanduser(), time.monotonic()
    if format == "adapter":
        path = tuned.save_adapter(target)
        return _exported(tuned, path, format, None, began, (), _peft_lines(path))
    write = {"merged": _merged, "gguf": _gguf_model, "gguf-adapter": _gguf_adapter, "vllm": _vllm}[format]
    with new_folder("export", target) as working, _adapter_of(tuned, target) as adapter:
        written, notes, commands = write(tuned, adapter, working, target, dtype, check)
    return _exported(tuned, target, format, written, began, notes, commands)


def push(
    tuned: Tuned,
    repository: str,
    *,
    private: bool = True,
    format: str = "adapter",  # noqa: A002 - as above
    dtype: str = "auto",
    dry_run: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
) -> Upload:
    """Export into a temporary folder, and upload that; the arguments are those of `export_tuned` and `upload_folder`.

    Raises:
        GlowGeniusError: As these.
    """
    folder = Path(tempfile.mkdtemp(prefix="glowgenius-upload-"))
    try:
        exported = export_tuned(tuned, folder / "model", format=format, dtype=dtype)
        _name_no_folder(exported.path / "README.md")
        return upload_folder(
            exported.path,
            repository,
            private=private,
            dry_run=dry_run,
            token=token,
            endpoint=endpoint,
            message=f"{exported.format} of step {tuned.step}, by glowgenius",
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _name_no_folder(card: Path) -> None:
    """Take a base model that is a folder of this machine out of the head of a card: the hub refuses such a name."""
    head, rest = card.read_text(encoding="utf-8").removeprefix("---\n").split("---\n", 1)
    named = re.search(r"^base_model: (.*)$", head, re.MULTILINE)
    if named is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", named[1]) is None:
        head = re.sub(r"^base_model.*\n", "", head, flags=re.MULTILINE)
        card.write_text(f"---\n{head}---\n{rest}", encoding="utf-8")


_Written: TypeAlias = "tuple[str | None, tuple[str, ...], tuple[str, ...]]"
"""Precision, notes and lines to copy."""


def _check_dtype(kind: str, dtype: str) -> None:
    if kind in {"adapter", "vllm"} and dtype != "auto":
        raise ConfigError(f"an adapter stays in the precision in which it was saved; leave dtype={dtype!r} out")
    if kind == "merged" and dtype not in {"auto", *DTYPES}:
        raise ConfigError(f"dtype of a merged model must be 'auto', {', '.join(map(repr, DTYPES))}, got {dtype!r}")
    if kind.startswith("gguf"):
        gguf_type(dtype)
        require("gguf", extra="gguf", purpose="writing a GGUF file")


@contextmanager
def _adapter_of(tuned: Tuned, target: Path) -> Generator[Adapter]:
    """The adapter, for as long as it is needed: downloaded, or checked and copied."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-adapter-", dir=target.parent))
    try:
        yield Adapter.read(tuned.save_adapter(folder / "adapter"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exported(
    tuned: Tuned, path: Path, kind: str, dtype: str | None, began: float, notes: Sequence[str], lines: Sequence[str]
) -> Exported:
    files = tuple(
        (one.relative_to(path).as_posix(), one.stat().st_size) for one in sorted(path.rglob("*")) if one.is_file()
    )
    return Exported(
        path=path,
        format=kind,
        dtype=dtype,
        step=tuned.step,
        files=files,
        seconds=time.monotonic() - began,
        notes=tuple(notes),
        commands=tuple(lines),
    )


def _stops(tuned: Tuned) -> tuple[int, ...]:
    """The tokens that end an answer, where the renderer knows them as tokens."""
    return tuple(int(stop) for stop in tuned.renderer().stop_sequences if not isinstance(stop, str))


def _hub_name(base_model: str) -> str:
    return SHORT_NAMES[base_model].hub_name if base_model in SHORT_NAMES else base_model


def _card(tuned: Tuned, adapter: Adapter, folder: Path, *, library: str, use: Sequence[str]) -> None:
    config = {**adapter.config, "base_model_name_or_path": _hub_name(tuned.base_model)}
    card = model_card(
        config, trained_on=tuned.base_model, step=tuned.step, settings=tuned.settings, rows=tuned.rows,
        library=library, use=use,
    )  # fmt: skip
    (folder / "README.md").write_text(card, encoding="utf-8")


def _merged(tuned: Tuned, adapter: Adapter, folder: Path, target: Path, dtype: str, check: bool) -> _Written:
    base = model_directory(tuned.base_model)
    kind, _, untied = write_merged(folder, base=base, adapter=adapter, dtype=dtype, stop_tokens=_stops(tuned))
    notes = list[str]()
    if untied:
        notes.append("the unembedding is a matrix of its own now (tie_word_embeddings: false): the adapter changes it")
    notes.append(f"check: {_checked(tuned, adapter, folder, base, kind) if check else 'not asked for'}")
    use = [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        'model = AutoModelForCausalLM.from_pretrained(".")',
        "```",
    ]
    _card(tuned, adapter, folder, library="transformers", use=use)
    return kind, tuple(notes), (f"vllm serve {target.resolve()}",)


def _checked(tuned: Tuned, adapter: Adapter, folder: Path, base: Path, kind: str) -> str:
    try:
        service: Any = require("glowgenius.local.service", extra="local", purpose="the check").ServiceClient(
            dtype="float32"
        )
    except MissingDependencyError as error:
        return f"none, as {error}"
    if reason := room_to_check(base, service.free_memory):
        return f"none, as {reason}"
    questions = list(tuned.questions)[:CHECKED_QUESTIONS] or [[Message("user", text)] for text in _QUESTIONS]
    try:
        return str(
            check_merged(
                folder,
                base=base,
                adapter=adapter.folder,
                renderer=tuned.renderer(),
                questions=questions,
                service=service,
                tolerance=TOLERANCES[kind],
            )
        )
    finally:
        service.close("success").result()


def _gguf_model(tuned: Tuned, adapter: Adapter, folder: Path, target: Path, dtype: str, check: bool) -> _Written:
    del check  # tests compare llama.cpp's answers
    base, kind, stops = model_directory(tuned.base_model), gguf_type(dtype), _stops(tuned)
    file = folder / f"model-{kind}.gguf"
    written = write_model(file, base=base, adapter=adapter, dtype=kind, name=tuned.name, stop_tokens=stops)
    text, notes = modelfile(file.name, load_tokenizer(str(base)), stops)
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    path = target.resolve()
    lines = (
        f"llama-server -m {path / file.name}",
        f"ollama create {tuned.name} -f {path / 'Modelfile'} && ollama run {tuned.name}",
    )
    here = [line.replace(f"{path}/", "") for line in lines]
    _card(tuned, adapter, folder, library="gguf", use=["```sh", *here, "```"])
    return kind, (*written.notes, *notes), lines


def _gguf_adapter(tuned: Tuned, adapter: Adapter, folder: Path, target: Path, dtype: str, check: bool) -> _Written:
    del check
    kind = "f32" if dtype == "auto" else gguf_type(dtype)
    file = folder / f"adapter-{kind}.gguf"
    write_adapter(file, base=model_directory(tuned.base_model), adapter=adapter, dtype=kind, name=tuned.name)
    line = f"llama-server -m BASE.gguf --lora {target.resolve() / file.name}"
    _card(tuned, adapter, folder, library="gguf", use=["```sh", f"llama-server -m BASE.gguf --lora {file.name}", "```"])
    note = "Ollama from 0.34.1 on takes no adapter beside a model: export format 'gguf' for it"
    return kind, (note,), (line,)


def _vllm(tuned: Tuned, adapter: Adapter, folder: Path, target: Path, dtype: str, check: bool) -> _Written:
    del dtype, check
    rank = check_servable(adapter)
    for file in ("adapter_model.safetensors", "adapter_config.json", "README.md"):
        shutil.copyfile(adapter.folder / file, folder / file)
    lines = serving_lines(target.resolve(), _hub_name(tuned.base_model), rank, tuned.name)
    text = "\n".join(["# One of the first two serves the adapter, the third asks it.", *lines, ""])
    (folder / "serve.sh").write_text(text, encoding="utf-8")
    note = f"rank {adapter.rank} within --max-lora-rank {rank}, no lm_head, names as vLLM and SGLang know them"
    return None, (note,), tuple(lines)


def _peft_lines(path: Path) -> tuple[str, ...]:
    return (f'peft: PeftModel.from_pretrained(base, "{path}")',)
