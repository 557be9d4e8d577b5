"""Reading a folder of face crops."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fer_edge.classification.crop import crop_whole_image
from fer_edge.datasets.face_store import FaceStore
from fer_edge.errors import DataError, printable
from fer_edge.review.choices import canonical_emotions
from fer_edge.review.face_table import Prediction, read_face_table
from fer_edge.tagging.output.face_folder import TABLE
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.file_kinds import IMAGE_SUFFIXES, LeftOut, is_system_name
from fer_edge.utils.image_io import decode_gray
from fer_edge.utils.limits import REVIEW_FACES, REVIEW_IMAGE_BYTES
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from fer_edge.classification.classifier import Classifier

REVIEWS: Final = "reviews"
"""Folder of the reviewers' decisions in a folder of faces."""

THUMBNAIL_SIDE: Final = 48  # what near-duplicates are found by
_BATCH: Final = 512  # faces that are predicted at a time
_LOT: Final = 32  # images that a thread reads at a time; to hand over each by itself takes as long as to read it


class FaceImage(NamedTuple):
    """An image of one face.

    Attributes:
        name: path of the file relative to the folder, with slashes.
        sha256: hash of the file, as hexadecimal digits.
        prediction: what a model saw in it.
    """

    name: str
    sha256: str
    prediction: Prediction

    @property
    def score(self) -> float:
        """Score of the predicted emotion, 0..1; 0 if nothing is predicted."""
        return self.prediction.scores.get(self.prediction.emotion, 0.0)

    @property
    def group(self) -> str:
        """What keeps it together with others: the group of the table, or the folder that it lies in."""
        folder = str(PurePosixPath(self.name).parent)
        return self.prediction.group or ("" if folder == "." else folder)


class FaceFolder(NamedTuple):
    """The faces of a folder.

    Attributes:
        path: the folder.
        faces: its faces, in the order of their names; of equal files, only the first.
        thumbnails: uint8 of shape (faces, 48, 48), memory-mapped.
        emotions: what was predicted from, in order.
        skipped: one line for each image or row of the table that cannot be used.
        left_out: one line for each reason why files were left out, with their number.
    """

    path: Path
    faces: tuple[FaceImage, ...]
    thumbnails: npt.NDArray[np.uint8]
    emotions: tuple[str, ...]
    skipped: tuple[str, ...]
    left_out: tuple[str, ...]


