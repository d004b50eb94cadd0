"""Which weights a base model has, told by a fingerprint that does not read them all."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_SAMPLES, _BYTES = 4, 64
"""Of each tensor, so many stretches of so many bytes are read."""

_LONGEST_HEADER = 100_000_000
"""What safetensors itself takes."""


def weights_fingerprint(directory: Path) -> str | None:
    """SHA-256 over names, types, shapes, places and a sample of the bytes of every tensor in *directory*.

    Another model, another fine-tune or another precision of a model has another one. A change of a few bytes need not
    be noticed: an 8-billion-parameter model takes a few thousand small reads.

    Returns:
        It; None where there are no weights.
    """
    files = sorted({*directory.glob("*.safetensors"), *directory.glob("pytorch_model*.bin")})
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            for begin, end in _stretches(stream, size):
                for start in _starts(begin, end):
                    stream.seek(start)
                    digest.update(stream.read(min(_BYTES, end - start)))
    return digest.hexdigest()


def _stretches(stream: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Where the header and each tensor of a safetensors file begin and end; the whole of another file."""
    length = int.from_bytes(stream.read(8), "little")
    if not 0 < length <= min(size - 8, _LONGEST_HEADER):
        yield from ((at, min(at + size // 256 + 1, size)) for at in range(0, size, size // 256 + 1))
        return
    try:
        header: dict[str, Any] = json.loads(stream.read(length))
        tensors = {name: value["data_offsets"] for name, value in header.items() if name != "__metadata__"}
        places = [(int(begin), int(end)) for begin, end in tensors.values()]
    except (ValueError, TypeError, KeyError, AttributeError):  # no safetensors, or a damaged one: loading says so
        places = list[tuple[int, int]]()
    # All of the header: names, types, shapes and places.
    yield from ((at, min(at + _BYTES, 8 + length)) for at in range(8, 8 + length, _BYTES))
    for begin, end in sorted(places):
        if 0 <= begin < end <= size - 8 - length:
            yield 8 + length + begin, 8 + length + end


def _starts(begin: int, end: int) -> Iterator[int]:
    """Where samples of a stretch begin, spread over all of it; its end is among them."""
    last = max(begin, end - _BYTES)
    yield from sorted({begin + (last - begin) * index // (_SAMPLES - 1) for index in range(_SAMPLES)})
