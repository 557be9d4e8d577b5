"""Near-duplicates: faces that a dataset has more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

_BIT_COUNTS: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)
_MAX_DISTANCE: Final = 3  # bits: three bits cannot differ in all four parts of a hash, so the search finds every pair
_MIN_CORRELATION: Final = 0.95
_CHUNK: Final = 4096


def near_duplicates(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Group faces that are the same image except for brightness, contrast, compression or a little noise.

    Two faces are the same if their difference hashes differ in at most 3 of 64 bits, and the images reduced to 16x16
    have a correlation of at least 0.95. A difference hash holds the signs of the horizontal gradient of the image
    reduced to 9x8. Candidates are those that agree in at least one of four 16-bit parts of the hash. This finds all
    such hashes without comparing each with each. Plain images correlate with nothing, so each is a group of its own.

    Args:
        faces: uint8 of shape (n, height, width).

    Returns:
        Number of the group of each face, int64 of shape (n,).
    """
    small = np.empty((len(faces), 8, 9), np.uint8)
    reduced = np.empty((len(faces), 256), np.uint8)
    contrast = np.empty(len(faces), np.float32)
    for i, face in enumerate(faces):
        small[i] = cv2.resize(face, (9, 8), interpolation=cv2.INTER_AREA)
        reduced[i] = cv2.resize(face, (16, 16), interpolation=cv2.INTER_AREA).ravel()
    hashes = np.packbits((small[:, :, 1:] > small[:, :, :-1]).reshape(len(faces), 64), axis=1)
    for start in range(0, len(faces), _CHUNK):
        contrast[start : start + _CHUNK] = reduced[start : start + _CHUNK].std(axis=1)
    # Only the first face of each hash is compared with other hashes. The faces of one hash are compared with that one
    # and with the one of most contrast, because the first may be a plain image. So a thousand copies do not make a
    # million pairs.
    unique, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    clearest = np.empty(len(unique), np.int64)
    rising = np.argsort(contrast, kind="stable")
    clearest[inverse[rising]] = rising
    pairs = [np.stack([one[inverse], np.arange(len(faces))], axis=1) for one in (first, clearest)]
    for part in range(4):
        keys = unique[:, 2 * part].astype(np.int64) << 8 | unique[:, 2 * part + 1]
        order = np.argsort(keys, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            for k in range(len(members) - 1):
                others = members[k + 1 :]
                near = others[_BIT_COUNTS[unique[others] ^ unique[members[k]]].sum(axis=1) <= _MAX_DISTANCE]
                if len(near):
                    pairs.append(np.stack([np.full(len(near), first[members[k]]), first[near]], axis=1))
    candidates = np.unique(np.concatenate(pairs), axis=0)
    same = np.zeros(len(candidates), bool)
    for start in range(0, len(candidates), _CHUNK):
        one, other = (_standardize(reduced[pair]) for pair in candidates[start : start + _CHUNK].T)
        same[start : start + _CHUNK] = (one * other).mean(axis=1) >= _MIN_CORRELATION
    return connected_groups(len(faces), candidates[same].tolist())


def connected_groups(count: int, pairs: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Group items that pairs connect, directly or through others.

    Args:
        count: number of items.
        pairs: indices of items that belong together.

    Returns:
        Number of the group of each item, int64 of shape (count,); groups are numbered by their first items.
    """
    # SciPy has this, but the service on a device must do without SciPy.
    parent = [*range(count)]

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.unique([root(item) for item in range(count)], return_inverse=True)[1].reshape(-1).astype(np.int64)


def _standardize(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    real = images.astype(np.float32)
    real -= real.mean(axis=1, keepdims=True)
    real /= np.maximum(real.std(axis=1, keepdims=True), 1)
    return real
