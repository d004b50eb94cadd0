"""The order of calls is the order on the engine; where the SDK does not keep it, it is kept here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowgenius.engines import tinker_types as tinker

if TYPE_CHECKING:
    from glowgenius.engines.protocol import TrainingClient


def settle_place(client: TrainingClient) -> None:
    """Return when every call made on *client* so far has its place in the order.

    A training client numbers its calls, and that number is their order on the service. tinker 0.38 takes the number
    while the method is called, with one exception: `save_weights_for_sampler` takes it later, on the SDK's own thread.
    A `forward_backward` and an `optim_step` submitted right behind it can overtake it, and the saved weights are then
    those of a later step. Call this between the two. It waits for that thread to come round, not for the service.
    """
    if isinstance(client, tinker.TrainingClient):
        # Coroutines handed to the thread start in the order in which they were handed over, and the number is taken
        # before the first pause: when this one has run, so has that part of all before it.
        client.holder.run_coroutine_threadsafe(_nothing()).result()


async def _nothing() -> None:
    """Only its turn matters."""
