"""Order of rows in each epoch: a pure function of the number of rows, the seed and the epoch.

Rows are sorted by a keyed hash of their position instead of being shuffled by a random generator.
So the order is the same on every machine and with every version of Python and numpy, an epoch can be
entered in the middle after a resume without replaying the ones before, and there is no state to save.
"""

from __future__ import annotations

import hashlib

from glowgenius._validators import is_integer
from glowgenius.errors import ConfigError


def epoch_order(num_rows: int, *, seed: int, epoch: int) -> list[int]:
    """The rows `0 … num_rows-1`, each once, in the order of this *epoch*.

    Args:
        num_rows: How many rows there are; 0 gives an empty list.
        seed: Any integer; another seed is another order.
        epoch: 0-based; every epoch has its own order.

    Raises:
        ConfigError: An argument is not an integer in its range.
    """
    _check("num_rows", num_rows, at_least=0)
    _check("seed", seed)
    _check("epoch", epoch, at_least=0)
    keyed = hashlib.blake2b(f"glowgenius order, seed {seed}, epoch {epoch}".encode(), digest_size=16)

    def place(row: int) -> bytes:
        position = keyed.copy()
        position.update(f", row {row}".encode())
        return position.digest()

    return sorted(range(num_rows), key=place)


def batches(num_rows: int, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """`epoch_order` cut into batches of *batch_size* rows; the last one is shorter where they do not divide.

    Raises:
        ConfigError: An argument is not an integer in its range.
    """
    _check("batch_size", batch_size, at_least=1)
    order = epoch_order(num_rows, seed=seed, epoch=epoch)
    return [order[start : start + batch_size] for start in range(0, num_rows, batch_size)]


def _check(name: str, value: object, *, at_least: int | None = None) -> None:
    """An integer, and at least *at_least*."""
    if not isinstance(value, int) or not is_integer(value) or (at_least is not None and value < at_least):
        rule = "an integer" if at_least is None else f"an integer ≥ {at_least}"
        raise ConfigError(f"{name} must be {rule}, got {value!r} ({type(value).__name__})")
