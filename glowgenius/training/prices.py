"""Token prices: a dated table that comes with the package, or the user's own."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final

from attrs import field, frozen

from glowgenius._validators import number
from glowgenius.errors import ConfigError, nearest

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

VARIABLE: Final = "GLOWGENIUS_PRICES"
"""The environment variable that names a price file."""

_MILLION: Final = 1_000_000
_KINDS: Final = ("prefill", "sample", "train")
_FORM: Final = '{"date": "2026-11-24", "models": {"Qwen/Qwen3-8B": {"prefill": 0.2, "sample": 0.6, "train": 0.44}}}'


@final
@frozen(kw_only=True)
class TokenUsage:
    """Token counts by kind of use (trained, prefilled, sampled), as they are charged."""

    trained: int = 0
    """Tokens of the rows that `forward_backward` was given, whether they carry loss or not."""

    prefilled: int = 0
    """Tokens that were read: rows of an evaluation, and prompts."""

    sampled: int = 0
    """Tokens that were generated."""

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            trained=self.trained + other.trained,
            prefilled=self.prefilled + other.prefilled,
            sampled=self.sampled + other.sampled,
        )

    def times(self, count: int) -> TokenUsage:
        """The usage multiplied by *count*."""
        return TokenUsage(trained=self.trained * count, prefilled=self.prefilled * count, sampled=self.sampled * count)


@final
@frozen(kw_only=True)
class Price:
    """Prices of one model, in USD per million tokens."""

    prefill: float = field(validator=number(at_least=0))
    """Of tokens that are read."""

    sample: float = field(validator=number(at_least=0))
    """Of tokens that are generated."""

    train: float = field(validator=number(at_least=0))
    """Of tokens that are trained on."""

    date: str
    """The day of which this was the price, as `2026-11-24`."""

    source: str
    """Where it was read."""

    def usd(self, usage: TokenUsage) -> float:
        """Cost of a token usage, in USD."""
        total = usage.prefilled * self.prefill + usage.sampled * self.sample + usage.trained * self.train
        return total / _MILLION


@final
@frozen(kw_only=True)
class PriceTable:
    """Prices of several models."""

    models: Mapping[str, Price]
    """Price by the name of the base model, as the service spells it."""

    note: str = ""
    """What to know about them."""

    @classmethod
    def shipped(cls) -> PriceTable:
        """The price table that comes with the package; each price has its date."""
        text = resources.files("glowgenius.training").joinpath("prices.json").read_text(encoding="utf-8")
        return cls._parse(text, "the shipped prices.json")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> PriceTable:
        """A price table from the user's file, in the format of the shipped one.

        Raises:
            ConfigError: There is no such file, or it holds something else.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"prices: {str(path)!r} cannot be read: {error.strerror or error}") from error
        return cls._parse(text, str(path))

    @classmethod
    def find(cls, given: PriceTable | str | os.PathLike[str] | None, environment: Mapping[str, str]) -> PriceTable:
        """The table to use: *given*, else the one the environment names, else the shipped one."""
        if isinstance(given, PriceTable):
            return given
        named = given or environment.get(VARIABLE)
        return cls.from_file(named) if named else cls.shipped()

    @classmethod
    def _parse(cls, text: str, place: str) -> PriceTable:
        try:
            table: Any = json.loads(text)
            models = {
                name: Price(
                    **{kind: entry[kind] for kind in _KINDS},
                    date=entry.get("date", table["date"]),
                    source=table.get("source", place),
                )
                for name, entry in cast("dict[str, Any]", table["models"]).items()
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"prices: {place} is no price table ({reason}); one looks like {_FORM}") from error
        return cls(models=models, note=table.get("note", ""))

    def unknown(self, model: str) -> str:
        """The warning for a model that is not in the table."""
        return (
            f"unknown, there is no price of {model!r}{nearest(model, self.models)}; give one with "
            f"SupervisedTrainer(prices=...) or {VARIABLE}"
        )
