"""A file in an archive of unknown origin.

Nothing that an archive states is trusted: bytes are counted as they come out, headers have limits, and whatever is
wrong with an archive is an `UnpackError`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, NamedTuple

from fer_edge.errors import FerEdgeError, first_line
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.limits import ARCHIVE_RATIO, ARCHIVE_RATIO_FREE_BYTES
from fer_edge.utils.words import megabytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class ArchiveMember(NamedTuple):
    """A file in an archive.

    Attributes:
        position: position among all members, from 0.
        name: name in the archive; empty if it is not text.
        size: size of the unpacked file in bytes, as the archive says; `open` gives no more.
        packed_size: size of the packed file in bytes, as the archive says; that of the unpacked one in a tar.
        open: opens it; raises UnpackError.
    """

    position: int
    name: str
    size: int
    packed_size: int
    open: Callable[[], IO[bytes]]

    @property
    def is_bomb(self) -> bool:
        """Whether it is packed far more densely than images and tables can be."""
        return self.size > max(ARCHIVE_RATIO_FREE_BYTES, ARCHIVE_RATIO * self.packed_size)

    def read(self, max_bytes: int) -> bytes:
        """Read the whole file.

        Raises:
            UnpackError: it is damaged, or larger than ``max_bytes``.
        """
        if self.size > max_bytes or self.is_bomb:
            raise UnpackError(f"refused, it would unpack to {megabytes(self.size)}")
        with unpack_errors(), self.open() as file:
            content = file.read(min(max_bytes, self.size) + 1)
        if len(content) > max_bytes:
            raise UnpackError(f"refused, it would unpack to more than {megabytes(max_bytes)}")
        return content


@contextmanager
def unpack_errors() -> Iterator[None]:
    """Raise an `UnpackError` for every error that damaged archives cause in the block."""
    try:
        yield
    except (UnpackError, FerEdgeError):
        raise
    except MemoryError as error:
        raise UnpackError("there is too little memory for it") from error
    except Exception as error:  # damaged archives make `zipfile` and `tarfile` raise errors of many kinds
        raise UnpackError(first_line(error)) from error
