"""Reading a dataset from any of its forms: a CSV, a folder, or an archive of either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge.datasets.archives import read_tar, read_zip
from fer_edge.datasets.class_folders import GROUP, check_first_image, list_images, read_class_folders
from fer_edge.datasets.fer2013_csv import FER2013_SIDE, check_first_row, raise_data_errors, read_csv
from fer_edge.datasets.manifest_groups import has_manifest, read_groups
from fer_edge.errors import DataError
from fer_edge.utils.bounded_file import open_table
from fer_edge.utils.file_kinds import LeftOut

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset


def ensure_faces(path: Path) -> None:
    """Check that a dataset begins like one, before anything slow is loaded: by its first face, not by all of them.

    Raises:
        DataError: there is no such file or folder, or no face in it.
    """
    _ensure_exists(path)
    if path.is_dir():
        check_first_image(path)
    elif not is_archive(path):  # to look into a compressed one takes as long as to read it
        with raise_data_errors(path), open_table(path) as lines:
            check_first_row(lines, str(path))


def _ensure_exists(path: Path) -> None:
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder; give fer2013.csv, a folder with train/ and test/, or an archive of either"
        )


def load_dataset(path: Path, side: int = FER2013_SIDE, columns: Sequence[str] = ()) -> Dataset:
    """Read a dataset in any of the forms in which FER-2013 is available.

    Args:
        path: ``fer2013.csv`` or ``icml_face_data.csv``; a folder with a folder for each class, optionally inside
            ``train`` and ``test``; or a zip or tar of either. Images in folders may have any size and colours; they
            are read as face crops.
        side: rows and columns of the faces to return.
        columns: names of columns to keep, of a CSV that is in no archive; or ``group``, of a folder that a review has
            written.

    Raises:
        DataError: the dataset is missing, empty, damaged, unsafe or of another form.
    """
    _ensure_exists(path)
    if path.is_dir():
        left_out = LeftOut()
        return read_class_folders(list_images(path, left_out), path, side, left_out, _groups_for(path, columns))
    if columns and is_archive(path):
        raise DataError(f"{path}: not a CSV, so it has no column {' or '.join(columns)}; unpack the CSV first")
    if path.suffix.lower() == ".zip":
        return read_zip(path, side)
    if is_archive(path):
        return read_tar(path, side)
    with raise_data_errors(path), open_table(path) as lines:
        return read_csv(lines, str(path), side, columns)


def _groups_for(folder: Path, columns: Sequence[str]) -> dict[str, str] | None:
    """Return the group of each image of a folder if that is the column to keep; None for no column."""
    if not columns:
        return None
    reviewed = has_manifest(folder)
    if unknown := [name for name in columns if not reviewed or name != GROUP]:
        has = "with the column group alone" if reviewed else "with no manifest.json of a review"
        raise DataError(f"{folder}: a folder {has}, so it has no column {' or '.join(unknown)}; give a CSV")
    return read_groups(folder)


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip or tar by its name."""
    return path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))
