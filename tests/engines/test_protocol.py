"""The protocols ask for nothing that the SDK does not offer: by the same name, in the same place, with one default."""

from __future__ import annotations

import inspect

import pytest

from glowgenius.engines import protocol, tinker_types
from glowgenius.engines.protocol import SupportsAlpha
from glowgenius.engines.tinker_types import EngineFuture
from glowgenius.testing import ScriptedSamplingClient, ScriptedService, ScriptedTrainingClient

PAIRS = [
    (protocol.ServiceClient, tinker_types.ServiceClient),
    (protocol.TrainingClient, tinker_types.TrainingClient),
    (protocol.SamplingClient, tinker_types.SamplingClient),
    (protocol.FutureLike, tinker_types.APIFuture),
    (protocol.ServiceClient, ScriptedService),
    (protocol.TrainingClient, ScriptedTrainingClient),
    (protocol.SamplingClient, ScriptedSamplingClient),
    (protocol.FutureLike, EngineFuture),
]


def methods(kind):
    found = {name: value for name, value in vars(kind).items() if inspect.isfunction(value)}
    return {name: value for name, value in found.items() if not name.startswith("_") or name == "__await__"}


CASES = [(asked, offered, name) for asked, offered in PAIRS for name in methods(asked)]


@pytest.mark.parametrize(("asked", "offered", "name"), CASES, ids=lambda case: getattr(case, "__qualname__", case))
def test_every_parameter_is_one_of_the_sdk(asked, offered, name):
    wanted = list(inspect.signature(getattr(asked, name)).parameters.values())
    there = list(inspect.signature(getattr(offered, name)).parameters.values())
    for position, parameter in enumerate(wanted):
        # What we pass by its name may stand anywhere.
        named = [one for one in there if one.name == parameter.name]
        found = named[0] if parameter.kind is parameter.KEYWORD_ONLY and named else there[position]
        assert found.name == parameter.name
        # What we call without, the engine has to have a default for; where both have one, it has to be the same.
        if parameter.default is not inspect.Parameter.empty:
            assert found.default == parameter.default
    # Parameters that we do not pass have to be optional.
    for parameter in there[len(wanted) :]:
        assert parameter.default is not inspect.Parameter.empty or parameter.kind is parameter.VAR_KEYWORD


def test_the_comparison_covers_every_method():
    assert sorted({name for _, _, name in CASES}) == [
        "__await__",
        "close",
        "compute_logprobs",
        "create_lora_training_client",
        "create_sampling_client",
        "create_training_client_from_state",
        "create_training_client_from_state_with_optimizer",
        "forward",
        "forward_backward",
        "future",
        "get_base_model",
        "get_info",
        "optim_step",
        "result",
        "result_async",
        "sample",
        "save_state",
        "save_weights_and_get_sampling_client",
        "save_weights_for_sampler",
    ]


def test_alpha_is_told_from_the_type_of_the_service():
    assert isinstance(ScriptedService(), SupportsAlpha)
    assert not isinstance(tinker_types.ServiceClient(), SupportsAlpha)


def test_every_name_at_the_door_is_there():
    assert [name for name in tinker_types.__all__ if not hasattr(tinker_types, name)] == []
    assert len(set(tinker_types.__all__)) == len(tinker_types.__all__)
