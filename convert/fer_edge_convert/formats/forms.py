"""Tell the form of a model by its content, because names are often wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.errors import ModelError
from fer_edge_convert.formats.keras_files import read_architecture, read_hdf5, read_keras_archive
from fer_edge_convert.formats.not_a_model import refuse_other_file
from fer_edge_convert.formats.saved_model import read_saved_model
from fer_edge_convert.formats.tflite_file import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fer_edge_convert.formats.request import ReadOptions

    Reader = Callable[[Path, ReadOptions], tuple[str, bytes]]

_SUFFIXES: Final[dict[str, Reader]] = {
    ".tflite": read_tflite,
    ".keras": read_keras_archive,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".json": read_architecture,
}
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_ZIP: Final = b"PK\x03\x04"


def find_form(path: Path) -> Reader:
    """Return the function that reads a model.

    Raises:
        ModelError: it is no model that can be converted.
    """
    if path.is_dir():
        return read_saved_model
    refuse_other_file(path)
    with path.open("rb") as file:
        begin = file.read(8)
    if begin == _HDF5:
        return read_hdf5
    if begin[4:] == b"TFL3":
        return read_tflite
    if begin.startswith(_ZIP) and path.suffix in {".h5", ".hdf5"}:
        return read_keras_archive
    if path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    raise ModelError(
        f"{path}: not a model that can be converted: give a .keras, .h5, .hdf5 or .tflite file, a SavedModel folder, or"
        " the .json that describes the layers of weights"
    )
