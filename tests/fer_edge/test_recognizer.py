"""Test recognition of images of every kind, and errors for wrong images."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

import fer_edge
from fer_edge.classification.labels import FER2013

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge import Recognizer
    from tests.conftest import Sample

    Image = npt.NDArray[np.uint8]


def results(recognition: fer_edge.Recognition) -> list[tuple[object, ...]]:
    return [(face.box, face.emotion, face.scores) for face in recognition]


def test_finds_and_classifies_faces(recognizer: Recognizer, image_path: Path) -> None:
    recognition = recognizer(image_path)
    assert {face.emotion for face in recognition} == {"surprise", "angry", "sad"}
    areas = [face.box.width * face.box.height for face in recognition]
    assert areas == sorted(areas, reverse=True)
    for face in recognition:
        assert tuple(face.scores) == recognizer.labels == FER2013
        assert face.score == face.scores[face.emotion] == max(face.scores.values())
        assert sum(face.scores.values()) == pytest.approx(1, abs=0.01)


def test_path_string_and_array_give_the_same(recognizer: Recognizer, gray: Image, bgr: Image, tmp_path: Path) -> None:
    for image, name in ((gray, "gray.png"), (bgr, "colour.bmp")):
        path = tmp_path / name
        cv2.imwrite(str(path), image)
        expected = results(recognizer(image))
        assert results(recognizer(path)) == expected
        assert results(recognizer(str(path))) == expected
        assert results(recognizer.recognize(image)) == expected
        assert recognizer.detect(path) == recognizer.detect(image)


def test_formats_decoded_to_gray_give_similar_results(recognizer: Recognizer, bgr: Image, image_path: Path) -> None:
    # From left to right: two faces are almost equally large, so that their order may differ.
    found, wanted = (sorted(recognizer(image), key=lambda face: face.box.x) for image in (image_path, bgr))
    for result, expected in zip(found, wanted, strict=True):
        assert result.scores == pytest.approx(expected.scores, abs=0.05)
        assert result.box == pytest.approx(expected.box, abs=4)


def test_gray_image_may_have_one_channel_or_three(recognizer: Recognizer, gray: Image) -> None:
    expected = results(recognizer(gray))
    assert len(expected) == 3
    assert results(recognizer(gray[..., None])) == expected
    assert results(recognizer(np.repeat(gray[..., None], 3, axis=-1))) == expected


def test_channels_sets_the_order_of_colours(recognizer: Recognizer, bgr: Image) -> None:
    expected = recognizer(bgr)
    swapped = recognizer(bgr[..., ::-1], channels="rgb")
    assert results(swapped) == results(expected)
    assert (swapped.image == bgr).all()
    assert results(recognizer(bgr, channels="rgb")) != results(expected)
    assert recognizer.detect(bgr[..., ::-1], channels="rgb") == recognizer.detect(bgr)
    assert (recognizer.classify(bgr[..., ::-1], channels="rgb") == recognizer.classify(bgr)).all()


def test_accepts_views_and_read_only_arrays(recognizer: Recognizer, gray: Image) -> None:
    mirrored = gray[:, ::-1]
    assert results(recognizer(mirrored)) == results(recognizer(mirrored.copy()))
    frozen = gray.copy()
    frozen.flags.writeable = False
    assert results(recognizer(frozen)) == results(recognizer(gray))


def test_several_images_give_a_list(recognizer: Recognizer, image_path: Path, gray: Image) -> None:
    several: list[Path | Image] = [image_path, gray]
    expected = [results(recognizer(image)) for image in several]
    assert [results(faces) for faces in recognizer(several)] == expected
    assert [results(faces) for faces in recognizer(tuple(several))] == expected
    assert [results(faces) for faces in recognizer(image for image in several)] == expected
    assert [results(faces) for faces in recognizer([gray])] == expected[1:]
    assert recognizer([]) == []


def test_array_of_four_dimensions_is_a_batch(recognizer: Recognizer, gray: Image, bgr: Image) -> None:
    def batch(images: Image) -> list[Any]:
        return list(recognizer(images))

    for image in (bgr, gray[..., None]):
        assert [results(faces) for faces in batch(np.stack([image, image[::-1]]))] == [
            results(recognizer(image)),
            results(recognizer(image[::-1])),
        ]
    assert batch(np.empty((0, 48, 48, 3), np.uint8)) == []


def test_face_crop_needs_no_detector(sample: Sample) -> None:
    recognizer = fer_edge.load(detector=None)
    crop = sample.faces[550]
    (face,) = recognizer(crop)
    assert face.box == (0, 0, 48, 48)
    assert list(face.scores.values()) == pytest.approx(recognizer.classify(crop), abs=1e-4)
    with pytest.raises(fer_edge.InputError, match="loaded without a detector"):
        recognizer.detect(crop)


def test_detects_faces_in_an_image_of_the_size_of_a_crop(recognizer: Recognizer, sample: Sample) -> None:
    recognition = recognizer(sample.faces[550])
    assert isinstance(recognition, fer_edge.Recognition)
    assert len(recognition) <= 1


def test_detects_without_scoring(recognizer: Recognizer, bgr: Image) -> None:
    faces = recognizer.detect(bgr)
    assert all(isinstance(face, fer_edge.Face) for face in faces)
    assert [tuple(round(value, 1) for value in face.box) for face in faces] == [face.box for face in recognizer(bgr)]


def test_classifies_one_crop_or_several(recognizer: Recognizer, sample: Sample, image_path: Path) -> None:
    crops = sample.faces[:4]
    scores = recognizer.classify(crops)
    assert scores.shape == (4, 7)
    assert scores.dtype == np.float32
    crop_scores = recognizer.classify(crops[0])
    assert crop_scores.shape == (7,)
    assert (crop_scores == scores[0]).all()
    for batch in (list(crops), crops[..., None], np.repeat(crops[..., None], 3, axis=-1), iter(crops)):
        assert (recognizer.classify(batch) == scores).all()
    assert recognizer.classify([crops[0]]).shape == (1, 7)
    assert recognizer.classify([]).shape == (0, 7)
    assert recognizer.classify(crops[:0]).shape == (0, 7)
    assert recognizer.classify([image_path, crops[0]]).shape == (2, 7)
    colour = np.repeat(crops[0][..., None], 3, axis=-1)
    assert (recognizer.classify(colour) == crop_scores).all()


def test_resizes_crops_to_the_input_of_the_model(recognizer: Recognizer, sample: Sample) -> None:
    large = np.asarray(cv2.resize(sample.faces[550], (96, 96), interpolation=cv2.INTER_NEAREST), np.uint8)
    assert recognizer.classify(large) == pytest.approx(recognizer.classify(sample.faces[550]), abs=0.05)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "float": (lambda: np.full((48, 48), 0.5), r"values of type float64, .*\(image \* 255\)\.astype\(np\.uint8\)"),
    "float32": (lambda: np.full((48, 48, 3), 0.5, np.float32), "values of type float32"),
    "16-bit": (lambda: np.full((48, 48), 9999, np.uint16), r"uint16, .*\(image // 257\)\.astype"),
    "whole numbers": (lambda: np.full((48, 48), 9), r"int64, .*image\.astype\(np\.uint8\)"),
    "mask": (lambda: np.ones((48, 48), bool), "a mask is not an image"),
    "object array": (lambda: np.array([None, 1]), "values of type object"),
    "text array": (lambda: np.array(["a.jpg"]), "values of type <U5"),
    "RGBA": (lambda: np.zeros((48, 48, 4), np.uint8), r"alpha channel; leave it out: image\[\.\.\., :3\]"),
    "grey and alpha": (lambda: np.zeros((48, 48, 2), np.uint8), "alpha channel"),
    "one dimension": (lambda: np.zeros(2304, np.uint8), r"shape \(2304,\) is not that of an image"),
    "no dimension": (lambda: np.array(3, np.uint8), r"shape \(\)"),
    "five dimensions": (lambda: np.zeros((1, 1, 4, 4, 3), np.uint8), "is not that of an image"),
    "empty": (lambda: np.array([]), "empty"),
    "no rows": (lambda: np.empty((0, 48), np.uint8), "empty"),
    "no columns": (lambda: np.empty((48, 0), np.uint8), "empty"),
    "RGBA batch": (lambda: np.zeros((2, 48, 48, 4), np.uint8), r"(images|crops)\[0\]: .* alpha channel"),
    "channels first batch": (lambda: np.zeros((2, 3, 48, 48), np.uint8), r"channels come first, give image\.transpose"),
    "nothing": (lambda: None, "NoneType is neither a path nor a NumPy array"),
    "number": (lambda: 3, "int is neither a path nor"),
    "encoded image": (lambda: b"\x89PNG", "bytes is neither a path nor"),
    "bytearray": (lambda: bytearray(b"\x89PNG"), "bytearray is neither a path nor .* cv2.imdecode"),
    "memoryview": (lambda: memoryview(b"\x89PNG"), "memoryview is neither a path nor .* cv2.imdecode"),
    "masked array": (lambda: np.ma.masked_array(np.zeros((48, 48), np.uint8)), "a masked array; .*filled"),
    "float 0..255": (lambda: np.full((48, 48), 200.0), r"for values 0\.\.255 use image\.astype"),
    "negative float": (lambda: np.full((48, 48), -1.0), r"scale the values to 0\.\.255"),
    "NUL": (lambda: "a\0b.jpg", "contains a NUL character"),
    "address": (lambda: "http://x/y.jpg", r"'http://x/y.jpg' is an address; .*fer_edge\.tag"),
    "nested lists": (lambda: [[0, 1], [2, 3]], r"\[0\]: list is neither a path nor"),
    "a number among images": (lambda: [np.zeros((48, 48), np.uint8), 3], r"\[1\]: int is neither a path nor"),
    "no name": (lambda: "", "'' is not a path"),
}


@pytest.mark.parametrize("method", ["recognize", "classify", "detect"])
@pytest.mark.parametrize("case", WRONG)
def test_rejects_wrong_images(recognizer: Recognizer, case: str, method: str) -> None:
    make, message = WRONG[case]
    if method == "detect" and r"\[" in message and "batch" not in case and case != "RGBA":
        message = "list is neither a path nor"
    if method == "detect" and "batch" in case:
        message = "is not that of an image"
    with pytest.raises(fer_edge.InputError, match=message):
        getattr(recognizer, method)(make())


@pytest.mark.parametrize("shape", [(3, 48, 64), (1, 48, 64), (4, 48, 64)])
def test_rejects_channels_first(recognizer: Recognizer, shape: tuple[int, ...]) -> None:
    for method in (recognizer, recognizer.detect):
        with pytest.raises(
            fer_edge.InputError,
            match=r"channels come first, give image\.transpose\(1, 2, 0\); for several grey images, give list",
        ):
            method(np.zeros(shape, np.uint8))


def test_rejects_gray_images_in_one_array_of_three_dimensions(recognizer: Recognizer) -> None:
    with pytest.raises(fer_edge.InputError, match=r"\(5, 48, 64\) .* give several grey images as list\(images\)"):
        recognizer(np.zeros((5, 48, 64), np.uint8))


def test_rejects_flat_crops(recognizer: Recognizer, sample: Sample) -> None:
    with pytest.raises(fer_edge.InputError, match=r"\(5, 2304\) seems to hold flattened crops"):
        recognizer.classify(sample.faces[:5].reshape(5, -1))


@pytest.mark.parametrize("shape", [(10, 2304), (10, 2304, 1), (10, 2304, 3)])
def test_rejects_flat_crops_of_any_depth(recognizer: Recognizer, shape: tuple[int, ...]) -> None:
    for method in (recognizer.classify, fer_edge.load(detector=None)):
        with pytest.raises(fer_edge.InputError, match="seems to hold flattened crops"):
            method(np.zeros(shape, np.uint8))


def test_rejects_a_crop_with_its_channels_first(recognizer: Recognizer) -> None:
    crops = np.zeros((3, 48, 48), np.uint8)
    with pytest.raises(fer_edge.InputError, match=r"give list\(crops\)"):
        recognizer.classify(crops)
    assert recognizer.classify(list(crops)).shape == (3, 7)


def test_is_not_pickled_or_copied(recognizer: Recognizer) -> None:
    for duplicate in (pickle.dumps, copy.copy):
        with pytest.raises(fer_edge.InputError, match="load it in each process"):
            duplicate(recognizer)


@pytest.mark.parametrize("channels", ["xx", [], None])
def test_checks_the_channels_of_files_too(recognizer: Recognizer, image_path: Path, channels: Any) -> None:  # noqa: ANN401
    calls: list[Callable[[], object]] = [
        lambda: recognizer(image_path, channels=channels),
        lambda: recognizer([], channels=channels),
        lambda: recognizer.detect(image_path, channels=channels),
        lambda: recognizer.classify([], channels=channels),
        lambda: fer_edge.annotate(image_path, [], channels=channels),
    ]
    for call in calls:
        with pytest.raises(fer_edge.InputError, match="is not an order of colours"):
            call()


def test_rejects_a_place_to_save_with_a_nul(image_path: Path) -> None:
    with pytest.raises(fer_edge.InputError, match=r"save: .* contains a NUL character"):
        fer_edge.annotate(image_path, [], save="a\0b.png")


@pytest.mark.parametrize("method", ["recognize", "classify", "detect"])
def test_rejects_files_that_are_not_images(recognizer: Recognizer, tmp_path: Path, method: str) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not an image")
    call = getattr(recognizer, method)
    for path, message in (
        (tmp_path / "none.jpg", r"none\.jpg: cannot be read \(No such file or directory\)"),
        (text, r"text\.jpg: not an image, or a damaged one"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(fer_edge.DataError, match=message):
            call(path)


def test_rejects_unknown_order_of_colours(recognizer: Recognizer, bgr: Image) -> None:
    wrong: Any = "gbr"
    with pytest.raises(fer_edge.InputError, match="channels: 'gbr' is not an order of colours; give 'bgr' or 'rgb'"):
        recognizer(bgr, channels=wrong)


def test_rejects_pillow_images_with_advice(recognizer: Recognizer, bgr: Image) -> None:
    pillow = pytest.importorskip("PIL.Image")
    picture = pillow.fromarray(bgr[..., ::-1])
    with pytest.raises(fer_edge.InputError, match=r"np\.asarray\(image\.convert\('RGB'\)\) and channels='rgb'"):
        recognizer(picture)
    assert results(recognizer(np.asarray(picture.convert("RGB")), channels="rgb")) == results(recognizer(bgr))


def test_recognizer_can_be_shared_between_threads(recognizer: Recognizer, gray: Image) -> None:
    # The sizes differ, so the detector resizes its input each time. Batches of crops come in between.
    images = [np.ascontiguousarray(gray[: 480 - 16 * (i % 5)]) for i in range(40)]
    expected = [results(recognizer(image)) for image in images]
    crops = np.stack([gray[:48, :48], gray[100:148, 100:148]])
    scores = recognizer.classify(crops)

    def work(thread_recognizer: Recognizer, numbers: range) -> bool:
        return all(
            results(thread_recognizer(images[i])) == expected[i] and (thread_recognizer.classify(crops) == scores).all()
            for i in numbers
        )

    with ThreadPoolExecutor(4) as pool:
        shared = [pool.submit(work, recognizer, range(i, 40, 2)) for i in range(2)]
        separate = [pool.submit(work, fer_edge.load(), range(i, 40, 2)) for i in range(2)]
        assert all(future.result() for future in (*shared, *separate))


def test_constructor_rejects_names() -> None:
    name: Any
    for name in ("edge", None):
        with pytest.raises(fer_edge.InputError, match=r"fer_edge\.load loads both by name"):
            fer_edge.Recognizer(name)


def test_repr_describes_the_recognizer(recognizer: Recognizer) -> None:
    assert repr(recognizer) == (
        "<Recognizer edge, detector NetworkDetector, labels angry, disgust, fear, happy, sad, surprise, neutral>"
    )
    assert repr(fer_edge.load(detector=None)).startswith("<Recognizer edge, detector None, ")
    assert recognizer.model == recognizer.card.name == "edge"
