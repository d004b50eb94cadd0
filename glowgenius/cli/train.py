"""`glowgenius train`: from a file of rows to a tuned model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from glowgenius._output import Output
from glowgenius.cli.common import (
    DataFile,
    EngineOption,
    FormatOption,
    JSONOption,
    interrupted_code,
    print_json,
    say,
    say_error,
    verb,
)
from glowgenius.cli.runs import HELD_OUT
from glowgenius.cli.settings import (
    BaseModelOption,
    BatchOption,
    EpochsOption,
    EvalEveryOption,
    EvalOption,
    MaxLengthOption,
    MaxStepsOption,
    OverflowOption,
    RankOption,
    TestSizeOption,
    base_model,
    number,
    split,
)

if TYPE_CHECKING:
    from glowgenius.training.result import TrainingResult


@verb
def train(
    data: DataFile,
    *,
    eval_data: EvalOption = None,
    test_size: TestSizeOption = 0.1,
    model: BaseModelOption = None,
    engine: EngineOption = "auto",
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Folder of the run; by default a new one in runs/.")
    ] = None,
    rank: RankOption = 32,
    learning_rate: Annotated[str, typer.Option(help="Peak rate; auto is the one suggested for the model.")] = "auto",
    num_epochs: EpochsOption = 3,
    batch_size: BatchOption = 16,
    max_steps: MaxStepsOption = None,
    max_length: MaxLengthOption = None,
    on_overflow: OverflowOption = "error",
    eval_every: EvalEveryOption = None,
    save_every: Annotated[str, typer.Option(help="Keep a state to go on from, as --eval-every.")] = "epoch",
    save_top_k: Annotated[int | None, typer.Option(help="Keep only so many of the best evaluated steps.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split, the order of rows and the adapter.")] = 0,
    patience: Annotated[
        int | None, typer.Option(help="End the run after so many evaluations without improvement.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output-dir.")] = False,
    format: FormatOption = None,  # noqa: A002 - the name of the option
    as_json: JSONOption = False,
) -> int:
    """Train on DATA, and say everything that was chosen.

    Without options: a tenth of the rows is held out, the engine is Tinker where there is a key and else this machine,
    and the run goes into a new folder in runs/. Ctrl-C saves and leaves; --resume goes on.

    Example: `glowgenius train train.jsonl --rank 8 --num-epochs 5 -o runs/nyc`
    """
    from glowgenius.data.dataset import Dataset
    from glowgenius.errors import ConfigError
    from glowgenius.lora.config import LoRAConfig
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.trainer import SupervisedTrainer

    if resume and output_dir is None:
        raise ConfigError("--resume goes on with the run in --output-dir; name that folder")
    rows, held = split(Dataset.from_file(data, format=format), eval_data, test_size, seed, as_json=as_json)
    folder = output_dir or _new_folder(data.name.split(".")[0])
    config: Any = TrainingConfig(
        num_epochs=num_epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        learning_rate=number(learning_rate),
        max_length=max_length,
        on_overflow=on_overflow,  # type: ignore[arg-type]  # another word is refused there
        eval_every=number(eval_every),
        save_every=number(save_every),
        save_top_k=save_top_k,
        seed=seed,
        output_dir=folder,
    )
    trainer = SupervisedTrainer(
        base_model(model, engine),
        lora=LoRAConfig(rank=rank, seed=seed),
        service=_service(engine, folder),
        config=config,
        callbacks=_callbacks(patience, as_json=as_json),
    )
    try:
        result = trainer.train(rows, eval_dataset=held, resume_from_checkpoint=True if resume else None)
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt, data, folder)
    if held is not None:
        held.to_jsonl(folder / HELD_OUT)
    _tell(result, folder, has_held=held is not None, as_json=as_json)
    return 0


def _interrupted(interrupt: KeyboardInterrupt, data: Path, folder: Path) -> int:
    """Say what to do after Ctrl-C, and return the exit code."""
    from glowgenius.training.run_folder import RunFolder

    code = say_error(interrupt, interrupted_code(interrupt))
    if RunFolder(folder).exists():
        say(f"go on with: glowgenius train {data} (the same options) -o {folder} --resume", as_json=True)
    else:
        say("nothing had been trained yet: begin again with the same command", as_json=True)
    return code


def _new_folder(stem: str) -> Path:
    """`runs/<stem>`, or the first of `runs/<stem>-2`, … where no run is."""
    folder, number = Path("runs") / stem, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{stem}-{number}"
    return folder


def _service(engine: str, folder: Path) -> Any:
    """None leaves the choice to the trainer, which says why."""
    from glowgenius.training.connection import connect
    from glowgenius.training.run_folder import STORE

    if engine == "auto":
        return None
    return connect(engine, checkpoint_directory=folder / STORE if engine == "local" else None).service


def _callbacks(patience: int | None, *, as_json: bool) -> list[Any]:
    import sys

    from glowgenius.training.callbacks.early_stopping import EarlyStopping
    from glowgenius.training.callbacks.progress import ProgressBar

    stopping = [] if patience is None else [EarlyStopping(patience=patience)]
    return [ProgressBar(file=cast("TextIO", Output(sys.stderr)) if as_json else None), *stopping]


def _tell(result: TrainingResult, folder: Path, *, has_held: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "run": str(folder),
                "steps": result.final_checkpoint.step,
                "stop_reason": result.stop_reason,
                "best_step": result.best_step,
                "trained_tokens": result.trained_tokens,
                "seconds": result.seconds,
                "last": dict(result.history.last),
            }
        )
        return
    say(f"\nthe run is in {folder}. What next:", as_json=False)
    if has_held:
        say(f"  glowgenius compare {folder}          base against tuned on the held-out rows", as_json=False)
    say(f"  glowgenius chat {folder}             ask both", as_json=False)
    say(f"  glowgenius report {folder}           the run on one page", as_json=False)
    say(f"  glowgenius export {folder} adapter   the adapter for peft", as_json=False)
