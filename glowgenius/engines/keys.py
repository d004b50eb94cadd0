"""The key and the address of a service: where a key is found, and whether a server answers at an address."""

from __future__ import annotations

import json
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from typing_extensions import override

from glowgenius._secrets import redact, remember
from glowgenius.errors import AuthenticationError, ConfigError, EngineError, ServiceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPResponse
    from urllib.parse import SplitResult

KEY_SOURCES = "TINKER_API_KEY, TINKER_CREDENTIAL_CMD or `tinker auth login`"
"""Where the SDK finds a key, in its own order."""

_KEY_PREFIXES = ("tml-", "eyJ")
_NO_KEY = (
    f"there is no API key for Tinker. Give one by {KEY_SOURCES} (a self-hosted server takes any that begins with "
    "'tml-'), or train on this machine with engine='local'"
)


def _stored(environment: Mapping[str, str]) -> Any:
    home = Path(environment["HOME"]) if environment.get("HOME") else Path.home()
    return json.loads((home / ".tinker" / "credentials.json").read_text(encoding="utf-8"))


def _stored_key(environment: Mapping[str, str]) -> str:
    """The default key of the SDK's credentials file; empty where that cannot be read, which the SDK judges."""
    try:
        stored = _stored(environment)
        key = stored["keys"][stored["default"]]["key"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""
    return key if isinstance(key, str) else ""


def has_stored_key(environment: Mapping[str, str]) -> bool:
    """Whether the SDK's credentials file holds a default key; one that cannot be read is left to the SDK to judge."""
    try:
        stored = _stored(environment)
        return stored.get("default") in stored.get("keys", {})
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError, TypeError):
        return True


def find_key(owner: str, environment: Mapping[str, str], *, api_key: str | None = None) -> str | None:
    """The key for Tinker, without white space around it; None where the SDK finds one by itself.

    Args:
        owner: Who asks, as the error begins.
        environment: Where variables are looked up.
        api_key: A key that was given.

    Raises:
        AuthenticationError: There is none, or one that cannot be a key; it is not printed.
    """
    source, key = ("api_key", api_key) if api_key else ("TINKER_API_KEY", environment.get("TINKER_API_KEY"))
    if key is not None and not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise AuthenticationError(f"{owner}: {source} must be a string, got {type(key).__name__}")
    remember(key)
    key = (key or "").strip()
    # The SDK notices a missing key only in the middle of its first request, so it is looked for here.
    if not key and not environment.get("TINKER_CREDENTIAL_CMD") and not has_stored_key(environment):
        raise AuthenticationError(f"{owner}: {_NO_KEY}")
    _check_characters(owner, source, key)
    if key and not key.startswith(_KEY_PREFIXES) and not environment.get("TINKER_CREDENTIAL_CMD"):
        raise AuthenticationError(
            f"{owner}: {source} is not a Tinker key, as it does not begin with 'tml-'; copy it whole from the console, "
            "or train on this machine with engine='local'"
        )
    if not key and not environment.get("TINKER_CREDENTIAL_CMD"):
        _check_characters(owner, "the key that `tinker auth login` has stored", _stored_key(environment))
    return key or None


def _check_characters(owner: str, source: str, key: str) -> None:
    """Refuse what no header can carry: the SDK would print the key in its error, or wait without one.

    Raises:
        AuthenticationError: There is such a character in *key*.
    """
    for place, letter in enumerate(key, 1):
        if not "!" <= letter <= "~":
            kind = "a space or line break" if letter.isspace() else f"the character U+{ord(letter):04X}"
            raise AuthenticationError(
                f"{owner}: {source} has {kind} at place {place} of {len(key)}, which no key has; copy it once more "
                "from the console, without what is around it"
            )


SECONDS = 10.0
"""How long a server may take for its first answer."""

FIRST_REQUEST = "/api/v1/client/config"
"""What the SDK asks before anything else, since 0.18."""

_ACCEPTED = "Give the address of a server, such as 'http://127.0.0.1:8000'"
_SKIP = "connect(check=False) leaves out this question"
_OLDER, _REFUSED, _REDIRECTED, _PROBE_FAILED = {404, 405}, {401, 403}, range(300, 400), 500
_LONGEST = 1 << 20


