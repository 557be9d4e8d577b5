from __future__ import annotations

import numpy as np

from fer_edge_train.faces.clutter import SIDE, draw_clutter


def test_clutter_is_varied_and_visible() -> None:
    drawn = [draw_clutter(np.random.default_rng(seed)) for seed in range(60)]
    for image, mask in drawn:
        assert image.shape == mask.shape == (SIDE, SIDE)
        assert image.dtype == mask.dtype == np.uint8
        assert (mask > 127).mean() > 0.02
    assert len({image.tobytes() + mask.tobytes() for image, mask in drawn}) == 60
