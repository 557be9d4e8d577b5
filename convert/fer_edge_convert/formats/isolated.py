"""Reading models that need TensorFlow in another process, which a damaged or hostile one may crash or hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.errors import FerEdgeError, InputError, ModelError
from fer_edge.utils.limits import (
    CONVERSION_BYTES,
    CONVERSION_BYTES_PER_BYTE,
    CONVERSION_CPU_S,
    CONVERSION_CPU_S_PER_MB,
    TRIAL_BYTES,
    TRIAL_CPU_S,
    TRIAL_S,
)
from fer_edge.utils.words import megabytes
from fer_edge_convert.formats.heads import Heads, list_heads
from fer_edge_convert.formats.process import Answer, Limits, Request
from fer_edge_convert.formats.request import ReadOptions

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge_convert.formats.forms import Form

_CHECKED: Final[dict[str, Form]] = {".keras": "keras", ".h5": "hdf5", ".hdf5": "hdf5"}
_COMMAND: Final = "import sys; sys.path[:] = sys.argv[1:]; from fer_edge_convert.formats.process import main; main()"
_ADVICE: Final = "it is damaged, or made to do harm: save or copy the model again"


class _ReaderError(Exception):
    """The traceback of the other process, which ``--debug`` shows."""


def read_isolated(path: Path, form: Form, options: ReadOptions) -> tuple[str, bytes]:
    """Read a model in another process.

    Args:
        path: the file, or the folder of a SavedModel.
        form: its format.
        options: what the user says about it.

    Returns:
        What it is, for people, and a float ``.tflite``.

    Raises:
        ModelError: it is damaged, cannot be converted, crashes what reads it, or takes too much time or memory.
        InputError: the size is needed and not given.
        FerEdgeError: the other process does not work.
    """
    return _read(_request(path, form, options))


def check_isolated(path: Path) -> None:
    """Read all parts of a ``.keras`` or HDF5 file in another process before Keras reads it in this one.

    Args:
        path: the file; one of another kind is not read.

    Raises:
        ModelError: it is damaged, has code in it, crashes what reads it, or takes too much time or memory.
        FerEdgeError: the other process does not work.
    """
    if form := _CHECKED.get(path.suffix):
        _read(_request(path, form, ReadOptions(), check_only=True))


def find_heads(path: Path, form: Form, options: ReadOptions) -> Heads:
    """Return the outputs of a model that its description tells without TensorFlow, in another process if it needs one.

    Raises:
        ModelError: it is damaged, crashes what reads it, or takes too much time or memory.
        FerEdgeError: the other process does not work.
    """
    if form in {"saved_model", "exported"}:
        return {}
    if form == "tflite":
        return list_heads(path, form, options)
    return msgspec.json.decode(_read(_request(path, form, options, check_only=True))[1], type=Heads)


def run_original(
    path: Path, form: Form, options: ReadOptions, images: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Run an ONNX file by ONNX Runtime, or an exported program by PyTorch, in another process.

    Args:
        path: the file.
        form: its format.
        options: what the user says about it.
        images: what it takes, of shape (n, height, width, channels), whatever its own order is.

    Returns:
        Its outputs, of shape (n, values).

    Raises:
        ModelError: it is damaged, crashes what reads it, or takes too much time or memory.
        FerEdgeError: the other process does not work.
    """
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, images)
        file.flush()
        _, scores = _read(_request(path, form, options, images=file.name))
    return np.frombuffer(scores, "<f4").reshape(len(images), -1)


def _request(path: Path, form: Form, options: ReadOptions, *, check_only: bool = False, images: str = "") -> Request:
    length = path.stat().st_size if path.is_file() else 0
    return Request(
        path=str(path),
        form=form,
        options=options,
        check_only=check_only,
        images=images,
        check=Limits(TRIAL_BYTES + 3 * length, TRIAL_CPU_S + length // 10**7),
        conversion=Limits(
            CONVERSION_BYTES + CONVERSION_BYTES_PER_BYTE * length,
            CONVERSION_CPU_S + CONVERSION_CPU_S_PER_MB * length // 10**6,
        ),
    )


def _read(request: Request) -> tuple[str, bytes]:
    path = request.path
    limits = request.check if request.check_only else request.conversion
    timeout = TRIAL_S + 2 * limits.cpu_s
    try:
        status, output = run_reader(msgspec.json.encode(request), timeout)
    except subprocess.TimeoutExpired:
        raise ModelError(f"{path}: takes longer than {timeout:g} s to read; {_ADVICE}") from None
    except (OSError, MemoryError) as error:
        raise FerEdgeError(f"{path}: cannot be read in a process of its own ({error}); make room in memory") from error
    head, _, model = output.partition(b"\n")
    if status == -signal.SIGXCPU:
        raise ModelError(f"{path}: takes too much processor time to read; {_ADVICE}")
    if status or not head:
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        memory = megabytes(limits.memory)
        raise ModelError(f"{path}: crashes what reads it ({name}, with {memory} of memory to use); {_ADVICE}")
    answer = msgspec.json.decode(head, type=Answer)
    if answer.error:
        error_class = ModelError if answer.is_model_error else InputError
        raise error_class(answer.error) from _ReaderError(answer.cause)
    return answer.kind, model


def run_reader(request: bytes, timeout: float) -> tuple[int, bytes]:
    """Run the other process, and return its exit status and output."""
    # Each thread of TensorFlow would reserve memory of its own, which counts where memory is limited. Only with
    # TensorFlow can Keras's models be converted, whatever they were trained with.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "MALLOC_ARENA_MAX": "1", **os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _COMMAND, *sys.path],
        input=request,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=timeout,
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout
