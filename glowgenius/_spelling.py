"""Settings under another library's name: refused, with the name they have here.

A config that silently ignored `lora_alpha=16` would train something else than its author wrote.
The decorator below leaves the class's real parameters visible to `help()`, editors and type checkers.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import attrs

from glowgenius.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    ConfigClass = TypeVar("ConfigClass", bound=type)


def setting_names(config: type) -> tuple[str, ...]:
    """The names that the constructor of an attrs class accepts, in the order of its fields."""
    return tuple(str(field.alias) for field in attrs.fields(config) if field.init)


def refuse_unknown(config: type, unknown: Iterable[str], elsewhere: Mapping[str, str]) -> NoReturn:
    """Raise one error for all settings that *config* does not have.

    Args:
        config: The attrs class that was given the settings; it also knows the valid names.
        unknown: The names that it does not have; at least one.
        elsewhere: Names that other libraries use → what to do here, as the end of a sentence
            such as `it is called rank here`.

    Raises:
        ConfigError: Always; it says for each name what to write instead, or which names there are.
    """
    known = setting_names(config)
    advice = {name: elsewhere.get(name) for name in unknown}
    lines = [
        f"{name!r}: {words}" if words is not None else f"{name!r}: no such setting{nearest(name, known)}"
        for name, words in advice.items()
    ]
    listing = "" if all(advice.values()) else f"; the settings are {', '.join(known)}"
    if len(lines) == 1:
        raise ConfigError(f"{config.__name__} cannot take {lines[0]}{listing}")
    text = "\n".join(f"  {line}" for line in lines)
    raise ConfigError(f"{config.__name__} cannot take {len(lines)} of the settings{listing}:\n{text}")


def explain_unknown(elsewhere: Mapping[str, str]) -> Callable[[ConfigClass], ConfigClass]:
    """Class decorator, placed above `@frozen`: unknown keyword arguments raise what `refuse_unknown` says.

    Args:
        elsewhere: As for `refuse_unknown`.
    """

    def decorate(config: ConfigClass) -> ConfigClass:
        known = frozenset(setting_names(config))
        stray = sorted(known & set(elsewhere))
        if stray:
            raise TypeError(f"{config.__name__} has {', '.join(stray)}: not a name of other libraries only")
        construct: Callable[..., None] = vars(config)["__init__"]  # attrs has written it

        # `wraps` keeps the true signature in `__wrapped__`, where inspect and `help()` find it.
        @functools.wraps(construct)
        def initialise(self: object, *args: Any, **settings: Any) -> None:
            unknown = [name for name in settings if name not in known]
            if unknown:
                refuse_unknown(config, unknown, elsewhere)
            construct(self, *args, **settings)

        # setattr, because assigning to `__init__` of a class is an error to the type checkers.
        setattr(config, "__init__", initialise)  # noqa: B010
        return config

    return decorate


def times(number: int, noun: str) -> str:
    """A number and its noun, in the plural where that is due."""
    plural = "batches" if noun == "batch" else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
