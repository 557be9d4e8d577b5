from __future__ import annotations

import numpy as np

from fer_edge import demo
from fer_edge.crop import crop_face
from fer_edge.emotions import FER2013
from fer_edge.faces import HaarDetector


def test_a_frame_is_the_same_every_time_and_the_film_repeats() -> None:
    assert (demo.frame(7) == demo.frame(7)).all()
    assert (demo.frame(7) == demo.frame(7 + demo.FRAMES)).all()
    assert (demo.frame(7) != demo.frame(9)).any()
    assert demo.frame(0).shape == (demo.HEIGHT, demo.WIDTH)
    assert demo.frame(0).dtype == np.uint8


def test_every_class_is_shown_and_faces_are_where_the_truth_says() -> None:
    assert {shown.emotion for number in range(demo.FRAMES) for shown in demo.truth(number)} == set(FER2013)
    for shown in demo.truth(90):
        face = crop_face(demo.frame(90), shown.box, 48, 48)
        assert face.std() > 25, "a face has contrast, the wall has not"


def test_the_detector_finds_what_is_there_and_nothing_else() -> None:
    detector = HaarDetector()
    for number in range(5, demo.FRAMES, 15):
        truth, found = demo.truth(number), detector.detect(demo.frame(number))
        assert len(found) == len(truth)
        for shown in truth:
            distances = [
                abs(f.box.x + f.box.width / 2 - shown.box.x - shown.box.width / 2)
                + abs(f.box.y + f.box.height / 2 - shown.box.y - shown.box.height / 2)
                for f in found
            ]
            assert min(distances) < 0.25 * shown.box.width
