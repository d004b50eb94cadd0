"""The only door to `transformers` and to the hub's files.

What comes through it is typed by small protocols of ours, since `transformers` is not typed strictly.
"""

from __future__ import annotations

import inspect
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from glowgenius.errors import ModelNotFoundError
from glowgenius.models import catalog
from glowgenius.models.plain import read_plain_config

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from glowgenius.models.tokenizer import Tokenizer


def load_tokenizer(name_or_directory: str) -> Tokenizer:
    """The tokenizer of a base model: a short name, a local directory, or a hub name.

    Raises:
        ModelNotFoundError: There is no such model here, and the hub did not answer.
    """
    from transformers import AutoTokenizer

    where = _source(name_or_directory)
    try:
        tokenizer: Any = cast("Any", AutoTokenizer).from_pretrained(where, **_config_for_tokenizer(Path(where)))
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
    """What a tokenizer's chat template writes, and which letters of it stand between generation markers.

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
        config: Any = cast("Any", AutoConfig).from_pretrained(where)
    except (OSError, ValueError) as error:
        raise _not_loaded("config", name_or_directory, error) from error
    return cast("Mapping[str, Any]", config.to_dict())


def load_causal_lm(directory: Path, *, attention: str = "sdpa", dtype: str = "float32") -> Any:
    """The language model in *directory*, with weights of *dtype*, in evaluation mode.

    *attention* is one of the implementations of `transformers`: `sdpa` (torch's fused kernel) or `eager`.

    Raises:
        ModelNotFoundError: The directory holds no language model that `transformers` can load.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        # Not converted afterwards: that would round the rotary frequencies too, which stay fp32 in a bf16 model.
        with _without_progress_bar():
            model: Any = cast("Any", AutoModelForCausalLM).from_pretrained(
                str(directory), dtype=dtype, attn_implementation=attention, local_files_only=True
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_loaded("weights", str(directory), error) from error
    return model.eval()


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


def _not_loaded(part: str, name: str, error: Exception) -> ModelNotFoundError:
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
