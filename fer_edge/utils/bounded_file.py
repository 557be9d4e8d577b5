"""Reading files that users name: regular files only, and at most as many bytes as a limit allows."""

from __future__ import annotations

import csv
import io
import os
import stat
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

from fer_edge.errors import DataError, InputError
from fer_edge.utils.limits import TABLE_BYTES, TABLE_ROW_BYTES, TEXT_BYTES, TEXT_LINE
from fer_edge.utils.words import megabytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_BLOCK: Final = 1 << 20


def open_regular(path: Path, error: type[InputError] = DataError) -> IO[bytes]:
    """Open a regular file for reading; a pipe or a device, which may never end, is refused and not waited for.

    Args:
        path: the file.
        error: class of the errors.

    Raises:
        InputError: the file does not exist, is not a regular file, or may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else "its name contains a NUL character"
        raise error(f"{path}: cannot be read ({reason})") from cause
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = (
            "cannot be read (Is a directory)"
            if stat.S_ISDIR(mode)
            else "not a regular file but a device, pipe or socket"
        )
        raise error(f"{path}: {what}")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, max_bytes: int, error: type[InputError] = DataError) -> bytes:
    """Read a regular file.

    Args:
        path: the file.
        max_bytes: largest accepted size.
        error: class of the errors.

    Raises:
        InputError: the file cannot be read, is not a regular file, or is too large.
    """
    with open_regular(path, error) as file:
        return read_stream(file, max_bytes, str(path), error)


def read_stream(file: IO[bytes], max_bytes: int, name: str, error: type[InputError] = DataError) -> bytes:
    """Read a stream to its end; a size that its header or its file system states is not trusted.

    Args:
        file: the stream.
        max_bytes: largest accepted size.
        name: name of the stream, for errors.
        error: class of the errors.

    Raises:
        InputError: the stream is too large or cannot be read.
    """
    content = io.BytesIO()  # which gives its bytes away without copying them
    try:
        while block := file.read(min(_BLOCK, max_bytes + 1 - content.tell())):
            content.write(block)
            if content.tell() > max_bytes:
                raise error(f"{name}: refused, it is larger than {megabytes(max_bytes)}")
    except OSError as cause:
        raise error(f"{name}: cannot be read ({cause.strerror or cause})") from cause
    return content.getvalue()


def read_text(path: Path, error: type[InputError] = InputError, max_bytes: int = TEXT_BYTES) -> str:
    """Read a short text in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        error: class of the errors.
        max_bytes: largest accepted size.

    Raises:
        InputError: the file cannot be read, is too large, has a line of more than `TEXT_LINE` characters, or is not
            text in UTF-8.
    """
    content = read_bytes(path, max_bytes, error)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{path}: not a text file in UTF-8") from cause
    # Parsers take time in proportion to the square of the length of some lines.
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if len(line) > TEXT_LINE:
            raise error(f"{path}, line {number}: refused, it is longer than {TEXT_LINE} characters")
    return text


class TextLines:
    """The lines of a text, each with its line break; a line or a record of a table that is too long is an error.

    Attributes:
        row_bytes: characters since a reader of records set it to 0.
    """

    def __init__(self, file: IO[bytes], name: str, encoding_errors: str = "strict") -> None:
        """Read a stream in UTF-8, with or without a byte order mark.

        Args:
            file: the stream.
            name: name of the text, for errors.
            encoding_errors: what to do with bytes that are not UTF-8, as for `open`.
        """
        self._text = io.TextIOWrapper(file, "utf-8-sig", encoding_errors, newline="")
        self._name = name
        self._total = 0
        self.row_bytes = 0

    def __iter__(self) -> TextLines:
        """Return the lines themselves."""
        return self

    def __next__(self) -> str:
        """Return the next line.

        Raises:
            DataError: the line, the record or the text is too long.
        """
        line = self._text.readline(TABLE_ROW_BYTES + 1 - self.row_bytes)
        if not line:
            raise StopIteration
        self.row_bytes += len(line)
        self._total += len(line)
        if self.row_bytes > TABLE_ROW_BYTES or self._total > TABLE_BYTES:
            raise DataError(
                f"{self._name}: refused, it has a row of more than {megabytes(TABLE_ROW_BYTES)}, or more"
                f" than {megabytes(TABLE_BYTES)} in all"
            )
        return line

    def close(self) -> None:
        """Detach the stream, so that it can be closed or read on."""
        self._text.detach()


def csv_rows(lines: TextLines) -> Iterator[list[str]]:
    """Yield the records of a CSV; quoted line breaks belong to their record.

    Raises:
        DataError: a record is too long.
    """
    for row in csv.reader(lines):
        lines.row_bytes = 0
        yield row


@contextmanager
def open_table(path: Path, encoding_errors: str = "strict") -> Iterator[TextLines]:
    """Open the text of a table; see `TextLines`.

    Raises:
        DataError: the file cannot be opened.
    """
    with open_regular(path) as file:
        lines = TextLines(file, str(path), encoding_errors)
        try:
            yield lines
        finally:
            lines.close()


def limited(items: Iterable[list[str]], max_items: int, name: str) -> Iterator[list[str]]:
    """Yield records, and refuse to yield more than a limit.

    Raises:
        DataError: there are more.
    """
    for number, item in enumerate(items):
        if number == max_items:
            raise DataError(f"{name}: refused, it has more than {max_items:,} rows")
        yield item
