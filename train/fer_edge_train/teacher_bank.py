"""The bank that a run learns from: read from a file, or made by its teachers and kept in a file."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.datasets.dataset import TRAINING
from fer_edge.errors import DataError, InputError
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_train.bank import Bank, Views, combine, digest, encode_log_probabilities
from fer_edge_train.teachers import Teachers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset
    from fer_edge_train.recipe import Recipe
    from fer_edge_train.split import Split

_CHUNK = 512  # faces that teachers classify at a time


def check_bank_options(banks: Sequence[Path], *, with_teachers: bool) -> None:
    """Refuse wrong combinations before any data is read.

    Args:
        banks: files of banks.
        with_teachers: whether teachers are given.

    Raises:
        InputError: a file is missing and nobody is there to make it, or its name does not end in ``.npz``.
    """
    for path in banks:
        if path.suffix != ".npz":
            raise InputError(f"{path}: a bank is kept in an .npz file; choose a name that ends in .npz")
        if not path.exists() and not with_teachers:
            raise InputError(f"{path}: no such bank; make it with --teacher MODEL.keras")
    if with_teachers and len(banks) > 1:
        raise InputError("teachers make one bank: give one --bank with --teacher, or leave --teacher out")


def read_banks(banks: Sequence[Path], data: Dataset) -> Bank:
    """Read banks for the Training faces of a dataset; of several, return the mean.

    Raises:
        DataError: one cannot be read, is for other faces, lacks a label, or has other views than the others.
    """
    rows = np.flatnonzero(data.usages == TRAINING)
    read = []
    for path in banks:
        bank = Bank.load(path, data.faces, rows)
        try:
            read.append(bank.with_labels(data.labels))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    return read[0] if len(read) == 1 else combine(read)


def make_bank(
    path: Path,
    data: Dataset,
    split: Split,
    recipe: Recipe,
    teachers: Sequence[Path],
    *,
    precision: str,
    on_view: Callable[[int], object],
) -> Bank:
    """Have teachers classify views of all Training faces. A file with some of the views is completed.

    Args:
        path: file of the bank, written after each view.
        data: the faces.
        split: whose held-out faces no teacher has learnt from, because all runs hold out the same ones.
        recipe: number and strengths of the views.
        teachers: files of the teachers.
        precision: of the teachers' arithmetic.
        on_view: is told the number of views that are done.

    Raises:
        DataError: the file holds the answers of other teachers, or for other views.
        ModelError: a teacher cannot be read or does not have a label.
    """
    rows = np.flatnonzero(data.usages == TRAINING)
    codes = np.zeros((0, len(rows), len(data.labels)), np.uint8)
    unseen = np.isin(rows, split.validation)
    bank = Bank(data.labels, views_for(recipe), codes, unseen, digest(data.faces, rows), _describe(teachers))
    if path.exists():
        found = Bank.load(path, data.faces, rows)
        if (found.labels, found.views, found.teachers) != (bank.labels, bank.views, bank.teachers):
            raise DataError(
                f"{path}: a bank of other teachers, views or labels; leave --teacher out to learn from it,"
                " or choose another file for these"
            )
        bank = found
    if len(bank) >= recipe.target.views:
        return bank
    together = Teachers(teachers, data.labels, precision)
    for view in range(len(bank), recipe.target.views):
        answers = np.empty(codes.shape[1:], np.float32)
        for start in range(0, len(rows), _CHUNK):
            numbers = np.arange(start, min(start + _CHUNK, len(rows)))
            images = bank.render(data.faces, numbers, view, recipe.data.side, rows)
            answers[numbers] = together.classify(images)
        encoded = encode_log_probabilities(np.log(np.maximum(answers, np.finfo(np.float32).tiny)))
        bank = replace(bank, codes=np.concatenate((bank.codes, encoded[None])))
        bank.save(path)
        on_view(len(bank))
    return bank


def views_for(recipe: Recipe) -> Views:
    """Return the views of a recipe: its warps and changes of light, from its seed."""
    augmentation = recipe.augmentation
    return Views(
        seed=recipe.seed,
        flip=augmentation.flip,
        identity_probability=augmentation.identity_probability,
        rotate_degrees=augmentation.rotate_degrees,
        zoom=augmentation.zoom,
        stretch=augmentation.stretch,
        shear=augmentation.shear,
        shift=augmentation.shift,
        contrast=augmentation.contrast,
        brightness=augmentation.brightness,
        mix=recipe.target.mix,
    )


def _describe(teachers: Sequence[Path]) -> dict[str, str]:
    """Return the name and the SHA-256 of each teacher, and the commands that made it."""
    descriptions = {}
    for path in teachers:
        card = read_card(path, ClassifierCard)
        descriptions[f"{card.name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"] = "; ".join(card.made_by)
    return descriptions
