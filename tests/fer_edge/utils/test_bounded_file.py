from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from fer_edge.errors import DataError, InputError, ModelError
from fer_edge.utils.bounded_file import TextLines, csv_rows, limited, open_table, read_bytes, read_text


def test_reads_regular_files_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(DataError, match="a: refused, it is larger than 0 kB"):
        read_bytes(path, 4)
    with pytest.raises(ModelError, match=r"none: cannot be read \(No such file"):
        read_bytes(tmp_path / "none", 5, ModelError)
    with pytest.raises(DataError, match="Is a directory"):
        read_bytes(tmp_path, 5)


def test_does_not_wait_for_a_pipe_or_read_a_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(DataError, match="not a regular file but a device, pipe or socket"):
            read_bytes(path, 5)


def test_counts_what_comes_and_not_what_the_file_system_says() -> None:
    assert Path("/proc/self/status").stat().st_size == 0
    with pytest.raises(DataError, match="larger than"):
        read_bytes(Path("/proc/self/status"), 10)


def test_reads_short_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_text(path) == "a = 1\n"
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="not a text file in UTF-8"):
        read_text(path)
    path.write_text("a = 1\n" + "x" * 9000)
    with pytest.raises(InputError, match="line 2: refused, it is longer than 8192"):
        read_text(path)


def rows_of(text: bytes) -> list[list[str]]:
    return list(csv_rows(TextLines(io.BytesIO(text), "t.csv")))


def test_limits_lines_and_records_of_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_edge.utils.bounded_file.TABLE_ROW_BYTES", 100)
    assert rows_of(b'\xef\xbb\xbfa,b\r\n"x\ny",z\n') == [["a", "b"], ["x\ny", "z"]]
    assert len(rows_of(b"12345,12345\n" * 50)) == 50
    for text in (b"x" * 200, b'"a\n",' * 50, b'"' + b"a\n" * 100):
        with pytest.raises(DataError, match=r"t\.csv: refused, it has a row of more than"):
            rows_of(text)


def test_limits_the_size_and_the_rows_of_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="more than 2 rows"):
        list(limited(iter([["a"], ["b"], ["c"]]), 2, "t.csv"))
    monkeypatch.setattr("fer_edge.utils.bounded_file.TABLE_BYTES", 20)
    (tmp_path / "t.csv").write_text("1234\n" * 5)
    with pytest.raises(DataError, match="in all"), open_table(tmp_path / "t.csv") as lines:
        list(lines)
