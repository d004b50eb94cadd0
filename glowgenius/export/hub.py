"""A folder of exported files becomes a repository of the hub, with what is said in its card and nothing else."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast, final

from attrs import frozen
from typing_extensions import override

from glowgenius._lazy import require
from glowgenius._secrets import redact
from glowgenius.errors import AuthenticationError, ConfigError, EngineError, GlowGeniusError, ServiceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

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
