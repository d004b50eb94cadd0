"""How much of a service's time a loop leaves unused: ours, the cookbook's and a naive one, over the same server.

    python -m tests.benchmarks.loop                  # prints the figures
    python -m tests.benchmarks.loop --json loop.json

The server works in clock cycles, as Tinker describes its own: gradients that are there when a cycle begins are
computed in it, an update that is there when it ends is made, and results go out at its end. Whoever comes late waits
for the next cycle. The wall time of a loop is counted from the cycle of its first gradient to its last update, and
divided by the cycles that the updates need at least, one each. Everything goes through the real SDK and HTTP.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import tinker

from glowgenius.engines.tinker_types import EngineFuture, completed
from glowgenius.testing import ScriptedService
from tests.engines.contract import batch
from tests.wire import reliability
from tests.wire.reliability import BATCH, Loop
from tests.wire.server import WireServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from glowgenius.engines.protocol import TrainingClient


Job: TypeAlias = "tuple[str, Callable[[], Any], Future[Any]]"
"""Kind, work and result of one operation."""


class Clock:
    """Runs the operations of one training client in cycles of *cycle* seconds."""

    def __init__(self, cycle: float) -> None:
        self._cycle = cycle
        self._lock = threading.Lock()
        self._queue: list[Job] = []
        self._closed = threading.Event()
        self.began: float | None = None
        """When the cycle of the first gradient began."""
        self.updates: list[float] = []
        """When each update was made."""
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
        self._thread.start()

    def submit(self, kind: str, work: Callable[[], Any]) -> EngineFuture[Any]:
        """Do *work* in its turn."""
        future: Future[Any] = Future()
        with self._lock:
            self._queue.append((kind, work, future))
        return EngineFuture(future)

    def close(self) -> None:
        """No more cycles."""
        self._closed.set()
        self._thread.join(10)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._closed.is_set():
            began = time.monotonic()
            gradients = self._take_gradients()
            if gradients and self.began is None:
                self.began = began
            due += self._cycle
            self._closed.wait(max(0.0, due - time.monotonic()))
            for kind, work, future in [*gradients, *self._take_update()]:
                try:
                    future.set_result(work().result())
                except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
                    future.set_exception(error)
                if kind == "optim_step":
                    self.updates.append(time.monotonic())

    def _take_gradients(self) -> list[Job]:
        """What is at the head of the queue when a cycle begins."""
        with self._lock:
            count = next((n for n, job in enumerate(self._queue) if job[0] != "forward_backward"), len(self._queue))
            taken, self._queue = self._queue[:count], self._queue[count:]
        return taken

    def _take_update(self) -> list[Job]:
        """One update, if it is next when a cycle ends, and the saves around it; gradients wait for the next cycle."""
        taken: list[Job] = []
        with self._lock:
            while self._queue and self._queue[0][0] != "forward_backward":
                if self._queue[0][0] == "optim_step" and any(kind == "optim_step" for kind, _, _ in taken):
                    break
                taken.append(self._queue.pop(0))
        return taken


class Clocked:
    """A training client whose gradients, updates and saves go by the clock."""

    def __init__(self, inner: TrainingClient, clock: Clock) -> None:
        self._inner, self._clock = inner, clock

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in {"forward_backward", "optim_step", "save_state", "save_weights_for_sampler"}:
            return method
        return lambda *args, **named: self._clock.submit(name, lambda: method(*args, **named))


class ClockedService:
    """A scripted service that makes its first training client by the clock; one run, one clock."""

    def __init__(self, cycle: float) -> None:
        self._inner = ScriptedService()
        self.clock = Clock(cycle)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_lora_training_client(self, *args: Any, **named: Any) -> EngineFuture[Any]:
        """As its like."""
        return completed(Clocked(self._inner.create_lora_training_client(*args, **named).result(), self.clock))


class Naive(Loop):
    """What one writes first: each result is waited for before the next call; saves at the end."""

    name = "naive"

    def start(self, server: WireServer, folder: Path) -> str:
        del folder
        service = tinker.ServiceClient(base_url=server.url, api_key=server.api_key)
        client = service.create_lora_training_client("scripted", rank=4, seed=0).result()
        for step in range(reliability.STEPS):
            client.forward_backward(batch(step, BATCH), "cross_entropy").result()
            client.optim_step(tinker.AdamParams(learning_rate=1e-3)).result()
        path = client.save_state("final").result().path
        service.close("success").result()
        return str(path)


def measure(loop: Loop, cycle: float) -> dict[str, Any]:
    """One run of *loop* on a fresh server."""
    service = ClockedService(cycle)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch, WireServer(service) as server, reliability.quiet():
        loop.start(server, Path(scratch) / "run")
    service.clock.close()
    clock = service.clock
    assert clock.began is not None
    wall, busy = clock.updates[-1] - clock.began, len(clock.updates) * cycle
    return {
        "loop": loop.name,
        "updates": len(clock.updates),
        "busy_seconds": round(busy, 3),
        "wall_seconds": round(wall, 3),
        "ratio": round(wall / busy, 4),
        "cpu_seconds": round(time.process_time() - began, 2),
    }


def main() -> None:
    """Print the figures of all loops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycle", type=float, default=0.3, help="seconds of a clock cycle (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="updates of each run (default: %(default)s)")
    parser.add_argument("--save-every", type=int, help="keep a state every so many updates (default: at the end alone)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    reliability.STEPS = options.steps
    reliability.SAVE_EVERY = options.save_every or options.steps + 1
    with tempfile.TemporaryDirectory() as scratch:
        figures = [measure(loop, options.cycle) for loop in (*reliability.loops(Path(scratch)), Naive())]
    sys.stdout.write(f"{'loop':<12}{'updates':>9}{'busy s':>9}{'wall s':>9}{'wall/busy':>11}{'CPU s':>8}\n")
    for row in figures:
        sys.stdout.write(
            f"{row['loop']:<12}{row['updates']:>9}{row['busy_seconds']:>9.2f}{row['wall_seconds']:>9.2f}"
            f"{row['ratio']:>11.3f}{row['cpu_seconds']:>8.2f}\n"
        )
    if options.json:
        options.json.write_text(
            json.dumps({"cycle": options.cycle, "save_every": options.save_every, "runs": figures}, indent=1),
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
