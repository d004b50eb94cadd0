"""Keys never appear in a text: what looks like one, and every one that is known, is cut out in any encoding of it."""

from __future__ import annotations

import base64
import json
import os
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLES: Final = (
    "TINKER_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
)
"""The environment variables whose values are keys."""

_SHORTEST: Final = 6
"""Characters of the shortest value that is looked for: a shorter one would be found in ordinary words."""

_PREFIXED: Final = re.compile(r"\b(tml-|eyJ|dG1sL)[A-Za-z0-9._~+/=%-]+")
"""Keys of the service, its tokens, and the keys in base64."""

_USER: Final = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/@'\"<>]+@", re.IGNORECASE)
"""The name and password of an address."""

_QUERY: Final = re.compile(
    r"([?&;][\w.-]*(?:key|token|secret|passw(?:or)?d|pwd|auth|signature|credential)[\w.-]*=)[^\s&;#'\"<>]+",
    re.IGNORECASE,
)
"""What an address says behind `?key=`, and behind other names of the kind."""

_known: set[str] = set()


def remember(secret: str | None) -> None:
    """From now on, *secret* is cut out of every text."""
    if secret and len(secret.strip()) >= _SHORTEST:
        _known.add(secret.strip())


def redact(text: str) -> str:
    """*text* with every key cut down to `…`: of a key of the service, its prefix stays."""
    known = _known | {value for name in VARIABLES if len(value := os.environ.get(name, "").strip()) >= _SHORTEST}
    # The longest first, or one that begins another would leave the rest of it.
    for secret in sorted(known, key=len, reverse=True):
        for spelling in _spellings(secret):
            if spelling in text:
                text = text.replace(spelling, "tml-…" if spelling.startswith("tml-") else "…")
    return _QUERY.sub(r"\1…", _USER.sub(r"\1…@", _PREFIXED.sub(r"\1…", text)))


def _spellings(secret: str) -> Iterator[str]:
    """The ways in which a text can hold *secret*, the longest of a kind first."""
    data = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield ascii(secret)[1:-1]
    yield repr(data)[2:-1]
    yield from {quote(data, safe=""), quote(data), quote_plus(data)}
    yield from {quote(data, safe="").lower(), data.hex(), data.hex().upper()}
    for skipped in range(3):
        # In base64 the same bytes are written in three ways, by their place; the ends depend on what is beside them.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            spelling = encode(b"\0" * skipped + data).decode().rstrip("=")
            yield spelling[(0, 2, 3)[skipped] : len(spelling) if (len(data) + skipped) % 3 == 0 else -1]
    # One with a line break or a space in it may be shown in pieces.
    if len(pieces := secret.split()) > 1:
        yield from (piece for piece in pieces if len(piece) >= _SHORTEST)
