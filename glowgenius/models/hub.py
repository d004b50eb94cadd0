"""Loading tokenizers, configs and models through `transformers`; the only module that imports it.

What comes through it is typed by small protocols of ours, since `transformers` is not typed strictly.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from glowgenius.errors import ModelNotFoundError
from glowgenius.models import catalog
from glowgenius.models.tokenizer import read_plain_config

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from glowgenius.models.tokenizer import Tokenizer


_LENGTHS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
"""What configs call the longest sequence."""


_COMPUTED = ("inv_freq", "masked_bias", "attn.bias", "position_ids")
"""What older files hold and every model computes by itself."""

_PATIENCE: Final = 10.0
"""Seconds that the hub has for an answer."""

_SILENCE: Final = 60.0
"""Seconds for which a hub that did not answer is not asked again."""

_SILENT: Final[dict[str, float]] = {}
"""When it did not answer, on the monotonic clock."""


def load_tokenizer(name_or_directory: str) -> Tokenizer:
    """The tokenizer of a base model: a short name, a local directory, or a hub name.

    Raises:
        ModelNotFoundError: There is no such model here, and the hub did not answer.
    """
    from transformers import AutoTokenizer

    where = _source(name_or_directory)
    try:
        tokenizer: Any = cast("Any", AutoTokenizer).from_pretrained(
            where,
            trust_remote_code=False,
            local_files_only=not _may_ask(where),
            **_config_for_tokenizer(Path(where)),
        )
    except (OSError, ValueError) as error:
        raise _not_loaded("tokenizer", name_or_directory, error) from error
    return cast("Tokenizer", tokenizer)


def _config_for_tokenizer(folder: Path) -> dict[str, Any]:
    """What `AutoTokenizer` asks of a model's config, for a local *folder* that names the class of its tokenizer itself.

    Left alone, it loads the config class of the architecture, and with it modules of `transformers` that take more than
    a second to import. What the config adds there is its model type. Nothing for any other folder.
    """
    from transformers import PreTrainedConfig

    try:
        own, settings = (
            dict[str, Any](json.loads((folder / name).read_text(encoding="utf-8")))
            for name in ("tokenizer_config.json", "config.json")
        )
    except (OSError, ValueError, TypeError):
        return {}
    if not isinstance(settings.get("model_type"), str) or not own.get("tokenizer_class") or "auto_map" in own:
        return {}
    config: Any = cast("Any", PreTrainedConfig)()
    config.model_type = settings["model_type"]
    return {"config": config}


def render_with_marks(
    tokenizer: Any, messages: list[dict[str, Any]], variables: Mapping[str, Any]
) -> tuple[str, list[tuple[int, int]]]:
    """The text that a tokenizer's chat template renders, and the character spans between its generation markers.

    `apply_chat_template` tells that of tokens only, by encoding a text that is encoded already.

    Args:
        tokenizer: One of `transformers`.
        messages: As `apply_chat_template` takes them.
        variables: Further variables of the template; values, or functions in the place of its own.

    Returns:
        The text, and the first letter and the one behind the last of each marked stretch.
    """
    from transformers.utils import chat_template_utils

    given = dict(variables)
    template = tokenizer.get_chat_template(given.pop("chat_template", None), given.get("tools"))
    library = cast("Any", chat_template_utils)
    given = {**tokenizer.special_tokens_map, **given}
    render: Any = getattr(library, "_render_with_assistant_indices", None)
    compile_template: Any = getattr(library, "_compile_jinja_template", None)
    if render is None or compile_template is None:
        texts, marks = library.render_jinja_template(
            conversations=[messages], chat_template=template, return_assistant_tokens_mask=True, **given
        )
        return str(texts[0]), [(int(start), int(end)) for start, end in marks[0]]
    # Called directly, as `render_jinja_template` makes text of functions.
    alias: Any = getattr(library, "_alias_reasoning_fields", list[Any])
    options = {"tools": None, "documents": None, "add_generation_prompt": False, **given}
    text, stretches = render(compiled_template=compile_template(template), messages=alias(messages), **options)
    return str(text), [(int(start), int(end)) for start, end in stretches]


def template_writer(
    tokenizer: Any, variables: Mapping[str, Any], *, join: Callable[[Iterable[str]], str] = "".join
) -> Callable[..., str] | None:
    """A quick `tokenizer.apply_chat_template(messages, tokenize=False, **variables)`; None where there is none.

    That function copies and compares everything it is given, which takes longer than the template itself, and it makes
    text of functions.
    None for a tokenizer whose class has a function of its own, and for variables that are more than variables.

    Args:
        tokenizer: One of `transformers`, or another with the same method.
        variables: Further variables of the template; values, or functions in the place of its own.
        join: Puts the pieces together that the template writes one after the other.

    Returns:
        A function of *messages*, *tools* and *add_generation_prompt*. Messages are plain values.
    """
    from transformers import PreTrainedTokenizerBase
    from transformers.utils import chat_template_utils

    library = cast("Any", chat_template_utils)
    compile_template: Any = getattr(library, "_compile_jinja_template", None)
    usual: Any = cast("Any", PreTrainedTokenizerBase).apply_chat_template
    own = getattr(cast("Any", type(tokenizer)), "apply_chat_template", None) is not usual
    taken = {"messages", *inspect.signature(usual).parameters}
    if own or compile_template is None or taken & set(variables):
        return None
    # Reasoning goes by several names in templates; where the library sees to that, so do we.
    alias: Any = getattr(library, "_alias_reasoning_fields", list[Any])
    compiled: dict[str, tuple[Any, dict[str, Any]]] = {}

    def write(
        messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, *, add_generation_prompt: bool
    ) -> str:
        source = tokenizer.chat_template
        source = source if isinstance(source, str) else tokenizer.get_chat_template(None, tools)
        if source not in compiled:
            template = compile_template(source)
            # What `template.render` puts together again at every call.
            given = {**template.globals, "documents": None, **tokenizer.special_tokens_map, **variables}
            compiled[source] = template, given
        template, given = compiled[source]
        if any("reasoning_content" in message for message in messages):
            messages = alias(messages)
        values = {**given, "messages": messages, "tools": tools, "add_generation_prompt": add_generation_prompt}
        return join(template.root_render_func(template.new_context(values, shared=True)))

    return write


def load_config(name_or_directory: str) -> Mapping[str, Any]:
    """The model's `config.json` as a mapping, with what its architecture takes where nothing is said.

    No weights are read.

    Raises:
        ModelNotFoundError: There is no such model here, and the hub did not answer.
    """
    where = _source(name_or_directory)
    if (plain := read_plain_config(Path(where))) is not None:
        return plain
    from transformers import AutoConfig

    try:
        config: Any = cast("Any", AutoConfig).from_pretrained(
            where, trust_remote_code=False, local_files_only=not _may_ask(where)
        )
    except (OSError, ValueError) as error:
        raise _not_loaded("config", name_or_directory, error) from error
    return cast("Mapping[str, Any]", config.to_dict())


def load_causal_lm(directory: Path, *, attention: str = "sdpa", dtype: str = "float32") -> Any:
    """The language model in *directory*, with weights of *dtype*, in evaluation mode.

    *attention* is one of the implementations of `transformers`: `sdpa` (torch's fused kernel) or `eager`.

    Raises:
        ModelNotFoundError: The directory holds no language model that `transformers` can load, or one that lacks
            parameters, which would be filled with random numbers, or holds others than its architecture has.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        # Not converted afterwards: that would round the rotary frequencies too, which stay fp32 in a bf16 model.
        with _without_progress_bar():
            model: Any
            model, told = cast("Any", AutoModelForCausalLM).from_pretrained(
                str(directory),
                dtype=dtype,
                attn_implementation=attention,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _not_loaded("weights", str(directory), error) from error
    _refuse_other_weights(directory, told)
    return model.eval()


def _refuse_other_weights(directory: Path, told: Mapping[str, Any]) -> None:
    """What `transformers` only warns of: it fills in what is missing at random, and leaves out what it does not know.

    Raises:
        ModelNotFoundError: Something is missing, of another shape, or not known.
    """
    said = {
        "missing_keys": "lacks {}",
        "mismatched_keys": "holds {} in another shape than config.json says",
        "unexpected_keys": "holds {}, which the architecture of config.json does not have",
    }
    for kind, words in said.items():
        found = (name if isinstance(name, str) else str(name[0]) for name in told.get(kind) or ())
        names = sorted(name for name in found if not name.endswith(_COMPUTED))
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelNotFoundError(
                f"the weights in {str(directory)!r} do not fit its config.json: the model "
                f"{words.format(repr(names[0]) + more)}. "
                "Training on numbers that were filled in or left out would be of no use; copy or download the model "
                "again, whole"
            )


def context_length(name_or_directory: str) -> int | None:
    """The longest sequence that a model was made for, in tokens; None where its config names none.

    Raises:
        ModelNotFoundError: As `load_config` does.
    """
    config = load_config(name_or_directory)
    text: Mapping[str, Any] = config.get("text_config") or {}
    found = [of.get(name) for of in (text, config) for name in _LENGTHS]
    return next((value for value in found if isinstance(value, int) and value > 0), None)


@contextmanager
def _without_progress_bar() -> Generator[None]:
    """No bar for reading weights from the disk, which takes a second; downloads keep theirs."""
    from transformers.utils import logging

    library = cast("Any", logging)
    # A user who set the variable has decided, and the hub's library warns at every attempt to overrule it.
    if "HF_HUB_DISABLE_PROGRESS_BARS" in os.environ or not library.is_progress_bar_enabled():
        yield
        return
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.enable_progress_bar()


def _source(name: str) -> str:
    """A local folder where there is one, else the hub name as it is (so that no weights are fetched)."""
    if "/" not in name or Path(name).is_dir():
        # A misspelt short name is refused here, with the nearest one, instead of after a minute of asking the hub.
        return str(catalog.model_directory(name))
    return name


def _may_ask(where: str) -> bool:
    """Whether the hub is worth asking for *where*: it is asked one question, instead of a dozen that all wait."""
    if Path(where).is_dir():
        return False
    since = _SILENT.get("since")
    if since is not None and time.monotonic() - since < _SILENCE:
        return False
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        httpx.head(constants.ENDPOINT, timeout=_PATIENCE)
    except httpx.HTTPError:
        _SILENT["since"] = time.monotonic()
        return False
    return True


def _not_loaded(part: str, name: str, error: Exception) -> ModelNotFoundError:
    if "trust_remote_code" in str(error):
        return ModelNotFoundError(
            f"the {part} of {name!r} would run Python code that its folder brings along, which glowgenius never does. "
            "Choose a model whose architecture transformers has built in. Where the code concerns the tokenizer alone, "
            "and you have read it, load it by transformers.AutoTokenizer.from_pretrained(name, "
            "trust_remote_code=True), and pass Renderer.for_model(name, tokenizer=...) as renderer="
        )
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelNotFoundError(
        f"the {part} of {name!r} could not be loaded: {reason} "
        f"Accepted: a local directory in Hugging Face layout, a hub name such as 'Qwen/Qwen3-8B' "
        f"(with network, or already in the hub cache), or {catalog.short_names()}."
    )


def new_cache(config: Any) -> Any:
    """An empty key-value cache for a model of *config*."""
    from transformers import DynamicCache

    return DynamicCache(config=config)
