"""Check a Keras file or a SavedModel before TensorFlow sees it.

HDF5 files are programs for a library that trusts them: they may name other files, unpack to any size, and crash it. So
everything in them is read once here, in a process that may die; see `fer_edge_convert.formats.isolated`.
"""

from __future__ import annotations

import io
import stat
from typing import IO, TYPE_CHECKING, Any, Final

from fer_edge.errors import ModelError
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.limits import KERAS_BYTES, KERAS_OBJECTS
from fer_edge.utils.words import megabytes
from fer_edge.utils.zip_reader import open_zip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fer_edge.utils.archive_member import ArchiveMember

_BLOCK: Final = 1 << 20


def check_keras_archive(path: Path) -> None:
    """Check a ``.keras`` file.

    Raises:
        ModelError: it is damaged or too large, or refers to other files.
    """
    try:
        with open_zip(path, ModelError) as archive:
            _check_members(archive.members)
            for member in archive.members:
                if member.name.endswith(".h5"):
                    _read_all(path, io.BytesIO(member.read(KERAS_BYTES)))
    except ModelError:
        raise
    except Exception as error:  # a damaged archive can fail anywhere
        raise ModelError(f"{path}: damaged, or not a .keras file; save or copy the model again") from error


def check_hdf5(path: Path) -> dict[str, Any]:
    """Check an HDF5 file; see `check_keras_archive`.

    Returns:
        The attributes of its root.
    """
    try:
        return _read_all(path, io.BytesIO(read_bytes(path, KERAS_BYTES, ModelError)))
    except ModelError:
        raise
    except Exception as error:  # a damaged file can fail anywhere
        raise ModelError(f"{path}: damaged, or not an HDF5 file; save or copy the model again") from error


def check_saved_model(path: Path) -> None:
    """Check a SavedModel folder; see `check_keras_archive`."""
    if not (path / "saved_model.pb").is_file():
        raise ModelError(f"{path}: not a SavedModel folder, it has no saved_model.pb")
    total = 0
    for count, file in enumerate(path.rglob("*")):
        mode = file.stat().st_mode
        if stat.S_ISREG(mode):
            total += file.stat().st_size
        elif not stat.S_ISDIR(mode):
            raise ModelError(f"{file}: not a regular file but a device, pipe or socket")
        if total > KERAS_BYTES or count > KERAS_OBJECTS:
            raise ModelError(f"{path}: refused, it is larger than {megabytes(KERAS_BYTES)} or has too many files")


def _check_members(members: Sequence[ArchiveMember]) -> None:
    """Unpack each member once, because Keras reads them whole: none may be more than the directory says."""
    for member in members:
        if member.is_bomb or member.size > KERAS_BYTES:
            raise UnpackError(f"{member.name} would unpack to {member.size} bytes")
        with member.open() as file:
            while file.read(_BLOCK):
                pass


def _read_all(path: Path, content: IO[bytes]) -> dict[str, Any]:
    """Read every array and attribute of an HDF5 file, and return the attributes of its root."""
    import h5py  # noqa: PLC0415 - Keras brings it

    total = 0
    with h5py.File(content) as file:
        for one in _objects(path, file):
            if isinstance(one, h5py.Dataset):
                if one.external or one.is_virtual:
                    raise ModelError(f"{path}: refused, it refers to other files; save the model again")
                total += one.nbytes
                if total > KERAS_BYTES:
                    raise ModelError(f"{path}: refused, its weights are larger than {megabytes(KERAS_BYTES)}")
                one[()]
            for name in one.attrs:
                one.attrs[name]
        return dict(file.attrs)


def _objects(path: Path, root: Any) -> Iterator[Any]:  # noqa: ANN401 - h5py has no types
    """Yield every group and array once."""
    import h5py  # noqa: PLC0415 - see _read_all

    waiting, seen = [root], set()
    while waiting:
        one = waiting.pop()
        if one.id in seen:
            continue
        seen.add(one.id)
        if len(seen) > KERAS_OBJECTS:
            raise ModelError(f"{path}: refused, it has more than {KERAS_OBJECTS:,} parts")
        yield one
        if isinstance(one, h5py.Group):
            for name in one:
                if isinstance(one.get(name, getlink=True), h5py.ExternalLink):
                    raise ModelError(f"{path}: refused, it refers to other files; save the model again")
                waiting.append(one[name])
