"""What a user's type checker infers, and what it must refuse; checked by pyright and mypy, never run.

A line that must not type-check ends in a comment that names what each checker then reports:
the rule of pyright, a bar, the code of mypy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from typing_extensions import override

import glowgenius as gg

if TYPE_CHECKING:
    from glowgenius.typing import TokenArray, WeightArray


def data() -> None:
    dataset = gg.Dataset.from_file("nyc.jsonl")
    assert_type(dataset, gg.Dataset)
    assert_type(dataset[0], gg.Conversation)
    assert_type(dataset[:3], gg.Dataset)
    assert_type(len(dataset), int)
    assert_type([row.messages for row in dataset], list[tuple[gg.Message, ...]])
    assert_type(dataset.train_test_split(0.2, seed=0), tuple[gg.Dataset, gg.Dataset])
    assert_type(dataset.shuffle(seed=1), gg.Dataset)
    assert_type(dataset.filter(lambda row: bool(row.tags)), gg.Dataset)
    assert_type(dataset.fingerprint, str)
    assert_type(gg.Dataset.from_records([{"question": "?", "answer": "!"}]), gg.Dataset)
    gg.Dataset.from_records("nyc.jsonl")  # E: reportArgumentType | arg-type
    dataset.train_test_split("a fifth")  # E: reportArgumentType | arg-type
    dataset[0].messages[0].content = "else"  # E: reportAttributeAccessIssue | misc
    dataset.rows_that_do_not_exist()  # E: reportAttributeAccessIssue | attr-defined


def rendering(row: gg.Conversation) -> None:
    renderer = gg.Renderer.for_model("smollm2-135m-instruct")
    assert_type(renderer, gg.Renderer)
    example = renderer.render(row, train_on=gg.TrainOn.ALL_ASSISTANT_MESSAGES)
    assert_type(example, gg.RenderedExample)
    tokens: TokenArray = example.tokens
    weights: WeightArray = example.weights
    assert_type(example.num_trained, int)
    assert_type(renderer.parse([1, 2]), gg.Message)
    gg.TrainingConfig(train_on="all_tokens", output_dir=None)
    gg.TrainingConfig(train_on="last_asistant")  # E: reportArgumentType | arg-type
    renderer.render(row, train_on=3)  # E: reportArgumentType | arg-type
    renderer.render("a question")  # E: reportArgumentType | arg-type
    del tokens, weights


def lora() -> None:
    config = gg.LoRAConfig(rank=8)
    assert_type(config.rank, int)
    assert_type(config.parameter_count("Qwen/Qwen3-8B"), int)
    assert_type(gg.suggest_learning_rate("Qwen/Qwen3-8B").value, float)
    gg.LoRAConfig(rank="8")  # E: reportArgumentType | arg-type
    gg.LoRAConfig(8)  # E: reportCallIssue | call-arg
    gg.LoRAConfig(lora_r=8)  # E: reportCallIssue | call-arg
    config.rank = 16  # E: reportAttributeAccessIssue | misc


def training(train: gg.Dataset, held_out: gg.Dataset) -> None:
    config = gg.TrainingConfig(num_epochs=3, learning_rate="auto", eval_every="epoch", output_dir="runs/nyc")
    gg.TrainingConfig(learning_rate=1e-4, lr_schedule="cosine", eval_every=10, max_length=512, on_overflow="truncate")
    gg.TrainingConfig(learning_rate="high")  # E: reportArgumentType | arg-type
    gg.TrainingConfig(lr_schedule="linaer")  # E: reportArgumentType | arg-type
    gg.TrainingConfig(eval_every="step")  # E: reportArgumentType | arg-type
    gg.TrainingConfig(num_train_epochs=3)  # E: reportCallIssue | call-arg

    trainer = gg.SupervisedTrainer("Qwen/Qwen3-8B", config=config, callbacks=[gg.ProgressBar()])
    result = trainer.train(train, eval_dataset=held_out)
    assert_type(result, gg.TrainingResult)
    assert_type(result.history, gg.History)
    assert_type(result.sampler, gg.Sampler)
    assert_type(result.sampler.generate("Which borough is Yankee Stadium in?"), str)
    assert_type(trainer.base_sampler(), gg.Sampler)
    gg.SupervisedTrainer("Qwen/Qwen3-8B", callbacks=[print])  # E: reportArgumentType | list-item
    gg.SupervisedTrainer("Qwen/Qwen3-8B", lora=8)  # E: reportArgumentType | arg-type
    gg.SupervisedTrainer("Qwen/Qwen3-8B", service="local")  # E: reportArgumentType | arg-type
    trainer.train("nyc.jsonl")  # E: reportArgumentType | arg-type


async def training_in_async_code(trainer: gg.SupervisedTrainer, train: gg.Dataset) -> None:
    assert_type(await trainer.train_async(train), gg.TrainingResult)


class Patience(gg.Callback):
    @override
    def on_step_end(self, event: gg.StepEnd) -> gg.StopTraining | None:
        assert_type(event.step, int)
        event.step = 3  # E: reportAttributeAccessIssue | misc
        return gg.StopTraining("enough")


class WrongEvent(gg.Callback):
    @override
    def on_step_end(self, event: gg.TrainBegin) -> None:  # E: reportIncompatibleMethodOverride | override
        return None


class WrongAnswer(gg.Callback):
    @override
    def on_step_end(self, event: gg.StepEnd) -> str:  # E: reportIncompatibleMethodOverride | override
        return "enough"


def evaluation(base: gg.Sampler, tuned: gg.Sampler, held_out: gg.Dataset) -> None:
    assert_type(gg.evaluate(base, held_out), gg.EvaluationResult)
    assert_type(gg.compare(base, tuned, held_out), gg.Comparison)
    gg.compare(base, tuned, {"seen": held_out, "unseen": held_out})
    gg.evaluate(held_out, base)  # E: reportArgumentType | arg-type
    gg.compare(base, tuned)  # E: reportCallIssue | call-arg


def an_unknown_name() -> None:
    gg.LoraConfig(rank=8)  # E: reportAttributeAccessIssue | attr-defined
