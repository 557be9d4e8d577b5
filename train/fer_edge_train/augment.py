"""Random changes of face images for training, fast enough to stay out of the way.

Each image goes through one affine warp that also resizes it, so training at a
smaller size costs nothing extra.  All randomness comes from the generator that is
passed in: the same generator state gives the same batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from fer_edge_train.recipe import Augmentation

Targets = dict[str, "npt.NDArray[np.float32]"]
Source = tuple["npt.NDArray[np.uint8]", "Mapping[str, npt.NDArray[np.float32]]"]


def augment(
    faces: npt.NDArray[np.uint8], size: int, how: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Randomly flip, warp, relight and partly cover faces.

    Args:
        faces: uint8 grey images of shape (n, height, width).
        size: side of the square result in pixels.
        how: strengths of each change; all zero only resizes.
        rng: source of randomness.

    Returns:
        uint8 array of shape (n, size, size).
    """
    count, height, width = faces.shape
    out = np.empty((count, size, size), np.uint8)
    matrices = _warps(count, (height, width), size, how, rng)
    contrast = np.exp(rng.uniform(-1, 1, count) * math.log1p(how.contrast))
    bright = rng.uniform(-how.brightness, how.brightness, count) * 255
    for face, matrix, changed in zip(faces, matrices, out, strict=True):
        cv2.warpAffine(
            face,
            matrix,
            (size, size),
            dst=changed,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    if how.contrast or how.brightness:
        means = out.mean(axis=(1, 2), dtype=np.float32)
        curves = np.arange(256) * contrast[:, None] + (means * (1 - contrast) + bright)[:, None]
        out = np.clip(np.rint(curves), 0, 255).astype(np.uint8)[np.arange(count)[:, None, None], out]
    for i in np.flatnonzero(rng.random(len(faces)) < how.erase).tolist():
        # Random erasing (Zhong et al. 2017, arXiv:1708.04896): a rectangle of noise.
        high, wide = (max(1, int(share * size)) for share in rng.uniform(0.1, how.erase_size, 2))
        top, left = int(rng.integers(0, size - high + 1)), int(rng.integers(0, size - wide + 1))
        out[i, top : top + high, left : left + wide] = rng.integers(0, 256, (high, wide), np.uint8)
    return out


def _warps(
    count: int, shape: tuple[int, int], size: int, how: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Matrices of shape (count, 2, 3) from pixels of the result to those of images of a shape."""
    flip = np.where(rng.random(count) < how.flip, -1.0, 1.0)
    warped = np.where(rng.random(count) < how.unwarped, 0.0, 1.0)
    angle = np.radians(rng.uniform(-how.rotate_degrees, how.rotate_degrees, count)) * warped
    zoom = np.exp(rng.uniform(-1, 1, count) * warped * math.log1p(how.zoom))
    aspect = np.exp(rng.uniform(-1, 1, count) * warped * math.log1p(how.stretch))
    shear = rng.uniform(-how.shear, how.shear, count) * warped
    shift = rng.uniform(-how.shift, how.shift, (count, 2)) * warped[:, None]
    # Source coordinates are centred and divided by the side, so that one matrix holds every change and the resize.
    cos, sin, zero = np.cos(angle) / zoom, np.sin(angle) / zoom, np.zeros(count)
    turn = np.stack((cos, -sin, sin, cos), axis=1).reshape(-1, 2, 2)
    lean = np.stack((aspect * flip, shear, zero, 1 / aspect), axis=1).reshape(-1, 2, 2)
    extent = np.array(shape[::-1], np.float64)
    linear = turn @ lean * extent[:, None] / size
    middles = (extent - 1) / 2 + shift * extent
    moved = middles - linear.sum(axis=2) * (size - 1) / 2
    return np.concatenate((linear, moved[:, :, None]), axis=2)


def augmented(
    source: Source, rows: npt.NDArray[np.int64], size: int, how: Augmentation, seed: tuple[int, ...]
) -> tuple[npt.NDArray[np.uint8], Targets]:
    """A batch to learn from, which depends on nothing but what is given.

    Args:
        source: faces, uint8 of shape (n, height, width), and for each head the targets of all of them.
        rows: which of them to take.
        size: side of the images, in pixels.
        how: strengths of the changes.
        seed: of all randomness.

    Returns:
        uint8 images of shape (rows, size, size), and for each head its targets, of shape (rows, classes).
    """
    every, taught = source
    rng = np.random.default_rng(seed)
    faces = augment(every[rows], size, how, rng)
    targets = {name: target[rows] for name, target in taught.items()}
    if how.cutmix and (not how.mixup or rng.random() < 0.5):
        return cutmix(faces, targets, how.cutmix, rng)
    return mixup(faces, targets, how.mixup, rng)


def mixup(
    faces: npt.NDArray[np.uint8],
    targets: Mapping[str, npt.NDArray[np.float32]],
    alpha: float,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], Targets]:
    """Blend each image and its targets with another of the batch (Zhang et al. 2017, arXiv:1710.09412).

    Args:
        faces: uint8 images of shape (n, height, width).
        targets: for each head its class probabilities, of shape (n, classes).
        alpha: parameter of the Beta(alpha, alpha) distribution the weight is drawn from; 0 changes nothing.
        rng: source of randomness.

    Returns:
        The blended images and targets, of the same shapes.
    """
    if alpha == 0:
        return faces, dict(targets)
    weight = rng.beta(alpha, alpha, len(faces)).astype(np.float32)
    weight = np.maximum(weight, 1 - weight)
    other = rng.permutation(len(faces))
    w = weight[:, None, None]
    return np.rint(faces * w + faces[other] * (1 - w)).astype(np.uint8), _blend(targets, other, weight)


def cutmix(
    faces: npt.NDArray[np.uint8],
    targets: Mapping[str, npt.NDArray[np.float32]],
    alpha: float,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], Targets]:
    """Paste a rectangle of another image into each and blend targets by area (Yun et al. 2019, arXiv:1905.04899).

    Args:
        faces: uint8 images of shape (n, height, width).
        targets: for each head its class probabilities, of shape (n, classes).
        alpha: parameter of the Beta(alpha, alpha) distribution that the share of the area is drawn from.
        rng: source of randomness.

    Returns:
        The mixed images and targets, of the same shapes.
    """
    count, height, width = faces.shape[:3]
    side = np.sqrt(1 - rng.beta(alpha, alpha, count))
    other = rng.permutation(count)
    middle = rng.random((count, 2))
    mixed, kept = faces.copy(), np.empty(count, np.float32)
    for i in range(count):
        top, bottom = _span(middle[i, 0], side[i], height)
        left, right = _span(middle[i, 1], side[i], width)
        mixed[i, top:bottom, left:right] = faces[other[i], top:bottom, left:right]
        kept[i] = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, _blend(targets, other, kept)


def _span(middle: float, share: float, size: int) -> tuple[int, int]:
    """First and last (exclusive) pixel of a span around a point, cut at the image's edge."""
    return max(round((middle - share / 2) * size), 0), min(round((middle + share / 2) * size), size)


def _blend(
    targets: Mapping[str, npt.NDArray[np.float32]], other: npt.NDArray[np.int64], weight: npt.NDArray[np.float32]
) -> Targets:
    w = weight[:, None]
    return {name: target * w + target[other] * (1 - w) for name, target in targets.items()}
