"""What a local service accepts, and what it says about the rest."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from glowgenius.errors import ConfigError, EngineError, ModelNotFoundError, RequestRejectedError
from glowgenius.local import ServiceClient, model_directory
from glowgenius.local.model import base_model
from tests.support.tiny_models import SIZES, write_byte_tokenizer

DEVICES = ", ".join(
    [*(["cuda"] if torch.cuda.is_available() else []), *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
)
ACCEPTED = (
    "Accepted: dense models whose attention, MLP and unembedding are standard linear layers (Llama, SmolLM2, Qwen2, "
    "Qwen3, Mistral, Gemma 3). Larger and mixture-of-experts models train on Tinker."
)

WRONG_SETTINGS = {
    "device": (
        {"device": "tpu"},
        f"device must be 'auto' or one that torch finds here ({DEVICES}), got 'tpu'",
    ),
    "dtype": (
        {"dtype": "bfloat"},
        "dtype must be 'auto', 'float32' or 'bfloat16', got 'bfloat' (did you mean 'bfloat16'?)",
    ),
    "tokens": (
        {"max_tokens_per_pass": 0},
        "ServiceClient needs max_tokens_per_pass ≥ 1 and sampling_batch_size ≥ 1, got 0 and 128",
    ),
    "batch": (
        {"sampling_batch_size": 0, "max_tokens_per_pass": 8},
        "ServiceClient needs max_tokens_per_pass ≥ 1 and sampling_batch_size ≥ 1, got 8 and 0",
    ),
}


@pytest.mark.parametrize(("settings", "message"), WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        ServiceClient(**settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        ({"rank": 0}, "rank=0, train_mlp=True, train_attn=True, train_unembed=True"),
        (
            {"rank": 4, "train_mlp": False, "train_attn": False, "train_unembed": False},
            "rank=4, train_mlp=False, train_attn=False, train_unembed=False",
        ),
    ],
)
def test_an_adapter_without_numbers_is_refused(service, settings, got):
    with pytest.raises(ConfigError) as caught:
        service.create_lora_training_client("any", **settings)
    assert str(caught.value) == (
        f"an adapter needs rank ≥ 1 and at least one of train_mlp, train_attn, train_unembed; got {got}"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0}, "alpha must be a finite number above 0, got 0"),
        ({"alpha": float("nan")}, "alpha must be a finite number above 0, got nan"),
        ({"seed": -1}, "seed must be 0 or more, and below 2**63, got -1"),
        ({"seed": 2**63}, f"seed must be 0 or more, and below 2**63, got {2**63}"),
    ],
)
def test_a_number_out_of_its_range_is_refused(service, settings, message):
    with pytest.raises(ConfigError) as caught:
        service.create_lora_training_client("any", **settings)
    assert str(caught.value) == message


def test_the_best_device_is_taken_and_a_named_one_is_kept(monkeypatch):
    from glowgenius.local import service as module

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert module._device("auto") == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert module._device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [module._device(name) for name in ("auto", "cuda:1", "cpu")] == ["cuda", "cuda:1", "cpu"]


def test_a_sampling_client_of_nothing_is_refused(service):
    with pytest.raises(RequestRejectedError) as caught:
        service.create_sampling_client()
    assert str(caught.value) == (
        "create_sampling_client() needs model_path (what save_weights_for_sampler() returned) or base_model (such as "
        "'smollm2-135m-instruct'), got neither"
    )


def test_an_unknown_base_model_is_an_error_of_the_future(service):
    for future in (
        service.create_lora_training_client("smolm2-135m-instruct"),
        service.create_sampling_client(base_model="smolm2-135m-instruct"),
    ):
        with pytest.raises(ModelNotFoundError, match="did you mean 'smollm2-135m-instruct'"):
            future.result()


def mixtral(settings):
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(MixtralConfig(**settings, num_local_experts=2)), "it routes tokens to experts"


def lfm2(settings):
    from transformers import Lfm2Config, Lfm2ForCausalLM

    return Lfm2ForCausalLM(Lfm2Config(**settings, layer_types=["conv", "full_attention"])), (
        "it has layers of kind 'conv'"
    )


def gpt2(settings):
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=settings["vocab_size"], n_embd=32, n_layer=2, n_head=2)), (
        "no linear layers of kind 'attn', 'mlp' were found"
    )


def falcon_h1(settings):
    from transformers import FalconH1Config, FalconH1ForCausalLM

    mamba = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1}
    return FalconH1ForCausalLM(FalconH1Config(**settings, **mamba)), "it has layers of kind 'hybrid'"


@pytest.mark.parametrize("make", [mixtral, lfm2, gpt2, falcon_h1])
def test_an_architecture_that_cannot_be_trained_here_is_refused(service, tmp_path, make):
    model, reason = make(SIZES)
    model.save_pretrained(tmp_path)
    write_byte_tokenizer(tmp_path)
    with pytest.raises(ModelNotFoundError) as caught:
        service.create_lora_training_client(str(tmp_path)).result()
    assert str(caught.value) == (
        f"the local engine cannot train {str(tmp_path)!r} ({type(model).__name__}): {reason}. {ACCEPTED}"
    )


def test_a_convolution_is_noticed_where_no_kind_of_layer_tells(train_on):
    model = train_on()._model
    assert model._untrainable() is None
    model.network.model.mixer = torch.nn.Conv1d(1, 1, 3)
    assert model._untrainable() == "it has convolutions over the sequence"
    del model.network.model.mixer


def test_a_base_model_is_loaded_once_while_it_is_in_use(tiny):
    first = base_model(str(tiny()), "cpu", torch.float32)
    assert base_model(str(tiny()), "cpu", torch.float32) is first
    assert base_model(str(tiny()), "cpu", torch.bfloat16) is not first


def test_loading_prints_nothing(tiny, capfd):
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
    folder = tiny("qwen3")
    capfd.readouterr()  # writing the model, where no test did so before, is not quiet
    base_model(str(folder), "cpu", torch.bfloat16)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


def test_a_closed_service_refuses_work(make_service, tiny):
    service = make_service()
    assert service.close("success").result(timeout=10) is None
    with pytest.raises(EngineError) as caught:
        service.create_lora_training_client(str(tiny()))
    assert str(caught.value) == "the local service was closed; make a new glowgenius.local.ServiceClient()"


def test_checkpoints_go_to_the_cache_by_default(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOWGENIUS_CACHE", str(tmp_path))
    service = ServiceClient(device="cpu")
    client = service.create_lora_training_client(str(tiny()), rank=1).result()
    path = client.save_state("a").result().path
    assert path == str(tmp_path / "checkpoints" / client.model_id.replace(":", "-") / "weights" / "a")
    service.close().result()


def test_bfloat16_is_near_float32_and_keeps_what_must_be_exact(make_service, tiny):
    from tests.support.local_engine import data, stir, tiny_rows

    losses = {}
    for dtype in ("float32", "bfloat16"):
        service = make_service(dtype=dtype)
        assert (service.dtype, service.device) == (dtype, "cpu")
        client = service.create_lora_training_client(str(tiny()), rank=4, seed=0).result()
        stir(client)
        output = client.forward_backward(data(tiny_rows(1, prefix=9)), "cross_entropy").result()
        losses[dtype] = output.metrics["loss:sum"]
        assert {p.dtype for p in client._adapter.parameters()} == {torch.float32}
        assert {p.grad.dtype for p in client._adapter.parameters()} == {torch.float32}
        assert {str(p.dtype) for p in client._model.network.parameters()} == {f"torch.{dtype}"}
        # Rounded frequencies would turn far positions by whole radians.
        assert client._model.network.model.rotary_emb.inv_freq.dtype == torch.float32
        assert len(client._model.weights_hash()) == 64
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.03)
    assert losses["bfloat16"] != losses["float32"]


def test_bfloat16_samples(make_service, tiny):
    from glowgenius.engines.tinker_types import ModelInput, SamplingParams

    prompt = ModelInput.from_ints(list(range(40, 60)))
    logprobs = {}
    for dtype in ("float32", "bfloat16"):
        client = make_service(dtype=dtype).create_sampling_client(base_model=str(tiny())).result()
        [one] = client.sample(prompt, 1, SamplingParams(max_tokens=6, temperature=0.0, stop=[])).result().sequences
        assert (len(one.tokens), one.stop_reason) == (6, "length")
        logprobs[dtype] = client.compute_logprobs(prompt).result()[1:]
    assert logprobs["bfloat16"] == pytest.approx(logprobs["float32"], rel=0.1, abs=0.3)


def test_auto_is_one_of_the_two(make_service):
    assert make_service(dtype="auto").dtype in {"float32", "bfloat16"}


def test_the_folder_of_a_model_can_be_asked_for(tiny):
    assert model_directory(str(tiny())) == tiny().resolve()


HIDE_TORCH = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
import glowgenius
from glowgenius.errors import MissingDependencyError

try:
    import glowgenius.local
except MissingDependencyError as error:
    print(error)
"""


def test_without_torch_the_message_names_the_extra():
    done = subprocess.run([sys.executable, "-W", "error", "-c", HIDE_TORCH], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "the local engine needs the package 'torch', which is not installed. Install it with: "
        "pip install 'glowgenius[local]'\n"
    )


def test_the_service_says_by_which_code_each_model_is_computed(service, tiny):
    llama, gemma = str(tiny()), str(tiny("gemma3"))
    before = service.description
    assert before.endswith("adapters and optimizer in float32")
    service.create_lora_training_client(llama, rank=2).result()
    service.create_sampling_client(base_model=gemma).result()
    assert service.description == (
        f"{before}, {llama} computed by its own code, {gemma} computed through transformers "
        f"('gemma3_text' is not one of llama, mistral, qwen2, qwen3)"
    )
