"""Read a dictionary of tensors that PyTorch before 1.6 saved, without PyTorch and without running code.

Such a file is four pickles (a magic number, the version, the machine, the dictionary), then the keys of the storages as
a fifth, then each storage as its length and its numbers. A pickle may call any function by its name; here it may name
nothing but what a dictionary of tensors consists of.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fer_edge.errors import ModelError
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.limits import MODEL_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_VERSION: Final = 1001
_LENGTH: Final = struct.Struct("<q")
_TYPES: Final = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
}


class _Storage(NamedTuple):
    """The numbers of one or several tensors, which come after the pickles."""

    dtype: np.dtype[Any]
    key: str
    length: int


class _Tensor(NamedTuple):
    """A part of a storage in a shape; ``strides`` says how many numbers lie between neighbours of each axis."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Tensors(dict[str, Any]):
    """The dictionary, to which a pickle may add attributes."""


# That of C would allocate a list as long as the largest number that a pickle gives an object.
class _TensorUnpickler(pickle._Unpickler):  # noqa: SLF001
    """An unpickler that makes dictionaries, tensors and plain values."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as in its base class
        """Return what a name of the pickle stands for, or refuse it."""
        if (module, name) == ("collections", "OrderedDict"):
            return _Tensors
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _make_tensor
        if module == "torch" and name in _TYPES:
            return np.dtype(_TYPES[name])
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a dictionary of tensors")

    def persistent_load(self, pid: Any) -> _Storage:  # noqa: ANN401 - as in its base class
        """Return the storage that a pickle refers to."""
        kind, dtype, key, _, length, view = pid
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("an unknown reference")
        return _Storage(dtype, str(key), int(length))


def _make_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    """Take the place of PyTorch's function of the same arguments."""
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if min((*shape, 1)) < 1 or min((*strides, offset)) < 0 or max(last + 1, math.prod(shape)) > storage.length:
        raise pickle.UnpicklingError("a tensor beyond its storage")
    return _Tensor(storage, offset, shape, strides)


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a ``.pth`` by their names.

    Raises:
        ModelError: it cannot be read, is too large, or is not a dictionary of tensors.
    """
    content = read_bytes(path, MODEL_BYTES, ModelError)
    try:
        return _parse(content)
    except Exception as error:  # a damaged pickle can fail anywhere
        raise ModelError(
            f"{path}: damaged, or not a dictionary of tensors that PyTorch before 1.6 saved; what it holds is not run"
        ) from error


def _parse(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a file; they are views of its content.

    Raises:
        Exception: of any kind, if it is something else.
    """
    file = io.BytesIO(content)
    magic, version, _, tensors, keys = (_TensorUnpickler(file).load() for _ in range(5))
    if (magic, version) != (_MAGIC, _VERSION):
        raise pickle.UnpicklingError("another version")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    numbers = {}
    for key in keys:
        dtype, length = storages[key].dtype, storages[key].length
        if _LENGTH.unpack(file.read(_LENGTH.size)) != (length,):
            raise pickle.UnpicklingError("a storage of another length")
        numbers[key] = np.frombuffer(content, dtype, length, file.tell())
        file.seek(dtype.itemsize * length, io.SEEK_CUR)
    return {str(name): _view(numbers[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def _view(numbers: npt.NDArray[Any], tensor: _Tensor) -> npt.NDArray[Any]:
    """Return the part of a storage that is a tensor."""
    strides = [numbers.itemsize * stride for stride in tensor.strides]
    return as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
