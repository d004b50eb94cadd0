"""Export of a run's adapter in PEFT format, with a model card."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from glowgenius._files import make_folder, refuse_links, writing
from glowgenius._output import showable
from glowgenius.engines.offered import STATE, download_adapter, stored_checkpoint
from glowgenius.errors import CheckpointError, ConfigError
from glowgenius.models.catalog import SHORT_NAMES
from glowgenius.training.initial_weights import INITIAL

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from glowgenius.engines.protocol import ServiceClient
    from glowgenius.training.history import Row

_RELATIONS: Final = {
    "transformers": ("base_model_relation: merge",),
    "gguf": ("base_model_relation: quantized",),
}
"""What the hub is told of how files for a library came from the base model."""

ADAPTER_FILES: Final = ("adapter_model.safetensors", "adapter_config.json")
"""What makes a folder an adapter in PEFT's format."""


def export_adapter(
    directory: str | os.PathLike[str],
    *,
    sampler_path: str,
    state_path: str | None,
    step: int,
    base_model: str,
    service: ServiceClient | None,
    settings: Mapping[str, Any],
    rows: Sequence[Row],
) -> Path:
    """Copy the adapter at *sampler_path* into *directory*, with a card.

    Where it is on Tinker, the service exports it from the state of the same step.

    Args:
        directory: A folder that does not exist yet, or is empty.
        sampler_path: The weights.
        state_path: The state of the same step, where one was kept.
        step: The updates in them.
        base_model: The model that was adapted.
        service: Where the weights are, if not on this machine.
        settings: What `config.json` says; as far as it is known.
        rows: The rows of the run.

    Raises:
        ConfigError: The folder holds something already.
        CheckpointError: The weights are on a service that gives none out, or of a step whose state was not kept.
        EngineError: The service refused or failed.
    """
    target = Path(directory)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"save_adapter: {str(target)!r} exists and is not an empty folder; name another")
    # Written to a temporary folder and renamed, so that a failed download leaves no partial adapter.
    with writing(target):
        working = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=make_folder(target.parent)))
        try:
            if "://" in sampler_path:
                _download(service, state_path, step, working)
            else:
                _copy(Path(sampler_path), working)
            _complete(working, sampler_path, base_model=base_model, step=step, settings=settings, rows=rows)
            working.chmod(0o755)  # mkdtemp creates folders with mode 0700
            if target.exists():
                target.rmdir()
            working.replace(target)
        finally:
            shutil.rmtree(working, ignore_errors=True)
    return target


def _download(service: ServiceClient | None, state_path: str | None, step: int, folder: Path) -> None:
    if state_path is None:
        raise CheckpointError(
            f"of step {step} the service has weights to sample from, and gives out those of a state alone; keep states "
            "of evaluated steps by setting save_every as eval_every, or take another step"
        )
    download_adapter(service, state_path, folder)
    _check_files(folder, state_path)


def _copy(source: Path, folder: Path) -> None:
    _check_files(source, str(source))
    # Symbolic links in the folder are not followed, so that no outside file is published.
    refuse_links(source, source)
    if (source / STATE).is_file():
        stored_checkpoint(str(source))
    shutil.copytree(source, folder, dirs_exist_ok=True)


def _check_files(folder: Path, path: str) -> None:
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"the weights at {path!r} are gone or incomplete: {', '.join(missing)} is not there")


def _complete(
    folder: Path, origin: str, *, base_model: str, step: int, settings: Mapping[str, Any], rows: Sequence[Row]
) -> None:
    """Write the base model's hub name into the adapter config, and write the card for files from *origin*."""
    file = folder / "adapter_config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"adapter_config.json of the weights at {origin!r} is damaged: {error}") from error
    del rank, alpha
    # The service's files may lack it.
    trained_on = str(config.get("base_model_name_or_path") or base_model)
    # PEFT and the hub do not know the library's short names.
    name = SHORT_NAMES[trained_on].hub_name if trained_on in SHORT_NAMES else trained_on
    if config.get("base_model_name_or_path") != name:
        config["base_model_name_or_path"] = name
        file.write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")
    card = model_card(config, trained_on=trained_on, step=step, settings=settings, rows=rows)
    (folder / "README.md").write_text(card, encoding="utf-8")


