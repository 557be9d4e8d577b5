"""Faces of other data on which a model rehearses, with its own answers for them, while it is adapted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.datasets.dataset import TRAINING, Dataset
from fer_edge.errors import DataError
from fer_edge_train.split import Split, holdout_keys
from fer_edge_train.teacher_bank import make_bank
from fer_edge_train.teachers import Teachers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge_train.bank import Bank
    from fer_edge_train.recipe import Adaptation, Recipe

_CHUNK = 512  # faces that the model classifies at a time


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a model rehearses. The labels of the faces are not used.

    Attributes:
        name: files or folders of the data.
        faces: uint8 of shape (n, side, side).
        bank: the model's answers for views of these faces, before it is adapted.
        watched: further faces, uint8 of shape (m, side, side).
        watched_answers: the model's answers for them, float32 of shape (m, classes).
    """

    name: str
    faces: npt.NDArray[np.uint8]
    bank: Bank
    watched: npt.NDArray[np.uint8]
    watched_answers: npt.NDArray[np.float32]


def make_rehearsal(
    data: Dataset,
    recipe: Recipe,
    adaptation: Adaptation,
    *,
    start: Path,
    labels: tuple[str, ...],
    bank: Path,
    on_view: Callable[[int], object],
) -> Rehearsal:
    """Choose faces, and have the model answer for them before it is adapted.

    Args:
        data: of which the Training faces may be rehearsed.
        recipe: number and strengths of the views.
        adaptation: numbers of faces.
        start: the model.
        labels: its labels.
        bank: file that keeps the answers; those that are in it are not computed again.
        on_view: is told the number of views that are done.

    Raises:
        DataError: there are too few faces, or the file holds answers for other ones or of another model.
    """
    training = np.flatnonzero(data.usages == TRAINING)
    # By these keys, the shipped models held faces out of their own training: those with the lowest ones are watched.
    order = training[np.argsort(holdout_keys(data.faces, training, recipe.data.validation_seed), kind="stable")]
    watched_count = min(adaptation.rehearsal_watched, len(order) // 5)
    if not watched_count:
        raise DataError(f"{data.name}: {len(order)} Training faces are too few to rehearse on; give more, or none")
    watched = data.faces[order[:watched_count]]
    faces = data.faces[order[watched_count:][-adaptation.rehearsal_faces :]]
    unlabelled = Dataset(
        data.name, labels, faces, np.zeros(len(faces), np.int64), np.full(len(faces), TRAINING), skipped=data.skipped
    )
    none = np.array([], np.int64)
    answers = make_bank(
        bank,
        unlabelled,
        Split(np.arange(len(faces)), none, none, none),
        recipe,
        [start],
        precision="float32",
        on_view=on_view,
    )
    model = Teachers([start], labels)
    chunks = [model.classify(watched[at : at + _CHUNK]) for at in range(0, len(watched), _CHUNK)]
    return Rehearsal(data.name, faces, answers, watched, np.concatenate(chunks))
