"""Random changes of face images for training, fast enough that training does not wait for them.

Each image goes through one affine warp, which also resizes it: training at a smaller size costs nothing extra. All
randomness comes from the generator that is passed in, so the same state of the generator gives the same batch.
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


def augment(
    faces: npt.NDArray[np.uint8], size: int, augmentation: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Randomly flip and warp faces, change their light and cover parts of them.

    Args:
        faces: uint8 grey images of shape (n, height, width).
        size: side of the square result, in pixels.
        augmentation: strengths of the changes; if all are zero, the images are only resized.
        rng: source of randomness.

    Returns:
        uint8 array of shape (n, size, size).
    """
    count, height, width = faces.shape
    out = np.empty((count, size, size), np.uint8)
    matrices = _random_warps(count, (height, width), size, augmentation, rng)
    contrast = np.exp(rng.uniform(-1, 1, count) * math.log1p(augmentation.contrast))
    brightness = rng.uniform(-augmentation.brightness, augmentation.brightness, count) * 255
    for face, matrix, warped in zip(faces, matrices, out, strict=True):
        cv2.warpAffine(
            face,
            matrix,
            (size, size),
            dst=warped,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    if augmentation.contrast or augmentation.brightness:
        means = out.mean(axis=(1, 2), dtype=np.float32)
        curves = np.arange(256) * contrast[:, None] + (means * (1 - contrast) + brightness)[:, None]
        out = np.clip(np.rint(curves), 0, 255).astype(np.uint8)[np.arange(count)[:, None, None], out]
    erase(out, augmentation, rng)
    return out


def erase(images: npt.NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator) -> None:
    """Cover a rectangle of some images with noise, in place (Zhong et al. 2017, arXiv:1708.04896).

    Args:
        images: uint8 of shape (n, side, side).
        augmentation: how often, and how large the rectangles are.
        rng: source of randomness.
    """
    size = images.shape[1]
    for i in np.flatnonzero(rng.random(len(images)) < augmentation.erase).tolist():
        rows, columns = (max(1, int(share * size)) for share in rng.uniform(0.1, augmentation.erase_size, 2))
        top, left = int(rng.integers(0, size - rows + 1)), int(rng.integers(0, size - columns + 1))
        images[i, top : top + rows, left : left + columns] = rng.integers(0, 256, (rows, columns), np.uint8)


def _random_warps(
    count: int, shape: tuple[int, int], size: int, augmentation: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Make matrices of shape (count, 2, 3) from pixels of the result to pixels of images of ``shape``."""
    flip = np.where(rng.random(count) < augmentation.flip, -1.0, 1.0)
    strength = np.where(rng.random(count) < augmentation.identity_probability, 0.0, 1.0)
    degrees = augmentation.rotate_degrees
    angle = np.radians(rng.uniform(-degrees, degrees, count)) * strength
    zoom = np.exp(rng.uniform(-1, 1, count) * strength * math.log1p(augmentation.zoom))
    aspect = np.exp(rng.uniform(-1, 1, count) * strength * math.log1p(augmentation.stretch))
    shear = rng.uniform(-augmentation.shear, augmentation.shear, count) * strength
    shift = rng.uniform(-augmentation.shift, augmentation.shift, (count, 2)) * strength[:, None]
    return affine_matrices(
        angle=angle,
        zoom=zoom,
        width=aspect * flip,
        height=1 / aspect,
        shear=shear,
        shift=shift,
        shape=shape,
        size=size,
    )


def affine_matrices(
    *,
    angle: npt.NDArray[np.float64],
    zoom: npt.NDArray[np.float64],
    width: npt.NDArray[np.float64],
    height: npt.NDArray[np.float64],
    shear: npt.NDArray[np.float64],
    shift: npt.NDArray[np.float64],
    shape: tuple[int, int],
    size: int,
) -> npt.NDArray[np.float64]:
    """Make affine matrices that change and resize images in one step.

    Args:
        angle: rotation of each image, in radians, of shape (n,).
        zoom: enlargement, of shape (n,).
        width: factor on the width, of shape (n,); a negative one flips the image.
        height: factor on the height, of shape (n,).
        shear: horizontal shear, as a tangent, of shape (n,).
        shift: horizontal and vertical shift over the side, of shape (n, 2).
        shape: rows and columns of the images.
        size: side of the results, in pixels.

    Returns:
        Matrices of shape (n, 2, 3) from pixels of the results to pixels of the images.
    """
    # Source coordinates are centred and divided by the side, so that one matrix holds every change and the resize.
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    rotation = np.stack((cos, -sin, sin, cos), axis=1).reshape(-1, 2, 2)
    shearing = np.stack((width, shear, np.zeros_like(shear), height), axis=1).reshape(-1, 2, 2)
    extent = np.array(shape[::-1], np.float64)
    linear = rotation @ shearing * extent[:, None] / size
    centres = (extent - 1) / 2 + shift * extent
    translation = centres - linear.sum(axis=2) * (size - 1) / 2
    return np.concatenate((linear, translation[:, :, None]), axis=2)


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
        alpha: parameter of the Beta(alpha, alpha) distribution of the weight; 0 changes nothing.
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
        alpha: parameter of the Beta(alpha, alpha) distribution of the share of the area.
        rng: source of randomness.

    Returns:
        The mixed images and targets, of the same shapes.
    """
    count, height, width = faces.shape[:3]
    side = np.sqrt(1 - rng.beta(alpha, alpha, count))
    other = rng.permutation(count)
    centre = rng.random((count, 2))
    mixed, kept = faces.copy(), np.empty(count, np.float32)
    for i in range(count):
        top, bottom = _span(centre[i, 0], side[i], height)
        left, right = _span(centre[i, 1], side[i], width)
        mixed[i, top:bottom, left:right] = faces[other[i], top:bottom, left:right]
        kept[i] = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, _blend(targets, other, kept)


def _span(centre: float, share: float, size: int) -> tuple[int, int]:
    """Return the first and last (exclusive) pixel of a span around a point, clipped to the image."""
    return max(round((centre - share / 2) * size), 0), min(round((centre + share / 2) * size), size)


def _blend(
    targets: Mapping[str, npt.NDArray[np.float32]], other: npt.NDArray[np.int64], weight: npt.NDArray[np.float32]
) -> Targets:
    w = weight[:, None]
    return {name: target * w + target[other] * (1 - w) for name, target in targets.items()}
