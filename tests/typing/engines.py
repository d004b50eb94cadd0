"""Everything that is called an engine is one to the type checkers; checked by pyright and mypy, never run."""

from __future__ import annotations

from typing import assert_type

import glowgenius.local
import glowgenius.testing
from glowgenius.engines import protocol, tinker_types


def the_sdk(
    service: tinker_types.ServiceClient,
    training: tinker_types.TrainingClient,
    sampling: tinker_types.SamplingClient,
    future: tinker_types.APIFuture[int],
) -> None:
    wanted_service: protocol.ServiceClient = service
    wanted_training: protocol.TrainingClient = training
    wanted_sampling: protocol.SamplingClient = sampling
    wanted_future: protocol.FutureLike[int] = future
    created: protocol.TrainingClient = service.create_lora_training_client("m").result()
    del wanted_service, wanted_training, wanted_sampling, wanted_future, created


def ours() -> None:
    services: list[protocol.ServiceClient] = [glowgenius.testing.ScriptedService(), glowgenius.local.ServiceClient()]
    alphas: list[protocol.SupportsAlpha] = [glowgenius.testing.ScriptedService(), glowgenius.local.ServiceClient()]
    for service in services:
        client = service.create_lora_training_client("m").result()
        assert_type(client, protocol.TrainingClient)
        assert_type(client.save_weights_and_get_sampling_client().result(), protocol.SamplingClient)
        assert_type(client.forward([], "cross_entropy").result(), tinker_types.ForwardBackwardOutput)
    del alphas


def not_an_engine(service: tinker_types.ServiceClient) -> None:
    no_alpha: protocol.SupportsAlpha = service  # E: reportAssignmentType | assignment
    not_a_service: protocol.ServiceClient = tinker_types.RestClient()  # E: reportAssignmentType | assignment
    service.create_lora_training_client("m").result().forward({}, "cross_entropy")  # E: reportArgumentType | arg-type
    del no_alpha, not_a_service
