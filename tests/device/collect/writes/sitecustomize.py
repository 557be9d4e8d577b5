"""Python imports this module at its start: append every path that is created, changed or deleted to a file."""

from __future__ import annotations

import os
import sys

_CHANGES = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.utime": (0,),
    "sqlite3.connect": (0,),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_RECORD = os.open(os.environ["RECORD_WRITES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open":
        path, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else False
        if not isinstance(path, int) and (writes or int(str(flags or 0)) & _WRITING):
            _note(path)
    for index in _CHANGES.get(event, ()):
        _note(arguments[index])


def _note(path: object) -> None:
    if isinstance(path, str | bytes | os.PathLike):
        os.write(_RECORD, os.fsencode(os.path.abspath(path)) + b"\n")  # noqa: PTH100 - pathlib may not be loaded yet


sys.addaudithook(_hook)
