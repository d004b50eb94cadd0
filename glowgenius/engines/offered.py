"""Which base models a service has: asked in the background while the rows are rendered, and not waited for for long."""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import Future
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, final

from attrs import frozen

from glowgenius.engines.errors import MODELS_SHOWN, translate
from glowgenius.engines.protocol import SupportsContext
from glowgenius.errors import AuthenticationError, BillingError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS: Final = 15.0
"""How long the answer may take, counted from the end of everything else; the SDK itself would wait for minutes."""

_NEAREST: Final = 3
_NAME = "get_server_capabilities"


@final
@frozen(kw_only=True)
class OfferedModel:
    """One model that a service lists."""

    name: str
    """What `base_model` has to be."""

    trainable: bool
    """Whether it can be trained, and not only sampled from."""

    context: int | None
    """The most tokens that it takes, where the service says so."""


@final
@frozen(kw_only=True)
class Offer:
    """What a service answers."""

    models: tuple[OfferedModel, ...] = ()
    """Every model that it lists; none where it does not say."""

    silence: str | None = None
    """Why it does not say."""

    def problem(self, base_model: str) -> Problem | None:
        """What is wrong with training *base_model* on this service, as far as it says."""
        known = {model.name: model for model in self.models}
        if not known:
            return None
        if base_model in known and known[base_model].trainable:
            return None
        found = f"the service does not have {base_model!r}"
        if base_model in known:
            found = f"the service has {base_model!r} for sampling only"
        return Problem(field="base_model", found=found, accepted=_near(base_model, self.models))

    def context(self, base_model: str) -> int | None:
        """The most tokens that *base_model* takes, where the service says so."""
        return next((model.context for model in self.models if model.name == base_model), None)


def context_length(service: object, base_model: str) -> int | None:
    """The most tokens that a row of *base_model* may have on *service*; None where there is no limit, or none is known.

    Raises:
        ModelNotFoundError: There is no such model.
        AuthenticationError: The service refuses the key.
        BillingError: The account cannot pay.
    """
    if isinstance(service, SupportsContext):
        return service.context_length(base_model)
    return OfferQuestion(service).answer().context(base_model)


@final
class OfferQuestion:
    """Asks *service* which models it has, and goes on; a service that cannot be asked is not.

    No row and no setting is sent, and nothing is charged for it.
    """

    def __init__(self, service: object) -> None:
        self._answer: Future[Offer] = Future()
        method = getattr(type(service), _NAME, None)
        if method is None:
            self._answer.set_result(Offer())
            return
        # The SDK has announced another place for its method, and warns; there is none yet that knows this service's
        # own address and key. A thread of ours that is left behind when the process ends is what a daemon is for.
        ask: Callable[[Any], Any] = inspect.unwrap(method)
        threading.Thread(target=self._ask, args=(ask, service), name="glowgenius-offer", daemon=True).start()

    def answer(self, seconds: float = SECONDS) -> Offer:
        """What the service said; silence where it does not within so many seconds, or fails.

        Raises:
            AuthenticationError: It refuses the key.
            BillingError: The account cannot pay.
        """
        try:
            return self._answer.result(seconds)
        except TimeoutError:
            return Offer(silence=f"nothing came within {seconds:g} s")
        except (AuthenticationError, BillingError):
            raise
        except Exception as error:  # noqa: BLE001 - the run's own requests will say it again, if it stays so
            return Offer(silence=str(error))

    def _ask(self, ask: Callable[[Any], Any], service: object) -> None:
        try:
            told = ask(service)
            if callable(getattr(told, "result", None)):
                told = told.result()
            self._answer.set_result(_read(told))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            self._answer.set_exception(translate(error, "asking the service for its models"))


def _read(told: Any) -> Offer:
    return Offer(
        models=tuple(
            OfferedModel(
                name=str(model.model_name),
                trainable=getattr(model, "trainable", None) is not False,
                context=getattr(model, "max_context_length", None),
            )
            for model in told.supported_models
            if model.model_name
        )
    )


def _near(base_model: str, models: tuple[OfferedModel, ...]) -> str:
    """The nearest of the names that can be trained, else all of them."""
    names = sorted(model.name for model in models if model.trainable)
    if not names:
        return "another service, as it trains none of its models"
    spellings = {name.lower(): name for name in names}
    close = get_close_matches(base_model.lower(), spellings, n=_NEAREST, cutoff=0.6)
    if len(names) == 1:
        return f"{names[0]!r}, its only model"
    count = f"its {len(names)} models"
    if close:
        return f"one of {count}, such as {', '.join(repr(spellings[name]) for name in close)}"
    more = f" and {len(names) - MODELS_SHOWN} more" if len(names) > MODELS_SHOWN else ""
    return f"one of {count}: {', '.join(map(repr, names[:MODELS_SHOWN]))}{more}"
