"""What is wrong with engine, model and adapter, as far as that can be known before a run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from attrs import frozen

from glowgenius.engines.offered import Offer, OfferQuestion
from glowgenius.engines.protocol import SupportsContext
from glowgenius.errors import GlowGeniusError, Problem
from glowgenius.models.catalog import missing
from glowgenius.models.hub import context_length as model_context_length
from glowgenius.training.setup import engine_name

_BYTES_PER_PARAMETER = 16
"""A trained parameter, its gradient and two moments, in float32."""

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
        problems = (self._rank(), self._missing(), self._memory(), offer.problem(self._base_model))
        context, unlimited = self._context(offer)
        silence = (
            "the service did not say which models it has, so whether "
            f"{self._base_model!r} is one of them is not known: {offer.silence}"
        )
        return Surroundings(
            engine=self._engine.name,
            problems=tuple(problem for problem in problems if problem is not None),
            warnings=(*(() if offer.silence is None else (silence,)), *unlimited),
            context=context,
        )

    def _context(self, offer: Offer) -> tuple[int | None, tuple[str, ...]]:
        """The most tokens of a row, and what there is to say where there is no such number."""
        service = self._engine.service
        try:
            if self._engine.name != "local":
                if isinstance(service, SupportsContext):
                    return service.context_length(self._base_model), ()
                return offer.context(self._base_model), ()
            context = model_context_length(self._base_model)
        except GlowGeniusError:
            return None, ()  # that there is no such model is said elsewhere
        unlimited = f"the config of {self._base_model!r} names no longest sequence, so rows of any length are sent"
        return context, () if context is not None else (unlimited,)

    def _memory(self) -> Problem | None:
        """An adapter that the free memory of this machine does not hold."""
        free: int | None = getattr(self._engine.service, "free_memory", None) if self._is_local else None
        if free is None or self._lora is None:
            return None
        try:
            needed = _BYTES_PER_PARAMETER * self._lora.parameter_count(self._base_model)
        except GlowGeniusError:
            return None
        if needed <= free:
            return None
        rank = self._lora.rank
        found = f"{rank}: the adapter, its gradient and its optimizer take {needed / 1e9:,.1f} GB"
        return Problem(
            field="lora.rank", found=found, accepted=f"at most {rank * free // needed}: {free / 1e9:,.1f} GB are free"
        )

    def _rank(self) -> Problem | None:
        if self._engine.name != "tinker" or self._lora is None or not self._lora.rank & (self._lora.rank - 1):
            return None
        return Problem(field="lora.rank", found=str(self._lora.rank), accepted="a power of two, as Tinker asks for")

    def _missing(self) -> Problem | None:
        found = missing(self._base_model) if self._is_local else None
        return None if found is None else Problem(field="base_model", found=found.found, accepted=found.accepted)
