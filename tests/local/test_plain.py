"""Models that are read without `transformers` are those that it loads; and it loads whatever is not so plain."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from glowgenius.errors import ModelNotFoundError
from glowgenius.local import model as models
from glowgenius.local.adapter import AdapterSpec
from glowgenius.local.model import BaseModel
from glowgenius.local.native import plain_model
from glowgenius.models.hub import load_causal_lm

KINDS = ["llama", "mistral", "qwen2", "qwen3"]
CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny, tmp_path):
    """Makes a copy of a tiny model that may be changed."""

    def copy(kind="llama"):
        return shutil.copytree(tiny(kind), tmp_path / kind)

    return copy


def change(folder, **settings):
    """Write other settings into the config; None takes one away."""
    path = folder / "config.json"
    merged = {**json.loads(path.read_text(encoding="utf-8")), **settings}
    path.write_text(json.dumps({key: value for key, value in merged.items() if value is not None}), encoding="utf-8")


def read(folder, dtype=torch.float32):
    return plain_model.read(folder, CPU, dtype)


def both_ways(folder, monkeypatch, dtype=torch.float32):
    """The model as it is read here, and as `transformers` loads it."""
    ours = BaseModel("m", folder, "cpu", dtype)
    assert "network" not in vars(ours)
    with monkeypatch.context() as patch:
        patch.setattr(models, "plain_read", lambda *_: None)
        return ours, BaseModel("m", folder, "cpu", dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_the_one_that_transformers_loads(tiny, monkeypatch, kind, dtype):
    ours, theirs = both_ways(tiny(kind), monkeypatch, dtype)
    assert ours.weights_hash() == theirs.weights_hash()
    assert (ours.slow_because, ours.architecture) == (None, theirs.architecture)
    for name in ("vocabulary_size", "max_length", "sliding_window"):
        assert getattr(ours, name) == getattr(theirs, name)
    spec = AdapterSpec(rank=3, seed=5)
    mine, yours = ours.fresh_adapter(spec), theirs.fresh_adapter(spec)
    assert list(mine.a) == list(yours.a)
    assert all(torch.equal(mine.a[name], yours.a[name]) for name in mine.a)
    positions = torch.tensor([0, 1, 7, 200, 9])
    assert all(map(torch.equal, ours.llama.angles(positions), theirs.llama.angles(positions)))
    windows = [[layer.window for layer in one.llama.layers] for one in (ours, theirs)]
    assert windows[0] == windows[1]


@pytest.mark.parametrize("kind", KINDS)
def test_its_modules_share_its_numbers(tiny, kind):
    model = BaseModel("m", tiny(kind), "cpu", torch.float32)
    digest = model.weights_hash()
    network = model.network
    assert model.weights_hash() == digest
    assert not any(parameter.requires_grad for parameter in network.parameters())
    tokens = torch.arange(30, 45)[None]
    with torch.no_grad():
        assert torch.equal(network(tokens).logits, load_causal_lm(tiny(kind))(tokens).logits)
    network.model.embed_tokens.weight[3, 3] += 1
    assert model.llama.embedding[3, 3] == network.model.embed_tokens.weight[3, 3]
    assert model.weights_hash() != digest


@pytest.mark.parametrize("tied", [False, True])
def test_the_unembedding_may_be_tied(folder, monkeypatch, tied):
    where = folder()
    change(where, tie_word_embeddings=tied)
    tensors = load_file(where / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone().mul_(2)
    if tied:
        del tensors["lm_head.weight"]
    save_file(tensors, where / "model.safetensors", metadata={"format": "pt"})
    ours, theirs = both_ways(where, monkeypatch)
    assert ours.weights_hash() == theirs.weights_hash()
    assert torch.equal(ours.llama.head.weight, ours.llama.embedding) == tied


def test_weights_may_lie_in_several_files(folder):
    where = folder()
    whole = read(where)
    tensors = load_file(where / "model.safetensors")
    (where / "model.safetensors").unlink()
    place = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(tensors)}
    for file in set(place.values()):
        save_file({name: tensors[name] for name in tensors if place[name] == file}, where / file)
    (where / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}), encoding="utf-8")
    parts = read(where)
    assert list(parts.weights) == list(whole.weights)
    assert all(torch.equal(parts.weights[name], whole.weights[name]) for name in whole.weights)


def test_an_older_config_says_the_same_in_other_words(folder):
    where = folder()
    theta = json.loads((where / "config.json").read_text(encoding="utf-8"))["rope_parameters"]["rope_theta"]
    before = read(where).rotary(torch.arange(9))
    change(where, rope_parameters=None, rope_theta=theta, rope_scaling=None)
    assert all(map(torch.equal, read(where).rotary(torch.arange(9)), before))


@pytest.mark.parametrize(
    "settings",
    [
        {"model_type": "gemma"},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"num_key_value_heads": None},
        {"num_attention_heads": 0},
        {"tie_word_embeddings": None},
        {"rms_norm_eps": None},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"quantization_config": {"bits": 4}},
        {"auto_map": {"AutoModelForCausalLM": "modeling.Own"}},
        {"rope_parameters": None},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
        {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"partial_rotary_factor": 0.5},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 3},
        {"intermediate_size": 7},
    ],
    ids=str,
)
def test_what_is_not_plain_is_left_to_transformers(folder, settings):
    where = folder()
    assert read(where) is not None
    change(where, **settings)
    assert read(where) is None


def test_windows_in_some_layers_are_left_to_transformers(folder):
    for kind, settings in (
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4}),
        ("mistral", {"layer_types": ["full_attention"] * 2}),
    ):
        where = folder(kind)
        assert read(where) is not None
        change(where, **settings)
        assert read(where) is None


@pytest.mark.parametrize("trouble", ["a tensor more", "a tensor less", "integers", "no file", "cut off", "no object"])
def test_other_files_are_left_to_transformers(folder, trouble):
    where = folder()
    file = where / "model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(file).items()}
    if trouble == "a tensor more":
        save_file({**tensors, "model.layers.0.mlp.extra.weight": torch.ones(2)}, file)
    elif trouble == "a tensor less":
        save_file({name: value for name, value in tensors.items() if name != "model.norm.weight"}, file)
    elif trouble == "integers":
        save_file({**tensors, "model.norm.weight": tensors["model.norm.weight"].int()}, file)
    elif trouble == "no file":
        file.unlink()
    elif trouble == "cut off":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        (where / "config.json").write_text("[1]", encoding="utf-8")
    assert read(where) is None


def test_a_file_that_is_cut_off_is_told_of_as_before(folder):
    where = folder()
    file = where / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelNotFoundError, match=r"^the weights of '.*llama' could not be loaded: "):
        BaseModel("m", where, "cpu", torch.float32)


WITHOUT_MODULES = """
import sys
import glowgenius as gg
from glowgenius.local import ServiceClient

with ServiceClient(device="cpu", checkpoint_directory=sys.argv[2]) as service:
    trainer = gg.SupervisedTrainer(
        sys.argv[1], lora=gg.LoRAConfig(rank=2), service=service, renderer=gg.Renderer.for_model(sys.argv[1]),
        config=gg.TrainingConfig(batch_size=1, max_steps=1, learning_rate=1e-3, output_dir=sys.argv[2] + "/run"),
    )
    result = trainer.train(gg.Dataset.from_records([{"question": "q", "answer": "a"}]))
    print(result.sampler.complete(["q"], max_tokens=2)[0].text)
slow = ("transformers.modeling_utils", "transformers.core_model_loading", "torch.distributed.tensor", "torch._dynamo")
found = [name for name in slow if name in sys.modules]
sys.exit(f"imported: {found}" if found else 0)
"""


def test_a_plain_model_is_trained_and_asked_without_the_modules_of_transformers(tiny, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MODULES, str(tiny()), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert [line for line in done.stderr.splitlines() if "Traceback" in line or "Error" in line] == []
    assert done.returncode == 0
