"""The process in which a model that needs TensorFlow is read; see `fer_edge_convert.formats.isolated`.

Standard input has a `Request` in JSON; standard output gets an `Answer`, a line of JSON, and then the ``.tflite``, or
the scores of the original for images, or its outputs.
"""

from __future__ import annotations

import os
import resource
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fer_edge.errors import InputError, ModelError
from fer_edge.tflite.trial import trust_models
from fer_edge.utils.address_space import PROC_IS_MISSING, is_known, own_bytes
from fer_edge_convert.formats.checks import check_hdf5, check_keras_archive, check_saved_model
from fer_edge_convert.formats.forms import Form
from fer_edge_convert.formats.request import ReadOptions
from fer_edge_convert.formats.torch_files import check_exported_program

if TYPE_CHECKING:
    from collections.abc import Callable


class Limits(msgspec.Struct, frozen=True):
    """What a step may take: bytes of memory beyond those in use, and seconds of processor time."""

    memory: int
    cpu_s: int


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to read.

    Attributes:
        path: the file or folder.
        form: its format.
        options: what the user says about it.
        check_only: whether to read the file without TensorFlow, and to give the outputs that its description tells, in
            JSON, instead of a ``.tflite``.
        images: a ``.npy`` file of images that the model is to be run on as it is, instead of being converted; for ONNX
            and PyTorch.
        check: limits of reading the file.
        conversion: limits of loading and converting the model.
    """

    path: str
    form: Form
    options: ReadOptions
    check_only: bool = False
    images: str = ""
    check: Limits
    conversion: Limits


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a `Request`.

    Attributes:
        kind: what the model is, for people; empty if there was an error.
        error: the message.
        is_model_error: whether the error is about the model, not the options.
        cause: the traceback of the error.
    """

    kind: str = ""
    error: str = ""
    is_model_error: bool = True
    cause: str = ""


def main() -> None:
    """Handle the request on standard input, and exit."""
    out = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # TensorFlow writes to both
        os.dup2(null, descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    trust_models()  # which are made here
    out.write(answer(msgspec.json.decode(sys.stdin.buffer.read(), type=Request), limit=True))
    out.flush()
    os._exit(0)  # TensorFlow's own end takes time


def answer(request: Request, *, limit: bool) -> bytes:
    """Read a model, and return the answer and the ``.tflite``.

    Args:
        request: what to read.
        limit: whether to lower the limits of this process.
    """
    try:
        kind, model = _read(request, limit=limit)
        given = Answer(kind=kind)
    except InputError as error:
        model = b""
        given = Answer(
            error=str(error),
            is_model_error=isinstance(error, ModelError),
            cause="".join(traceback.format_exception(error)),
        )
    return msgspec.json.encode(given) + b"\n" + model


def _read(request: Request, *, limit: bool) -> tuple[str, bytes]:
    path = Path(request.path)
    if limit:
        _set_limits(request.check)
    from fer_edge_convert.formats import (  # noqa: PLC0415 - a check needs none
        heads,
        keras_files,
        onnx_file,
        saved_model,
        tensorflow,
        torch_program,
    )

    weights = path
    if request.form == "description":
        weights = keras_files.find_weights(path)
    _check(request, weights)
    if request.check_only:
        return request.form, msgspec.json.encode(heads.list_heads(path, request.form, request.options))
    if limit:
        _lift_limits()
    if request.form == "exported":
        torch_program.load()
    if not request.images:
        tensorflow.load()
    if limit:
        _set_limits(request.conversion)
    if request.images:
        run = torch_program.run_exported_program if request.form == "exported" else onnx_file.run_onnx
        return request.form, run(path, request.options, Path(request.images))
    if request.form == "description":
        return keras_files.read_weights(weights, msgspec.structs.replace(request.options, architecture=str(path)))
    readers = {
        "keras": keras_files.read_keras_archive,
        "hdf5": keras_files.read_hdf5,
        "saved_model": saved_model.read_saved_model,
        "onnx": onnx_file.read_onnx,
        "exported": torch_program.read_exported_program,
    }
    return readers[request.form](path, request.options)


def _check(request: Request, weights: Path) -> None:
    """Refuse a file that is damaged or too large, and an option that it does not need."""
    from fer_edge_convert.formats import keras_files, onnx_file  # noqa: PLC0415 - as in `_read`

    checks: dict[str, Callable[[Path], object]] = {
        "keras": check_keras_archive,
        "saved_model": check_saved_model,
        "onnx": onnx_file.check_onnx,
        "exported": check_exported_program,
    }
    checks.get(request.form, check_hdf5)(weights)
    if request.form in checks:
        keras_files.refuse_architecture(weights, request.options)


def _set_limits(limits: Limits) -> None:
    if not is_known():
        raise InputError(f"models are only converted within limits of memory, {PROC_IS_MISSING}")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_AS, own_bytes() + limits.memory)
    _limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + limits.cpu_s)


def _lift_limits() -> None:
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (hard, hard))


def _limit(kind: int, value: int) -> None:
    """Lower a limit for now; a lower one that the user has set stays."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
