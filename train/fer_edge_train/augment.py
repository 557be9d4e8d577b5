"""Random changes of face pictures for training, fast enough to stay out of the way.

Each picture goes through one affine warp that also resizes it, so training at a
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


def augment(
    faces: npt.NDArray[np.uint8], size: int, how: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Randomly flip, warp, relight and partly cover faces.

    Args:
        faces: uint8 grey pictures of shape (n, height, width).
        size: side of the square result in pixels.
        how: strengths of each change; all zero only resizes.
        rng: source of randomness.

    Returns:
        uint8 array of shape (n, size, size).
    """
    out = np.empty((len(faces), size, size), np.uint8)
    flip = rng.random(len(faces)) < how.flip
    angle = np.radians(rng.uniform(-how.rotate_degrees, how.rotate_degrees, len(faces)))
    zoom = np.exp(rng.uniform(-1, 1, len(faces)) * math.log1p(how.zoom))
    aspect = np.exp(rng.uniform(-1, 1, len(faces)) * math.log1p(how.stretch))
    shear = rng.uniform(-how.shear, how.shear, len(faces))
    shift = rng.uniform(-how.shift, how.shift, (len(faces), 2))
    contrast = np.exp(rng.uniform(-1, 1, len(faces)) * math.log1p(how.contrast))
    bright = rng.uniform(-how.brightness, how.brightness, len(faces)) * 255
    for i, face in enumerate(faces):
        height, width = face.shape
        # Source coordinates are centred and divided by the side, so that one matrix
        # holds every change and the resize; warpAffine wants it from output to input.
        cos, sin = math.cos(angle[i]) / zoom[i], math.sin(angle[i]) / zoom[i]
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.array([[aspect[i], shear[i]], [0, 1 / aspect[i]]])
        if flip[i]:
            turn[:, 0] = -turn[:, 0]
        linear = turn * np.array([[width], [height]]) / size
        centre = np.array([width - 1, height - 1]) / 2 + shift[i] * (width, height)
        matrix = np.column_stack([linear, centre - linear @ np.full(2, (size - 1) / 2)])
        cv2.warpAffine(
            face,
            matrix,
            (size, size),
            dst=out[i],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if how.contrast or how.brightness:
            mean = float(out[i].mean())
            cv2.convertScaleAbs(
                np.maximum(out[i] * np.float32(contrast[i]) + np.float32(mean * (1 - contrast[i]) + bright[i]), 0),
                dst=out[i],
            )
    for i in np.flatnonzero(rng.random(len(faces)) < how.erase).tolist():
        # Random erasing (Zhong et al. 2017, arXiv:1708.04896): a rectangle of noise.
        high, wide = (max(1, int(share * size)) for share in rng.uniform(0.1, how.erase_size, 2))
        top, left = int(rng.integers(0, size - high + 1)), int(rng.integers(0, size - wide + 1))
        out[i, top : top + high, left : left + wide] = rng.integers(0, 256, (high, wide), np.uint8)
    return out


def mixup(
    faces: npt.NDArray[np.float32],
    targets: Mapping[str, npt.NDArray[np.float32]],
    alpha: float,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.float32]]]:
    """Blend each picture and its targets with another of the batch (Zhang et al. 2017, arXiv:1710.09412).

    Args:
        faces: float pictures of shape (n, height, width, 1).
        targets: for each head its class probabilities, of shape (n, classes).
        alpha: parameter of the Beta(alpha, alpha) distribution the weight is drawn from; 0 changes nothing.
        rng: source of randomness.

    Returns:
        The blended pictures and targets, of the same shapes.
    """
    if alpha == 0:
        return faces, dict(targets)
    weight = rng.beta(alpha, alpha, len(faces)).astype(np.float32)
    weight = np.maximum(weight, 1 - weight)
    other = rng.permutation(len(faces))
    w = weight[:, None, None, None]
    return faces * w + faces[other] * (1 - w), _blend(targets, other, weight)


def cutmix(
    faces: npt.NDArray[np.float32],
    targets: Mapping[str, npt.NDArray[np.float32]],
    alpha: float,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.float32]]]:
    """Paste a rectangle of another picture into each and blend targets by area (Yun et al. 2019, arXiv:1905.04899).

    Args:
        faces: float pictures of shape (n, height, width, 1).
        targets: for each head its class probabilities, of shape (n, classes).
        alpha: parameter of the Beta(alpha, alpha) distribution that the share of the area is drawn from.
        rng: source of randomness.

    Returns:
        The mixed pictures and targets, of the same shapes.
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
    """First and last (exclusive) pixel of a span around a point, cut at the picture's edge."""
    return max(round((middle - share / 2) * size), 0), min(round((middle + share / 2) * size), size)


def _blend(
    targets: Mapping[str, npt.NDArray[np.float32]], other: npt.NDArray[np.int64], weight: npt.NDArray[np.float32]
) -> dict[str, npt.NDArray[np.float32]]:
    w = weight[:, None]
    return {name: target * w + target[other] * (1 - w) for name, target in targets.items()}
