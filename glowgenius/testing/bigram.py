"""The smallest model that can be trained: the next token depends on the last one only.

It stands behind the scripted service, so that its losses come from gradients and not from a curve that somebody drew:
accumulation, the optimizer's state, seeds and checkpoints all mean what they mean on a real engine.
Nothing is changed in place: every update makes new arrays, and a checkpoint is a reference to the old ones.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, TypeAlias, final

import numpy as np
from attrs import evolve, frozen

if TYPE_CHECKING:
    import numpy.typing as npt

    from glowgenius.engines.tinker_types import AdamParams
    from glowgenius.typing import TokenArray, WeightArray

    Table: TypeAlias = npt.NDArray[np.float64]
    """A number for each pair of last and next token, `[V, V]`."""

CLASSES = 256
"""Tokens are told apart modulo this number, V; whatever is drawn is a byte, which every tokenizer of bytes can read."""

LOGIT_PER_UNIT = 1000.0
"""How far one unit of parameter moves a logit: at a learning rate of 1e-4, Adam's first step moves it by about 0.1."""


@cache
def _base_logits(base_model: str) -> Table:
    """What a base model of that name knows, `[V, V]`: noise of its own."""
    seed = int.from_bytes(hashlib.sha256(base_model.encode()).digest()[:8], "little")
    logits = np.random.default_rng(seed).normal(0.0, 0.5, (CLASSES, CLASSES))
    logits.setflags(write=False)
    return logits


@cache
def _gains(seed: int) -> Table:
    """How fast each parameter learns, `[V, V]`: the part of the adapter that a seed decides."""
    gains = np.random.default_rng(seed).uniform(0.5, 1.5, (CLASSES, CLASSES)) * LOGIT_PER_UNIT
    gains.setflags(write=False)
    return gains


@final
@frozen(kw_only=True, eq=False)
class Bigram:
    """A base model, an adapter that starts at zero, and the state of its optimizer."""

    base_model: str
    """The name of the base model, which decides what is known before training."""

    seed: int
    """What decides the fixed half of the adapter."""

    parameters: Table
    """The trained half of the adapter, `[V, V]`; zero before the first update."""

    mean: Table
    """Adam's running mean of the gradient, `[V, V]`."""

    square: Table
    """Adam's running mean of the squared gradient, `[V, V]`."""

    updates: int = 0
    """How many updates the weights have had."""

    optimizer_steps: int = 0
    """How many updates the optimizer remembers: fewer than `updates` after a resume without its state."""

    @staticmethod
    def fresh(base_model: str, seed: int) -> Bigram:
        """An adapter that changes nothing yet."""
        zero: Table = np.zeros((CLASSES, CLASSES))
        return Bigram(base_model=base_model, seed=seed, parameters=zero, mean=zero, square=zero)

    def without_optimizer_state(self) -> Bigram:
        """The same weights, with an optimizer that has seen nothing."""
        zero: Table = np.zeros((CLASSES, CLASSES))
        return evolve(self, mean=zero, square=zero, optimizer_steps=0)

    def next_logprobs(self, last: TokenArray) -> Table:
        """The natural-log probability of every class after each token of *last*, `[T, V]`."""
        rows = np.asarray(last) % CLASSES
        logits = _base_logits(self.base_model)[rows] + _gains(self.seed)[rows] * self.parameters[rows]
        logits = logits - logits.max(axis=1, keepdims=True)
        normalised: Table = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return normalised

    def logprobs(self, inputs: TokenArray, targets: TokenArray) -> npt.NDArray[np.float64]:
        """The natural-log probability of each target after its input, `[T]`."""
        return self.next_logprobs(inputs)[np.arange(len(inputs)), np.asarray(targets) % CLASSES]

    def gradient(self, inputs: TokenArray, targets: TokenArray, weights: WeightArray) -> Table:
        """The gradient of Σ −logprob · weight, `[V, V]`."""
        errors = np.exp(self.next_logprobs(inputs))
        errors[np.arange(len(inputs)), targets % CLASSES] -= 1.0
        gradient: Table = np.zeros((CLASSES, CLASSES))
        np.add.at(gradient, inputs % CLASSES, errors * weights[:, None].astype(np.float64))
        return gradient * _gains(self.seed)

    def step(self, gradient: Table, params: AdamParams) -> Bigram:
        """One AdamW update, with the SDK's meaning of every field of *params*.

        Decoupled weight decay and bias correction: Loshchilov & Hutter 2019, algorithm 2.
        The gradient is clipped to a global norm first; 0 means no clipping.
        """
        norm = float(np.sqrt((gradient**2).sum()))
        if 0 < params.grad_clip_norm < norm:
            gradient = gradient * (params.grad_clip_norm / norm)
        count = self.optimizer_steps + 1
        mean = params.beta1 * self.mean + (1 - params.beta1) * gradient
        square = params.beta2 * self.square + (1 - params.beta2) * gradient**2
        direction = (mean / (1 - params.beta1**count)) / (np.sqrt(square / (1 - params.beta2**count)) + params.eps)
        decay = params.weight_decay * self.parameters
        return evolve(
            self,
            parameters=self.parameters - params.learning_rate * (direction + decay),
            mean=mean,
            square=square,
            updates=self.updates + 1,
            optimizer_steps=count,
        )
