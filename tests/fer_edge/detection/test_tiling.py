"""Large images are searched in tiles, and nothing is lost at their borders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer_edge import demo
from fer_edge.detection import network
from fer_edge.detection.factory import make_detector
from fer_edge.detection.inference import FaceNetwork

if TYPE_CHECKING:
    import pytest

    from fer_edge.geometry import Face


def scene() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return 1500 x 2000 pixels with small faces everywhere, and large ones in the middle."""
    frame = demo.frame(60)
    small = cv2.resize(frame, None, fx=0.4, fy=0.4)
    tiled = np.tile(small, (1500 // small.shape[0] + 1, 2000 // small.shape[1] + 1))[:1500, :2000].copy()
    tiled[300:1200, 400:1600] = cv2.resize(frame, (1200, 900))
    return np.asarray(tiled, np.uint8)


def same(one: Face, other: Face) -> bool:
    return bool(np.allclose(one.box, other.box, atol=0.25 * one.box.width))


def test_finds_the_same_faces_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    image = scene()
    whole = make_detector(min_face=20).detect(image)
    monkeypatch.setattr(network, "DETECTOR_PIXELS", 700 * 700)
    tiled = make_detector(min_face=20).detect(image)
    sure = [face for face in whole if face.score > 0.8]
    assert len(sure) > 20
    assert max(face.box.width for face in sure) > 4 * min(face.box.width for face in sure)
    lost = [face for face in sure if not any(same(face, other) for other in tiled)]
    assert len(lost) <= len(sure) // 20, lost
    for face in tiled:
        assert sum(same(face, other) for other in tiled) == 1, "a face was found twice"


def test_no_input_of_the_network_is_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    run = FaceNetwork.run

    def record(self: FaceNetwork, gray: object, rows: int, columns: int, *args: float) -> object:
        sizes.append(rows * columns)
        return run(self, gray, rows, columns, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(network, "DETECTOR_PIXELS", 300 * 300)
    monkeypatch.setattr(FaceNetwork, "run", record)
    for shape in ((900, 1200), (20, 9000), (9000, 30), (1, 200_000), (301, 301)):
        make_detector(min_face=12).detect(np.zeros(shape, np.uint8))
        assert sizes
        assert max(sizes) <= 300 * 300
