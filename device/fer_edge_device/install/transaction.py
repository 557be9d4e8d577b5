"""Change a host in steps that can be undone."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fer_edge.errors import FerEdgeError
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One change.

    Attributes:
        description: what it does, for the user: "write /etc/x".
        do: makes the change.
        undo: undoes the change, even if it was made only in part; None if that is impossible, as for the removal of
            files, which therefore comes last.
    """

    description: str
    do: Callable[[], object]
    undo: Callable[[], object] | None


def apply(steps: Sequence[Step], on_progress: Callable[[str], object]) -> None:
    """Do the steps in order. If one fails, undo those that were done, the last one first, and raise its error.

    Args:
        steps: the steps.
        on_progress: called with the description of each step before it is done or undone.
    """

    def report(line: str) -> None:
        with suppress(OSError):  # a closed terminal or a full disk must not stop the steps
            on_progress(line)

    done: list[Step] = []
    try:
        for step in steps:
            report(step.description)
            if step.undo is None:
                done.clear()
            else:
                done.append(step)
            step.do()
    except BaseException:
        with _uninterrupted():
            for step in reversed(done):
                _undo(step, report)
        raise


def _undo(step: Step, report: Callable[[str], object]) -> None:
    report(f"undo: {step.description}")
    try:
        if step.undo:
            step.undo()
    except (FerEdgeError, OSError) as error:  # the other steps are undone all the same
        report(f"could not undo: {step.description}: {error}")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C and the end of the terminal, so that everything is undone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def folder_step(path: Path, mode: int = 0o755) -> list[Step]:
    """Return the step that creates a folder; none if it exists."""
    if path.is_dir():
        return []

    def undo() -> None:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()

    return [Step(f"create {path}", lambda: path.mkdir(mode, parents=True, exist_ok=True), undo)]


def file_step(path: Path, content: bytes, mode: int = 0o644) -> list[Step]:
    """Return the step that writes a file; none if it exists with that content."""
    if path.is_file() and path.read_bytes() == content:
        return []
    return [Step(f"write {path}", lambda: write_file(path, content, mode), restorer(path))]


def restorer(path: Path) -> Callable[[], None]:
    """Return a function that restores the present content, owner and permissions of a file, or its absence."""
    if not path.is_file():
        return lambda: path.unlink(missing_ok=True)
    content, status = path.read_bytes(), path.stat()
    return lambda: rewrite(path, content, status)


def rewrite(path: Path, content: bytes, status: os.stat_result) -> None:
    """Write a whole file that has the owner and the permissions of an earlier one from its beginning."""
    with replacing(path) as temporary:
        temporary.chmod(0o600)
        temporary.write_bytes(content)
        os.chown(temporary, status.st_uid, status.st_gid)
        temporary.chmod(stat.S_IMODE(status.st_mode))


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a whole file that never has more permissions than ``mode``."""
    with replacing(path) as temporary:
        temporary.chmod(mode)
        temporary.write_bytes(content)


def link_step(link: Path, target: Path) -> list[Step]:
    """Return the step that points a symbolic link at a target; none if it does already.

    Args:
        link: the link; it is replaced atomically.
        target: an absolute path, or one relative to the link's folder.
    """
    before = link.readlink() if link.is_symlink() else None
    if before == target:
        return []

    def undo() -> None:
        if before is None:
            link.unlink(missing_ok=True)
        else:
            _point(link, before)

    return [Step(f"point {link} at {target}", lambda: _point(link, target), undo)]


def link_removal_step(link: Path) -> Step:
    """Return the step that removes a symbolic link; it can be undone."""
    before = link.readlink()
    return Step(f"remove {link}", link.unlink, lambda: _point(link, before))


def _point(link: Path, target: Path) -> None:
    temporary = link.with_name(f".{link.name}-new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def removal_step(path: Path) -> list[Step]:
    """Return the step that removes a file, a link or a folder; none if there is nothing. It cannot be undone."""
    if not path.exists() and not path.is_symlink():
        return []
    if path.is_dir() and not path.is_symlink():
        return [Step(f"remove {path}", lambda: shutil.rmtree(path), None)]
    return [Step(f"remove {path}", path.unlink, None)]
