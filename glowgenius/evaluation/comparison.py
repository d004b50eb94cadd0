"""What a comparison found, on every slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from attrs import field, frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.errors import EvaluationError, nearest
from glowgenius.evaluation import reading, tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.evaluation.slices import Pair, SliceComparison


@final
@frozen(kw_only=True)
class Comparison:
    """Base against tuned on every slice. `print` shows the table."""

    slices: Mapping[str, SliceComparison] = field(hash=False)
    """By name, in the order in which they were given; at least one."""

    @property
    def rows(self) -> list[SliceComparison]:
        """Every slice, followed by its questions that were trained and those that were not, where that is known."""
        return [each for part in self.slices.values() for each in (part, *part.parts)]

    def __getitem__(self, name: str) -> SliceComparison:
        """The slice called *name*.

        Raises:
            EvaluationError: There is no such slice.
        """
        if name not in self.slices:
            known = ", ".join(map(repr, self.slices))
            raise EvaluationError(f"there is no slice {name!r}{nearest(name, self.slices)}; slices: {known}")
        return self.slices[name]

    def changed(self, name: str | None = None) -> tuple[Pair, ...]:
        """Every question whose answer turned right or wrong, the fixed ones first; of all slices if none is named.

        Raises:
            EvaluationError: There is no such slice.
        """
        parts = self.slices.values() if name is None else [self[name]]
        return tuple(pair for part in parts for pair in (*part.fixed, *part.broken))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it says, by rule, with the numbers: from slices called `seen`, `paraphrase`, `unseen`, `control`.

        `retention` is read as `control` is, and a slice that `abstains` judges as one of invented things.
        """
        return reading.sentences(self.slices)

    def to_dict(self) -> dict[str, Any]:
        """The `slices` object of `results.json`."""
        return {name: part.to_dict() for name, part in self.slices.items()}

    def details(self) -> dict[str, Any]:
        """`to_dict` with metric, verdict and every changed answer in each slice."""
        return {name: part.details() for name, part in self.slices.items()}

    def to_record(self) -> dict[str, Any]:
        """Every answer and every number, as JSON values: `from_record` makes the same comparison of it."""
        return {"slices": [part.to_record() for part in self.slices.values()]}

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_record` wrote.

        Raises:
            EvaluationError: Something is missing in *values*.
        """
        from glowgenius.evaluation.slices import SliceComparison

        try:
            parts = [SliceComparison.from_record(part) for part in values["slices"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise EvaluationError(f"these values are no Comparison.to_record(): {error!r}") from error
        return cls(slices={part.name: part for part in parts})

    def _repr_html_(self) -> str:
        """What notebooks show: the verdicts, both charts, and the table of the slices."""
        from glowgenius.evaluation.drawing import comparison_figures
        from glowgenius.markup.html import fragment, tag

        said = [tag("ul", *(tag("li", text) for text in self.sentences), class_="verdicts")] if self.sentences else []
        return fragment([*comparison_figures(self.rows), *said])

    @override
    def __str__(self) -> str:
        return showable(tables.comparison_table(self.rows, self.sentences))
