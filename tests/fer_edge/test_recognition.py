from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

import fer_edge
from fer_edge import Expression, Recognition
from fer_edge.geometry import Box

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge import Recognizer

HAPPY = Expression(Box(10.0, 20.0, 30.0, 40.0), "happy", 0.9, {"happy": 0.9, "sad": 0.1})


def decode(data: bytes | None) -> npt.NDArray[np.uint8]:
    assert data is not None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return np.asarray(image, np.uint8)


def test_is_a_sequence_of_expressions(recognizer: Recognizer, image_path: Path) -> None:
    recognition = recognizer(image_path)
    assert len(recognition) == len(list(recognition)) == 3
    assert recognition[0] is next(iter(recognition))
    assert recognition[-1] in recognition
    assert recognition[1:] == (recognition[1], recognition[2])
    assert not Recognition(image_path, [])
    with pytest.raises(IndexError):
        recognition[3]


def test_keeps_its_image(
    recognizer: Recognizer, image_path: Path, gray: npt.NDArray[np.uint8], bgr: npt.NDArray[np.uint8]
) -> None:
    from_file = recognizer(image_path)
    assert from_file.path == image_path
    assert (from_file.image == bgr).all()
    from_array = recognizer(gray)
    assert from_array.path is None
    assert from_array.image.shape == (480, 640, 3)
    assert (from_array.image == gray[..., None]).all()


def test_repr_lists_the_faces(recognizer: Recognizer, image_path: Path, gray: npt.NDArray[np.uint8]) -> None:
    assert repr(HAPPY) == "<Expression happy 90% at 10,20 30x40>"
    assert repr(Recognition("a.jpg", [HAPPY, HAPPY])) == "<Recognition of a.jpg: happy 90%, happy 90%>"
    assert repr(Recognition(gray, [])) == "<Recognition of array of shape (480, 640): no face>"
    assert repr(recognizer(image_path)).startswith(f"<Recognition of {image_path}: ")


def test_notebook_shows_image_and_scores(recognizer: Recognizer, image_path: Path) -> None:
    png = decode(recognizer(image_path)._repr_png_())
    assert png.shape[0] > 480
    assert png.shape[1:] == (640, 3)
    assert len(np.unique(png[480:].reshape(-1, 3), axis=0)) > 7, "bars in the colours of the emotions"


@pytest.mark.parametrize("shape", [(1, 1), (48, 48), (4000, 3000), (3, 5000), (5000, 3)])
@pytest.mark.parametrize("faces", [0, 1, 13])
def test_notebook_image_has_a_bounded_size(shape: tuple[int, int], faces: int) -> None:
    long_expression = Expression(
        HAPPY.box, "an odd emotion with a long name", 0.5, {f"label number {i}": i / 99 for i in range(99)}
    )
    png = decode(Recognition(np.zeros(shape, np.uint8), [HAPPY, *[long_expression] * faces])._repr_png_())
    assert png.shape[0] <= 480 + 4 * 14 * 15 + 30
    assert png.shape[1:] == (640, 3)


def test_notebook_shows_only_text_without_the_file(tmp_path: Path) -> None:
    assert Recognition(tmp_path / "gone.jpg", [HAPPY])._repr_png_() is None
    with pytest.raises(fer_edge.DataError, match=r"gone\.jpg: cannot be read"):
        _ = Recognition(tmp_path / "gone.jpg", []).image
