"""Run folder: settings, one row per step, one line per checkpoint, and the result of a run.

Files are shaped as the cookbook's, so that tools that open its runs open ours. What is written whole is written beside
and renamed. What grows is written a line at a time, and a last line without its end is not read. Rows may lag behind on
the disk, but never behind a checkpoint: a machine that loses power loses nothing that a resume does not make again.

A line of `checkpoints.jsonl` carries a digest over itself and the lines before it, and one over the rows up to its
step, so that no damage of either file is believed. Paths in the folder are written relative to it: a folder that was
moved or copied finds its own checkpoints.

A run deletes what it has saved itself, and nothing else. In its own folder it knows that from `.owner`, whose inode and
time of change no copy shares; of a copy it knows the same of what lies inside the copy.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final

from attrs import evolve

from glowgenius._files import (
    append as _append,
)
from glowgenius._files import (
    inside,
    json_line,
    parse_object,
    read_object,
    refuse_links,
    regular,
    whole_lines,
    write_whole,
)
from glowgenius.errors import CheckpointError, ConfigError, TrainingError
from glowgenius.training.checkpoints import RESTORE, CheckpointRecord
from glowgenius.training.history import Row, row_from_json, row_to_json

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from glowgenius.typing import JSON

CONFIG, METRICS, CHECKPOINTS, RESULT = "config.json", "metrics.jsonl", "checkpoints.jsonl", "result.json"
"""The files that the trainer writes."""

PREVIEW: Final = "preview.json"
"""The first rows with their masks, for the page of the run."""

TRAINED: Final = "trained.json"
"""What was trained, as hashes, so that an evaluation can tell which of its questions were."""

HELD_OUT: Final = "held_out.jsonl"
"""The rows whose loss was measured, which are what the run is asked afterwards."""

COMPARISON: Final = "comparison.json"
"""What base and tuned were asked afterwards, and answered."""

REPORT: Final = "report.html"
"""The page of the run."""

STORE: Final = "checkpoints"
"""The folder in which the local engine keeps what is saved."""

MADE_AGAIN: Final = "restore the file from a copy; train(..., resume_from_checkpoint=True) writes it again, too"
"""What to do about a damaged file that a run writes anew whenever it is resumed."""

OWNER: Final = ".owner"
"""Says which folder this is: written once, so that no copy of it has the same inode and time of change."""

_SAVED: Final = re.compile(r"\d{6}|\.\d{6}-.*")
"""How a checkpoint of a run is called, and what a killed process has left of one."""

_STEP: Final = ("epoch", "train/loss", "learning_rate", "tokens/trained", "tokens/input")
"""What every row behind an update has."""


@final
class RunFolder:
    """Reads and writes the files of one run.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """The folder."""
        self._settings: dict[str, JSON] = {}
        self._last = ""

    def exists(self) -> bool:
        """Whether the folder contains a run's files."""
        return (self.path / CONFIG).exists() or self.holds_run()

    def is_run(self) -> bool:
        """Whether `config.json` belongs to a run; a model's settings have the same file name."""
        file = self.path / CONFIG
        return file.is_file() and (self.holds_run() or b'"model_name"' in file.read_bytes())

    def holds_run(self) -> bool:
        """Whether the folder contains run data that could be lost."""
        files = [self.path / METRICS, self.path / CHECKPOINTS]
        return any(file.exists() and file.stat().st_size for file in files)

    def refuse_if_taken(self) -> None:
        """Refuse a folder that contains another run.

        Raises:
            ConfigError: A run has left rows or checkpoints here.
        """
        if not self.holds_run():
            return
        rows = len(self._lines(METRICS))
        ended = "finished" if any(b'"final": true' in line for line in self._lines(CHECKPOINTS)) else "not finished"
        raise ConfigError(
            f"output_dir={str(self.path)!r} holds a run already ({rows} rows of metrics, {ended}). "
            "Go on with it: train(..., resume_from_checkpoint=True). Start anew: choose another output_dir, "
            "or delete the folder"
        )

    # --- writing ---

    def begin(
        self,
        settings: Mapping[str, JSON],
        rows: Iterable[Row] = (),
        records: Iterable[CheckpointRecord] = (),
        *,
        store: Path | None = None,
        keep: Iterable[CheckpointRecord] = (),
    ) -> None:
        """Write the settings, and exactly the rows and checkpoints the run starts with.

        Killed anywhere in between, the folder can be resumed, or begun anew where there was no checkpoint.

        Args:
            settings: What `config.json` says.
            rows: The rows.
            records: The checkpoints.
            store: Where the engine keeps what this run is going to save, if that is on this machine.
            keep: Checkpoints that are not among *records* and whose files are not to be removed all the same.
        """
        records = tuple(records)
        stores = self._stores()
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            self._sweep()
            (self.path / RESULT).unlink(missing_ok=True)
            if self.mark is None:
                write_whole(self.path / OWNER, f"{secrets.token_hex(16)}\n")
            self._settings = {**settings, "stores": list(stores)}
            self.add_store(store)
            self.rewind(rows, records)
            self._remove_orphans(stores, [path for record in (*records, *keep) for path in record.paths])

    def add_store(self, store: Path | None) -> None:
        """Record where a new client stores its checkpoints, and write the settings."""
        inner = None if store is None else self._relative(str(store))
        known = self._settings["stores"]
        if inner is not None and isinstance(known, list) and inner not in known:
            known.append(inner)
        self._write(CONFIG, self._settings)

    def rewind(self, rows: Iterable[Row], records: Iterable[CheckpointRecord]) -> None:
        """Replace the rows and checkpoints by exactly these."""
        # In this order, a kill between the two writes leaves the last checkpoint with all of its rows.
        self.keep_checkpoints(records)
        with self._writing():
            write_whole(self.path / METRICS, "".join(json_line(row_to_json(row)) for row in rows))

    def keep_checkpoints(self, records: Iterable[CheckpointRecord]) -> None:
        """Replace the checkpoints by exactly these; the rows stay."""
        lines, before = list[str](), ""
        for record in records:
            line, before = self._line_of(record, before)
            lines.append(line)
        with self._writing():
            write_whole(self.path / CHECKPOINTS, "".join(lines))
        self._last = before

    def keep_preview(self, preview: Mapping[str, JSON]) -> None:
        """Write the preview: the first rows with their masks."""
        self._write(PREVIEW, preview, indent=None)

    def add_row(self, row: Row) -> None:
        """Append the row of a step."""
        with self._writing():
            _append(self.path / METRICS, json_line(row_to_json(row)), synced=False)

    def add_checkpoint(self, record: CheckpointRecord) -> None:
        """Append a checkpoint, after the rows up to its step are on disk."""
        line, digest = self._line_of(record, self._last)
        with self._writing():
            _append(self.path / METRICS, "", synced=True)
            _append(self.path / CHECKPOINTS, line, synced=True)
        self._last = digest

    def end(self, result: Mapping[str, JSON]) -> None:
        """Write the result; paths inside the folder become relative."""
        told = {name: self._written(value) if name.endswith("_path") else value for name, value in result.items()}
        self._write(RESULT, told)

    def _write(self, name: str, values: Mapping[str, JSON], *, indent: int | None = 2) -> None:
        """Write a JSON file with a digest that reveals damage."""
        with self._writing():
            write_whole(self.path / name, json_line({**values, "sha256": _digest(values, "")}, indent=indent))

    def _line_of(self, record: CheckpointRecord, before: str) -> tuple[str, str]:
        """The line of *record* chained to the digest *before*, and its own digest."""
        values = record.to_json() | {"folder": self.mark, "own": record.own}
        values |= {name: self._written(values[name]) for name in ("state_path", "sampler_path") if name in values}
        digest = _digest(values, before)
        return json_line({**values, "sha256": digest}), digest

    @contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"the run folder {str(self.path)!r} cannot be written: {error.strerror or error}. What was recorded "
                "before is kept: see to that, and go on with resume_from_checkpoint=True"
            ) from error

    def _sweep(self) -> None:
        """Remove temporary files of a killed process."""
        for name in (CONFIG, METRICS, CHECKPOINTS, RESULT, PREVIEW, REPORT, OWNER, ".holder.json"):
            for left in self.path.glob(f".{name}-*"):
                left.unlink(missing_ok=True)

    # --- ownership ---

    @property
    def mark(self) -> str | None:
        """Identity of this folder on its disk; a copy has another one. None before it was written."""
        file = self.path / OWNER
        try:
            token, found = regular(file, self.path).read_bytes(), file.stat()
        except (OSError, CheckpointError):
            return None
        if re.fullmatch(rb"[0-9a-f]{32}\n", token) is None:
            return None
        return f"{token[:-1].decode()}-{found.st_dev:x}-{found.st_ino:x}-{found.st_ctime_ns:x}"

    def _stores(self) -> tuple[str, ...]:
        """Folders inside this one where the run's clients stored checkpoints, as listed in `config.json`."""
        try:
            found: object = self.settings().get("stores")
        except (FileNotFoundError, CheckpointError):
            return ()
        named = cast("list[object]", found) if isinstance(found, list) else []
        return tuple(store for store in named if isinstance(store, str) and self._holds(store))

    def _holds(self, relative: str) -> bool:
        """Whether a relative path stays inside this folder, links resolved."""
        parts = Path(relative).parts
        if not parts or Path(relative).is_absolute() or ".." in parts:
            return False
        with suppress(CheckpointError):
            return inside(self.path / relative, self.path).is_dir()
        return False

    def _remove_orphans(self, stores: Iterable[str], keep: Iterable[str]) -> None:
        """Remove saved checkpoints without a record, left by a kill between save and record."""
        kept = {Path(path).resolve() for path in keep if "://" not in path}
        for store in stores:
            for kind in _folders_in(self.path / store):
                for saved in _folders_in(kind):
                    if _SAVED.fullmatch(saved.name) and saved.resolve() not in kept:
                        shutil.rmtree(saved, ignore_errors=True)
                with suppress(OSError):
                    kind.rmdir()  # only if it is empty
            with suppress(OSError):
                (self.path / store).rmdir()

    def _relative(self, path: str) -> str | None:
        """*path* relative to the folder; None if it is an address or outside."""
        if "://" in path:
            return None
        root, found = self.path.resolve(), Path(path)
        return found.relative_to(root).as_posix() if found.is_relative_to(root) else None

    def _written(self, path: JSON) -> JSON:
        inner = self._relative(path) if isinstance(path, str) else None
        return path if inner is None else inner

    def located(self, path: str) -> str:
        """Current location of a recorded path: in this folder, if the folder was moved with the checkpoint.

        A path that was written in full, by an earlier version or because the engine keeps its files elsewhere, is
        looked for in the folder first: the original may be there still, and may be another's by now.
        """
        if "://" in path:
            return path
        root, named = self.path.resolve(), Path(path)
        if not named.is_absolute():
            return str(root / named)
        if named.is_relative_to(root):
            return path
        places = [place for place, part in enumerate(named.parts) if part == STORE]
        moved = [root.joinpath(*named.parts[place:]) for place in reversed(places)]
        return next((str(each) for each in moved if each.is_dir()), path)

    def checked(self, record: CheckpointRecord, path: str, *, outside: bool = False) -> str:
        """*path* of *record*, verified before anything is read from it.

        Args:
            record: A checkpoint of this folder.
            path: Its state or its weights.
            outside: Whether a copy of a run may name checkpoints outside of its folder, as for a resume, which has the
                same data, model and settings; and not where the weights of somebody's folder are to be opened.

        Raises:
            CheckpointError: It leads out of the folder and was not written here, it is gone, or something in it is a
                link that leads out of the folder.
        """
        if "://" in path:
            return path
        found = Path(path)
        inner = found.is_relative_to(self.path.resolve())
        if not (inner or record.trusted or outside):
            raise CheckpointError(
                f"the run in {str(self.path)!r} names weights of step {record.step} outside of its folder, at "
                f"{path!r}, and was not written here: they are not opened. If they are meant, open them by their own "
                "path, or put them into the folder"
            )
        if not found.is_dir():
            raise CheckpointError(f"the weights of step {record.step} are gone from {path!r}")
        refuse_links(found, self.path if inner else found)
        return path

    # --- reading ---

    def settings(self) -> dict[str, Any]:
        """Contents of `config.json`.

        Raises:
            FileNotFoundError: There is none.
            CheckpointError: It is damaged.
        """
        return self._read(CONFIG)

    def result(self) -> dict[str, Any]:
        """Contents of `result.json`; empty before the run has ended.

        Raises:
            CheckpointError: It is damaged.
        """
        try:
            return self._read(RESULT)
        except FileNotFoundError:
            return {}

    def preview(self) -> dict[str, Any] | None:
        """The first rows with their masks; None if there are none.

        Raises:
            CheckpointError: The file is damaged.
        """
        try:
            return self._read(PREVIEW)
        except FileNotFoundError:
            return None

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        values = read_object(path, within=self.path, remedy=MADE_AGAIN)
        digest = values.pop("sha256", None)
        if digest is not None and digest != _digest(values, ""):
            raise CheckpointError(f"{path}: not as it was written, as its digest is another; {MADE_AGAIN}")
        return values

    def rows(self) -> list[Row]:
        """The rows of `metrics.jsonl`.

        Raises:
            CheckpointError: The file is damaged, or a checkpoint was saved with other rows than it has.
        """
        records = self.checkpoints()
        rows = self.sound_rows()[0]
        lines = self._lines(METRICS)
        if len(rows) < len(lines):
            self._row(lines[len(rows)], rows, len(rows) + 1)
        for record in records[-1:]:
            self.check_rows(record, rows)
        return rows

    def sound_rows(self) -> tuple[list[Row], str]:
        """The rows before the first damaged one, and what is wrong with it; empty text if nothing is."""
        rows = list[Row]()
        for number, line in enumerate(self._lines(METRICS), 1):
            try:
                rows.append(self._row(line, rows, number))
            except CheckpointError as error:
                return rows, str(error)
        return rows, ""

    def check_rows(self, record: CheckpointRecord, rows: Iterable[Row]) -> None:
        """Check that the rows up to the step of *record* are those it was saved with.

        Raises:
            CheckpointError: They are not.
        """
        before = [row for row in rows if row["step"] <= record.step]
        whole = bool(before) and before[-1]["step"] == record.step
        if not whole or record.rows_sha256 not in {None, rows_digest(before).hexdigest()}:
            raise CheckpointError(
                f"{self.path / METRICS}: the rows up to step {record.step} are not those that were recorded when its "
                f"checkpoint was saved; {RESTORE}"
            )

    def checkpoints(self) -> list[CheckpointRecord]:
        """Records of `checkpoints.jsonl`, with current paths.

        Raises:
            CheckpointError: A line is damaged, was changed since it was written, or is missing.
        """
        mark, stores = self.mark, self._stores()
        records, before = list[CheckpointRecord](), ""
        for number, line in enumerate(self._lines(CHECKPOINTS), 1):
            place = f"{self.path / CHECKPOINTS}:{number}"
            values = self._object(line, place)
            digest = values.pop("sha256", None)
            record = CheckpointRecord.from_json(values, place)
            if digest is not None and digest != _digest(values, before):
                raise CheckpointError(
                    f"{place}: the line is not as it was written, or one before it is missing: its digest is another; "
                    f"{RESTORE}"
                )
            if records and record.step <= records[-1].step:
                raise CheckpointError(f"{place}: step {record.step} stands behind step {records[-1].step}; {RESTORE}")
            before = digest or ""
            records.append(self._opened(record, values, mark, stores))
        return records

    def _opened(
        self, record: CheckpointRecord, values: Mapping[str, Any], mark: str | None, stores: tuple[str, ...]
    ) -> CheckpointRecord:
        """*record* with current paths, and whether its checkpoints belong to this run."""
        paths: dict[str, Any] = {
            name: self.located(path)
            for name, path in (("state_path", record.state_path), ("sampler_path", record.sampler_path))
            if path is not None
        }
        here = mark is not None and values.get("folder") == mark
        inner = [self._relative(path) for path in paths.values()]
        mine = all(each is not None and any(Path(each).is_relative_to(store) for store in stores) for each in inner)
        own = bool(values.get("own")) and (here or (mine and all(self._holds(each) for each in inner if each)))
        return evolve(record, **paths, own=own, trusted=here)

    def _row(self, line: bytes, before: list[Row], number: int) -> Row:
        place = f"{self.path / METRICS}:{number}"
        values = self._object(line, place)
        numbers = all(value is None or _is_number(value) for value in values.values())
        step = values.get("step")
        follows = before[-1]["step"] + 1 if before else (0 if step == 0 else 1)
        if not numbers or type(step) is not int or step != follows or (step and not set(_STEP) <= set(values)):
            raise CheckpointError(f"{place}: not the row of step {follows:g}; {RESTORE}")
        return row_from_json(values)

    def _object(self, line: bytes, place: str) -> dict[str, Any]:
        try:
            return parse_object(line)
        except ValueError as error:
            raise CheckpointError(f"{place}: not a line of JSON: {error}; {RESTORE}") from error

    def _lines(self, name: str) -> list[bytes]:
        path = self.path / name
        try:
            return whole_lines(regular(path, self.path)) if path.exists() else []
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def _folders_in(folder: Path) -> list[Path]:
    """Subfolders of *folder*, links excluded."""
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())


def rows_digest(rows: Iterable[Row]) -> Any:
    """SHA-256 over the rows in their `metrics.jsonl` form; `add_row` extends it."""
    digest = hashlib.sha256()
    for row in rows:
        add_row(digest, row)
    return digest


def add_row(digest: Any, row: Row) -> None:
    """Update *digest* with one more row."""
    digest.update(json_line(row_to_json(row)).encode())


def _digest(values: Mapping[str, JSON], before: str) -> str:
    """SHA-256 over the content of a line and the digest of the previous line."""
    content = json.dumps(json.loads(json.dumps(values)), sort_keys=True)
    return hashlib.sha256(f"{before}\n{content}".encode()).hexdigest()


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)  # JSON text may contain 1e999
    return type(value) is int and abs(value) < 2**63
