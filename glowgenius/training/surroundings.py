"""What is wrong with engine, model and adapter, as far as that can be known before a run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from attrs import frozen

from glowgenius.engines.offered import Offer, OfferQuestion
from glowgenius.errors import Problem
from glowgenius.models.catalog import missing
from glowgenius.training.setup import engine_name

if TYPE_CHECKING:
    from glowgenius.lora.config import LoRAConfig
    from glowgenius.training.setup import Engine


@final
@frozen(kw_only=True)
class Surroundings:
    """What is known of a run beside its rows and settings."""

    engine: str
    """Where it would take place; `none` where there is no engine."""

    problems: tuple[Problem, ...] = ()
    """What is wrong with them."""

    warnings: tuple[str, ...] = ()
    """What could not be found out about them."""

    context: int | None = None
    """The most tokens that the model takes there, where the service says so."""


@final
class Outlook:
    """Asks about the surroundings when it is made, and has the answers when they are needed.

    Args:
        engine: Where the run would take place; a service that is in it is asked which models it has.
        base_model: The model that is adapted.
        lora: The adapter; None where a client was given, whose model is there already.
    """

    def __init__(self, engine: Engine, base_model: str, lora: LoRAConfig | None) -> None:
        self._engine = engine
        self._base_model = base_model
        self._lora = lora
        asks = engine.service is not None and lora is not None
        # Of this machine the catalogue knows more: any folder and any name of the hub may be used.
        self._is_local = asks and engine_name(engine.service) == "local"
        self._question = OfferQuestion(engine.service) if asks and not self._is_local else None

    def see(self) -> Surroundings:
        """What there is to know by now.

        Raises:
            AuthenticationError: The service refuses the key.
            BillingError: The account cannot pay.
        """
        offer = Offer() if self._question is None else self._question.answer()
        problems = (self._rank(), self._missing(), offer.problem(self._base_model))
        silence = (
            "the service did not say which models it has, so whether "
            f"{self._base_model!r} is one of them is not known: {offer.silence}"
        )
        return Surroundings(
            engine=self._engine.name,
            problems=tuple(problem for problem in problems if problem is not None),
            warnings=() if offer.silence is None else (silence,),
            context=offer.context(self._base_model),
        )

    def _rank(self) -> Problem | None:
        if self._engine.name != "tinker" or self._lora is None or not self._lora.rank & (self._lora.rank - 1):
            return None
        return Problem(field="lora.rank", found=str(self._lora.rank), accepted="a power of two, as Tinker asks for")

    def _missing(self) -> Problem | None:
        found = missing(self._base_model) if self._is_local else None
        return None if found is None else Problem(field="base_model", found=found.found, accepted=found.accepted)
