"""A merged model is opened by transformers without us, and is the tuned model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from glowgenius.errors import CheckpointError, ConfigError, ModelNotFoundError
from glowgenius.export.merge import MergeCheck, write_merged
from glowgenius.export.weights import Adapter, MergedWeights, encoded, read_header, to_bfloat16
from tests.support.training import questions

torch = pytest.importorskip("torch", reason="not installed: torch; pip install '.[local]'")
transformers = pytest.importorskip("transformers")

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3")
CASES = [*((family, False) for family in FAMILIES), ("llama", True), ("gemma3", True)]
"""Families, and whether the tied unembedding is adapted too."""


def opened(folder, dtype="float32"):
    """The model in *folder*, as somebody without us opens it; nothing may be missing or left over."""
    model, told = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def logits(model, tokens):
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0].float().numpy()


def peft_logits(base, adapter, tokens):
    """Of the adapter beside its base, by PEFT: an oracle that shares nothing with us."""
    peft = pytest.importorskip("peft", reason="not installed: peft; pip install '.[test]'")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    if model.config.tie_word_embeddings:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        model.config.tie_word_embeddings = False
    return logits(peft.PeftModel.from_pretrained(model, adapter).eval(), tokens)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's, of transformers and of ties
@pytest.mark.parametrize(("family", "unembed"), CASES)
def test_a_merged_model_is_the_adapter_beside_its_base(family, unembed, tuned, tmp_path):
    run, base = tuned(family, unembed=unembed)
    written = run.export(tmp_path / "merged", format="merged", dtype="float32")
    [check] = [note for note in written.notes if note.startswith("check: ")]
    assert check.startswith(
        "check: 3 of 3 greedy answers equal those of the adapter beside its base; log-probabilities differ by "
    )
    model = opened(written.path)
    assert model.config.tie_word_embeddings is not unembed
    tokens = run.renderer.render_prompt(questions(1)[0].prompt).tolist()
    adapter = run.save_adapter(tmp_path / "adapter")
    theirs = peft_logits(base, adapter, tokens)
    np.testing.assert_allclose(logits(model, tokens), theirs, rtol=1e-4, atol=1e-4)
    assert np.abs(logits(opened(base), tokens) - theirs).max() > 0.01  # the adapter does something


def test_everything_that_transformers_needs_is_there(tuned, tmp_path):
    run, base = tuned()
    folder = run.export(tmp_path / "merged", format="merged").path
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert not names & {"adapter_config.json", "glowgenius.json", "metrics.jsonl"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "Q1?"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == run.renderer.render_prompt(questions(2)[1].prompt).tolist()
    assert transformers.GenerationConfig.from_pretrained(folder).eos_token_id == 2
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"---\nbase_model: {base}\nlibrary_name: transformers\nbase_model_relation: merge\n")
    assert "PeftModel" not in card


def test_answers_end_where_the_trained_ones_do(tuned, tmp_path):
    """A base model whose generation config knows another end gets that of a turn too."""
    run, base = tuned()
    copy = shutil.copytree(base, tmp_path / "base")
    (copy / "generation_config.json").write_text('{"eos_token_id": [7], "temperature": 0.6}', encoding="utf-8")
    (tmp_path / "out").mkdir()
    adapter = Adapter.read(run.save_adapter(tmp_path / "adapter"))
    write_merged(tmp_path / "out", base=copy, adapter=adapter, stop_tokens=(2,))
    found = json.loads((tmp_path / "out" / "generation_config.json").read_text(encoding="utf-8"))
    assert (found["eos_token_id"], found["temperature"]) == ([7, 2], 0.6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_are_rounded_once_as_torch_rounds_them(dtype, tuned, tmp_path):
    run, _ = tuned()
    whole = run.export(tmp_path / "whole", format="merged", dtype="float32", check=False).path
    written = run.export(tmp_path / "half", format="merged", dtype=dtype)
    assert written.dtype == dtype
    assert json.loads((written.path / "config.json").read_text(encoding="utf-8"))["dtype"] == dtype
    from safetensors.torch import load_file

    full, half = (load_file(folder / "model.safetensors") for folder in (whole, written.path))
    assert full.keys() == half.keys()
    assert all(torch.equal(full[name].to(getattr(torch, dtype)), half[name]) for name in full)


def test_bfloat16_is_rounded_as_torch_does():
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    values = np.concatenate([bits.view(np.float32), np.float32([0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-45])])
    theirs = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    numbers = ~np.isnan(values)
    assert (to_bfloat16(values)[numbers] == theirs[numbers]).all()
    assert np.isnan((to_bfloat16(values)[~numbers].astype(np.uint32) << 16).view(np.float32)).all()


def test_a_number_too_large_for_float16_is_refused():
    with pytest.raises(ConfigError, match=r"a weight of 70000 is too large for float16.*dtype='bfloat16'"):
        encoded(np.float32([[70_000.0]]), "F16")


def test_large_models_are_written_in_several_files(tuned, tmp_path):
    run, base = tuned("qwen2")
    adapter = Adapter.read(run.save_adapter(tmp_path / "adapter"))
    for name, limit in (("one", 10**9), ("many", 20_000)):
        (tmp_path / name).mkdir()
        write_merged(tmp_path / name, base=base, adapter=adapter, dtype="float32", shard_bytes=limit)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text(encoding="utf-8"))
    files = set(index["weight_map"].values())
    assert len(files) > 2
    assert files == {path.name for path in (tmp_path / "many").glob("*.safetensors")}
    one, many = opened(tmp_path / "one").state_dict(), opened(tmp_path / "many").state_dict()
    assert all(torch.equal(one[name], many[name]) for name in one)
    # And such a model is merged again like any other.
    weights = MergedWeights(tmp_path / "many", None, tied=True)
    assert sorted(weights.names) == sorted(index["weight_map"])


def test_blocks_are_the_whole(tuned, tmp_path, monkeypatch):
    run, base = tuned()
    adapter = Adapter.read(run.save_adapter(tmp_path / "adapter"))
    name = "model.layers.1.mlp.down_proj.weight"
    whole = MergedWeights(base, adapter, tied=True).whole(name)
    monkeypatch.setattr("glowgenius.export.weights.BLOCK_BYTES", 1000)
    weights = MergedWeights(base, adapter, tied=True)
    assert len(list(weights.blocks(name))) > 5
    np.testing.assert_allclose(weights.whole(name), whole, rtol=0, atol=1e-6)


def test_an_adapter_of_another_model_is_refused(tuned, tmp_path):
    run, _ = tuned()
    adapter = Adapter.read(run.save_adapter(tmp_path / "adapter"))
    _, other = tuned("llama", hidden_size=48)
    with pytest.raises(CheckpointError, match=r"name the base model that it was trained on"):
        MergedWeights(other, adapter, tied=True)


def test_names_of_tinker_are_those_of_the_hub(tuned, tmp_path):
    run, base = tuned(unembed=True)
    folder = run.save_adapter(tmp_path / "adapter")
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    renamed = {name.replace("model.lm_head", "model.model.unembed_tokens"): value for name, value in tensors.items()}
    assert renamed.keys() != tensors.keys()
    ours = MergedWeights(base, Adapter.read(folder), tied=True).whole("lm_head.weight")
    save_file(renamed, folder / "adapter_model.safetensors")
    assert (MergedWeights(base, Adapter.read(folder), tied=True).whole("lm_head.weight") == ours).all()


def test_adapters_that_are_more_than_lora_are_refused(tuned, tmp_path):
    run, _ = tuned()
    folder = run.save_adapter(tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    for more in ({"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}):
        (folder / "adapter_config.json").write_text(json.dumps({**config, **more}), encoding="utf-8")
        with pytest.raises(CheckpointError, match=f"uses {next(iter(more))}, and only plain LoRA"):
            Adapter.read(folder)


def test_damaged_files_are_refused(tuned, tmp_path):
    _, base = tuned()
    file = shutil.copyfile(base / "model.safetensors", tmp_path / "model.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelNotFoundError, match="is cut off or damaged"):
        MergedWeights(tmp_path, None, tied=True)
    with pytest.raises(ValueError, match="is no safetensors file"):
        read_header(base / "config.json")


def test_a_check_that_fails_leaves_nothing(tuned, tmp_path, monkeypatch):
    """Weights merged twice are another model, and the check says so."""
    run, _ = tuned()
    monkeypatch.setattr(
        "glowgenius.export.weights.Adapter.read",
        classmethod(lambda cls, folder: doubled(read(folder), cls)),
    )
    with pytest.raises(CheckpointError, match=r"the merged model is not the tuned model: \d of 3 greedy answers"):
        run.export(tmp_path / "merged", format="merged")
    assert list(tmp_path.iterdir()) == []


read = Adapter.read


def doubled(adapter, kind):
    return kind(
        folder=adapter.folder, config=adapter.config, rank=adapter.rank, scale=3 * adapter.scale, pairs=adapter.pairs
    )


def test_a_tie_is_no_difference():
    def check(equal, ties, difference):
        return MergeCheck(
            questions=3, equal=equal, ties=ties, difference=difference, largest=1e-2, tolerance=1e-3
        )  # fmt: skip

    assert check(2, 1, 1e-4).passed
    assert str(check(2, 1, 1e-4)) == (
        "2 of 3 greedy answers equal those of the adapter beside its base (1 more differ at a tie); log-probabilities "
        "differ by 0.0001 nats in the mean (accepted 0.001) and by 0.01 at most"
    )
    assert not check(2, 0, 1e-4).passed
    assert not check(3, 0, 1e-2).passed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "merge"}, "format must be 'adapter', 'merged', 'gguf', 'gguf-adapter', 'vllm', got 'merge'"),
        ({"format": "merged", "dtype": "int8"}, "dtype of a merged model must be 'auto', 'float32', 'float16'"),
        ({"format": "adapter", "dtype": "float16"}, "an adapter stays in the precision in which it was saved"),
        ({"format": "gguf", "dtype": "q4_k"}, "dtype of a GGUF file must be 'auto', 'f32', 'f16', 'bf16', 'q8_0'"),
    ],
)
def test_what_is_not_accepted(settings, message, tuned, tmp_path):
    run, _ = tuned()
    with pytest.raises(ConfigError, match=message):
        run.export(tmp_path / "out", **settings)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists and is not an empty folder; name another"):
        run.export(tmp_path / "full", format="merged")
