"""The places of the results, and the checks that protect other files before the work begins."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge.errors import InputError, printable
from fer_edge.tagging.input import remote
from fer_edge.tagging.output import parquet_dataset
from fer_edge.tagging.output.error_list import is_error_list
from fer_edge.utils.atomic_file import ensure_writable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.tagging.options import TagOptions


@dataclasses.dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results of a run go.

    Attributes:
        table: path or address of the table, which ends in ``.jsonl``, ``.csv``, ``.parquet`` or ``.sqlite``; a slash
            at the end means a folder of Parquet files.
        errors: CSV file of paths and errors; None for none.
        montage: folder for a contact sheet of each emotion; None for none.
        collect: folder for faces to review; None for none.
        overwrite: whether to start again and replace what exists.
    """

    table: str
    errors: Path | None = None
    montage: Path | None = None
    collect: Path | None = None
    overwrite: bool = False

    @property
    def journal(self) -> Path:
        """The file of intermediate results: beside the table, or in the working directory for a remote table."""
        name = f"{self.table.rstrip('/')}.part"
        return Path(name.rpartition("/")[2] if remote.is_address(self.table) else name)


def result_folders(outputs: Outputs, options: TagOptions) -> list[Path]:
    """Return the folders that results are written to."""
    return [
        Path(folder) for folder in (options.annotate, outputs.montage, outputs.collect, options.sidecar_dir) if folder
    ]


def check_outputs(inputs: Sequence[str], outputs: Outputs, options: TagOptions) -> None:
    """Check that all results can be written, and that they replace no other files.

    Raises:
        InputError: a result cannot be written, exists already, or would go among the images.
    """
    _check_folders_hold_no_inputs(inputs, result_folders(outputs, options))
    _check_writable(outputs, result_folders(outputs, options))
    _check_folders_are_empty(outputs, options)


def _check_folders_hold_no_inputs(inputs: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse result folders that contain inputs: results might replace images, or be taken for images."""
    for given in inputs:
        if given == "-" or remote.is_address(given):
            continue
        # For a pattern this is the folder that contains all matches.
        path = Path(given) if os.path.lexists(given) else Path(re.split(r"[*?\[]", given)[0] + "*").parent
        for folder in folders:
            if Path(os.path.realpath(path)).is_relative_to(folder.resolve()):  # `resolve` raises for a loop of links
                raise InputError(
                    f"{printable(str(folder))}: contains images that are to be tagged; choose a folder of its own"
                )


def _check_writable(outputs: Outputs, folders: Sequence[Path]) -> None:
    is_dataset = parquet_dataset.is_dataset(outputs.table)
    if remote.is_address(outputs.table):
        remote.check_address(outputs.table)
        exists = bool(parquet_dataset.list_parts(outputs.table)) if is_dataset else remote.exists(outputs.table)
    elif is_dataset:
        ensure_writable(Path(parquet_dataset.part_name(outputs.table, 0)))
        exists = bool(parquet_dataset.list_parts(outputs.table))
    else:
        ensure_writable(Path(outputs.table))
        exists = Path(outputs.table).exists()
    for path in (*(folder / "image" for folder in folders), *([outputs.errors] if outputs.errors else [])):
        ensure_writable(path)
    existing = [remote.without_secrets(outputs.table)] if exists else []
    if outputs.errors:
        if outputs.errors.exists() and not is_error_list(outputs.errors):
            raise InputError(
                f"{printable(str(outputs.errors))}: exists and is not a list of errors; choose another name"
            )
        if not remote.is_address(outputs.table) and outputs.errors.resolve() == Path(outputs.table).resolve():
            raise InputError(
                f"{printable(outputs.table)}: named as the table and as the list of errors; give them different names"
            )
        existing += [str(outputs.errors)] if outputs.errors.exists() else []
    if existing and not outputs.overwrite and not outputs.journal.exists():
        raise InputError(f"{printable(existing[0])}: exists already; --overwrite replaces it")


def _check_folders_are_empty(outputs: Outputs, options: TagOptions) -> None:
    """Refuse folders with files that copies or sheets might replace; a run that continues finds its own files there."""
    if outputs.overwrite or outputs.journal.exists():
        return
    for folder in (Path(folder) for folder in (options.annotate, outputs.montage, outputs.collect) if folder):
        if any(not path.is_dir() for path in folder.rglob("*")):
            raise InputError(
                f"{printable(str(folder))}: contains files already; choose another folder, or --overwrite, which"
                " replaces files of the same names"
            )