def model_card(
    config: Mapping[str, Any],
    *,
    trained_on: str,
    step: int,
    settings: Mapping[str, Any],
    rows: Sequence[Row],
    library: str = "peft",
    use: Sequence[str] = (),
) -> str:
    """The README of an adapter, or of a model that it was merged into.

    Args:
        config: PEFT's `adapter_config.json`.
        trained_on: The base model, as it was named for the training.
        step: The updates in the weights.
        settings: As for `export_adapter`.
        rows: As for `export_adapter`.
        library: What the files are for, as the hub calls it.
        use: The lines that open them; none for those of `peft`.
    """
    base = str(config["base_model_name_or_path"])
    facts = {**_facts(config, settings), "updates": str(step)}
    packaged = SHORT_NAMES.get(trained_on)
    named = _line(base)
    body = [
        "---",
        f"base_model: {_yaml(base)}",
        f"library_name: {library}",
        *_RELATIONS.get(library, ()),
        "tags: [lora, sft, glowgenius]",
        "license: unknown",
        "---",
        "",
        f"# LoRA adapter for {named}" if library == "peft" else f"# {named}, fine-tuned",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {_line(name)} | {_line(value)} |" for name, value in facts.items()),
        "",
        "## Measured",
        "",
        *(_measured_lines(rows, step) or ["Nothing."]),
        "",
        "## Use",
        "",
        *(use or _usage(base, has_head="lm_head" in _layers(config))),
        "",
        "## Licence",
        "",
        f"Not set. The licence of {named} applies to what is built on it, and that of the data to what was learned.",
        "Replace `license: unknown` above when both are settled.",
    ]
    if packaged is not None:
        body += [
            "",
            f"The adapter was trained on {named} as it was found on the machine: in the hub's cache, or else the 4-bit",
            f"rounding of it in the package `{packaged.package}`. On the other one, answers can differ a little.",
        ]
    return "\n".join([*body, ""])


def _yaml(text: str) -> str:
    """*text* as a YAML value: a repository name as it is, anything else as a JSON string."""
    shown = showable(text)
    if re.fullmatch(r"[A-Za-z0-9/][\w.-]*/[\w./-]*[\w-]", shown, re.ASCII):
        return shown
    # Unicode line separators end a line in YAML 1.1.
    quoted = json.dumps(shown, ensure_ascii=False)
    return re.sub("[\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _line(text: str) -> str:
    """*text* escaped for one line of Markdown, so that it starts no heading, table cell, link or HTML."""
    shown = " ".join(showable(text).split())
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(shown, quote=False))


def _code(text: str) -> str:
    """*text* as inline code in Markdown, where that is possible."""
    shown = " ".join(showable(text).split())
    return _line(shown) if "`" in shown or not shown else f"`{shown}`"


def _python(text: str) -> str:
    """*text* as a Python string on one line."""
    return f'"{text}"' if re.fullmatch(r"[\w./~ -]+", text) else ascii(text)


def _mapping(value: object) -> Mapping[str, Any]:
    """The object under a key of `config.json`, which may have been written by another program."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _facts(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    names = ("fingerprints", "training", "versions")
    fingerprints, training, versions = (_mapping(settings.get(name)) for name in names)
    header: Any = settings.get("header")
    lines = [str(line) for line in cast("list[object]", header)] if isinstance(header, list | tuple) else []
    found = {
        "rank, alpha": f"{int(config['r'])}, {float(config['lora_alpha']):g}",
        "layers": ", ".join(_layers(config)) or None,
        "training data (sha256)": fingerprints.get("train"),
        "evaluation data (sha256)": fingerprints.get("eval"),
        "initial weights": " ← ".join(_lineage(settings)) or None,
        **{
            line.split(":")[0]: line.partition(": ")[2]
            for line in lines
            if line.startswith(("train rows", "eval rows"))
        },
        "renderer": settings.get("renderer"),
        "learning rate": settings.get("learning_rate"),
        **{name: training.get(name) for name in ("lr_schedule", "num_epochs", "batch_size", "train_on", "seed")},
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()) or None,
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def _lineage(settings: Mapping[str, Any]) -> Iterator[str]:
    """The earlier training stages of a run, latest first; local folders are not named."""
    stage = _mapping(settings.get(INITIAL))
    while stage:
        path, data, step = str(stage.get("path")), stage.get("data"), stage.get("step")
        where = path if "://" in path else "an adapter" if data is None else "a run"
        step = "" if step is None else f", step {step}"
        yield where + step + ("" if data is None else f", trained on data {data}")
        stage = _mapping(stage.get("before"))


def _layers(config: Mapping[str, Any]) -> list[str]:
    """The adapted layers, as a list or as PEFT's single keyword."""
    layers: Any = config.get("target_modules") or []
    return [layers] if isinstance(layers, str) else [str(layer) for layer in layers]


def _measured(rows: Sequence[Row], step: int) -> dict[str, tuple[int, float]]:
    """The last loss and metrics up to *step*: name → (step, value)."""
    found: dict[str, tuple[int, float]] = {}
    for row in rows:
        if row["step"] <= step:
            wanted = {name: value for name, value in row.items() if name == "train/loss" or name.startswith("eval/")}
            found |= {name: (int(row["step"]), value) for name, value in wanted.items() if math.isfinite(value)}
    return found


def _measured_lines(rows: Sequence[Row], step: int) -> list[str]:
    return [f"- {_code(name)} {value:.4f} at step {at}" for name, (at, value) in _measured(rows, step).items()]


def _usage(base: str, *, has_head: bool) -> list[str]:
    lines = [
        "```python",
        "import torch",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f"base = AutoModelForCausalLM.from_pretrained({_python(base)})",
    ]
    if has_head:
        lines += [
            "# The adapter changes the unembedding alone. Where the model ties it to its embeddings, merging would",
            "# change those too, so they are separated first.",
            "base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.detach().clone())",
            "base.config.tie_word_embeddings = False",
        ]
    else:
        lines.remove("import torch")
    return [*lines, 'model = PeftModel.from_pretrained(base, ".")', "merged = model.merge_and_unload()", "```"]
