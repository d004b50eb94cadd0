"""`TrainingConfig`: every setting of a training run, as one immutable value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

import attrs
from attrs import field, frozen

from glowgenius._spelling import explain_unknown
from glowgenius._validators import boolean, integer, is_integer, is_number, number, one_of, optional, reject
from glowgenius.batching.overflow import Overflow
from glowgenius.errors import ConfigError, nearest
from glowgenius.rendering.renderer import TrainOn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrs import Attribute

    from glowgenius.typing import JSON

Cadence: TypeAlias = int | Literal["epoch"] | None
"""Every so many steps, at the end of every epoch, or never."""

LRSchedule: TypeAlias = Literal["linear", "cosine", "constant"]
"""How the learning rate goes on after the warm-up; `schedule` has the formulas."""

SCHEDULES: Final = ("linear", "cosine", "constant")
"""The values of `lr_schedule`."""

_EPOCHS = "it is called num_epochs here"
_BATCH = "it is called batch_size here: the rows of one optimizer step, over all devices"
_ACCUMULATE = (
    "there is none; batch_size is the rows of one optimizer step, and the engine divides them as its memory asks"
)
_SCHEDULE = "it is called lr_schedule here: 'linear', 'cosine' or 'constant'"
_WARMUP = "it is called warmup_steps here, a number of steps; trainer.preflight(...) says how many steps the run has"
_LENGTH = "it is called max_length here"
_OVERFLOW = "it is called on_overflow here: 'error', 'drop', 'truncate' or 'truncate_answers'"
_EVAL = "it is called eval_every here: a number of steps, or 'epoch'"
_SAVE = "it is called save_every here: a number of steps, or 'epoch'"
_LOGGING = "there is none, because every step is recorded; result.history holds the rows, a callback can show them"
_TRACKERS = (
    "there is none; pass a callback to the trainer instead, such as callbacks=[WandbLogger()]: there are WandbLogger, "
    "TensorBoardLogger, MLflowLogger, TrackioLogger, CSVLogger and JSONLLogger"
)
_PACKING = "there is none, because the engine packs or pads by itself, without changing the loss"
_LORA = "it belongs to LoRAConfig; pass lora=LoRAConfig(rank=...) to the trainer"
_OUTPUT = "it is called output_dir here"
_CLIP = "it is called grad_clip_norm here; None is off"
_OPTIMIZER = (
    "there is none, because the engine's optimizer is AdamW; beta1, beta2, eps and weight_decay are its settings"
)
_KEEP = "it is called save_top_k here: the best checkpoints by metric_for_best, and always the newest"
_BEST = "there is none; the steps that were evaluated are kept, and result.best_sampler answers from the best of them"
_PRECISION = "there is none, because the engine decides on precision and memory"
_TRAIN_ON = "it is called train_on here, with the values of TrainOn"
_RESUME = "it is an argument of train: trainer.train(..., resume_from_checkpoint=True)"
_INITIAL = (
    "it is an argument of train: trainer.train(..., initial_weights=...) begins with the weights of a run, a "
    "checkpoint or an adapter, and trains on other data; the same run goes on by resume_from_checkpoint=True"
)
_SEED = "it is called seed here; the seed of the adapter is LoRAConfig.seed"
_DEVICE = "there is none, because the engine decides where it runs; connect(engine=...) chooses the engine"
_RENDERER = "there is none; pass renderer=... to the trainer"

LARGEST_LEARNING_RATE: Final = 10.0
"""The largest `learning_rate` that is accepted; AdamW moves every parameter by about so much in a step."""

LARGEST_WEIGHT_DECAY: Final = 100.0
"""The largest `weight_decay` that is accepted; times the learning rate, it is what a step takes off every parameter."""

LARGEST_COUNT: Final = 1_000_000_000
"""The largest number of epochs, steps or rows of a batch that is accepted."""

_ELSEWHERE: Final = {
    **dict.fromkeys(("num_train_epochs", "n_epochs", "epochs", "max_epochs"), _EPOCHS),
    **dict.fromkeys(
        ("per_device_train_batch_size", "train_batch_size", "global_batch_size", "micro_batch_size"), _BATCH
    ),
    **dict.fromkeys(("gradient_accumulation_steps", "accumulate_grad_batches"), _ACCUMULATE),
    **dict.fromkeys(
        ("per_device_eval_batch_size", "eval_batch_size"),
        "there is none, because the whole evaluation set is one request, which the engine divides as its memory asks",
    ),
    **dict.fromkeys(("lr", "peak_lr", "learning_rate_multiplier", "lr_multiplier"), "it is called learning_rate here"),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler", "scheduler"), _SCHEDULE),
    **dict.fromkeys(("warmup_ratio", "warmup", "lr_warmup_steps", "num_warmup_steps"), _WARMUP),
    **dict.fromkeys(("max_seq_length", "max_seq_len", "sequence_len", "cutoff_len", "model_max_length"), _LENGTH),
    **dict.fromkeys(("truncation_mode", "truncation_strategy", "excess_length_strategy", "truncation"), _OVERFLOW),
    **dict.fromkeys(("eval_steps", "eval_strategy", "evaluation_strategy", "n_evals", "steps_per_eval"), _EVAL),
    **dict.fromkeys(("save_steps", "save_strategy", "n_checkpoints", "checkpoint_every", "save_freq"), _SAVE),
    **dict.fromkeys(
        ("logging_steps", "logging_strategy", "log_every", "log_every_n_steps", "steps_per_report"), _LOGGING
    ),
    **dict.fromkeys(("report_to", "logger", "wandb_project", "wandb_name", "use_wandb", "run_name"), _TRACKERS),
    **dict.fromkeys(("packing", "neat_packing", "sample_packing", "group_by_length", "eval_packing"), _PACKING),
    **dict.fromkeys(("rank", "r", "lora_r", "lora_rank", "lora_alpha", "lora_dropout", "target_modules"), _LORA),
    **dict.fromkeys(("peft_config", "lora", "lora_config"), _LORA),
    **dict.fromkeys(("log_path", "out_dir", "save_dir", "adapter_path", "logging_dir", "output_path"), _OUTPUT),
    **dict.fromkeys(("max_grad_norm", "gradient_clip_val", "grad_clip", "clip_grad_norm"), _CLIP),
    **dict.fromkeys(("optim", "optimizer", "optimizer_type"), _OPTIMIZER),
    **dict.fromkeys(("adam_beta1",), "it is called beta1 here"),
    **dict.fromkeys(("adam_beta2",), "it is called beta2 here"),
    **dict.fromkeys(("adam_epsilon", "epsilon", "adam_eps"), "it is called eps here"),
    **dict.fromkeys(("load_best_model_at_end", "restore_best_weights"), _BEST),
    **dict.fromkeys(("save_total_limit", "keep_checkpoints", "max_to_keep"), _KEEP),
    **dict.fromkeys(("metric_for_best_model", "best_metric"), "it is called metric_for_best here"),
    **dict.fromkeys(
        ("greater_is_better",), "there is none: losses, nll and perplexity are better low, every other metric high"
    ),
    **dict.fromkeys(
        ("fp16", "bf16", "tf32", "gradient_checkpointing", "load_in_4bit", "load_in_8bit", "deepspeed", "fsdp"),
        _PRECISION,
    ),
    **dict.fromkeys(
        ("train_on_what", "train_on_inputs", "train_on_prompt", "completion_only_loss", "assistant_only_loss"),
        _TRAIN_ON,
    ),
    **dict.fromkeys(("mask_prompt", "mask_history", "roles_to_train"), _TRAIN_ON),
    "resume_from_checkpoint": _RESUME,
    **dict.fromkeys(("load_checkpoint_path", "resume_adapter_file", "initial_weights", "init_from"), _INITIAL),
    **dict.fromkeys(("data_seed", "random_seed", "shuffle_seed", "random_state"), _SEED),
    **dict.fromkeys(("submit_ahead", "num_ahead"), "it is called lookahead here"),
    **dict.fromkeys(("device", "device_map", "no_cuda", "use_cpu", "base_url"), _DEVICE),
    **dict.fromkeys(("renderer", "renderer_name", "chat_template"), _RENDERER),
}


def _train_on(
    value: TrainOn
    | Literal[
        "last_assistant_message",
        "last_assistant_turn",
        "all_assistant_messages",
        "all_messages",
        "all_tokens",
        "all_user_and_system_messages",
        "customized",
    ],
) -> TrainOn:
    return TrainOn(value)


def _overflow(value: Overflow | Literal["error", "drop", "truncate", "truncate_answers"]) -> Overflow:
    return Overflow(value)


def _directory(value: str | os.PathLike[str] | None) -> Path | None:
    if value is None:
        return None
    try:
        folder = os.fspath(value)
    except TypeError:
        folder = ""
    # An empty string would be the current folder.
    if not folder:
        raise reject(TrainingConfig, "output_dir", "None or the path of a folder", value)
    return Path(folder).expanduser()


def _cadence(owner: object, attribute: Attribute[Any], value: Any) -> None:
    if value is None or value == "epoch" or (is_integer(value) and value >= 1):
        return
    hint = nearest(value, ["epoch"]) if isinstance(value, str) else ""
    error = reject(owner, attribute.name, "None, a number of steps ≥ 1, or 'epoch'", value)
    raise ConfigError(f"{error}{hint}")


def _too_large(value: Any) -> str:
    return f" and ≤ {LARGEST_LEARNING_RATE:g}" if is_number(value) and value > LARGEST_LEARNING_RATE else ""


def _learning_rate(owner: object, attribute: Attribute[Any], value: Any) -> None:
    if value == "auto" or (is_number(value) and 0 < value <= LARGEST_LEARNING_RATE):
        return
    hint = nearest(value, ["auto"]) if isinstance(value, str) else ""
    error = reject(owner, attribute.name, "'auto' or a number > 0" + _too_large(value), value)
    raise ConfigError(f"{error}{hint}")


def _named(value: Any) -> Any:
    """Canonical name of the metric that picks the best step: `exact_match` becomes `eval_exact_match`."""
    if isinstance(value, str) and value.strip() and not value.startswith(("eval_", "eval/", "train_", "train/")):
        return f"eval_{value}"
    return value


def _metric(owner: object, attribute: Attribute[Any], value: Any) -> None:
    if value is None or (isinstance(value, str) and value.startswith(("eval_", "eval/")) and value[len("eval/") :]):
        return
    raise reject(owner, attribute.name, "None or the name of an evaluation metric, such as 'eval_loss'", value)


@explain_unknown(_ELSEWHERE)
@final
@frozen(kw_only=True)
class TrainingConfig:
    """Length of a run, its optimizer settings, evaluations and checkpoints.

    A step is one update of the weights, from one batch. Change a config with `attrs.evolve(config, num_epochs=5)`.

    Raises:
        ConfigError: A value is not valid, or a setting is not one of these; a name from another library
            (`num_train_epochs`, `max_seq_length`, `warmup_ratio`, …) is answered with ours.
    """

    num_epochs: int = field(default=3, validator=integer(at_least=1, at_most=LARGEST_COUNT))
    """How often every row is visited."""

    max_steps: int | None = field(default=None, validator=optional(integer(at_least=1, at_most=LARGEST_COUNT)))
    """The run ends after so many updates, if it has not ended before."""

    batch_size: int = field(default=16, validator=integer(at_least=1, at_most=LARGEST_COUNT))
    """Rows of one step. The last batch of an epoch is shorter where they do not divide; no row is left out."""

    learning_rate: float | Literal["auto"] = field(default="auto", validator=_learning_rate)
    """The peak rate; `auto` is what `suggest_learning_rate` says for the base model."""

    lr_schedule: LRSchedule = field(default="linear", validator=one_of(SCHEDULES))
    """How the rate falls after the warm-up; it never reaches 0 on a step that is taken."""

    warmup_steps: int = field(default=0, validator=integer(at_least=0))
    """Steps over which the rate rises to its peak."""

    beta1: float = field(default=0.9, validator=number(at_least=0, below=1))
    """AdamW's decay of the mean gradient."""

    beta2: float = field(default=0.95, validator=number(at_least=0, below=1))
    """AdamW's decay of the mean squared gradient."""

    eps: float = field(default=1e-8, validator=number(above=0, at_most=1))
    """AdamW's term against division by zero; sent on every engine, as their own defaults differ."""

    weight_decay: float = field(default=0.0, validator=number(at_least=0, at_most=LARGEST_WEIGHT_DECAY))
    """Decoupled weight decay of the adapter, multiplied by the rate of the step."""

    grad_clip_norm: float | None = field(default=None, validator=optional(number(above=0)))
    """The gradient is scaled down to this global norm; None leaves it as it is."""

    max_length: int | None = field(default=None, validator=optional(integer(at_least=2)))
    """The most tokens that a row may have; None sets no limit here."""

    on_overflow: Overflow = field(default=Overflow.ERROR, converter=_overflow)
    """What becomes of rows over `max_length`: `error` refuses the data set, `drop` leaves them out, `truncate` cuts
    their prompts, and `truncate_answers` the end of an answer too where that is not enough. All are counted."""

    train_on: TrainOn = field(default=TrainOn.LAST_ASSISTANT_MESSAGE, converter=_train_on)
    """Which messages carry loss."""

    replay_targets: Literal["answers", "distributions"] = field(
        default="answers", validator=one_of(("answers", "distributions"))
    )
    """What rows tagged `replay` are trained on: their answers, or what the base model finds likely at every token of
    them, which is asked for before the first step; these pull the model back to what it was, not towards certainty."""

    eval_every: Cadence = field(default=None, validator=_cadence)
    """When to evaluate besides before the first and after the last step, which always happens with an eval set."""

    save_every: Cadence = field(default="epoch", validator=_cadence)
    """When to keep a state to go on from, besides after the last step; None keeps no other.

    What was trained since the last state has to be trained again, and paid for, if the run is killed or the service
    fails. A state is an adapter and its optimizer, three numbers for each trained parameter.
    """

    save_top_k: int | None = field(default=None, validator=optional(integer(at_least=1)))
    """How many evaluated checkpoints to keep, the best by `metric_for_best`; None keeps all.

    The newest is kept besides, and the newest state, so that resuming works as before; so are weights that a callback
    may end the run with. The others are deleted, on Tinker too.
    """

    metric_for_best: str | None = field(default="eval_loss", converter=_named, validator=_metric)
    """Which metric decides on the best step; None keeps no weights of evaluated steps."""

    seed: int = field(default=0, validator=integer(at_least=0))
    """Seed of the order of rows. The adapter has its own, `LoRAConfig.seed`."""

    lookahead: int = field(default=1, validator=integer(at_least=0, at_most=LARGEST_COUNT))
    """Steps submitted before the one being waited for is done; 0 waits for each."""

    stop_on_nan: bool = field(default=True, validator=boolean())
    """Whether a loss that is NaN or infinite ends the run with a `TrainingError`; what was saved before stays.

    False lets the run go on. The callback `TerminateOnNaN` ends it too, without an error."""

    max_restarts: int = field(default=3, validator=integer(at_least=0))
    """How often a run may go on from its last checkpoint by itself after the service has failed; 0 never.

    The weights behind a failed gradient cannot be trusted, so the steps since that checkpoint are made, and paid for,
    again. Three are enough for what passes by itself, and few enough for what does not.
    """

    output_dir: Path | None = field(default=None, converter=_directory)
    """Folder of the run: settings, metrics, checkpoints. None writes nothing."""

    def __attrs_post_init__(self) -> None:
        if self.save_top_k is not None and self.metric_for_best is None:
            raise ConfigError(
                f"TrainingConfig.save_top_k={self.save_top_k} keeps the best steps by metric_for_best, which is None; "
                "set metric_for_best, or leave save_top_k out"
            )

    def to_json(self) -> dict[str, JSON]:
        """The settings as a JSON object."""
        values = {name.name: getattr(self, name.name) for name in attrs.fields(TrainingConfig)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def changed(before: Mapping[str, JSON], now: Mapping[str, JSON]) -> dict[str, tuple[JSON, JSON]]:
    """Differences between two JSON objects: name → (before, now); a missing name counts as None."""
    names = dict.fromkeys([*before, *now])
    return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}
