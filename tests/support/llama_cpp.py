"""A real llama.cpp (package xllamacpp) on a GGUF file: tokens, greedy continuations, chat."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from tempfile import TemporaryFile
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


# Only the address goes to what the parent reads: llama.cpp's own lines, which end anywhere, go to the standard error.
_CHILD = """
import os, sys
told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import xllamacpp
file, adapter, context = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup, params.port = file, int(context), 1, False, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
# Keys and values in the precision of the weights, or near ties fall otherwise.
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
if adapter:
    lora = xllamacpp.CommonAdapterLoraInfo()
    lora.path, lora.scale = adapter, 1.0
    params.lora_adapters = [lora]
server = xllamacpp.Server(params)
print(server.listening_address, file=told, flush=True)
sys.stdin.read()
"""


@contextmanager
def loaded(file: Path, *, adapter: Path | None = None, context: int = 256) -> Iterator[LlamaCpp]:
    """llama.cpp with *file*, and *adapter* applied to it.

    In a process of its own: beside some other native packages (tml_renderers) it ends the process that it is in.
    """
    command = [sys.executable, "-c", _CHILD, str(file), "" if adapter is None else str(adapter), str(context)]
    pipe = subprocess.PIPE
    with (
        TemporaryFile() as log,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        address = process.stdout.readline().strip()
        if not address:
            process.wait(timeout=30)
            log.seek(0)
            raise AssertionError(f"llama.cpp did not load {file}:\n{log.read().decode(errors='replace')[-2000:]}")
        model = LlamaCpp(address)
        try:
            yield model
        finally:
            model.close()
            process.stdin.close()
            process.wait(timeout=30)
