"""A real llama.cpp (package xllamacpp) on a GGUF file: tokens, greedy continuations, chat."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class LlamaCpp:
    """A loaded model.

    Args:
        address: Where its server listens.
    """

    def __init__(self, address: str) -> None:
        self._client = httpx.Client(base_url=address, timeout=60, trust_env=False)

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._client.post(path, content=json.dumps(body))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """The token ids of *text*."""
        return self._ask("/tokenize", {"content": text, "add_special": special, "parse_special": True})["tokens"]

    def template(self, messages: Sequence[dict[str, str]]) -> str:
        """The prompt that the chat template in the file makes of *messages*."""
        return self._ask("/apply-template", {"messages": list(messages)})["prompt"]

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """The likeliest *count* tokens behind *prompt*, or fewer where an end comes before."""
        asked = {"prompt": list(prompt), "n_predict": count, "temperature": 0, "return_tokens": True}
        return self._ask("/completion", {**asked, "cache_prompt": False})["tokens"]

    def chat(self, messages: Sequence[dict[str, str]], count: int) -> str:
        """The answer to *messages*, greedily."""
        body = {"messages": list(messages), "max_tokens": count, "temperature": 0, "cache_prompt": False}
        return self._ask("/v1/chat/completions", body)["choices"][0]["message"]["content"]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@contextmanager
def loaded(file: Path, *, adapter: Path | None = None, context: int = 256) -> Iterator[LlamaCpp]:
    """llama.cpp with *file*, and *adapter* applied to it."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx = context
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.port = 0
    params.verbosity = -1
    # Keys and values in the precision of the weights, or near ties fall otherwise.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if adapter is not None:
        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = str(adapter), 1.0
        params.lora_adapters = [lora]
    server = xllamacpp.Server(params)
    model = LlamaCpp(server.listening_address)
    try:
        yield model
    finally:
        model.close()
        del server
