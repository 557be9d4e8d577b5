"""Making a training batch from faces, targets and, if there is one, a bank of teachers' answers.

Processes that make batches import this module, so it does not need Keras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fer_edge_train.augment import augment, cutmix, erase, mixup

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from fer_edge_train.augment import Targets
    from fer_edge_train.bank import Bank
    from fer_edge_train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class BankAnswers:
    """A bank, and which faces of a dataset it is for.

    Attributes:
        bank: the bank.
        at: index in the dataset of each face of the bank, ascending, int64 of shape (m,).
        head: name of the head that learns the answers.
        share: share of the answers in the head's targets.
    """

    bank: Bank
    at: npt.NDArray[np.int64]
    head: str
    share: float

    def bank_rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the rows in the bank of some faces of the dataset; -1 for faces that it is not for."""
        found = np.minimum(np.searchsorted(self.at, rows), len(self.at) - 1)
        return np.where(self.at[found] == rows, found, -1)

    def unseen(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return for some faces whether no teacher has learnt from them."""
        found = self.bank_rows(rows)
        return (found < 0) | self.bank.unseen[found]


class BatchSource(NamedTuple):
    """What batches are made from: all faces, their targets for each head, and answers of teachers."""

    faces: npt.NDArray[np.uint8]
    targets: Mapping[str, npt.NDArray[np.float32]]
    answers: BankAnswers | None = None


def make_batch(
    source: BatchSource, rows: npt.NDArray[np.int64], size: int, recipe: Recipe, number: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], Targets]:
    """Make a training batch, which depends on nothing but the arguments.

    With a bank, a face is shown in one of the bank's views, another one in each epoch, and only erased and mixed at
    random.

    Args:
        source: what the batch is made from.
        rows: indices of the faces in the batch.
        size: side of the images, in pixels.
        recipe: seed, and strengths of the random changes.
        number: numbers of the epoch and of the batch within it.

    Returns:
        uint8 images of shape (rows, size, size), and for each head its targets, of shape (rows, classes).
    """
    augmentation, rng = recipe.augmentation, np.random.default_rng((recipe.seed, *number))
    targets = {name: target[rows] for name, target in source.targets.items()}
    if source.answers is None:
        images = augment(source.faces[rows], size, augmentation, rng)
    else:
        bank, head, share = source.answers.bank, source.answers.head, source.answers.share
        bank_rows = source.answers.bank_rows(rows)
        views = (bank_rows + number[0]) % len(bank)
        images = bank.render(source.faces, bank_rows, views, size, source.answers.at)
        erase(images, augmentation, rng)
        own, answers = targets[head], np.exp(bank.log_probabilities(bank_rows, views))
        targets[head] = (1 - share) * own + share * answers * own.sum(axis=1, keepdims=True)
    if augmentation.cutmix and (not augmentation.mixup or rng.random() < 0.5):
        return cutmix(images, targets, augmentation.cutmix, rng)
    return mixup(images, targets, augmentation.mixup, rng)


class RehearsalSource(NamedTuple):
    """What batches are made from when a model is adapted: faces of one's own, and others to rehearse on."""

    own: BatchSource
    rehearsal: BatchSource | None


def make_rehearsal_batch(
    source: RehearsalSource,
    rows: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    size: int,
    recipe: Recipe,
    number: tuple[int, int],
) -> tuple[npt.NDArray[np.uint8], Targets]:
    """Make a batch of rows of both sources, each part as `make_batch` makes it."""
    parts = [make_batch(source.own, rows[0], size, recipe, number)]
    if source.rehearsal is not None:
        parts.append(make_batch(source.rehearsal, rows[1], size, recipe, number))
    images = np.concatenate([faces for faces, _ in parts])
    return images, {head: np.concatenate([targets[head] for _, targets in parts]) for head in parts[0][1]}
