from __future__ import annotations

import numpy as np

from fer_edge.modelcard.schema import ClassifierCard, InputSpec

CARD = ClassifierCard(name="x", labels=("a", "b"), input=InputSpec(height=2, width=2, scale=1 / 128, offset=-1.0))


def test_normalize_maps_pixels_to_real_values() -> None:
    real = CARD.input.normalize(np.array([[[0, 128], [255, 64]]], np.uint8))
    assert real.shape == (1, 2, 2, 1)
    assert real.ravel().tolist() == [-1.0, 0.0, 127 / 128, -0.5]
