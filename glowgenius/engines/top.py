"""The most probable tokens along a prompt, between arrays and what the SDK says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from glowgenius.engines.tinker_types import MASK_LOGPROB, TopkLogprobs
from glowgenius.errors import EngineError

if TYPE_CHECKING:
    from glowgenius.engines.tinker_types import SampleResponse
    from glowgenius.typing import LogprobArray, TokenArray

MOST_ALTERNATIVES: Final = 20
"""The most tokens that can be asked for at each place of a prompt."""


def topk_of(ids: TokenArray, logprobs: LogprobArray) -> TopkLogprobs:
    """What the SDK gives for the tokens `[T-1, K]` that may follow the first T-1 of a prompt.

    The SDK has a row for every token of the prompt; the first, which nothing predicts, is masked.
    """
    first = (1, ids.shape[1])
    return TopkLogprobs(
        token_ids=np.concatenate([np.zeros(first, np.int32), ids.astype(np.int32)]),
        logprobs=np.concatenate([np.full(first, MASK_LOGPROB, np.float32), logprobs.astype(np.float32)]),
    )


def read_top(response: SampleResponse, positions: TokenArray, k: int) -> tuple[TokenArray, LogprobArray]:
    """Ids and natural-log probabilities of the *k* tokens likeliest at *positions* `[n]` of the prompt, `[n, k]` each.

    Raises:
        EngineError: The engine left them out, or gave fewer.
    """
    found = response.topk_prompt_logprobs_np
    if found is None or found.token_ids.shape[1] < k or len(found.token_ids) <= int(positions.max(initial=0)):
        shape = "none" if found is None else f"{list(found.token_ids.shape)}"
        raise EngineError(f"the engine was asked for the {k} likeliest tokens along a prompt, and gave {shape}")
    logprobs = found.logprobs[positions, :k].astype(np.float32)
    if (logprobs <= MASK_LOGPROB).any():
        raise EngineError("the engine left out the likeliest tokens at some places of a prompt")
    return found.token_ids[positions, :k].astype(np.int64), logprobs
