"""How a scripted service finds the tokens of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glowgenius.errors import RequestRejectedError
from glowgenius.testing.bigram import CLASSES

if TYPE_CHECKING:
    from glowgenius.engines.tinker_types import SamplingParams, StopReason
    from glowgenius.testing.bigram import Bigram, Table
    from glowgenius.testing.script import Script

MAX_TOKENS = 128
"""How many tokens are drawn where `max_tokens` is None."""


def draw(
    script: Script, model: Bigram, prompt: list[int], params: SamplingParams, index: int
) -> tuple[list[int], StopReason]:
    """The tokens of sequence *index*, the stop included, and why they end.

    The script's answer where it has one, cut at `max_tokens`; else the bigram model is followed, the most probable
    token at temperature 0, and drawn at random otherwise: with one `seed`, the same tokens.
    """
    limit = MAX_TOKENS if params.max_tokens is None else params.max_tokens
    if limit < 1:
        raise RequestRejectedError(f"max_tokens must be an integer ≥ 1, got {limit!r}")
    scripted = script.answer(prompt, params, model)
    if scripted is not None:
        return scripted[:limit], "length" if len(scripted) > limit else "stop"
    # The model knows classes of tokens only: the class of a stop is that stop, so that a trained answer can end.
    stops = {stop % CLASSES: stop for stop in _stop_ids(script, params)}
    generator = np.random.default_rng(None if params.seed is None else (params.seed, index))
    tokens: list[int] = []
    last = prompt[-1]
    while len(tokens) < limit:
        last = _next_token(model.next_logprobs(np.array([last]))[0], params, generator)
        tokens.append(stops.get(last, last))
        if last in stops:
            return tokens, "stop"
    return tokens, "length"


def _stop_ids(script: Script, params: SamplingParams) -> set[int]:
    """The tokens that end a sequence, as ids: a bigram model stops at single tokens."""
    match params.stop:
        case None:
            eos = None if script.tokenizer is None else script.tokenizer.eos_token_id
            return set() if eos is None else {eos}
        case str() as text:
            stops: list[str | int] = [text]
        case listed:
            stops = list(listed)
    return {stop if isinstance(stop, int) else _single_token(script, stop) for stop in stops}


def _single_token(script: Script, stop: str) -> int:
    tokens = script.need_tokenizer("a stop given as text").encode(stop, add_special_tokens=False)
    if len(tokens) != 1:
        raise RequestRejectedError(
            f"without scripted answers, a stop must be a single token; {stop!r} is {len(tokens)} tokens"
        )
    return tokens[0]


def _next_token(logprobs: Table, params: SamplingParams, generator: np.random.Generator) -> int:
    if params.temperature == 0:
        return int(logprobs.argmax())
    order = np.argsort(-logprobs, kind="stable")
    scaled = logprobs[order] / params.temperature
    probabilities = np.exp(scaled - scaled.max())
    if params.top_k > 0:
        probabilities[params.top_k :] = 0
    probabilities /= probabilities.sum()
    # The smallest set of tokens whose probability reaches top_p: a token stays while those before it have not.
    probabilities[np.cumsum(probabilities) - probabilities >= params.top_p] = 0
    return int(generator.choice(order, p=probabilities / probabilities.sum()))
