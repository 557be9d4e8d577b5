"""What reviewers decided, each in a log of their own that only grows."""

from __future__ import annotations

import fcntl
import os
import re
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self

import msgspec

from fer_edge.errors import DataError, FerEdgeError, InputError, first_line, one_line, printable
from fer_edge.review.choices import NO_EMOTION, emotion_problem
from fer_edge.utils.bounded_file import TextLines, open_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SUFFIX: Final = ".jsonl"
_NAME: Final = re.compile(r"[^\W_][\w .@+-]{0,59}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MAX_REVIEWERS: Final = 100


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a log.

    Attributes:
        time: when, in UTC, such as ``2026-11-30T12:00:00Z``.
        labels: the answer for each face, by hash; None takes an earlier one back.
        undo: whether it takes back the last decision that is not taken back yet; `labels` are those before that.
    """

    time: str
    labels: dict[str, str | None]
    undo: bool = False


class Answer(NamedTuple):
    """What a reviewer says of a face.

    Attributes:
        label: an emotion, ``cannot tell`` or ``not a face``.
        time: when.
    """

    label: str
    time: str


class Decisions:
    """The decisions of a reviewer.

    Attributes:
        reviewer: the name.
        answers: the last answer for each face, by hash.
        faults: how many lines cannot be used.
    """

    def __init__(self, reviewer: str) -> None:
        """Start without decisions."""
        self.reviewer = reviewer
        self.answers: dict[str, Answer] = {}
        self.faults = 0
        self._undoable: list[dict[str, str | None]] = []  # the labels before each decision

    def add(self, decision: Decision) -> None:
        """Add the next decision."""
        before = self.labels_of(decision.labels)
        for sha256, label in decision.labels.items():
            if label is None:
                self.answers.pop(sha256, None)
            else:
                self.answers[sha256] = Answer(label, decision.time)
        if not decision.undo:
            self._undoable.append(before)
        elif self._undoable:
            self._undoable.pop()

    def labels_of(self, faces: Mapping[str, object]) -> dict[str, str | None]:
        """Return the label of each of some faces; None for one without."""
        return {sha256: self.answers[sha256].label if sha256 in self.answers else None for sha256 in faces}

    @property
    def last_undoable(self) -> dict[str, str | None] | None:
        """The labels before the last decision; None if there is nothing to undo."""
        return self._undoable[-1] if self._undoable else None


class DecisionLog:
    """The log of the reviewer who is at work. What `record` has written survives a crash and a power cut."""

    def __init__(self, folder: Path, reviewer: str) -> None:
        """Open a log, and make it if there is none.

        Args:
            folder: the folder of all logs.
            reviewer: whose log.

        Raises:
            InputError: the name cannot be that of a file, the log cannot be written, or another process writes it.
            DataError: it cannot be read.
        """
        self._path = log_path(folder, reviewer)
        try:
            folder.mkdir(exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written ({error.strerror}); change its permissions") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.decisions = read_log(self._path)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":  # a power cut in the middle of a line
                os.write(self._file, b"\n")
            os.fsync(self._file)
            _sync_folder(folder)
            _sync_folder(folder.parent)
        except BlockingIOError:
            os.close(self._file)
            raise InputError(
                f"{self._path}: another `fer-edge review` is writing it; end that one, or give another --reviewer"
            ) from None
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        """Return the log."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Close the file."""
        self.close()

    def record(self, labels: dict[str, str | None], *, undo: bool = False) -> None:
        """Write a decision, and return when it is on disk.

        Args:
            labels: see `Decision`.
            undo: see `Decision`.

        Raises:
            FerEdgeError: it cannot be written; then the log is as before.
        """
        decision = Decision(time=utc_now(), labels=labels, undo=undo)
        line = msgspec.json.encode(decision) + b"\n"
        size = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, size)
            raise FerEdgeError(f"{self._path}: cannot be written ({error.strerror}); make room") from error
        self.decisions.add(decision)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def check_reviewer(name: str) -> str:
    """Return the name of a reviewer.

    Raises:
        InputError: it cannot be the name of a file.
    """
    if not _NAME.fullmatch(name) or name.endswith((".", " ")):
        raise InputError(
            f"--reviewer {printable(name)[:80]!r}: give 1 to 60 letters, digits, spaces, or any of . _ @ + -"
        )
    return name


def log_path(folder: Path, reviewer: str) -> Path:
    """Return the log of a reviewer in the folder of all logs."""
    return folder / f"{check_reviewer(reviewer)}{_SUFFIX}"


def list_logs(folder: Path) -> list[Path]:
    """Return the logs in a folder, in the order of their names; there need not be such a folder.

    Raises:
        DataError: there are too many.
    """
    if not folder.is_dir():
        return []
    logs = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix == _SUFFIX and _NAME.fullmatch(path.stem) and path.is_file() and not path.is_symlink()
    ]
    if len(logs) > _MAX_REVIEWERS:
        raise DataError(f"{folder}: more than {_MAX_REVIEWERS} reviewers; keep the logs of those who count")
    return logs


def read_log(path: Path) -> Decisions:
    """Read the log of a reviewer; lines that cannot be used are counted and left out.

    Raises:
        DataError: the log cannot be read.
    """
    decisions = Decisions(path.stem)
    decoder = msgspec.json.Decoder(Decision)
    with open_regular(path) as file:
        lines = _open_lines(file, path)
        try:
            for line in lines:
                lines.row_bytes = 0
                try:
                    decision = decoder.decode(line.encode("utf-8", "surrogateescape"))
                except (msgspec.DecodeError, RecursionError):
                    decision = None
                if decision and _is_sound(decision):
                    decisions.add(decision)
                elif line.strip():
                    decisions.faults += 1
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({first_line(error)})") from error
        finally:
            lines.close()
    return decisions


def utc_now() -> str:
    """Return the time in UTC, to the second."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _open_lines(file: IO[bytes], path: Path) -> TextLines:
    return TextLines(file, str(path), "surrogateescape")


def _is_sound(decision: Decision) -> bool:
    """Return whether a decision holds what a page can have written; logs are copied from others."""
    return (
        len(decision.time) <= 40
        and one_line(decision.time) == decision.time
        and all(map(_SHA256.fullmatch, decision.labels))
        and all(
            label is None or label in NO_EMOTION or not emotion_problem(label)
            for label in set(decision.labels.values())
        )
    )


def _sync_folder(folder: Path) -> None:
    """Let the name of a new file survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
