"""Run the compiler of an accelerator on the files that were written for it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from fer_edge.errors import FerEdgeError
from fer_edge.utils.atomic_file import ensure_writable

if TYPE_CHECKING:
    from fer_edge_convert.targets import TargetFiles

_SHOWN: Final = 300  # letters of a compiler's last line that an error shows
_TAIL: Final = 8192  # bytes of a compiler's output that are read


def compile_files(files: TargetFiles) -> Path | None:
    """Compile, if the compiler is on ``PATH``.

    Args:
        files: what was written for the target.

    Returns:
        The compiled file; None if the compiler is not there.

    Raises:
        FerEdgeError: the compiler fails, or does not write what it should. No compiled file is written or replaced.
    """
    if not shutil.which(files.target.compiler):
        return None
    log = files.tflite.with_suffix(f".{files.target}.log")
    with (
        tempfile.TemporaryDirectory(dir=files.tflite.parent, prefix=f".{files.tflite.stem}-") as folder,
        log.open("wb") as output,
    ):
        # In a folder of its own, so that a compiler that fails halfway leaves nothing behind.
        work = replace(files, tflite=Path(folder).resolve() / files.tflite.name)
        for path, copy in (
            (files.tflite, work.tflite),
            (files.calibration, work.calibration),
            (files.script, work.script),
        ):
            if path.exists():
                copy.symlink_to(path.resolve())
        for command in work.commands():
            _run(command, folder, output, log)
        made = next(Path(folder).rglob(work.compiled_pattern), None)
        if made is None:
            raise FerEdgeError(
                f"{shutil.which(files.target.compiler)}: ended without an error, but wrote no {files.compiled_pattern};"
                f" is it the compiler for {files.target}? Its output is in {log}"
            )
        ensure_writable(files.compiled)
        made.replace(files.compiled)
    log.unlink()
    return files.compiled


def _run(command: list[str], folder: str, output: BinaryIO, log: Path) -> None:
    """Run a command in a folder, where it leaves its files, and write its output to a log."""
    begin = output.tell()
    try:
        status = subprocess.run(  # noqa: S603 - the target's own command
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode
    except OSError as error:
        raise FerEdgeError(f"{command[0]}: cannot be run ({error.strerror}); install it again") from error
    if status:
        output.flush()
        with log.open("rb") as file:
            file.seek(max(begin, file.seek(0, 2) - _TAIL))
            lines = file.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        raise FerEdgeError(
            f"{' '.join(command[:2])}: failed with {how}, and said: {said[:_SHOWN]}; all of its output is in {log}"
        )
