"""The arguments of a sweep, checked before anything is trained: its cells, its questions, and what decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from glowgenius._validators import is_number
from glowgenius.errors import ConfigError, nearest
from glowgenius.evaluation.metrics import METRICS
from glowgenius.experiments.cell import WHOLE, Cell
from glowgenius.training.setup import as_dataset

if TYPE_CHECKING:
    from glowgenius.data.dataset import Dataset
    from glowgenius.data.message import Conversation

    Rows: TypeAlias = Dataset | Sequence[Conversation]
    """What the arguments for data take."""


def cells_of(ranks: Iterable[int], learning_rates: Iterable[float], seeds: Iterable[int]) -> list[Cell]:
    """The cells, in the order in which they are run: a whole grid with the first seed, then with the next."""
    axes: dict[str, list[Any]] = {}
    for name, values in (("ranks", ranks), ("learning_rates", learning_rates), ("seeds", seeds)):
        if isinstance(values, str | bytes | dict) or not hasattr(values, "__iter__"):
            raise ConfigError(f"{name} of sweep() must be a list of numbers, got {values!r}")
        axes[name] = list(values)
        twice = [value for index, value in enumerate(axes[name]) if value in axes[name][:index]]
        if twice or not axes[name]:
            found = f"{twice[0]!r} twice" if twice else "none"
            raise ConfigError(f"{name} of sweep() must be at least one number, each once, got {found}")
    for rate in axes["learning_rates"]:
        if not is_number(rate):
            raise ConfigError(
                f"learning_rates of sweep() must be numbers, got {rate!r}; suggest_learning_rate(model).value is one"
            )
    return [
        Cell(rank=rank, learning_rate=float(rate), seed=seed)
        for seed in axes["seeds"]
        for rank in axes["ranks"]
        for rate in axes["learning_rates"]
    ]


def questions_of(given: Rows | Mapping[str, Rows] | None) -> dict[str, Dataset]:
    """What is asked, by slice."""
    if given is None or not given:
        return {}
    if isinstance(given, Mapping):
        return {part: as_dataset(rows, f"questions[{part!r}]") for part, rows in given.items()}
    return {WHOLE: as_dataset(given, "questions")}


def metric_of(metric: str | None, metrics: Sequence[str], asked: Mapping[str, object], *, has_eval: bool) -> str:
    """What decides, checked before anything is trained."""
    known = [name if part == WHOLE else f"{part}/{name}" for part in asked for name in ("nll", *dict.fromkeys(metrics))]
    known += ["eval_loss"] if has_eval else []
    known += ["train_loss"]
    if metric is None:
        return known[0]
    if metric not in known:
        hint = nearest(metric, known)
        more = f"; add it by metrics=(…, {metric!r})" if metric in METRICS else ""
        raise ConfigError(f"metric of sweep() must be one of {', '.join(map(repr, known))}, got {metric!r}{hint}{more}")
    return metric
