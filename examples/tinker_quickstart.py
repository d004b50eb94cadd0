"""Training written against the Tinker SDK, step by step, in the style of its own quick start.

One line decides where it runs: `tinker.ServiceClient()` is the hosted service, the line below it is this machine.

    python examples/tinker_quickstart.py [base model]
"""

from __future__ import annotations

import sys

import numpy as np
import tinker

import glowgenius.local

BASE_MODEL = sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m-instruct"

PAIRS = [
    ("Which borough is Yankee Stadium in?", "The Bronx"),
    ("Which borough is Coney Island in?", "Brooklyn"),
    ("Which borough is the Unisphere in?", "Queens"),
    ("Which borough is the Flatiron Building in?", "Manhattan"),
    ("Which borough is Snug Harbor in?", "Staten Island"),
]

# service_client = tinker.ServiceClient()  # noqa: ERA001 - the one line that changes
service_client = glowgenius.local.ServiceClient()

training_client = service_client.create_lora_training_client(base_model=BASE_MODEL, rank=16, seed=0).result()
tokenizer = training_client.get_tokenizer()


def example(question: str, answer: str) -> tinker.Datum:
    """Tokens, shifted by one; the answer alone is trained."""
    prompt = tokenizer.encode(f"Question: {question}\nAnswer:", add_special_tokens=False)
    completion = tokenizer.encode(f" {answer}\n\n", add_special_tokens=False)
    tokens = prompt + completion
    weights = [0.0] * len(prompt) + [1.0] * len(completion)
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": np.array(tokens[1:], dtype=np.int64),
            "weights": np.array(weights[1:], dtype=np.float32),
        },
    )


data = [example(question, answer) for question, answer in PAIRS]
trained_tokens = sum(float(datum.loss_fn_inputs["weights"].to_numpy().sum()) for datum in data)

for epoch in range(5):
    gradient = training_client.forward_backward(data, "cross_entropy")
    update = training_client.optim_step(tinker.AdamParams(learning_rate=1e-3))
    loss = gradient.result().metrics["loss:sum"] / trained_tokens
    update.result()
    print(f"epoch {epoch + 1}: loss {loss:.3f}")

path = training_client.save_weights_for_sampler(name="quickstart").result().path
sampling_client = service_client.create_sampling_client(model_path=path).result()

stop = tokenizer.encode("\n", add_special_tokens=False)
params = tinker.SamplingParams(max_tokens=8, temperature=0.0, stop=stop)
for question, _ in PAIRS[:3]:
    prompt = tinker.ModelInput.from_ints(tokenizer.encode(f"Question: {question}\nAnswer:", add_special_tokens=False))
    answer = sampling_client.sample(prompt=prompt, sampling_params=params, num_samples=1).result()
    print(f"{question} {tokenizer.decode(answer.sequences[0].tokens).strip()}")

service_client.close("success").result()
