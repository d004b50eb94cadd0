"""Checkpoint records, and the check that a run may resume from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast, final

from attrs import asdict, field, fields, frozen

from glowgenius.errors import CheckpointError, ResumeMismatchError
from glowgenius.training.config import changed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.typing import JSON

WEIGHTS: Final = "weights"
"""Where the identity of a run has the fingerprint of the base model's weights, if they lie on this machine."""

NO_BEARING: Final = frozenset(
    {
        "num_epochs",
        "max_steps",
        "eval_every",
        "save_every",
        "save_top_k",
        "metric_for_best",
        "lookahead",
        "max_restarts",
        "stop_on_nan",
        "output_dir",
    }
)
"""Settings that a resumed run may have otherwise: they change no update that has been made."""

RESTORE: Final = "restore the file from a copy, or begin anew in another output_dir"
"""What to do about a damaged file that nothing else can stand for."""


@final
@frozen(kw_only=True)
class CheckpointRecord:
    """One line of `checkpoints.jsonl`.

    `name`, `batch`, `epoch`, `final`, `state_path` and `sampler_path` are as in the cookbook's file of that name, so
    that its tools find the checkpoints.
    """

    name: str
    """Its name on the engine: the step, in six digits."""

    step: int
    """The number of updates in it, exactly."""

    epoch: int
    """0-based epoch of the batch that comes next."""

    batch: int
    """How many batches of that epoch have been trained."""

    total_steps: int
    """How many updates the run was to have, which the learning rate followed."""

    final: bool = False
    """Whether the run ended here."""

    state_path: str | None = None
    """Where training can go on from; None where only weights were kept."""

    sampler_path: str | None = None
    """Where weights can be sampled from; None where only a state was kept."""

    identity: Mapping[str, Any] = field(factory=dict[str, Any])
    """What decides the sequence of updates: model, adapter, settings, and fingerprints of data and renderer."""

    callbacks: Mapping[str, Any] = field(factory=dict[str, Any])
    """The state of each callback when everything about `step` had been reported, by its key."""

    requests: Mapping[str, Any] = field(factory=dict[str, Any])
    """What callbacks had asked for by then and what takes effect behind a later step; see `Agenda`."""

    usage: Mapping[str, int] = field(factory=dict[str, int])
    """Tokens that had been paid for by then: `trained`, `prefilled` and `sampled`."""

    dropped_rows: Mapping[str, int] = field(factory=dict[str, int])
    """The rows that the run went on without, by their numbers, with how many examples each had."""

    rows_sha256: str | None = None
    """SHA-256 of the rows of metrics up to `step`; None where an earlier version wrote the record."""

    state_digest: str | None = None
    """The digest of the state, where it lies on this machine; None of a service, which keeps it."""

    sampler_digest: str | None = None
    """As `state_digest`, of the weights."""

    own: bool = field(default=True, eq=False)
    """Whether the run that has the record saved the checkpoint itself, so that it may delete it; see `RunFolder`."""

    trusted: bool = field(default=True, eq=False)
    """Whether the record was written on this machine in the folder that it was read from, and not copied to it."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The recorded paths: of the state and of the weights, as far as they were saved."""
        return tuple(path for path in (self.state_path, self.sampler_path) if path is not None)

    def to_json(self) -> dict[str, JSON]:
        """The record as a JSON object; a missing path or digest is left out, as the cookbook does."""
        values: dict[str, JSON] = asdict(self, filter=lambda attribute, _: attribute.name not in _OF_FOLDER)
        return {
            name: value for name, value in values.items() if value is not None and (name, value) != ("dropped_rows", {})
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], place: str) -> CheckpointRecord:
        """The record that `to_json` wrote; unknown fields of later versions are ignored.

        Raises:
            CheckpointError: Something is missing, as it is where the cookbook wrote the file, or is of another type;
                *place* says where.
        """
        missing = [name for name in (*_POSITION, "name", "identity") if name not in record]
        if missing:
            raise CheckpointError(
                f"{place}: a checkpoint without {', '.join(missing)} cannot be resumed from; it was not written by "
                "glowgenius. Its weights can be taken over with train(..., initial_weights=its state_path)"
            )
        names = [each.name for each in fields(cls) if each.name not in _OF_FOLDER]
        known: dict[str, Any] = {name: record[name] for name in names if name in record}
        wrong = [name for name, value in known.items() if not _fits(name, value)]
        if not wrong and known["name"] != checkpoint_name(known["step"]):
            wrong = ["name", "step"]
        if wrong:
            told = ", ".join(f"{name}={known[name]!r}" for name in wrong)
            raise CheckpointError(f"{place}: {told} is not what a checkpoint's line holds; {RESTORE}")
        return cls(**known)


