"""`glowgenius export`: the tuned model in the form that its destination takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from glowgenius.cli.common import JSONOption, RunFolderArgument, StepOption, print_json, say, verb
from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from glowgenius.export.destinations import Format


@verb
def export(
    run: RunFolderArgument,
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIRECTORY", help="A folder that is new or empty.")
    ] = None,
    *,
    format: Annotated[  # noqa: A002 - the name of the option
        str | None, typer.Option(help="adapter (the default), merged, gguf, gguf-adapter or vllm.")
    ] = None,
    merged: Annotated[Path | None, typer.Option(metavar="DIRECTORY", help="As --format merged DIRECTORY.")] = None,
    gguf: Annotated[Path | None, typer.Option(metavar="DIRECTORY", help="As --format gguf DIRECTORY.")] = None,
    server: Annotated[
        str | None, typer.Option("--for", metavar="SERVER", help="vllm or sglang: an adapter that it loads.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="merged: auto, float32, float16, bfloat16; gguf: auto, f32, f16, bf16, q8_0.")
    ] = "auto",
    check: Annotated[bool, typer.Option(help="Whether a merged model is compared with the adapter.")] = True,
    push: Annotated[
        str | None, typer.Option("--push-to-hub", metavar="NAME", help="Upload to the hub instead, as owner/name.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push-to-hub: let everybody see it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --push-to-hub: list the files alone.")] = False,
    step: StepOption = None,
    as_json: JSONOption = False,
) -> int:
    """Write the tuned model of RUN: the adapter, or the merged model, a GGUF file, or what vLLM and SGLang load.

    Example: `glowgenius export runs/nyc merged --format merged`
    """
    from glowgenius.reporting.saved_run import open_run

    chosen, target = _chosen(format, directory, merged, gguf, server, push)
    opened = open_run(run)
    if push is not None:
        upload = opened.push_to_hub(
            push, private=not public, format=chosen, dtype=dtype, step=step, dry_run=dry_run
        )  # fmt: skip
        if as_json:
            files = dict(upload.files)
            print_json({"repository": upload.repository, "url": upload.url, "private": upload.private, "files": files})
        else:
            say(upload, as_json=False)
        return 0
    if target is None:
        raise ConfigError("name the folder to write into: glowgenius export RUN DIRECTORY")
    written = opened.export(target, format=chosen, dtype=dtype, step=step, check=check)
    if as_json:
        more = {"adapter": str(written.path)} if chosen == "adapter" else {}
        print_json({**written.to_json(), **more})
    else:
        say(written, as_json=False)
    return 0


def _chosen(
    kind: str | None,
    directory: Path | None,
    merged: Path | None,
    gguf: Path | None,
    server: str | None,
    push: str | None,
) -> tuple[Format, Path | None]:
    """The format, and the folder; each may be said in two ways, and only once.

    Raises:
        ConfigError: They contradict each other, or there is no such server.
    """
    if server not in (None, "vllm", "sglang"):
        raise ConfigError(f"--for must be vllm or sglang, got {server!r}")
    said = {
        "--format": kind,
        "--merged": None if merged is None else "merged",
        "--gguf": None if gguf is None else "gguf",
        "--for": None if server is None else "vllm",
    }
    given = {name: value for name, value in said.items() if value is not None}
    folders = [folder for folder in (directory, merged, gguf) if folder is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} name two formats; leave one out")
    if len(folders) > 1:
        raise ConfigError(f"{' and '.join(map(str, folders))} are two folders to write into; name one")
    if push is not None and folders:
        raise ConfigError(f"--push-to-hub uploads and writes nothing here; leave {folders[0]} out")
    return cast("Format", next(iter(given.values()), "adapter")), folders[0] if folders else None
