"""Near-duplicates, and a held-out part that shares none with what is trained on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fer_edge.datasets.dataset import TRAINING, VALIDATION
from fer_edge.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset

_BITS: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)
_DISTANCE: Final = 3  # bits: found whole by the search below, since four parts cannot all differ by three bits
_LIKENESS: Final = 0.95
_CHUNK: Final = 4096


@dataclass(frozen=True, slots=True)
class Parts:
    """Indices into a dataset, sorted int64.

    Attributes:
        kept: faces that are learnt from.
        held: faces that are watched.
        tested: faces that are only tested on.
        repeated: faces of ``held`` and ``tested`` that have a near-duplicate in ``kept``.
    """

    kept: npt.NDArray[np.int64]
    held: npt.NDArray[np.int64]
    tested: npt.NDArray[np.int64]
    repeated: npt.NDArray[np.int64]

    def named(self) -> dict[str, npt.NDArray[np.int64]]:
        """The three parts under the names that people read."""
        return {"trained on": self.kept, "held out": self.held, "tested on": self.tested}


def divide(data: Dataset, share: float, seed: int, smallest: int) -> Parts:
    """Say which faces are learnt from, which are watched and which are only tested on.

    Args:
        data: faces; without a validation part of its own, some of the training faces are held out.
        share: what part of them, 0..1.
        seed: of the random choice.
        smallest: how few faces to learn from are too few: a batch.

    Raises:
        DataError: too few faces to train on.
    """
    training = np.flatnonzero(data.usages == TRAINING)
    if not len(training):
        raise DataError(f"{data.name}: no Training rows to train on; it has {', '.join(sorted(set(data.usages)))}")
    groups = near_duplicates(data.faces)
    held = np.flatnonzero(data.usages == VALIDATION)
    kept = training
    if not len(held):
        chosen, watched = hold_out(groups[training], _lots(data.faces, training, seed), share)
        kept, held = training[chosen], training[watched]
    tested = np.flatnonzero((data.usages != TRAINING) & (data.usages != VALIDATION))
    if len(kept) < smallest:
        raise DataError(
            f"{data.name}: {len(training)} training faces, {len(kept)} of them not held out, are too few:"
            f" one batch of this recipe takes {smallest}"
        )
    others = np.sort(np.concatenate([held, tested]))
    return Parts(kept, held, tested, others[np.isin(groups[others], groups[kept])])


def near_duplicates(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Group faces that are the same image but for brightness, contrast, compression or a little noise.

    Two faces are the same when their difference hashes (signs of the horizontal gradient of the image reduced
    to 9x8) differ in at most 3 of 64 bits, and the images reduced to 16x16 correlate by at least 0.95.
    Candidates are those that agree in at least one of four 16-bit parts of the hash, so that all such hashes are
    found without comparing each with each.  Plain images correlate with nothing: each is a group of its own.

    Args:
        faces: uint8 of shape (n, height, width).

    Returns:
        A group number for each face, int64 of shape (n,).
    """
    hashes = np.empty((len(faces), 8), np.uint8)
    reduced = np.empty((len(faces), 256), np.uint8)
    contrast = np.empty(len(faces), np.float32)
    for i, face in enumerate(faces):
        small = cv2.resize(face, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
        hashes[i] = np.packbits(np.diff(small, axis=1) > 0)
        reduced[i] = cv2.resize(face, (16, 16), interpolation=cv2.INTER_AREA).ravel()
        contrast[i] = reduced[i].std()
    # Of faces with one hash only the first is compared with others, and that of most contrast with those of its hash,
    # for a plain image may come first: a thousand copies are not a million pairs.
    different, first, which = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    clearest = np.empty(len(different), np.int64)
    rising = np.argsort(contrast, kind="stable")
    clearest[which[rising]] = rising
    pairs = [np.stack([one[which], np.arange(len(faces))], axis=1) for one in (first, clearest)]
    for part in range(4):
        keys = different[:, 2 * part].astype(np.int64) << 8 | different[:, 2 * part + 1]
        order = np.argsort(keys, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            for k in range(len(members) - 1):
                others = members[k + 1 :]
                near = others[_BITS[different[others] ^ different[members[k]]].sum(axis=1) <= _DISTANCE]
                pairs.append(np.stack([np.full(len(near), first[members[k]]), first[near]], axis=1))
    candidates = np.unique(np.concatenate(pairs), axis=0)
    alike = np.zeros(len(candidates), bool)
    for begin in range(0, len(candidates), _CHUNK):
        one, other = (_standardised(reduced[ends]) for ends in candidates[begin : begin + _CHUNK].T)
        alike[begin : begin + _CHUNK] = (one * other).mean(axis=1) >= _LIKENESS
    rows, columns = candidates[alike].T
    links = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(faces), len(faces)))
    groups: npt.NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return groups


def _standardised(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    real = images.astype(np.float32)
    real -= real.mean(axis=1, keepdims=True)
    real /= np.maximum(real.std(axis=1, keepdims=True), 1)
    return real


def _lots(faces: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """A random number for each of some faces that depends on nothing but the seed and the face.

    So the same faces are held out of datasets that have most of them, as FER-2013 with its own labels and with FER+'s.
    """
    key = str(seed).encode()
    digests = (hashlib.blake2b(faces[row].tobytes(), digest_size=8, key=key).digest() for row in rows)
    return np.frombuffer(b"".join(digests), np.uint64)


def hold_out(
    groups: npt.NDArray[np.int64], lots: npt.NDArray[np.uint64], share: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Hold out a share of the faces, with each group on one side.

    Args:
        groups: group of each face, of shape (n,).
        lots: a random number for each face, of shape (n,); groups with the least are held out.
        share: what part to hold out, 0..1.

    Returns:
        Sorted indices of the faces kept and of those held out.
    """
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    least = np.full(len(sizes), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, group, lots)
    wanted, chosen = max(round(share * len(groups)), 1), []
    for number in np.argsort(least, kind="stable"):
        if sizes[number] <= wanted:
            chosen.append(number)
            wanted -= sizes[number]
    held = np.isin(group, chosen or [sizes.argmin()])
    return np.flatnonzero(~held), np.flatnonzero(held)
