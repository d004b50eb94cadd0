"""The folder of a run: settings, one row per step, one line per checkpoint, and how it ended.

Files are shaped as the cookbook's, so that tools that open its runs open ours. What is written whole is written beside
and renamed. What grows is written a line at a time, and a last line without its end is not read. Rows may lag behind on
the disk, but never behind a checkpoint: a machine that loses power loses nothing that a resume does not make again.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final

from glowgenius.errors import CheckpointError, ConfigError
from glowgenius.training.checkpoints import CheckpointRecord
from glowgenius.training.history import Row, row_from_json, row_to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from glowgenius.typing import JSON

CONFIG, METRICS, CHECKPOINTS, RESULT = "config.json", "metrics.jsonl", "checkpoints.jsonl", "result.json"
"""The files that the trainer writes."""

PREVIEW: Final = "preview.json"
"""The first rows with their masks, for the page of the run."""

REPORT: Final = "report.html"
"""The page of the run."""

STORE: Final = "checkpoints"
"""The folder in which the local engine keeps what is saved."""


@final
class RunFolder:
    """Reads and writes the files of one run.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """The folder."""

    def exists(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / CONFIG).exists() or self.holds_run()

    def holds_run(self) -> bool:
        """Whether a run has left something here that could be lost."""
        files = [self.path / METRICS, self.path / CHECKPOINTS]
        return any(file.exists() and file.stat().st_size for file in files)

    def refuse_if_taken(self) -> None:
        """Leave the run of someone else, or of yesterday, alone.

        Raises:
            ConfigError: A run has left rows or checkpoints here, or the path is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"output_dir={str(self.path)!r} is a file; give the name of a folder")
        if not self.holds_run():
            return
        lines = [record for _, record in self._records(METRICS)]
        ended = "finished" if any(record.get("final") for _, record in self._records(CHECKPOINTS)) else "not finished"
        raise ConfigError(
            f"output_dir={str(self.path)!r} holds a run already ({len(lines)} rows of metrics, {ended}). "
            "Go on with it: train(..., resume_from_checkpoint=True). Start anew: choose another output_dir, "
            "or delete the folder"
        )

    def begin(
        self, settings: Mapping[str, JSON], rows: Iterable[Row] = (), records: Iterable[CheckpointRecord] = ()
    ) -> None:
        """Write the settings, and exactly the rows and checkpoints that the run starts with."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._sweep()
        write_whole(self.path / CONFIG, json.dumps(settings, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        self.rewind(rows, records)
        (self.path / RESULT).unlink(missing_ok=True)

    def rewind(self, rows: Iterable[Row], records: Iterable[CheckpointRecord]) -> None:
        """Hold exactly these rows and checkpoints."""
        # In this order: killed in between, the last checkpoint still has all of its rows.
        self.keep_checkpoints(records)
        write_whole(self.path / METRICS, "".join(_line(row_to_json(row)) for row in rows))

    def keep_checkpoints(self, records: Iterable[CheckpointRecord]) -> None:
        """Hold exactly these checkpoints; the rows stay."""
        write_whole(self.path / CHECKPOINTS, "".join(_line(record.to_json()) for record in records))

    def _sweep(self) -> None:
        """Remove what a killed process had begun to write beside a file."""
        for name in (CONFIG, METRICS, CHECKPOINTS, RESULT, PREVIEW, REPORT):
            for left in self.path.glob(f".{name}-*"):
                left.unlink(missing_ok=True)

    def keep_preview(self, preview: Mapping[str, JSON]) -> None:
        """Write the first rows with their masks."""
        write_whole(self.path / PREVIEW, json.dumps(preview, ensure_ascii=False, allow_nan=False) + "\n")

    def add_row(self, row: Row) -> None:
        """Append the row of a step."""
        _append(self.path / METRICS, _line(row_to_json(row)), sync=False)

    def add_checkpoint(self, record: CheckpointRecord) -> None:
        """Append a checkpoint, once the rows up to its step are safely there."""
        _append(self.path / METRICS, "", sync=True)
        _append(self.path / CHECKPOINTS, _line(record.to_json()), sync=True)

    def end(self, result: Mapping[str, JSON]) -> None:
        """Write how the run ended."""
        write_whole(self.path / RESULT, json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def rows(self) -> list[Row]:
        """The rows of `metrics.jsonl`."""
        return [row_from_json(record) for _, record in self._records(METRICS)]

    def checkpoints(self) -> list[CheckpointRecord]:
        """The lines of `checkpoints.jsonl`."""
        return [CheckpointRecord.from_json(record, place) for place, record in self._records(CHECKPOINTS)]

    def _records(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        path = self.path / name
        if not path.exists():
            return []
        # A kill in the middle of a write leaves a last line without its line break, perhaps half a letter: it never
        # happened. Only a line break ends a line; text may hold other signs that `splitlines` would divide at.
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        lines = whole.split(b"\n") if whole else []
        records: list[tuple[str, dict[str, Any]]] = []
        for number, line in enumerate(lines, 1):
            place = f"{path}:{number}"
            try:
                records.append((place, cast("dict[str, Any]", json.loads(line))))
            except ValueError as error:
                raise CheckpointError(f"{place}: not a line of JSON: {error}; restore the file from a copy") from error
        return records


def _line(record: Mapping[str, JSON]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write beside, sync, rename: a reader sees the old file or the new one, and never half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp keeps others out, which a run folder need not
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _append(path: Path, line: str, *, sync: bool) -> None:
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(line)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def find_checkpoint(
    resume: str | os.PathLike[str] | bool, output_dir: Path | None
) -> tuple[Path, list[Row], list[CheckpointRecord], list[Row]] | None:
    """What a resumed run starts with.

    Args:
        resume: True for the last checkpoint in *output_dir*; else another run's folder, or the `state_path` of a
            checkpoint of the run in *output_dir*.
        output_dir: The folder of the run.

    Returns:
        The folder, its rows and checkpoints up to the one to go on from, which is the last, and the rows behind it;
        None where the run was ended before its first checkpoint, so that it starts anew.

    Raises:
        ConfigError: There is no folder to look in.
        CheckpointError: There is no run, or no such checkpoint.
    """
    if resume is True and output_dir is None:
        raise ConfigError("resume_from_checkpoint=True looks in output_dir, which is None; name the run's folder there")
    wanted = None if isinstance(resume, bool) else os.fspath(resume)
    if wanted is not None and Path(wanted).is_dir() and RunFolder(Path(wanted)).exists():
        folder, wanted = RunFolder(Path(wanted)), None
    elif output_dir is not None:
        folder = RunFolder(output_dir)
    else:
        raise CheckpointError(f"resume_from_checkpoint={wanted!r} is not the folder of a run, and output_dir is None")
    if not folder.exists():
        raise CheckpointError(f"there is no run in {str(folder.path)!r} to go on with")
    records = folder.checkpoints()
    resumable = [record for record in records if record.state_path is not None]
    if wanted is None and not resumable:
        return None
    chosen = [record for record in resumable if wanted in (None, record.state_path)]
    if not chosen:
        known = ", ".join(str(record.state_path) for record in resumable) or "none"
        raise CheckpointError(
            f"resume_from_checkpoint={wanted!r} is neither the folder of a run nor a checkpoint of the run in "
            f"{str(folder.path)!r}; its checkpoints: {known}"
        )
    step = chosen[-1].step
    earlier = [record for record in records if record.step < step]
    rows = folder.rows()
    kept, lost = ([row for row in rows if (row["step"] <= step) is which] for which in (True, False))
    return folder.path, kept, [*earlier, chosen[-1]], lost
