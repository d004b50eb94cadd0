"""One run in a process of its own, which can be killed, signalled, and started again until it finishes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STEPS = 10
SETTINGS: dict[str, Any] = {
    "batch_size": 2,
    "num_epochs": 2,
    "learning_rate": 0.02,
    "save_every": 2,
    "eval_every": 3,
    "lr_schedule": "cosine",
}
"""Ten updates on ten rows: short enough for hundreds of runs, long enough to be disturbed anywhere."""

_FORK_SERVER = multiprocessing.get_context("forkserver")


@frozen(kw_only=True)
class Order:
    """What a run is to do."""

    model: str
    folder: Path
    report: Path
    settings: Mapping[str, Any] = SETTINGS
    lora: Mapping[str, Any] = {"rank": 2}
    rows: int = 10
    edit: str = ""
    """Which change is made to the data: `""`, or one of `DATA_EDITS`."""
    hook: str = ""
    """The hook that raises, at its *nth* call; `async` cancels the task at the nth event instead."""
    nth: int = 0
    room: int = 0
    """Bytes of the disk that the folder lies on; 0 for the disk that is there."""
    resume: bool = True


@frozen(kw_only=True)
class Report:
    """How a process ended. `error` is empty where the run finished."""

    error: str = ""
    text: str = ""
    ours: bool = True
    state: tuple[str, ...] = ()
    """SHA-256 of adapter and optimizer after the last step."""
    metrics: str = ""
    """`metrics.jsonl`, byte for byte."""

    @property
    def finished(self) -> bool:
        """Whether the run reached its end."""
        return not self.error


class DisturbanceError(Exception):
    """What a hook raises: not ours, so that it is recognised when it comes back."""


DATA_EDITS: dict[str, Callable[[list[dict[str, str]]], list[dict[str, str]]]] = {
    "an answer": lambda rows: [*rows[:-1], {**rows[-1], "answer": "B"}],
    "a row more": lambda rows: [*rows, {"question": "R?", "answer": "B"}],
    "a row less": lambda rows: rows[:-1],
    "the order": lambda rows: rows[::-1],
}


def start(order: Order) -> Any:
    """The process that carries out *order*."""
    process = _FORK_SERVER.Process(target=carry_out, args=(order,))
    process.start()
    return process


def finish(order: Order, *, seconds: float = 120.0) -> Report:
    """Carry out *order* to its end.

    Raises:
        RuntimeError: The process did not end in time, or died without a report.
    """
    process = start(order)
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        message = f"a run still went on after {seconds:g} s"
        raise RuntimeError(message)
    found = read_report(order)
    if found is None:
        message = f"a run died with exit code {process.exitcode} and left no report"
        raise RuntimeError(message)
    return found


def disturb(order: Order, number: int, after: float) -> tuple[Report | None, int]:
    """Send signal *number* after so many seconds; the report, if one was left, and the exit code."""
    process = start(order)
    process.join(after)
    if process.is_alive():
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
    process.join(120)
    if process.is_alive():
        process.kill()
        process.join()
        message = f"a run still went on 120 s after signal {number}"
        raise RuntimeError(message)
    return read_report(order), process.exitcode


def read_report(order: Order) -> Report | None:
    """What the process left, if it came to leave something; it is taken away."""
    if not order.report.exists():
        return None
    found: dict[str, Any] = json.loads(order.report.read_text(encoding="utf-8"))
    order.report.unlink()
    return Report(**{**found, "state": tuple(found["state"])})


def carry_out(order: Order) -> None:
    """In the child: train, and write how it ended."""
    from glowgenius.errors import GlowGeniusError

    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            if order.room:
                small_disk(order.folder, order.room)
            found = _train(order)
            if order.room and not found.finished and found.ours:
                _mount(order.folder, 1 << 26, remount=True)
                found = _train(order)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            left = isinstance(error, KeyboardInterrupt | SystemExit | GlowGeniusError | DisturbanceError)
            found = Report(error=type(error).__name__, text=str(error) if left else _placed(error), ours=left)
    temporary = order.report.with_suffix(".part")
    values = {"error": found.error, "text": found.text, "ours": found.ours}
    temporary.write_text(json.dumps({**values, "state": found.state, "metrics": found.metrics}), encoding="utf-8")
    temporary.replace(order.report)


def _placed(error: BaseException) -> str:
    """What a raw error says, and where in the library it came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "glowgenius" in frame.filename]
    return f"{error} (from {', '.join(f'{Path(one.filename).name}:{one.lineno}' for one in frames[-3:])})"


