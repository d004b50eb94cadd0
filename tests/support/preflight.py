"""What the tests of preflight share: reports, refusals, and what is said of every small run."""

from __future__ import annotations

import pytest

from glowgenius.errors import (
    PreflightError,
)
from glowgenius.testing import ScriptedService
from tests.support.training import RENDERER, TOKENIZER, TRAIN, trainer

SHORT = (
    "the run makes 9 updates, which is hardly enough to learn anything: an adapter begins at zero, and its rate falls "
    "to the end; more rows, num_epochs above 3 or batch_size below 4 make more"
)
ABOUT = (
    "engine: ScriptedService, because service= was given",
    "model: scripted, LoRA rank 32 on attention, MLP, unembedding, seed 0",
    f"renderer: {RENDERER.description}",
)
"""The first lines of a page."""

LENGTHS = [len(RENDERER.render(row)) for row in TRAIN]


def check(train=TRAIN, held_out=None, **settings):
    service = ScriptedService(tokenizer=TOKENIZER)
    report = trainer(service, **settings).preflight(train, held_out)
    assert service.journal == ()
    return report


def warned(*args, **settings):
    """The warnings, but for the one that a run of so few rows is short."""
    return tuple(text for text in check(*args, **settings).warnings if "hardly enough to learn" not in text)


def refused(train=TRAIN, held_out=None, **settings):
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(PreflightError) as raised:
        trainer(service, **settings).train(train, held_out)
    assert service.journal == ()
    head, *lines = str(raised.value).split("\n")
    assert head == "the run cannot begin; no row has been sent yet"
    assert len(raised.value.problems) == len(lines)
    return [line.strip() for line in lines]


class FakeTinkerService:
    """Looks like the SDK's by its module."""


FakeTinkerService.__module__ = "tinker.lib.public_interfaces.service_client"


def problems_of(run, train=TRAIN, held_out=None):
    with pytest.raises(PreflightError) as raised:
        run.preflight(train, held_out)
    return [line.strip() for line in str(raised.value).split("\n")[1:]]
