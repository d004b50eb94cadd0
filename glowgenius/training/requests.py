"""What a callback may answer: requests, as frozen values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, final

from attrs import field, frozen

from glowgenius._validators import integer, optional, text
from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
@frozen
class StopTraining:
    """End the run behind the steps that are already submitted; the last step is evaluated and saved as always."""

    reason: str = field(validator=text())
    """Why; becomes `result.stop_reason`."""

    use_step: int | None = field(default=None, kw_only=True, validator=optional(integer(at_least=1)))
    """The step whose weights `result.sampler` answers with; None means those of the last one."""


@final
@frozen
class SaveCheckpoint:
    """Keep a state to go on from, behind the steps that are already submitted."""


@final
@frozen
class RunEvaluation:
    """Evaluate the weights behind the steps that are already submitted."""


def _measurements(values: Mapping[str, float]) -> Mapping[str, float]:
    measured: dict[str, float] = {}
    for name, value in dict(values).items():
        try:
            measured[name] = float(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"LogMetrics[{name!r}] must be a number, got {value!r} ({type(value).__name__})"
            ) from None
    return measured


@final
@frozen
class LogMetrics:
    """Add figures to the row of the step that is being reported, and so to history and run folder."""

    metrics: Mapping[str, float] = field(converter=_measurements)
    """Name → value, such as `{"eval/exact_match": 0.8}`."""


Request: TypeAlias = StopTraining | SaveCheckpoint | RunEvaluation | LogMetrics
"""What a hook may return besides None."""

REQUESTS: Final[tuple[type[Request], ...]] = (StopTraining, SaveCheckpoint, RunEvaluation, LogMetrics)
"""The request classes."""
