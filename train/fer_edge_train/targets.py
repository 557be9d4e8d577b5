"""What the network is taught for each face: its class, annotators' votes and teachers' answers, weighed together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge_train.recipe import Target


def class_targets(
    target: Target,
    classes: npt.NDArray[np.int64],
    count: int,
    votes: npt.NDArray[np.float32] | None = None,
    taught: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Class probabilities to teach, without class weights.

    Args:
        target: how to weigh.
        classes: class of each face, int64 of shape (n,).
        count: how many classes there are.
        votes: annotators' votes of shape (n, count); a row without votes stands for its class.
        taught: teachers' probabilities of shape (n, count).

    Returns:
        float32 of shape (n, count) whose rows add up to 1.
    """
    hard = np.eye(count, dtype=np.float32)[classes]
    mixed = hard
    if votes is not None and target.votes:
        mixed = (1 - target.votes) * mixed + target.votes * shares(votes, hard)
    if taught is not None:
        mixed = (1 - target.distillation) * mixed + target.distillation * taught
    return smoothed(mixed, target)


def smoothed(shares: npt.NDArray[np.float32], target: Target) -> npt.NDArray[np.float32]:
    """Class probabilities of shape (n, classes) with the recipe's share of them spread over all classes."""
    smooth = target.label_smoothing
    return np.asarray((1 - smooth) * shares + smooth / shares.shape[1], np.float32)


def shares(votes: npt.NDArray[np.float32], otherwise: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Votes of shape (n, count) as shares of each row's sum; rows without votes are taken from ``otherwise``."""
    total = votes.sum(axis=1, keepdims=True)
    return np.where(total > 0, votes / np.maximum(total, 1), otherwise).astype(np.float32)


def class_weights(classes: npt.NDArray[np.int64], count: int, exponent: float) -> npt.NDArray[np.float32]:
    """A weight for each class: (mean count / its count) to the power of ``exponent``; 1 balances the classes.

    Returns:
        float32 of shape (count,), 1 for classes that do not occur.
    """
    faces = np.bincount(classes, minlength=count)
    balance = len(classes) / (np.count_nonzero(faces) * np.maximum(faces, 1))
    return np.where(faces > 0, balance**exponent, 1).astype(np.float32)
