"""Say what a file is that is not the model its name promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

_READ: Final = 1024
_LFS: Final = b"version https://git-lfs.github.com/spec/"


def refuse_other_file(path: Path) -> None:
    """Refuse a file that stands in the place of a model: a Git LFS pointer, a web page, or nothing.

    Raises:
        ModelError: it is one of these, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(_READ)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if not begin:
        raise ModelError(f"{path}: empty; copy or download the model again")
    if begin.startswith(_LFS):
        raise ModelError(
            f"{path}: a Git LFS pointer, not the model itself; get the model with `git lfs pull` in its repository"
        )
    if begin.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path}: a web page, not a model; download the file itself, on GitHub by its Raw button")
