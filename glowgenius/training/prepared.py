"""A run whose rows are rendered and whose steps are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from attrs import frozen

if TYPE_CHECKING:
    from glowgenius.data.trained import Trained
    from glowgenius.training.rows import PreparedRows
    from glowgenius.training.schedule import Plan


@final
@frozen(kw_only=True, eq=False)
class PreparedRun:
    """What is going to be sent, and in which order."""

    train: PreparedRows
    """The training rows, rendered."""

    evaluation: PreparedRows | None
    """The evaluation rows, rendered."""

    plan: Plan
    """Every step of the run."""

    can_resume: bool = False
    """Whether the run could be gone on with if it failed."""

    trained: Trained | None = None
    """What is trained, as hashes, for those who ask the model afterwards."""
