"""Readers of models that need a library which may crash: Keras files, SavedModels and ONNX."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import h5py  # noqa: F401 - here, so that a fork has it
import msgspec

from fer_edge.detection.yunet import YuNetDetector
from fer_edge_convert.formats import process
from fer_edge_convert.formats.isolated import check_isolated, read_isolated
from fer_edge_convert.formats.request import ReadOptions
from tests.fer_edge.detection import onnx_squares

from .reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

_DATA: Final = Path(__file__).parents[1] / "data"


def model_readers() -> Iterator[Reader]:
    """Yield the readers."""
    archive, files = _seeds("keras2/sequential-2.keras"), _seeds("keras2/sequential.h5", "keras2/xception.h5")
    yield Reader("m.keras", archive, check_isolated, cost=8)
    yield Reader("m.h5", files, check_isolated, cost=8)
    yield Reader("yunet.onnx", (_onnx(),), YuNetDetector, cost=40)
    yield Reader("converted.keras", archive, _convert, cost=200, needs_tensorflow=True)
    yield Reader("converted.h5", files[:1], _convert, cost=200, needs_tensorflow=True)
    yield Reader("converted.onnx", (_onnx(),), _convert_onnx, cost=200, needs_tensorflow=True)
    yield Reader("saved_model.pb", _seeds("saved_model/saved_model.pb"), _convert_folder, 200, needs_tensorflow=True)


def read_in_fork(request: bytes, timeout: float) -> tuple[int, bytes]:  # noqa: ARG001 - the fuzzer has its own
    """Stand for `fer_edge_convert.formats.isolated.run_reader`: a fork of this process is quicker than a new one."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        gc.freeze()  # garbage of libraries may wait for their threads, which a fork does not have
        os.close(ours)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with os.fdopen(theirs, "wb") as file:
            file.write(process.answer(msgspec.json.decode(request, type=process.Request), limit=True))
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        answer = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answer


def _seeds(*names: str) -> tuple[bytes, ...]:
    return tuple((_DATA / name).read_bytes() for name in names)


def _onnx() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "squares.onnx")
        onnx_squares.write_network(path, 0.0)
        return path.read_bytes()


def _convert(path: Path) -> None:
    read_isolated(path, "keras" if path.suffix == ".keras" else "hdf5", ReadOptions())


def _convert_onnx(path: Path) -> None:
    read_isolated(path, "onnx", ReadOptions(output="cls_8", size=64))


def _convert_folder(path: Path) -> None:
    folder = path.parent / "saved"
    shutil.copytree(_DATA / "saved_model", folder, dirs_exist_ok=True)
    shutil.copy(path, folder / path.name)
    read_isolated(folder, "saved_model", ReadOptions())
