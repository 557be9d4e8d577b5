"""Tell the form of a model by its content, because names are often wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from fer_edge.errors import ModelError
from fer_edge_convert.formats.not_a_model import read_begin, refuse_other_file, refuse_other_form
from fer_edge_convert.formats.torch_files import is_exported_program, refuse_torch_file

if TYPE_CHECKING:
    from pathlib import Path

Form = Literal["keras", "hdf5", "description", "saved_model", "tflite", "onnx", "exported"]
_SUFFIXES: Final[dict[str, Form]] = {
    ".tflite": "tflite",
    ".keras": "keras",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".json": "description",
    ".onnx": "onnx",
}
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_ZIP: Final = b"PK\x03\x04"


def find_form(path: Path) -> Form:
    """Return the form of a model.

    Raises:
        ModelError: it is no model that can be converted.
    """
    if path.is_dir():
        return "saved_model"
    begin = read_begin(path)
    refuse_other_file(path, begin)
    if begin.startswith(_HDF5):
        return "hdf5"
    if begin[4:8] == b"TFL3":
        return "tflite"
    if begin.startswith(_ZIP) and path.suffix in {".h5", ".hdf5"}:
        return "keras"
    if path.suffix in _SUFFIXES:
        refuse_other_form(path, begin)
        return _SUFFIXES[path.suffix]
    if begin.startswith(_ZIP) and is_exported_program(path):
        return "exported"
    refuse_torch_file(path, begin)
    refuse_other_form(path, begin)
    raise ModelError(
        f"{path}: not a model that can be converted: give a .keras, .h5, .hdf5, .onnx, .pt2 or .tflite file, a"
        " SavedModel folder, or the .json that describes the layers of weights"
    )
