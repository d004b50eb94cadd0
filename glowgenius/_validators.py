"""attrs validators whose messages name class, field, rule, value and type.

`True` is no integer here and NaN is no number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from glowgenius.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from attrs import Attribute

    Validator = Callable[[Any, Attribute[Any], Any], None]


def reject(owner: object, field: str, rule: str, value: object) -> ConfigError:
    """The error for a field of *owner* that breaks *rule*, ready to be raised."""
    name = owner.__name__ if isinstance(owner, type) else type(owner).__name__
    return ConfigError(f"{name}.{field} must be {rule}, got {value!r} ({type(value).__name__})")


def is_integer(value: object) -> bool:
    """Whether *value* is an int and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether *value* is a finite int or float and not a bool."""
    if is_integer(value):
        return True  # of any size; math.isfinite would first turn it into a float
    return isinstance(value, float) and math.isfinite(value)


def integer(*, at_least: int | None = None, at_most: int | None = None) -> Validator:
    """An int within the bounds; the upper one is named where it is passed."""
    rule = "an integer" if at_least is None else f"an integer ≥ {at_least}"

    def check(owner: object, attribute: Attribute[Any], value: Any) -> None:
        if not is_integer(value) or (at_least is not None and value < at_least):
            raise reject(owner, attribute.name, rule, value)
        if at_most is not None and value > at_most:
            raise reject(owner, attribute.name, f"{rule} and ≤ {at_most}", value)

    return check


def number(
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> Validator:
    """A finite number within the bounds; *at_most* is named where it is passed."""
    bounds = [f"{sign} {bound:g}" for sign, bound in ((">", above), ("≥", at_least), ("<", below)) if bound is not None]
    rule = " ".join(["a number", " and ".join(bounds)]).strip()

    def check(owner: object, attribute: Attribute[Any], value: Any) -> None:
        fits = (
            is_number(value)
            and (above is None or value > above)
            and (at_least is None or value >= at_least)
            and (below is None or value < below)
        )
        if not fits:
            raise reject(owner, attribute.name, rule, value)
        if at_most is not None and value > at_most:
            raise reject(owner, attribute.name, f"{rule} and ≤ {at_most:g}", value)

    return check


def boolean() -> Validator:
    """True or False."""

    def check(owner: object, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, bool):
            raise reject(owner, attribute.name, "True or False", value)

    return check


def text() -> Validator:
    """A string with something in it."""

    def check(owner: object, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, str) or not value.strip():
            raise reject(owner, attribute.name, "a non-empty string", value)

    return check


def one_of(choices: Collection[str]) -> Validator:
    """One of the words, with the nearest of them named."""
    rule = "one of " + ", ".join(repr(choice) for choice in choices)

    def check(owner: object, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, str) or value not in choices:
            hint = nearest(value, choices) if isinstance(value, str) else ""
            error = reject(owner, attribute.name, rule, value)
            raise ConfigError(f"{error}{hint}")

    return check


def optional(validator: Validator) -> Validator:
    """None, or whatever *validator* accepts."""

    def check(owner: object, attribute: Attribute[Any], value: Any) -> None:
        if value is None:
            return
        try:
            validator(owner, attribute, value)
        except ConfigError as error:
            raise ConfigError(str(error).replace(" must be ", " must be None or ", 1)) from None

    return check
