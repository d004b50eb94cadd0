"""One contestant in a process of its own: reads a job a line, answers a line of JSON.

Every contestant trains the same fresh adapter shape on the same batches and reports seconds, CPU seconds and losses.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Batch = list[dict[str, list[Any]]]
"""Rows with `tokens` and `weights` (0 or 1) of each."""

Train: TypeAlias = "Callable[[list[Batch], int, Clock], list[float]]"
"""Trains a fresh adapter of a rank on the batches, tells the clock after every step, returns the losses."""

ALPHA, RATE = 32.0, 1e-3


class Clock:
    """When each step ended, in seconds of the wall and of the processor."""

    def __init__(self) -> None:
        self.times = [(time.monotonic(), time.process_time())]

    def step(self) -> None:
        """A step has ended."""
        self.times.append((time.monotonic(), time.process_time()))


def ours(dtype: str) -> Train:
    """The local engine through its public client, two calls a step."""
    from glowgenius.engines.tinker_types import AdamParams, Datum, ModelInput
    from glowgenius.local import ServiceClient

    service = ServiceClient(dtype=dtype, device="cpu")

    def datum(row: dict[str, list[Any]], total: float) -> Datum:
        fields: dict[str, Any] = {
            "target_tokens": row["tokens"][1:],
            "weights": [weight / total for weight in row["weights"][1:]],
        }
        return Datum(model_input=ModelInput.from_ints(row["tokens"][:-1]), loss_fn_inputs=fields)

    def train(batches: list[Batch], rank: int, clock: Clock) -> list[float]:
        client = service.create_lora_training_client(
            "smollm2-135m-instruct", rank=rank, seed=0, train_unembed=False, alpha=ALPHA
        ).result()
        losses = []
        for batch in batches:
            total = float(sum(sum(row["weights"][1:]) for row in batch))
            output = client.forward_backward([datum(row, total) for row in batch], "cross_entropy")
            client.optim_step(AdamParams(learning_rate=RATE, beta1=0.9, beta2=0.999, eps=1e-8)).result()
            losses.append(output.result().metrics["loss:sum"])
            clock.step()
        return losses

    return train


def peft_model(rank: int, dtype: Any) -> Any:
    """The model through transformers and PEFT, with the same matrices trained as ours."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from glowgenius.models.catalog import model_directory

    model = AutoModelForCausalLM.from_pretrained(str(model_directory("smollm2-135m-instruct")), dtype=dtype)
    names = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    config = LoraConfig(r=rank, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=names, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    # The numbers that the local engine draws with seed 0, so that losses can be compared at every step.
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_A" in name:
                bound = parameter.shape[1] ** -0.5
                parameter.uniform_(-bound, bound, generator=generator)
    return adapted


def plain_peft() -> Train:
    """A loop written by hand: padded batches, transformers' own loss, AdamW."""
    import torch

    def train(batches: list[Batch], rank: int, clock: Clock) -> list[float]:
        model = peft_model(rank, torch.float32).train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
        losses = []
        for batch in batches:
            loss = model(**padded(batch)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            clock.step()
        return losses

    return train


def padded(batch: Batch) -> dict[str, Any]:
    """Ids, mask and labels of a padded batch."""
    import torch

    longest = max(len(row["tokens"]) for row in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for index, row in enumerate(batch):
        tokens, weights = torch.tensor(row["tokens"]), torch.tensor(row["weights"])
        ids[index, : len(tokens)], mask[index, : len(tokens)] = tokens, 1
        labels[index, : len(tokens)] = torch.where(weights > 0, tokens, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def trl(*, defaults: bool, by_length: bool = False) -> Train:
    """TRL's SFTTrainer: as it comes, or in fp32 without gradient checkpointing; rows grouped *by_length*, or not."""
    import tempfile

    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    losses: list[float] = []
    clocks: list[Clock] = []

    class Record(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clocks[-1].step()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                losses.append(float(logs["loss"]))

    def train(batches: list[Batch], rank: int, clock: Clock) -> list[float]:
        losses.clear()
        clocks.append(clock)
        rows = [row for batch in batches for row in batch]
        data = Dataset.from_list(
            [{"input_ids": row["tokens"], "completion_mask": [int(w) for w in row["weights"]]} for row in rows]
        )
        faster = {} if defaults else {"bf16": False, "gradient_checkpointing": False}
        with tempfile.TemporaryDirectory() as folder:
            settings = SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=len(batches[0]),
                num_train_epochs=1,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                max_grad_norm=0.0,
                logging_steps=1,
                report_to=[],
                completion_only_loss=True,
                save_strategy="no",
                use_cpu=True,
                disable_tqdm=True,
                seed=0,
                train_sampling_strategy="group_by_length" if by_length else "sequential",
                **faster,
            )
            trainer = SFTTrainer(
                model=peft_model(rank, torch.float32), args=settings, train_dataset=data, callbacks=[Record()]
            )
            trainer.train()
        return list(losses)

    return train


CONTESTANTS: dict[str, Callable[[], Train]] = {
    "glowgenius fp32": lambda: ours("float32"),
    "glowgenius auto": lambda: ours("auto"),
    "plain PEFT loop fp32": plain_peft,
    "TRL fp32": lambda: trl(defaults=False),
    "TRL fp32, by length": lambda: trl(defaults=False, by_length=True),
    "TRL defaults": lambda: trl(defaults=True),
}


def main() -> None:
    """Answer jobs until there are none."""
    warnings.simplefilter("ignore")
    name, answers = sys.argv[1], sys.stdout
    sys.stdout = sys.stderr  # whatever the libraries print is no answer
    begin = time.monotonic()
    train = CONTESTANTS[name]()
    print(json.dumps({"ready": time.monotonic() - begin}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        clock = Clock()
        losses = train(job["batches"], job["rank"], clock)
        begin, first, last = clock.times[0], clock.times[1], clock.times[-1]
        answer = {
            # The first step, with everything that comes before it, is reported apart: loading is not training.
            "seconds": last[0] - first[0],
            "cpu_seconds": last[1] - first[1],
            "first_step_seconds": first[0] - begin[0],
            "losses": losses,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
