from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fer_edge import demo
from fer_edge.classification.crop import crop_face
from fer_edge.classification.labels import FER2013
from fer_edge.detection.factory import make_detector


def test_frames_are_reproducible_and_repeat() -> None:
    assert (demo.frame(7) == demo.frame(7)).all()
    assert (demo.frame(7) == demo.frame(7 + demo.FRAMES)).all()
    assert (demo.frame(7) != demo.frame(9)).any()
    assert demo.frame(0).shape == (demo.HEIGHT, demo.WIDTH)
    assert demo.frame(0).dtype == np.uint8


def test_shows_every_class_at_its_true_position() -> None:
    assert {true_face.emotion for number in range(demo.FRAMES) for true_face in demo.truth(number)} == set(FER2013)
    strip = cv2.imread(str(Path(demo.__file__).parent / "data" / "demo_faces.png"), cv2.IMREAD_GRAYSCALE)
    assert strip is not None
    for true_face in demo.truth(95 - 1):
        position = FER2013.index(true_face.emotion) * 48
        face = crop_face(demo.frame(95 - 1), true_face.box, 48, 48)
        inside = np.s_[8:40, 8:40]  # without the edges, which fade into the wall
        assert np.corrcoef(face[inside].ravel(), strip[:, position : position + 48][inside].ravel())[0, 1] > 0.9


def test_detector_finds_exactly_the_true_faces() -> None:
    detector = make_detector()
    for number in range(5, demo.FRAMES, 15):
        truth, faces = demo.truth(number), detector.detect(demo.frame(number))
        assert len(faces) == len(truth)
        for true_face in truth:
            distances = [
                abs(f.box.x + f.box.width / 2 - true_face.box.x - true_face.box.width / 2)
                + abs(f.box.y + f.box.height / 2 - true_face.box.y - true_face.box.height / 2)
                for f in faces
            ]
            assert min(distances) < 0.25 * true_face.box.width
