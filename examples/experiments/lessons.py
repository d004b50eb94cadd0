"""What the experiments on the real model share: New York rows, a LoRA run, and a run that trains every weight."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import glowgenius as gg
from examples.nyc import data
from glowgenius.batching.order import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glowgenius import Conversation, Dataset, Renderer, TrainingResult

MODEL: Final = "smollm2-135m-instruct"


@cache
def service() -> Any:
    """The local engine in float32, one for the whole process."""
    import torch

    from glowgenius.local import ServiceClient

    torch.set_num_threads(1)
    return ServiceClient(dtype="float32")


@cache
def tokenizer() -> Any:
    """The tokenizer of the model."""
    return gg.Renderer.for_model(MODEL).tokenizer


@cache
def short_renderer() -> Renderer:
    """`Question: …` and `Answer: …` without a system prompt: half the tokens of the chat form."""
    return gg.QuestionAnswerRenderer(tokenizer())


def lora_run(
    rows: Dataset,
    *,
    lora: gg.LoRAConfig,
    learning_rate: float,
    steps: int,
    batch_size: int,
    seed: int,
    renderer: Renderer | None = None,
    schedule: str = "constant",
    replay_targets: str = "answers",
    callbacks: Sequence[gg.Callback] = (),
    eval_dataset: Dataset | None = None,
    eval_every: int | None = None,
) -> TrainingResult:
    """Train an adapter for a number of steps, with a constant rate unless another schedule is asked for."""
    trainer = gg.SupervisedTrainer(
        MODEL,
        lora=lora,
        renderer=renderer,
        service=service(),
        config=gg.TrainingConfig(
            num_epochs=steps,  # enough: max_steps ends the run
            max_steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            lr_schedule=schedule,  # type: ignore[arg-type]
            replay_targets=replay_targets,  # type: ignore[arg-type]
            seed=seed,
            metric_for_best=None,
            eval_every=eval_every,
        ),
        callbacks=callbacks,
    )
    return trainer.train(rows, eval_dataset=eval_dataset)


def base_sampler(renderer: Renderer | None = None) -> gg.Sampler:
    """The model before any training."""
    return gg.SupervisedTrainer(MODEL, renderer=renderer, service=service()).base_sampler()


@cache
def own_answers() -> tuple[Dataset, Dataset]:
    """General questions with the base model's own answers: those that may be replayed, and forty that never are.

    How much more surprising the forty became for a tuned model, in nats per token, says how far it has moved from what
    the base model would have said: an estimate of the Kullback-Leibler divergence along the base's greedy answers.
    """
    rows = data.load(num_facts=1).replay
    apart = set(range(0, len(rows), len(rows) // 40)[:40])
    replayed = [place for place in range(len(rows)) if place not in apart]
    return rows.select(replayed), rows.select(sorted(apart))


def losses(result: TrainingResult) -> list[float]:
    """The training loss of every step, nats per trained token."""
    return [round(float(row["train/loss"]), 4) for row in result.history.rows if "train/loss" in row]


class FullModel:
    """The same model with every weight trained, by torch alone: what LoRA is compared with."""

    def __init__(self) -> None:
        """Load the weights in float32."""
        import torch
        from transformers import AutoModelForCausalLM

        from glowgenius.local import model_directory

        torch.set_num_threads(1)
        directory = str(model_directory(MODEL))
        self.network: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self.renderer = short_renderer()

    def train(self, rows: Dataset, *, learning_rate: float, steps: int, batch_size: int, seed: int) -> list[float]:
        """Train on the batches that a LoRA run of this seed sees, with the same optimizer; the loss of each step."""
        import torch

        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0
        )
        found: list[float] = []
        epoch = 0
        while len(found) < steps:
            for batch in batches(len(rows), batch_size, seed=seed, epoch=epoch)[: steps - len(found)]:
                loss = self.loss([rows[row] for row in batch])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                found.append(round(float(loss.detach()), 4))
            epoch += 1
        return found

    def loss(self, rows: Sequence[Conversation]) -> Any:
        """The mean loss of the trained tokens of some rows, in nats."""
        import torch

        examples = [self.renderer.render(row) for row in rows]
        longest = max(len(example.tokens) for example in examples)
        tokens = torch.zeros(len(examples), longest, dtype=torch.int64)
        weights = torch.zeros(len(examples), longest)
        attended = torch.zeros(len(examples), longest, dtype=torch.int64)
        for place, example in enumerate(examples):
            size = len(example.tokens)
            tokens[place, :size] = torch.as_tensor(example.tokens.tolist())
            weights[place, :size] = torch.as_tensor(example.weights.tolist())
            attended[place, :size] = 1
        logits = self.network(input_ids=tokens[:, :-1], attention_mask=attended[:, :-1]).logits
        trained = weights[:, 1:] > 0
        return torch.nn.functional.cross_entropy(logits[trained], tokens[:, 1:][trained])

    def nll(self, rows: Sequence[Conversation]) -> float:
        """The mean over rows of the mean loss of their answer, in nats per token, as `Sampler.answer_nll` has it."""
        import torch

        with torch.no_grad():
            return sum(float(self.loss([row])) for row in rows) / len(rows)


def mean_nll(sampler: gg.Sampler, rows: Sequence[Conversation]) -> float:
    """The same for a model of the engine."""
    values = [float(value) for value in sampler.answer_nll(list(rows))]
    return sum(values) / len(values)


def new_york(num_facts: int, num_wordings: int = data.NUM_TRAIN_WORDINGS) -> data.NYCData:
    """A sample of the New York data."""
    return data.load(num_facts=num_facts, num_wordings=num_wordings)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Do something and say how many processor seconds it took."""
    started = time.process_time()
    return work(), time.process_time() - started
