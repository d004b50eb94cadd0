"""Small runs over a scripted service, and what they are compared with."""

from __future__ import annotations

from glowgenius.data.dataset import Dataset
from glowgenius.rendering import ChatTemplateRenderer
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.training.callbacks.base import HOOKS, Callback
from glowgenius.training.config import TrainingConfig
from glowgenius.training.trainer import SupervisedTrainer

TOKENIZER = ByteTokenizer()
RENDERER = ChatTemplateRenderer(TOKENIZER)
HEADER_TOKENS = 25
"""Tokens of a row of `questions` with one-letter questions and answers, and no more than two digits."""


def questions(count, *, prefix="Q", **columns):
    """`Q0?` → `A0` and so on."""
    return Dataset.from_records(
        [{"question": f"{prefix}{row}?", "answer": f"A{row}", **columns} for row in range(count)]
    )


TRAIN = questions(10)
HELD_OUT = questions(3, prefix="E")


def config(**settings):
    """Three epochs of three batches (4, 4 and 2 rows), and no state but the last, unless said otherwise."""
    return TrainingConfig(**{"batch_size": 4, "learning_rate": 0.5, "save_every": None, **settings})


def trainer(service=None, *, callbacks=(), base_model="scripted", renderer=RENDERER, lora=None, **settings):
    service = ScriptedService(tokenizer=TOKENIZER) if service is None else service
    extra = {} if lora is None else {"lora": lora}
    return SupervisedTrainer(
        base_model, service=service, renderer=renderer, callbacks=callbacks, config=config(**settings), **extra
    )


class Recorder(Callback):
    """Keeps every event, and answers as told: hook → function of the event."""

    def __init__(self, name="recorder", log=None, **answers):
        self.name, self.events, self.answers = name, [], answers
        self.log = [] if log is None else log

    def __repr__(self):
        return f"Recorder({self.name!r})"

    def _hear(self, hook, event):
        self.events.append(event)
        self.log.append((self.name, type(event).__name__))
        answer = self.answers.get(hook)
        return None if answer is None else answer(event)

    @property
    def names(self):
        return [type(event).__name__ for event in self.events]


def _hook(name):
    def hook(self, event):
        return self._hear(name, event)

    return hook


for _name in HOOKS:
    setattr(Recorder, _name, _hook(_name))


def updates(service):
    """What the optimizer saw, over all clients of the service: (fingerprint of the batch, learning rate)."""
    batches = [operation.fingerprint for operation in service.operations("forward_backward")]
    rates = [operation.adam_params.learning_rate for operation in service.operations("optim_step")]
    return list(zip(batches, rates, strict=True))


def kinds(service):
    """The journal in short: the kind, and the name of what was saved."""
    short = {
        "forward_backward": "step",
        "forward": "evaluate",
        "save_state": "state",
        "save_weights_for_sampler": "weights",
        "save_weights_and_get_sampling_client": "snapshot",
    }
    told = []
    for operation in service.journal:
        if operation.kind == "optim_step":
            continue
        name = f" {operation.name}" if operation.kind.startswith("save_") and operation.name else ""
        told.append(f"{short.get(operation.kind, operation.kind)}{name}")
    return told
