from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

import fer_edge
from fer_edge import Expression
from fer_edge.classification.colours import emotion_colour
from fer_edge.classification.labels import FERPLUS
from fer_edge.geometry import Box

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

HAPPY = Expression(Box(10.0, 20.0, 30.0, 40.0), "happy", 0.9, {"happy": 0.9, "sad": 0.1})


def test_draws_on_a_copy(gray: npt.NDArray[np.uint8], bgr: npt.NDArray[np.uint8], image_path: Path) -> None:
    before = bgr.copy()
    drawn = fer_edge.annotate(bgr, [HAPPY])
    assert (bgr == before).all()
    assert (drawn != bgr).any()
    assert (fer_edge.annotate(image_path, [HAPPY]) == drawn).all()
    assert (fer_edge.annotate(bgr[..., ::-1], [HAPPY], channels="rgb") == drawn).all()
    assert (fer_edge.annotate(bgr, []) == bgr).all()
    assert fer_edge.annotate(gray, [HAPPY]).shape == (480, 640, 3)


def test_box_has_the_colour_of_its_emotion(gray: npt.NDArray[np.uint8]) -> None:
    for emotion in FERPLUS:
        face = Expression(Box(100, 100, 200, 200), emotion, 1.0, {emotion: 1.0})
        assert tuple(fer_edge.annotate(gray, [face])[300, 200]) == emotion_colour(emotion)[::-1]


def test_each_emotion_has_one_colour() -> None:
    assert len({emotion_colour(label) for label in (*FERPLUS, "confused")}) == 9
    assert emotion_colour("happiness") == emotion_colour(" Happy ") == emotion_colour("happy")
    assert emotion_colour("bored") == emotion_colour("bored")


def test_saves_the_copy(bgr: npt.NDArray[np.uint8], image_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.png"
    drawn = fer_edge.annotate(image_path, [HAPPY], save=str(out))
    saved = cv2.imread(str(out))
    assert saved is not None
    assert (saved == drawn).all()
    fer_edge.annotate(bgr, [], save=out)  # replaces an earlier copy
    assert [path.name for path in out.parent.iterdir()] == ["out.png"]


def test_rejects_wrong_file_names(image_path: Path, tmp_path: Path) -> None:
    before = image_path.read_bytes()
    save: Any
    for save, message in (
        (image_path, "is the image itself"),
        (tmp_path / "out.xyz", r"end it in \.png or \.jpg"),
        (tmp_path / "out", r"end it in \.png or \.jpg"),
        (tmp_path, r"end it in \.png or \.jpg"),
        (3, "save: 3 is not a path"),
    ):
        with pytest.raises(fer_edge.InputError, match=message):
            fer_edge.annotate(image_path, [HAPPY], save=save)
    link = tmp_path / "link.png"
    link.symlink_to(image_path)
    with pytest.raises(fer_edge.InputError, match="is the image itself"):
        fer_edge.annotate(image_path, [HAPPY], save=link)
    assert image_path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [link]


@pytest.mark.parametrize("faces", [["happy"], [[HAPPY]], HAPPY, None, 3, [None]])
def test_rejects_wrong_results(gray: npt.NDArray[np.uint8], faces: Any) -> None:  # noqa: ANN401 - any at all
    with pytest.raises(fer_edge.InputError, match=r"faces: .* is not the result for one image"):
        fer_edge.annotate(gray, faces)


def test_rejects_wrong_images(tmp_path: Path) -> None:
    wrong: Any = np.zeros((4, 4))
    with pytest.raises(fer_edge.InputError, match="values of type float64"):
        fer_edge.annotate(wrong, [])
    with pytest.raises(fer_edge.DataError, match="cannot be read"):
        fer_edge.annotate(tmp_path / "none.jpg", [])
