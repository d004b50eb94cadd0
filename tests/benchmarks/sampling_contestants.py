"""One contestant of the sampling benchmark in a process of its own: reads a job a line, answers a line of JSON.

Every contestant continues the same prompts greedily with the same fp32 weights and says which tokens it chose.
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

MODEL = "smollm2-135m-instruct"

Generate: TypeAlias = "Callable[[list[list[int]], int, bool], list[list[int]]]"
"""Continues prompts by so many tokens, or until the end token where it may stop."""


def ours() -> Generate:
    """The local engine through its public client, one call a prompt."""
    from glowgenius.engines.tinker_types import ModelInput, SamplingParams
    from glowgenius.local import ServiceClient

    service = ServiceClient(dtype="float32", device="cpu")
    client = service.create_sampling_client(base_model=MODEL).result()
    client.get_tokenizer()

    def generate(prompts: list[list[int]], count: int, may_stop: bool) -> list[list[int]]:
        settings = SamplingParams(max_tokens=count, temperature=0.0, stop=None if may_stop else [])
        futures = [client.sample(ModelInput.from_ints(prompt), 1, settings) for prompt in prompts]
        return [list(future.result().sequences[0].tokens) for future in futures]

    return generate


def transformers_generate() -> Generate:
    """`generate()` of transformers with its key-value cache, prompts padded on the left."""
    import torch
    from transformers import AutoModelForCausalLM

    from glowgenius.models.catalog import model_directory
    from glowgenius.models.hub import load_tokenizer

    model = AutoModelForCausalLM.from_pretrained(str(model_directory(MODEL)), dtype=torch.float32)
    end = load_tokenizer(MODEL).eos_token_id

    def generate(prompts: list[list[int]], count: int, may_stop: bool) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :], mask[row, longest - len(prompt) :] = torch.tensor(prompt), 1
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=count,
                do_sample=False,
                eos_token_id=end if may_stop else None,
                pad_token_id=end,
            )
        answers = output[:, longest:].tolist()
        return [one[: one.index(end) + 1] if may_stop and end in one else one for one in answers]

    return generate


CONTESTANTS: dict[str, Callable[[], Generate]] = {
    "glowgenius": ours,
    "transformers.generate": transformers_generate,
}


def main() -> None:
    """Answer jobs until there are none."""
    warnings.simplefilter("ignore")
    name, answers = sys.argv[1], sys.stdout
    sys.stdout = sys.stderr  # whatever the libraries print is no answer
    generate = CONTESTANTS[name]()
    print(json.dumps({"ready": name}), file=answers, flush=True)
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        wall, cpu = time.monotonic(), time.process_time()
        tokens = [generate(batch, job["count"], job["may_stop"]) for batch in job["batches"]]
        answer = {
            "seconds": time.monotonic() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "tokens": tokens,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
