"""Changes to a machine as a list of steps, each of which can be taken back."""

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
        what: what it does, as a user is told: "write /etc/x".
        do: makes the change.
        undo: takes it back, also when only half of it was done; None for what cannot be taken back, such
            as the removal of files, which therefore comes last.
    """

    what: str
    do: Callable[[], object]
    undo: Callable[[], object] | None


def carry_out(steps: Sequence[Step], say: Callable[[str], object]) -> None:
    """Do the steps in order; when one fails, take back what was done, last first, and raise its error.

    Args:
        steps: what to do.
        say: is told each step before it is done.
    """

    def tell(line: str) -> None:
        with suppress(OSError):  # a terminal that has gone, a full disk: what matters is what is done
            say(line)

    done: list[Step] = []
    try:
        for step in steps:
            tell(step.what)
            if step.undo is None:
                done.clear()
            else:
                done.append(step)
            step.do()
    except BaseException:
        with _undisturbed():
            for step in reversed(done):
                _take_back(step, tell)
        raise


def _take_back(step: Step, tell: Callable[[str], object]) -> None:
    tell(f"taking back: {step.what}")
    try:
        if step.undo:
            step.undo()
    except (FerEdgeError, OSError) as error:  # the others are taken back all the same
        tell(f"could not take back: {step.what}: {error}")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no second Ctrl-C, nor the end of a terminal, leave half of it undone."""
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
    """Make a folder, unless it is there."""
    if path.is_dir():
        return []

    def undo() -> None:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()

    return [Step(f"make {path}", lambda: path.mkdir(mode, parents=True), undo)]


def file_step(path: Path, content: bytes, mode: int = 0o644) -> list[Step]:
    """Write a file, unless it is there with that content."""
    if path.is_file() and path.read_bytes() == content:
        return []
    return [Step(f"write {path}", lambda: write_file(path, content, mode), restoration(path))]


def restoration(path: Path) -> Callable[[], None]:
    """What makes a file again what it is now, its owner and permissions included; also when there is none."""
    if not path.is_file():
        return lambda: path.unlink(missing_ok=True)
    content, status = path.read_bytes(), path.stat()

    def restore() -> None:
        with replacing(path) as temporary:
            temporary.chmod(0o600)
            temporary.write_bytes(content)
            os.chown(temporary, status.st_uid, status.st_gid)
            temporary.chmod(stat.S_IMODE(status.st_mode))

    return restore


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole, and never with more permissions than ``mode``."""
    with replacing(path) as temporary:
        temporary.chmod(mode)
        temporary.write_bytes(content)


def link_step(link: Path, target: Path) -> list[Step]:
    """Have a symbolic link lead somewhere, in one move; ``target`` is absolute or relative to the link's folder."""
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
    """Remove a symbolic link; as it holds nothing, this can be taken back."""
    before = link.readlink()
    return Step(f"remove {link}", link.unlink, lambda: _point(link, before))


def _point(link: Path, target: Path) -> None:
    temporary = link.with_name(f".{link.name}-new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def removal_step(path: Path) -> list[Step]:
    """Remove a file, a link or a whole folder, if it is there; this cannot be taken back."""
    if not path.exists() and not path.is_symlink():
        return []
    if path.is_dir() and not path.is_symlink():
        return [Step(f"remove {path}", lambda: shutil.rmtree(path), None)]
    return [Step(f"remove {path}", path.unlink, None)]