_OF_FOLDER: Final = ("own", "trusted")
_POSITION: Final = ("step", "epoch", "batch", "total_steps")
_OBJECTS: Final = ("identity", "callbacks", "requests", "usage")


def _fits(name: str, value: object) -> bool:
    if name in _POSITION:
        return type(value) is int and value >= 0
    if name == "dropped_rows":
        return is_dropped(value)
    if name in _OBJECTS:
        return isinstance(value, dict)
    return isinstance(value, bool) if name == "final" else isinstance(value, str)


def is_dropped(value: object) -> TypeGuard[dict[str, int]]:
    """Whether *value* maps row numbers, as text, to the number of examples of each row."""
    if not isinstance(value, dict):
        return False
    items = cast("dict[object, object]", value).items()
    return all(
        isinstance(row, str) and row.isascii() and row.isdigit() and type(count) is int and count >= 0
        for row, count in items
    )


def check_identity(record: CheckpointRecord, now: Mapping[str, JSON]) -> None:
    """Refuse to resume from *record* if this run would make different updates.

    Args:
        record: The checkpoint.
        now: The identity of the run that wants to go on.

    Raises:
        ResumeMismatchError: Something that decides the updates is not what it was; the message lists all of it.
    """
    # Earlier versions stored no fingerprint of the base model's weights; `Start.checked` warns of that.
    compared = {name: value for name, value in now.items() if name != WEIGHTS or WEIGHTS in record.identity}
    differences = [
        line
        for name, (before, after) in changed(record.identity, compared).items()
        for line in _differences(name, before, after)
    ]
    if differences:
        listed = "\n".join(f"  {line}" for line in differences)
        raise ResumeMismatchError(
            f"cannot go on from the checkpoint of step {record.step}, as these have changed since it was saved:\n"
            f"{listed}\nPut them back as they were, or start anew in another output_dir. "
            f"Only {', '.join(sorted(NO_BEARING - {'output_dir'}))} may change. "
            f"To train its weights on other data, begin a new run: train(..., initial_weights={record.state_path!r})"
        )


def _differences(name: str, before: JSON, after: JSON) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        inner = changed(before, after)
        return [f"{name}.{key}: {was!r} then, {is_now!r} now" for key, (was, is_now) in inner.items()]
    words = {
        "train": "the training data",
        "eval": "the evaluation data",
        "renderer": "the renderer (template, vocabulary or settings)",
        WEIGHTS: "the weights of the base model",
        "initial_weights": "the initial weights",
    }
    if name == "day":
        then_now = f"{before or 'none'} then, {after or 'none'} now"
        return [f"the day in every prompt: {then_now} (renderer=Renderer.for_model(…, today=…) chooses it)"]
    if name in words:
        return [f"{words[name]}: {_short(before)} then, {_short(after)} now"]
    return [f"{name}: {before!r} then, {after!r} now"]


def _short(fingerprint: JSON) -> str:
    return "none" if fingerprint is None else f"fingerprint {str(fingerprint)[:12]}…"


def checkpoint_name(step: int) -> str:
    """The engine's name for the checkpoint of *step*, with six digits so that names sort."""
    return f"{step:06d}"
