"""Batched generation: by the native engine where it supports the model, else through transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch

from glowgenius.local.hf_generation import generate as padded_generate
from glowgenius.local.machine import side_by_side
from glowgenius.local.native.plain_model import Layout
from glowgenius.local.native.stream import Generated, Reader, Request, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glowgenius.local.adapter import Adapter
    from glowgenius.local.model import BaseModel
    from glowgenius.local.native.llama import Llama
    from glowgenius.local.native.stream import Beginning

_WORTH_A_COPY = 256
"""Weights are laid out for sampling once a client has been asked for this many tokens: it takes as long as ten."""

_MOST_CACHED = 1 << 16
"""Sequences that are generated side by side may become this many tokens long together: their keys and values are held.

It is what 32 sequences of 2,048 tokens take.
"""

_EACH = 16
"""A thread gets a batch of its own where this many sequences are generated for each; below, threads share products."""


@final
class Memory:
    """State that one sampling client keeps between calls."""

    def __init__(self) -> None:
        self.beginning: Beginning | None = None
        """What was read latest."""
        self.asked = 0
        """How many tokens the client has been asked to read and to write."""


def generate(
    model: BaseModel,
    adapter: Adapter | None,
    requests: Sequence[Request],
    *,
    batch_size: int,
    decode: Callable[[Sequence[int]], str],
    max_tokens: int,
    threads: int = 1,
    memory: Memory | None = None,
) -> list[Generated]:
    """Continue every prompt; results in the order of *requests*.

    Each request draws from its own generator, so its tokens do not depend on its neighbours.

    Args:
        model: The frozen part.
        adapter: What is applied to it; None is the base model.
        requests: What is asked for.
        batch_size: How many sequences are generated side by side; fewer where they may become very long.
        decode: From tokens to text, for requests that stop at a text.
        max_tokens: How many tokens of prompts are read at once.
        threads: How many threads there are to work on it.
        memory: What an earlier call with this model and adapter has left; it is brought up to date.
    """
    results = [Generated(request=r, generator=torch.Generator().manual_seed(r.seed)) for r in requests]
    rows = sorted((row for row in results if not row.finished), key=lambda row: row.request.prompt)
    if not rows:
        return results
    longest = max(len(row.request.prompt) + row.request.max_tokens for row in rows)
    batch_size = min(batch_size, max(1, _MOST_CACHED // longest))
    with torch.inference_mode():
        if model.llama is None:
            _padded(model, adapter, rows, batch_size, decode)
        else:
            memory = Memory() if memory is None else memory
            reader = _reader(model, model.llama, adapter, rows, batch_size, max_tokens, memory)
            _streamed(reader, rows, batch_size, decode, threads, memory)
    return results


def _padded(
    model: BaseModel,
    adapter: Adapter | None,
    rows: Sequence[Generated],
    batch_size: int,
    decode: Callable[[Sequence[int]], str],
) -> None:
    """Batches of prompts of about one length, by the modules of `transformers`."""
    size = 1 if model.sliding_window is not None else batch_size
    ordered = sorted(rows, key=lambda row: len(row.request.prompt))
    with model.using(adapter) as network:
        for start in range(0, len(ordered), size):
            padded_generate(model, network, ordered[start : start + size], decode)


def _reader(
    model: BaseModel,
    llama: Llama,
    adapter: Adapter | None,
    rows: Sequence[Generated],
    batch_size: int,
    max_tokens: int,
    memory: Memory,
) -> Reader:
    """The model as it is quickest for *rows*: as it stands, or with the adapter in its weights, laid out anew.

    Rounded to bf16 the sum of weight and adapter would lose most of the adapter, so there they stay apart.
    """
    memory.asked += sum(len(row.request.prompt) + row.request.max_tokens for row in rows)
    if memory.asked >= _WORTH_A_COPY and model.dtype == torch.float32:
        layout = Layout.ONE if min(len(rows), batch_size) == 1 else Layout.SEVERAL
        ready = model.ready(memory, adapter, layout)
        return Reader(ready, ready.adapter(None), max_tokens=max_tokens)
    return Reader(llama, llama.adapter(adapter), max_tokens=max_tokens)


def _streamed(
    reader: Reader,
    rows: Sequence[Generated],
    batch_size: int,
    decode: Callable[[Sequence[int]], str],
    threads: int,
    memory: Memory,
) -> None:
    """Continuous batches of neighbours in the order of the prompts, one for each thread where that pays."""
    prompts = [row.request.prompt for row in rows]
    beginning = (memory.beginning or reader.nothing()).shared(prompts)
    if len(set(prompts)) > 1:
        beginning = reader.extended(beginning, prompts)
    parts = max(1, min(threads, min(len(rows), batch_size) // _EACH))
    streams = [
        Stream(
            reader,
            beginning,
            rows[len(rows) * part // parts : len(rows) * (part + 1) // parts],
            size=max(1, batch_size // parts),
            decode=decode,
        )
        for part in range(parts)
    ]
    for _ in side_by_side(_run, streams, threads if parts > 1 else 1):
        pass
    memory.beginning = streams[0].beginning()


@torch.inference_mode()
def _run(stream: Stream) -> None:
    stream.run()
