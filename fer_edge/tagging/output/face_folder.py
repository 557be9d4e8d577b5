"""A folder of face crops to review: PNG files, and ``faces.csv`` with what is known of each."""

from __future__ import annotations

import csv
import hashlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from fer_edge.classification.selection import MAX_SIDE
from fer_edge.errors import DataError, InputError, printable
from fer_edge.tagging.output.csv_cells import guard_cell, unguard_cell
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.bounded_file import csv_rows, limited, open_table
from fer_edge.utils.image_io import decode_gray
from fer_edge.utils.limits import TABLE_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fer_edge.tagging.selected_face import SelectedFace

TABLE: Final = "faces.csv"
_FIRST: Final = ("file", "sha256", "time", "node", "model", "emotion")
_LAST: Final = ("reason", "group")
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_NAME: Final = re.compile(r"[\w-]{1,100}\.png")


class FaceFolder:
    """A folder that faces can be added to; the table has a face only when its image is safely on disk.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        """Read the table, if there is one.

        Raises:
            InputError: it is not a folder, or its table is of another kind.
        """
        self.path = path
        if path.exists() and not path.is_dir():
            raise InputError(f"{printable(str(path))}: not a folder; choose another place")
        self._rows = {row["file"]: row for row in self._read()}

    def __contains__(self, name: str) -> bool:
        """Return whether a face and its row are there."""
        return name in self._rows and (self.path / name).is_file()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    @staticmethod
    def check(name: str, face: SelectedFace) -> None:
        """Check a face that somebody else has sent.

        Raises:
            DataError: its crop is no PNG, or larger than any that is selected.
        """
        if not (_NAME.fullmatch(name) and face.png.startswith(_PNG)):
            raise DataError(f"{name}: not a PNG")
        if max(decode_gray(face.png, name).shape) > MAX_SIDE:
            raise DataError(f"{name}: larger than {MAX_SIDE} pixels")

    def add(self, faces: Mapping[str, SelectedFace]) -> None:
        """Add faces, and replace those of the same name.

        Args:
            faces: each face by the name of its file.

        Raises:
            DataError: a crop is no small PNG; nothing was added.
            InputError: the folder cannot be written to.
            FerEdgeError: the disk is full.
        """
        for name, face in faces.items():
            self.check(name, face)
        for name, face in faces.items():
            with replacing(self.path / name) as temporary:
                temporary.write_bytes(face.png)
            self._rows[name] = _row(name, face)
        with replacing(self.path / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            columns = self._columns()
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows({key: guard_cell(value) for key, value in row.items()} for row in self._rows.values())

    def _columns(self) -> list[str]:
        """Return the columns: models may have different labels, and other programs may have added some."""
        found = dict.fromkeys(key for row in self._rows.values() for key in row)
        scores = [key for key in found if key.startswith("score_")]
        others = [key for key in found if key not in {*_FIRST, *scores, *_LAST}]
        return [*_FIRST, *scores, *_LAST, *others]

    def _read(self) -> list[dict[str, Any]]:
        path = self.path / TABLE
        if not path.exists():
            return []
        try:
            with open_table(path) as lines:
                head, *rows = limited(csv_rows(lines), TABLE_ROWS, str(path))
        except (csv.Error, ValueError) as error:  # empty, or not UTF-8
            raise InputError(f"{printable(str(path))}: damaged, or not a CSV; choose another folder") from error
        if not {"file", "sha256", "reason"} <= {*head}:
            raise InputError(f"{printable(str(path))}: not a table of faces for review; choose another folder")
        return [dict(zip(head, map(unguard_cell, row), strict=False)) for row in rows if len(row) == len(head)]


def _row(name: str, face: SelectedFace) -> dict[str, Any]:
    seen = "" if face.time is None else datetime.fromtimestamp(face.time, UTC).isoformat(timespec="milliseconds")
    return {
        "file": name,
        "sha256": hashlib.sha256(face.png).hexdigest(),
        "time": seen.replace("+00:00", "Z"),
        "node": face.node,
        "model": face.model,
        "emotion": face.emotion,
        **{f"score_{label}": round(score, 4) for label, score in face.scores.items()},
        "reason": face.reason,
        "group": face.group,
    }
