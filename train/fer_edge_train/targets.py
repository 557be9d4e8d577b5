"""The target for each face: a weighted mean of its class and annotators' votes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge_train.recipe import Target


def class_targets(
    options: Target,
    classes: npt.NDArray[np.int64],
    count: int,
    votes: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Compute target probabilities, without class weights.

    Args:
        options: the weights of the parts.
        classes: class of each face, int64 of shape (n,).
        count: number of classes.
        votes: annotators' votes of shape (n, count). A row without votes stands for its class.

    Returns:
        float32 of shape (n, count) whose rows add up to 1.
    """
    hard = np.eye(count, dtype=np.float32)[classes]
    mixed = hard
    if votes is not None and options.votes:
        mixed = (1 - options.votes) * mixed + options.votes * vote_shares(votes, hard)
    share = options.label_smoothing
    return np.asarray((1 - share) * mixed + share / count, np.float32)


def vote_shares(votes: npt.NDArray[np.float32], default: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Divide votes of shape (n, count) by the sum of their row. Rows without votes are taken from ``default``."""
    total = votes.sum(axis=1, keepdims=True)
    return np.where(total > 0, votes / np.maximum(total, 1), default).astype(np.float32)


def class_weights(classes: npt.NDArray[np.int64], count: int, exponent: float) -> npt.NDArray[np.float32]:
    """Compute a weight for each class: (mean count / its count) to the power of ``exponent``; 1 balances the classes.

    Returns:
        float32 of shape (count,); 1 for classes without faces.
    """
    faces = np.bincount(classes, minlength=count)
    balance = len(classes) / (np.count_nonzero(faces) * np.maximum(faces, 1))
    return np.where(faces > 0, balance**exponent, 1).astype(np.float32)
