"""What is known of a base model before it is trained: that it is whole, the same, not too long, and runs no code."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file, save_file

import glowgenius as gg
from glowgenius.errors import ModelNotFoundError, PreflightError, ResumeMismatchError
from glowgenius.models.hub import load_causal_lm, load_config, load_tokenizer
from tests.support.tiny_models import write_tiny_model

ROWS = gg.Dataset.from_records([{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(4)])
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


def put(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def trainer(model, service, *, lora=None, **settings):
    chosen = {"num_epochs": 1, "batch_size": 2, "learning_rate": 1e-3, **settings}
    return gg.SupervisedTrainer(
        str(model), lora=lora or gg.LoRAConfig(rank=2), service=service, config=gg.TrainingConfig(**chosen)
    )


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(Q_PROJ), f"the model lacks {Q_PROJ!r}. "),
        (lambda t: [t.pop(Q_PROJ), t.pop(Q_PROJ.replace(".0.", ".1."))], f"the model lacks {Q_PROJ!r} and 1 more. "),
        (lambda t: t.update(other=t[Q_PROJ].clone()), "the model holds 'other', which the architecture of config.json"),
    ],
)
def test_a_base_model_that_is_not_whole_is_refused_by_the_name_of_the_tensor(
    service, tmp_path, architecture, change, said
):
    model = write_tiny_model(tmp_path / "model", architecture)
    put(model, change)
    for create in (
        lambda: service.create_lora_training_client(str(model), rank=2),
        lambda: service.create_sampling_client(base_model=str(model)),
    ):
        with pytest.raises(ModelNotFoundError) as caught:
            create().result()
        assert str(caught.value).startswith(f"the weights in {str(model)!r} do not fit its config.json: {said}")


def test_a_base_model_that_was_swapped_is_no_model_to_go_on_with(service, tmp_path):
    model, folder = write_tiny_model(tmp_path / "model"), tmp_path / "run"
    trainer(model, service, output_dir=folder, max_steps=1).train(ROWS)
    write_tiny_model(model, seed=1)
    with pytest.raises(ResumeMismatchError, match=r"the weights of the base model: fingerprint \w{12}… then"):
        trainer(model, service, output_dir=folder, max_steps=2).train(ROWS, resume_from_checkpoint=True)
    write_tiny_model(model)
    assert (
        trainer(model, service, output_dir=folder).train(ROWS, resume_from_checkpoint=True).final_checkpoint.step == 2
    )


def test_a_run_of_an_earlier_version_goes_on_and_says_what_is_taken_on_trust(service, tmp_path, caplog):
    model, folder = write_tiny_model(tmp_path / "model"), tmp_path / "run"
    trainer(model, service, output_dir=folder, max_steps=1).train(ROWS)
    [record] = [json.loads(line) for line in (folder / "checkpoints.jsonl").read_text().splitlines()]
    del record["identity"]["weights"]
    earlier = [
        "name",
        "step",
        "epoch",
        "batch",
        "total_steps",
        "final",
        "state_path",
        "sampler_path",
        "identity",
        "callbacks",
        "requests",
        "usage",
    ]
    kept = {name: record[name] for name in earlier if name in record}
    (folder / "checkpoints.jsonl").write_text(json.dumps(kept) + "\n")
    with caplog.at_level("INFO", "glowgenius.training"):
        trainer(model, service, output_dir=folder).train(ROWS, resume_from_checkpoint=True)
    assert (
        "resume: the checkpoint was saved by an earlier version, which kept no fingerprint of the base model's "
        "weights, so that they are the same is taken on trust"
    ) in caplog.text


def test_rows_longer_than_the_model_takes_are_named_before_the_first_request(service, tmp_path):
    model = write_tiny_model(tmp_path / "model", max_position_embeddings=64)
    file = tmp_path / "rows.jsonl"
    lines = [{"question": "q" * (200 if n == 3 else 1), "answer": "a"} for n in range(4)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = gg.Dataset.from_file(file)
    with pytest.raises(PreflightError) as caught:
        trainer(model, service).train(rows[:3], eval_dataset=rows)
    [problem] = caught.value.problems
    assert str(problem).startswith(f"{file}:4: ")
    assert str(problem).endswith(
        "tokens, more than the model takes on this engine → at most 64: shorten it, or set max_length=64 and "
        "on_overflow"
    )


def test_an_adapter_that_memory_does_not_hold_is_refused_before_anything_is_allocated(service, tmp_path, monkeypatch):
    model = write_tiny_model(tmp_path / "model")
    monkeypatch.setattr("glowgenius.local.service.free_bytes", lambda device: 100_000)
    with pytest.raises(PreflightError) as caught:
        trainer(model, service, lora=gg.LoRAConfig(rank=100)).train(ROWS)
    [problem] = caught.value.problems
    assert str(problem) == (
        "lora.rank: 100: the adapter, its gradient and its optimizer take 0.0 GB → at most 5: 0.0 GB are free"
    )


def test_code_that_a_model_brings_along_is_never_run(tmp_path, monkeypatch):
    model = write_tiny_model(tmp_path / "model")
    (model / "own.py").write_text("raise SystemExit('it was run')")
    config = json.loads((model / "config.json").read_text())
    own = {"auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}, "model_type": "own"}
    (model / "config.json").write_text(json.dumps({**config, **own}))
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings |= {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}, "tokenizer_class": "OwnTokenizer"}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question on stdin"))
    loads = {"tokenizer": load_tokenizer, "config": load_config, "weights": lambda _: load_causal_lm(model)}
    for part, load in loads.items():
        with pytest.raises(ModelNotFoundError) as caught:
            load(str(model))
        assert str(caught.value) == (
            f"the {part} of {str(model)!r} would run Python code that its folder brings along, which glowgenius never "
            "does. Choose a model whose architecture transformers has built in. Where the code concerns the tokenizer "
            "alone, and you have read it, load it by transformers.AutoTokenizer.from_pretrained(name, "
            "trust_remote_code=True), and pass Renderer.for_model(name, tokenizer=...) as renderer="
        )
