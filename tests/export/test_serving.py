"""Adapters for vLLM and SGLang, by the rules that were read in their sources; neither runs without a GPU."""

from __future__ import annotations

import json
import shlex

import pytest

from glowgenius.errors import ConfigError
from glowgenius.export.destinations import MAX_RANKS, check_servable
from glowgenius.export.weights import Adapter


def test_the_adapter_and_the_lines_that_serve_it(tuned, tmp_path):
    run, base = tuned("qwen3")
    written = run.export(tmp_path / "served", format="vllm")
    assert {name for name, _ in written.files} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "serve.sh",
    }
    vllm, sglang, request = map(shlex.split, written.commands)
    assert vllm == [
        *("vllm", "serve", str(base), "--enable-lora", "--max-lora-rank", "8"),
        *("--lora-modules", f"run={tmp_path / 'served'}"),
    ]
    assert f"run={tmp_path / 'served'}" in sglang[sglang.index("--lora-paths") :]
    assert json.loads(request[-1])["model"] == "run"
    assert (tmp_path / "served" / "serve.sh").read_text(encoding="utf-8").splitlines()[1:] == list(written.commands)
    # What vLLM looks at: the last part of every name, and the rank of the config.
    adapter = Adapter.read(written.path)
    assert {layer.rpartition(".")[2] for layer in adapter.layers} <= {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    assert adapter.config["r"] == 4


def test_an_adapter_of_the_unembedding_is_refused_with_what_to_do(tuned, tmp_path):
    run, _ = tuned(unembed=True)
    with pytest.raises(ConfigError, match=r"lm_head.*Export the merged model.*LoRAConfig\(train_unembed=False\)"):
        run.export(tmp_path / "served", format="vllm")
    assert not (tmp_path / "served").exists()
    assert run.export(tmp_path / "merged", format="merged", check=False).path.is_dir()


@pytest.mark.parametrize(("rank", "wanted"), [(1, 1), (2, 8), (32, 32), (48, 64), (512, 512)])
def test_the_rank_is_one_that_vllm_takes(rank, wanted, tmp_path):
    pairs = {"model.layers.0.self_attn.q_proj": (None, None)}
    assert check_servable(Adapter(folder=tmp_path, config={}, rank=rank, scale=1.0, pairs=pairs)) == wanted
    assert wanted in MAX_RANKS


def test_ranks_and_layers_that_no_server_takes(tmp_path):
    pairs = {"model.layers.0.self_attn.q_proj": (None, None)}
    with pytest.raises(ConfigError, match="has rank 513, and vLLM takes at most 512; export the merged model"):
        check_servable(Adapter(folder=tmp_path, config={}, rank=513, scale=1.0, pairs=pairs))
    pairs = {"model.layers.0.router": (None, None)}
    with pytest.raises(ConfigError, match="the adapter changes router, and vLLM and SGLang adapt q_proj"):
        check_servable(Adapter(folder=tmp_path, config={}, rank=8, scale=1.0, pairs=pairs))