def _train(order: Order) -> Report:
    from glowgenius.data.dataset import Dataset
    from glowgenius.errors import GlowGeniusError
    from glowgenius.local import ServiceClient
    from glowgenius.lora.config import LoRAConfig
    from glowgenius.training import SupervisedTrainer, TrainingConfig

    rows = [{"question": f"Q{row}?", "answer": f"A{row}"} for row in range(order.rows)]
    rows = DATA_EDITS[order.edit](rows) if order.edit else rows
    held = Dataset.from_records([{"question": "E?", "answer": "A"}])
    service = ServiceClient(checkpoint_directory=order.folder / "checkpoints", device="cpu")
    try:
        trainer = SupervisedTrainer(
            order.model,
            lora=LoRAConfig(**order.lora),
            service=service,
            config=TrainingConfig(**order.settings, output_dir=order.folder),
            callbacks=_callbacks(order),
        )
        if order.hook == "async":
            result = _cancelled(trainer, Dataset.from_records(rows), held, order)
        else:
            result = trainer.train(Dataset.from_records(rows), held, resume_from_checkpoint=order.resume)
        state = Path(result.final_checkpoint.state_path)
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(state.glob("*.safetensors"))]
        metrics = (order.folder / "metrics.jsonl").read_bytes().decode()
        return Report(state=tuple(digests), metrics=metrics)
    except GlowGeniusError as error:
        return Report(error=type(error).__name__, text=str(error))
    finally:
        service.close()


def _callbacks(order: Order) -> list[Any]:
    from glowgenius.training.callbacks.base import HOOKS, Callback

    calls = 0

    def raises(_self: object, _event: object) -> None:
        nonlocal calls
        calls += 1
        if calls == order.nth:
            raise DisturbanceError(order.hook)

    hooks = {order.hook: raises} if order.hook in HOOKS else {}
    return [type("Disturbing", (Callback,), hooks)()] if hooks else []


def _cancelled(trainer: Any, train: Any, held: Any, order: Order) -> Any:
    """`train_async`, cancelled after as many hundredths of a second as *nth* says."""
    import asyncio

    async def run() -> Any:
        task = asyncio.create_task(trainer.train_async(train, held, resume_from_checkpoint=order.resume))
        done, _ = await asyncio.wait([task], timeout=order.nth / 100)
        if not done:
            task.cancel()
        return await task

    try:
        return asyncio.run(run())
    except asyncio.CancelledError as error:
        raise DisturbanceError("cancelled") from error


def small_disk(folder: Path, room: int) -> None:
    """Mount a disk of *room* bytes at *folder*, for this process only.

    Raises:
        OSError: The system does not let this user mount anything.
    """
    import ctypes

    folder.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, private = 0x00020000, 0x00044000
    if libc.unshare(new_mounts) or libc.mount(b"none", b"/", None, private, None):
        raise OSError(ctypes.get_errno(), "no file systems can be mounted here")
    _mount(folder, room)


def _mount(folder: Path, room: int, *, remount: bool = False) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    flags = 32 if remount else 0
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", flags, f"size={room}".encode()):
        raise OSError(ctypes.get_errno(), "no file systems can be mounted here")


def can_mount() -> bool:
    """Whether `small_disk` works here: Linux, and the right to mount."""
    return sys.platform == "linux" and os.geteuid() == 0


def preload() -> None:
    """Let every process begin where torch, the package and what a run imports late are loaded already."""
    modules = ["torch", "tinker", "transformers.models.auto.tokenization_auto", "safetensors.torch", "psutil"]
    modules += ["transformers.tokenization_utils_tokenizers", "jinja2.sandbox", "glowgenius.local"]
    modules += ["glowgenius.training.trainer", "glowgenius.evaluation", "glowgenius.reporting.run_page", __name__]
    _FORK_SERVER.set_forkserver_preload(modules)


def timed(order: Order) -> tuple[Report, float]:
    """An undisturbed run, and how many seconds it took."""
    began = time.monotonic()
    return finish(order), time.monotonic() - began


SIGNALS = {"kill -9": signal.SIGKILL, "Ctrl-C (SIGINT)": signal.SIGINT, "SIGTERM": signal.SIGTERM}
"""What a process is ended by."""
