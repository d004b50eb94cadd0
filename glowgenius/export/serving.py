"""Adapters that vLLM and SGLang load beside a base model, and the command lines that serve them.

What is asked of an adapter was read in their sources (vLLM's `lora/lora_model.py`, `lora/peft_helper.py` and
`config/lora.py`, SGLang's `srt/lora`); neither was run here, as both take a GPU.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from glowgenius.export.weights import Adapter

MAX_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank`; 16 where nothing is said."""

_LAYERS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def check_servable(adapter: Adapter) -> int:
    """Look whether vLLM and SGLang load *adapter*.

    Returns:
        The `--max-lora-rank` that it takes.

    Raises:
        ConfigError: They refuse it; the message says what to do.
    """
    names = {layer.rpartition(".")[2] for layer in adapter.layers}
    if "lm_head" in names:
        raise ConfigError(
            "the adapter changes the unembedding (lm_head), which vLLM refuses for most architectures (Qwen's among "
            "them) and SGLang's earlier versions for all. Export the merged model, which they serve as any other, or "
            "train with LoRAConfig(train_unembed=False)"
        )
    if unknown := sorted(names - set(_LAYERS)):
        raise ConfigError(
            f"the adapter changes {', '.join(unknown)}, and vLLM and SGLang adapt {', '.join(_LAYERS)}; export the "
            "merged model"
        )
    fitting = [rank for rank in MAX_RANKS if rank >= adapter.rank]
    if not fitting:
        raise ConfigError(
            f"the adapter has rank {adapter.rank}, and vLLM takes at most {MAX_RANKS[-1]}; export the merged model"
        )
    return fitting[0]


def serving_lines(folder: Path, base_model: str, max_rank: int, name: str = "tuned") -> Sequence[str]:
    """The command lines that serve the adapter in *folder*: for vLLM, for SGLang, and a request to either."""
    base, path = shlex.quote(base_model), shlex.quote(str(folder))
    sglang = f"python -m sglang.launch_server --model-path {base} --enable-lora --max-lora-rank {max_rank}"
    message = f'{{"model": "{name}", "temperature": 0, "messages": [{{"role": "user", "content": "Hello"}}]}}'
    address = "http://127.0.0.1:8000/v1/chat/completions"
    return (
        f"vllm serve {base} --enable-lora --max-lora-rank {max_rank} --lora-modules {name}={path}",
        f"{sglang} --lora-paths {name}={path} --port 8000",
        f"curl {address} -H 'Content-Type: application/json' -d {shlex.quote(message)}",
    )
