"""Size, CPU seconds and memory of every export of SmolLM2-135M, and how memory grows with the model.

    python -m tests.benchmarks.export

An adapter of rank 8 is trained for two steps; each export is a process of its own, whose peak of memory is read from
`/proc`, and so on Linux only. Then random Llama-shaped models of growing size are merged: the peak is to stay where it
is. Takes 3 minutes, and 5 GB of disk for a moment.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

CASES: Final = (
    ("adapter", "auto", True),
    ("vllm", "auto", True),
    ("merged", "float32", False),
    ("merged", "float32", True),
    ("merged", "bfloat16", False),
    ("gguf", "f32", False),
    ("gguf", "f16", False),
    ("gguf", "q8_0", False),
    ("gguf-adapter", "f32", False),
)
"""Format, type, and whether a merged model is checked."""

SIZES: Final = ((512, 8), (1024, 16), (2048, 16))
"""Hidden size and layers of the random models."""

_CHILD: Final = """
import json, resource, sys
kind, run, target, dtype, check = sys.argv[1:]
if kind == "merge":
    from pathlib import Path
    from glowgenius.export.merge import write_merged
    from glowgenius.export.weights import Adapter
    Path(target).mkdir()
    write_merged(Path(target), base=Path(run) / "base", adapter=Adapter.read(Path(run) / "adapter"), dtype=dtype)
    size = sum(file.stat().st_size for file in Path(target).iterdir())
    notes = []
else:
    from glowgenius.reporting.saved_run import open_run
    written = open_run(run).export(target, format=kind, dtype=dtype, check=check == "True")
    size, notes = written.size_bytes, list(written.notes)
used = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss, which a child takes over from the process that started it.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"bytes": size, "cpu": used.ru_utime + used.ru_stime, "peak": peak * 1024, "notes": notes}))
"""


def child(kind: str, run: Path, target: Path, dtype: str, *, check: bool) -> dict[str, Any]:
    """One export in a process of its own."""
    command = [sys.executable, "-c", _CHILD, kind, str(run), str(target), dtype, str(check)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(told.splitlines()[-1])


def trained(folder: Path) -> Path:
    """A run of two steps on SmolLM2."""
    import glowgenius as gg
    from glowgenius.local import ServiceClient

    rows = [{"question": f"Which line stops at station {n}?", "answer": f"The {n} train"} for n in range(8)]
    trainer = gg.SupervisedTrainer(
        "smollm2-135m-instruct",
        lora=gg.LoRAConfig(rank=8, train_unembed=False),
        service=ServiceClient(checkpoint_directory=folder / "checkpoints"),
        config=gg.TrainingConfig(max_steps=2, batch_size=4, learning_rate=1e-3, output_dir=folder),
    )
    data = gg.Dataset.from_records(rows)
    trainer.train(data[:6], eval_dataset=data[6:])
    return folder


def random_model(folder: Path, hidden: int, layers: int) -> int:
    """A model of noise and an adapter on all of its layers, written a matrix at a time; its parameters."""
    import numpy as np

    draw, inner, vocabulary, rank = np.random.default_rng(0), 4 * hidden, 32_000, 32
    linear = {"q_proj": (hidden, hidden), "k_proj": (hidden, hidden), "v_proj": (hidden, hidden)}
    linear |= {"o_proj": (hidden, hidden), "gate_proj": (inner, hidden), "up_proj": (inner, hidden)}
    linear |= {"down_proj": (hidden, inner)}
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    pairs: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for name, (outputs, inputs) in linear.items():
            part = "mlp" if name in {"gate_proj", "up_proj", "down_proj"} else "self_attn"
            whole = f"model.layers.{layer}.{part}.{name}"
            shapes[f"{whole}.weight"] = (outputs, inputs)
            pairs[f"base_model.model.{whole}.lora_A.weight"] = (rank, inputs)
            pairs[f"base_model.model.{whole}.lora_B.weight"] = (outputs, rank)
    for name, tensors in (("base", shapes), ("adapter", pairs)):
        (folder / name).mkdir(parents=True)
        file = "model.safetensors" if name == "base" else "adapter_model.safetensors"
        header: dict[str, Any] = {}
        at = 0
        for tensor, shape in tensors.items():
            end = at + 4 * math.prod(shape)
            header[tensor] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
            at = end
        text = json.dumps(header).encode()
        with (folder / name / file).open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for shape in tensors.values():
                stream.write(draw.standard_normal(shape, np.float32).tobytes())
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
    config |= {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "vocab_size": vocabulary}
    config |= {"num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 64, "rms_norm_eps": 1e-5}
    config |= {"max_position_embeddings": 2048, "hidden_act": "silu", "rope_theta": 10_000.0}
    (folder / "base" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": 32}), encoding="utf-8")
    return sum(math.prod(shape) for shape in shapes.values())


def main() -> None:
    """Print both tables."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = trained(Path(folder) / "run")
        print("| export of SmolLM2-135M | MB | CPU seconds | peak memory, MB |\n| --- | --: | --: | --: |")
        for number, (kind, dtype, check) in enumerate(CASES):
            found = child(kind, run, Path(folder) / str(number), dtype, check=check)
            name = kind if dtype == "auto" else f"{kind}, {dtype}" + (", checked" if check else "")
            print(f"| {name} | {found['bytes'] / 1e6:.1f} | {found['cpu']:.1f} | {found['peak'] / 1e6:.0f} |")
            for note in found["notes"]:
                if note.startswith("check: "):
                    print(f"  {note}", file=sys.stderr)
    print("\n| merging, bfloat16 | parameters | MB | CPU seconds | peak memory, MB |\n| --- | --: | --: | --: | --: |")
    for hidden, layers in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            count = random_model(Path(folder), hidden, layers)
            found = child("merge", Path(folder), Path(folder) / "merged", "bfloat16", check=False)
            size = f"{found['bytes'] / 1e6:.0f} | {found['cpu']:.1f} | {found['peak'] / 1e6:.0f}"
            print(f"| hidden {hidden}, {layers} layers | {count / 1e6:,.0f} M | {size} |")


if __name__ == "__main__":
    main()
