from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import keras
import numpy as np
import pytest

from fer_edge_train.architectures.resize import cubic_matrix, mirror, resize_cubic

if TYPE_CHECKING:
    from tests.conftest import Sample

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("side", [32, 112, 128])
def test_resizes_as_opencv(sample: Sample, side: int) -> None:
    matrix = cubic_matrix(48, side)
    assert matrix.sum(axis=1) == pytest.approx(1, abs=1e-6)
    resized = np.einsum("ay,nyx,bx->nab", matrix, sample.faces[:20].astype(np.float32), matrix)
    expected = [cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC) for face in sample.faces[:20]]
    assert np.abs(np.clip(np.rint(resized), 0, 255) - np.array(expected)).max() <= 1


def test_layers_resize_and_mirror(sample: Sample) -> None:
    images = sample.faces[:5, ..., None].astype(np.float32) / 128 - 1
    given = keras.Input((48, 48, 1))
    model = keras.Model(given, [resize_cubic(given, 112, offset=0.25), mirror(given)])
    resized, mirrored = model(images)
    matrix = cubic_matrix(48, 112)
    assert np.asarray(resized)[..., 0] == pytest.approx(
        np.einsum("ay,nyx,bx->nab", matrix, images[..., 0], matrix) + 0.25, abs=1e-5
    )
    assert np.array_equal(np.asarray(mirrored), images[:, :, ::-1])
    assert not model.trainable_weights
