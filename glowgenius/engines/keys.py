"""The API key for Tinker: where it is found, and what a key looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glowgenius._secrets import remember
from glowgenius.errors import AuthenticationError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