def parsed(address: str) -> SplitResult:
    """The parts of *address*.

    Raises:
        ConfigError: It has none, as one with an open bracket, or with a port that is no number.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        # Not chained: its text may quote the address, and with it a password.
        raise ConfigError(f"connect: base_url cannot be read: {type(error).__name__}. {_ACCEPTED}") from None
    return parts


def check_address(address: str) -> SplitResult:
    """The parts of *address*.

    Raises:
        ConfigError: It is no address of a server.
    """
    parts = parsed(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"connect: base_url must be an address such as 'http://127.0.0.1:8000', got {shown(address)!r}"
        )
    return parts


def shown(address: str) -> str:
    """*address* without the name, password and keys that may be in it."""
    parts = parsed(address)
    return redact(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())


def check_server(address: str, api_key: str | None, *, sdk_version: str, seconds: float = SECONDS) -> None:
    """Ask the server at *address* what the SDK will ask first.

    Args:
        address: Its `base_url`.
        api_key: The key, if there is a fixed one.
        sdk_version: What the SDK says about itself.
        seconds: How long to wait.

    Raises:
        ConfigError: *address* is no address of a server.
        ServiceUnavailableError: Nobody answers, or the server fails.
        AuthenticationError: The server refuses the key.
        EngineError: Somebody else answers, or a server that is older than the SDK.
    """
    parts = check_address(address)
    headers = {"Content-Type": "application/json", **({"X-API-Key": api_key} if api_key else {})}
    body = json.dumps({"sdk_version": sdk_version}).encode()
    # A name and password in the address are for the SDK: they are not sent here, and a 401 may then be about them.
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = Request(bare.rstrip("/") + FIRST_REQUEST, data=body, headers=headers)  # noqa: S310 - checked above
    has_key = bool(api_key) and bare == address
    where = f"connect: the server at {shown(address)}"
    try:
        # A redirection is not followed: the key would go wherever it points.
        with build_opener(_Stays).open(request, timeout=seconds) as response:
            _check_answer(response, where)
    except HTTPError as error:
        with error:
            _check_status(error.code, where, sdk_version, has_key=has_key)
    except (URLError, OSError, HTTPException) as error:
        # The SDK has certificates of its own, so one that is refused here says nothing about it.
        reason = getattr(error, "reason", error)
        if "CERTIFICATE_VERIFY_FAILED" not in str(reason):
            raise ServiceUnavailableError(
                f"{where} does not answer ({_said(reason, seconds)}). Check that it runs and that the address is "
                f"right; with a proxy set, NO_PROXY must cover a server on this machine. {_SKIP}"
            ) from error


@final
class _Stays(HTTPRedirectHandler):
    @override
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Make an error of every redirection."""


def _said(reason: object, seconds: float) -> str:
    return f"nothing within {seconds:g} s" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__


def _check_answer(response: HTTPResponse, where: str) -> None:
    try:
        answer: Any = json.loads(response.read(_LONGEST))
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise EngineError(f"{where} is no Tinker server: it does not answer in JSON. Check the address. {_SKIP}")


def _check_status(status: int, where: str, sdk_version: str, *, has_key: bool) -> None:
    if status in _OLDER:
        raise EngineError(
            f"{where} is older than the Tinker SDK {sdk_version} here, or is no Tinker server: it does not know "
            f"{FIRST_REQUEST}. The SDK would wait for it and not fail. Install a newer server, or in an environment "
            f"of its own the SDK that it was made for. {_SKIP}"
        )
    if status in _REFUSED and has_key:
        raise AuthenticationError(f"{where} refuses the API key (status {status}). Give the key of this server")
    if status in _REDIRECTED:
        raise EngineError(
            f"{where} sends on to another address (status {status}), which the key is not sent to. Give the address "
            f"that it names as base_url, if it is yours; a sign-in page of a network answers like this too. {_SKIP}"
        )
    if status >= _PROBE_FAILED:
        raise ServiceUnavailableError(
            f"{where} fails (status {status}); the SDK would repeat its requests for minutes. Look at its log. {_SKIP}"
        )
