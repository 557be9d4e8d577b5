"""Dividing a dataset into training, validation and test faces, without near-duplicates in training and validation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fer_edge.datasets.dataset import TRAINING, VALIDATION
from fer_edge.datasets.near_duplicates import near_duplicates
from fer_edge.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into a dataset, sorted int64.

    Attributes:
        train: faces that the model learns from.
        validation: faces that are held out of training, to watch it.
        test: faces that the finished model is tested on.
        duplicates: faces of `validation` and `test` that have a near-duplicate in `train`.
    """

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    duplicates: npt.NDArray[np.int64]

    def parts_by_name(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return the three parts under the names that users see."""
        return {"trained on": self.train, "held out": self.validation, "tested on": self.test}


def split_dataset(data: Dataset, share: float, seed: int, batch_size: int) -> Split:
    """Divide a dataset into training, validation and test faces.

    Args:
        data: faces. If it has no validation part, some of the training faces are held out.
        share: share of the training faces to hold out, 0..1.
        seed: seed of the random choice.
        batch_size: number of faces in a batch; training needs at least so many.

    Raises:
        DataError: there are too few faces to train on.
    """
    training = np.flatnonzero(data.usages == TRAINING)
    if not len(training):
        raise DataError(
            f"{data.name}: no Training rows to train on; it has {', '.join(sorted(set(data.usages)))}."
            " Give data with Training rows, or a folder with train/"
        )
    groups = near_duplicates(data.faces)
    validation = np.flatnonzero(data.usages == VALIDATION)
    train = training
    if not len(validation):
        kept, held_out = hold_out(groups[training], holdout_keys(data.faces, training, seed), share)
        train, validation = training[kept], training[held_out]
    test = np.flatnonzero((data.usages != TRAINING) & (data.usages != VALIDATION))
    if len(train) < batch_size:
        smaller = 1 << max(len(train).bit_length() - 1, 0)  # the largest power of two that is not above
        remedy = f", or --set optimizer.batch_size={smaller}" if len(train) else ""
        raise DataError(
            f"{data.name}: {len(training)} training faces, {len(train)} of them not held out, are too few:"
            f" one batch of this recipe takes {batch_size}; give more faces{remedy}"
        )
    others = np.sort(np.concatenate([validation, test]))
    return Split(train, validation, test, others[np.isin(groups[others], groups[train])])


def split_own_faces(data: Dataset, share: float, seed: int, groups: npt.NDArray[np.str_] | None = None) -> Split:
    """Divide few faces of one's own, so that every class with two faces or more has some that are held out.

    Args:
        data: faces. If it has no validation part, some of the training faces are held out.
        share: share of the training faces of each class to hold out, 0..1.
        seed: seed of the random choice.
        groups: group of each face, whose faces stay together, such as those of one person or occasion; empty for a face
            that belongs to none. Near-duplicates stay together, too.

    Raises:
        DataError: a class has no face to hold out that differs from all others, or groups leave none.
    """
    near = near_duplicates(data.faces)
    together = near if groups is None else _join_groups(near, groups)
    training = np.flatnonzero(data.usages == TRAINING)
    validation = np.flatnonzero(data.usages == VALIDATION)
    train = training
    if not len(validation):
        keys = holdout_keys(data.faces, training, seed)
        held_out = hold_out_each_class(together[training], data.classes[training], keys, share)
        if held_out is None:
            of_groups = "" if groups is None else " and groups"
            raise DataError(
                f"{data.name}: near-duplicates{of_groups} leave no face of some class to hold out; give more faces"
                f"{' of other groups' if of_groups else ''}, or a folder val/ beside train/"
            )
        train, validation = training[~held_out], training[held_out]
    test = np.flatnonzero((data.usages != TRAINING) & (data.usages != VALIDATION))
    others = np.sort(np.concatenate([validation, test]))
    return Split(train, validation, test, others[np.isin(near[others], near[train])])


def _join_groups(near: npt.NDArray[np.int64], groups: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """Join groups that have a near-duplicate in common."""
    count = int(near.max()) + 1
    names, own = np.unique(groups, return_inverse=True)
    member = groups != ""
    nodes = count + len(names)
    links = coo_array((np.ones(member.sum(), bool), (near[member], count + own[member])), shape=(nodes, nodes))
    joined: npt.NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return joined[near]


def hold_out_each_class(
    groups: npt.NDArray[np.int64], classes: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], share: float
) -> npt.NDArray[np.bool_] | None:
    """Hold out a share of each class that has two faces or more, with all faces of a group on one side.

    Args:
        groups: group of each face, of shape (n,).
        classes: class of each face, of shape (n,).
        keys: random number of each face, of shape (n,). Groups with the lowest numbers are held out first.
        share: share to hold out, 0..1.

    Returns:
        Whether each face is held out; None if groups leave no face of a class to hold out, or to keep.
    """
    _, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((group.max() + 1, classes.max() + 1), np.int64)
    np.add.at(counts, (group, classes), 1)
    lowest = np.full(len(counts), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, group, keys)
    order = np.argsort(lowest, kind="stable")
    total = counts.sum(axis=0)
    wanted = np.where(total >= 2, np.maximum(np.rint(share * total).astype(np.int64), 1), 0)
    held = np.zeros(len(counts), bool)
    for number in order:
        held[number] = (counts[held].sum(axis=0) + counts[number] <= wanted).all()
    # Where groups are larger than what is wanted of a class, the smallest one that leaves half of each class serves.
    for label in np.flatnonzero(wanted):
        if counts[held, label].any():
            continue
        others = [number for number in order if counts[number, label] and not held[number]]
        fitting = [n for n in others if (2 * (counts[held].sum(axis=0) + counts[n]) <= np.maximum(total, 2)).all()]
        if not fitting:
            return None
        held[min(fitting, key=lambda number: counts[number].sum())] = True
    return held[group]


def holdout_keys(faces: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """Compute a random number for each face that depends on nothing but the seed and the face.

    So datasets that have most faces in common, such as FER-2013 with its own labels and with those of FER+, hold out
    the same faces.
    """
    key = str(seed).encode()
    digests = (hashlib.blake2b(faces[row].tobytes(), digest_size=8, key=key).digest() for row in rows)
    return np.frombuffer(b"".join(digests), np.uint64)


def hold_out(
    groups: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], share: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Hold out a share of the faces, with all faces of a group on one side.

    Args:
        groups: group of each face, of shape (n,).
        keys: random number of each face, of shape (n,). Groups with the lowest numbers are held out.
        share: share to hold out, 0..1.

    Returns:
        Sorted indices of the faces that are kept and of those that are held out.
    """
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    lowest = np.full(len(sizes), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, group, keys)
    remaining, chosen = max(round(share * len(groups)), 1), []
    for number in np.argsort(lowest, kind="stable"):
        if sizes[number] <= remaining:
            chosen.append(number)
            remaining -= sizes[number]
    held_out = np.isin(group, chosen or [sizes.argmin()])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
