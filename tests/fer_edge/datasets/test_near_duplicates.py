from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer_edge.datasets.near_duplicates import near_duplicates

if TYPE_CHECKING:
    import numpy.typing as npt

    from tests.conftest import Sample


def as_jpeg(face: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    image = cv2.imdecode(cv2.imencode(".jpg", face)[1], cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return np.asarray(image, np.uint8)


def test_finds_copies_of_faces_but_no_other_faces(sample: Sample) -> None:
    faces = sample.faces[:200]
    rng = np.random.default_rng(1)
    noisy = np.clip(faces.astype(float) + rng.normal(0, 2, faces.shape), 0, 255)
    darker = faces * 0.7 + 5
    squeezed = np.stack([as_jpeg(face) for face in faces])
    copies = np.concatenate([faces, noisy, darker, squeezed]).astype(np.uint8)
    group = near_duplicates(copies).reshape(4, 200)
    for copy in group[1:]:
        assert (copy == group[0]).mean() > 0.95
    assert len(np.unique(near_duplicates(faces))) > 190  # FER-2013 has a few faces twice


def test_mirrored_and_plain_images_are_no_duplicates(sample: Sample) -> None:
    faces = np.concatenate([sample.faces[:50], sample.faces[:50, :, ::-1]])
    group = near_duplicates(faces)
    assert (group[:50] == group[50:]).mean() < 0.1
    plain = np.stack([np.full((48, 48), 10, np.uint8), np.full((48, 48), 200, np.uint8)])
    assert len(np.unique(near_duplicates(plain))) == 2


def test_finds_duplicates_with_hash_of_plain_image() -> None:
    slope = np.broadcast_to(np.arange(240, 0, -5, dtype=np.uint8), (48, 48))
    group = near_duplicates(np.stack([np.zeros((48, 48), np.uint8), slope, slope]))
    assert group[1] == group[2] != group[0]


def test_thousand_copies_are_one_group(sample: Sample) -> None:
    assert len(np.unique(near_duplicates(np.repeat(sample.faces[:2], 1000, axis=0)))) == 2