def read_face_folder(
    path: Path,
    make_classifier: Callable[[], Classifier] | None = None,
    *,
    predict_all: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> FaceFolder:
    """Read the faces of a folder and of the folders in it; links are left out.

    Args:
        path: the folder.
        make_classifier: loads what predicts the faces that the folder's table does not have; None: these have no
            prediction.
        predict_all: whether it predicts all faces, whatever the table says.
        on_progress: called with the number of images that are read, and of all.

    Raises:
        DataError: the folder or its table cannot be read, or has no faces, or too many.
        ModelError: the classifier cannot be loaded.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; give the folder that holds the cut-out faces")
    left_out = LeftOut()
    names, links = _list_images(path, left_out)
    table = read_face_table(path / TABLE, frozenset(names))
    known = {} if predict_all and make_classifier else table.rows
    needs_classifier = any(not known.get(name, _UNKNOWN).scores for name in names)
    classifier = make_classifier() if make_classifier and needs_classifier else None
    faces: dict[str, FaceImage] = {}
    skipped = [*table.faults]
    copies = 0
    with ThreadPoolExecutor(os.cpu_count()) as readers, FaceStore(THUMBNAIL_SIDE) as store:
        for begin in range(0, len(names), _BATCH):
            thumbnails, unknown, crops = [], [], []
            on_progress(begin, len(names))
            batch = names[begin : begin + _BATCH]
            lots = [batch[start : start + _LOT] for start in range(0, len(batch), _LOT)]
            for image in chain.from_iterable(readers.map(_Reader(path, classifier), lots)):
                if isinstance(image, DataError):
                    skipped.append(printable(str(image)))
                    continue
                if image.sha256 in faces:
                    copies += 1
                    continue
                row = table.rows.get(image.name, _UNKNOWN)
                if row.sha256 not in {"", image.sha256}:
                    skipped.append(f"{path / TABLE}: {image.name} is another image by now; its row is not used")
                    row = _UNKNOWN
                faces[image.sha256] = FaceImage(image.name, image.sha256, row)
                thumbnails.append(image.thumbnail)
                if image.crop is not None and (predict_all or not row.scores):
                    unknown.append(image.sha256)
                    crops.append(image.crop)
            if classifier and crops:
                _predict(faces, unknown, classifier.classify(np.stack(crops)), classifier.card.labels)
            store.add(thumbnails)
        if not faces:
            failed = f" ({counted(len(skipped), 'image')} could not be decoded)" if skipped else ""
            raise DataError(f"{path}: no images of faces{failed}; expected {path.name}/1.png, {path.name}/2.png, ...")
        all_thumbnails = store.map_faces()
    predicted = canonical_emotions(classifier.card.labels) if classifier else ()
    notes = [*left_out.lines()]
    notes += [counted(links, "link")] if links else []
    notes += [counted(copies, "copy of the same file", "copies of the same files")] if copies else []
    emotions = tuple(dict.fromkeys((*(() if predict_all and classifier else table.emotions), *predicted)))
    return FaceFolder(path, tuple(faces.values()), all_thumbnails, emotions, tuple(skipped), tuple(notes))


def read_image(folder: Path, face: FaceImage) -> bytes:
    """Return the content of a face's file.

    Raises:
        DataError: the file cannot be read, or is another one by now.
    """
    path = folder / face.name
    data = read_bytes(path, REVIEW_IMAGE_BYTES)
    if hashlib.sha256(data).hexdigest() != face.sha256:
        raise DataError(f"{path}: changed since the folder was read; start again")
    return data


_UNKNOWN: Final = Prediction({})


class _DecodedFace(NamedTuple):
    name: str
    sha256: str
    thumbnail: npt.NDArray[np.uint8]
    crop: npt.NDArray[np.uint8] | None


class _Reader:
    """Reads images of a folder, in any thread."""

    def __init__(self, folder: Path, classifier: Classifier | None) -> None:
        self._folder = folder
        self._input = classifier.card.input if classifier else None

    def __call__(self, names: list[str]) -> list[_DecodedFace | DataError]:
        return [self._read(name) for name in names]

    def _read(self, name: str) -> _DecodedFace | DataError:
        path = self._folder / name
        try:
            data = read_bytes(path, REVIEW_IMAGE_BYTES)
            gray = decode_gray(data, str(path))
        except DataError as error:
            return error
        crop = crop_whole_image(gray, self._input.height, self._input.width) if self._input else None
        thumbnail = crop_whole_image(gray, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
        return _DecodedFace(name, hashlib.sha256(data).hexdigest(), thumbnail, crop)


def _list_images(folder: Path, left_out: LeftOut) -> tuple[list[str], int]:
    """Return the names of the images in a folder, sorted, and how many links there are."""
    names: list[str] = []
    links = 0
    for name, is_link in _walk(folder, left_out):
        if is_link:
            links += 1
        elif PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
            names.append(name)
        elif name != TABLE:
            left_out.add_other_kind(name)
        if len(names) > REVIEW_FACES:
            raise DataError(f"{folder}: more than {REVIEW_FACES:,} images; review them in several folders")
    return sorted(names), links


def _walk(folder: Path, left_out: LeftOut) -> Iterator[tuple[str, bool]]:
    """Yield the name of each file in a folder, and whether it is a link; links to folders are among them."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        own = [name for name in folders if not is_system_name(name) and (Path(parent) != folder or name != REVIEWS)]
        left_out.system += sum(map(is_system_name, (*folders, *files)))
        folders[:] = [name for name in own if not Path(parent, name).is_symlink()]
        above = PurePosixPath(Path(parent).relative_to(folder))
        for names, is_file in ((own, False), (files, True)):
            for name in names:
                is_link = os.path.islink(os.path.join(parent, name))  # noqa: PTH114, PTH118 - a Path a file takes long
                if is_link or (is_file and not is_system_name(name)):
                    yield str(above / name), is_link


def _predict(
    faces: dict[str, FaceImage], unknown: list[str], scores: npt.NDArray[np.float32], labels: tuple[str, ...]
) -> None:
    """Add the predictions of a model to some faces.

    Args:
        faces: all faces, by hash.
        unknown: hashes of those that were classified.
        scores: their scores.
        labels: labels of the model.
    """
    emotions = canonical_emotions(labels)
    columns = [index for index, label in enumerate(labels) if canonical_emotions((label,))]
    for sha256, row in zip(unknown, scores, strict=True):
        face = faces[sha256]
        by_emotion = {emotion: float(row[column]) for emotion, column in zip(emotions, columns, strict=True)}
        best = max(by_emotion, key=by_emotion.__getitem__)
        faces[sha256] = face._replace(prediction=face.prediction._replace(scores=by_emotion, emotion=best))
