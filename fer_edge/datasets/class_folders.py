"""Reading images that are sorted into a folder for each class, in a folder or in an archive."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fer_edge.classification.crop import crop_whole_image
from fer_edge.classification.labels import FER2013, canonical_label
from fer_edge.datasets.dataset import TRAINING, USAGES, Dataset
from fer_edge.datasets.face_store import FaceStore
from fer_edge.datasets.fer2013_csv import CLASS_NUMBERS
from fer_edge.errors import DataError, printable
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.file_kinds import IMAGE_SUFFIXES, LeftOut, has_system_name, is_system_name
from fer_edge.utils.image_io import decode_gray
from fer_edge.utils.limits import IMAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy.typing as npt

MANIFEST: Final = "manifest.json"
"""File of a dataset that a review has made; it says where each face is from."""

GROUP: Final = "group"
_MAX_BATCH_IMAGES: Final = 512
_MAX_BATCH_BYTES: Final = 64 << 20


class EncodedImage(NamedTuple):
    """An image file of a dataset.

    Attributes:
        name: path of the file relative to the dataset.
        data: content of the file, or the error of reading it.
    """

    name: PurePosixPath
    data: bytes | DataError


def read_class_folders(
    images: Iterable[EncodedImage],
    path: Path,
    side: int,
    left_out: LeftOut,
    groups: Mapping[str, str] | None = None,
) -> Dataset:
    """Read images whose folder is their label; the folder above it may name their usage.

    The images are decoded in batches on every core and stored in a temporary file, so that few are in memory at a time.

    Args:
        images: the image files.
        path: the folder or archive, for errors.
        side: rows and columns of the faces to return.
        left_out: what was left out while ``images`` was read.
        groups: group of each image by its path in the folder, for a column of the dataset; None for no such column.

    Raises:
        DataError: there is no readable image, or a folder is not named as expected.
    """
    labels: list[str] = []
    usages: list[str] = []
    skipped: list[str] = []
    of_groups: list[str] = []
    interned: dict[str, str] = {}  # one string object for all images of a folder

    def decode(image: EncodedImage) -> npt.NDArray[np.uint8] | DataError:
        if isinstance(image.data, DataError):
            return image.data
        try:
            return crop_whole_image(decode_gray(image.data, str(path / image.name)), side, side)
        except DataError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as decoders, FaceStore(side) as store:
        for batch in _batches(images):
            faces = []
            for (name, _), face in zip(batch, decoders.map(decode, batch), strict=True):
                if isinstance(face, DataError):
                    skipped.append(printable(str(face)))
                    continue
                faces.append(face)
                labels.append(interned.setdefault(name.parts[-2], canonical_label(printable(name.parts[-2]))))
                above = name.parts[-3].lower() if len(name.parts) > 2 else ""
                if groups is not None:
                    of_groups.append(groups.get(str(name), ""))
                usages.append(interned.setdefault(f"/{above}", above))
            store.add(faces)
        if not labels:
            raise _no_images(path, f" ({len(skipped)} could not be decoded)" if skipped else "")
        faces_on_disk = store.map_faces()
    order, labels = _order_labels(labels, path)
    number = {label: i for i, label in enumerate(order)}
    classes = np.array([number[label] for label in labels], np.int64)
    return Dataset(
        printable(str(path)),
        order,
        faces_on_disk,
        classes,
        _name_usages(usages, path),
        tuple(skipped),
        left_out=left_out.lines(),
        columns={} if groups is None else {GROUP: np.array(of_groups)},
    )


def list_images(folder: Path, left_out: LeftOut) -> Iterator[EncodedImage]:
    """Read the images in the class folders of a folder, in the order of their names.

    Args:
        folder: the folder.
        left_out: counts the files and folders that are left out.

    Raises:
        DataError: a folder cannot be read.
    """
    for name in _list_files(folder, left_out):
        if is_class_image(name):
            try:
                yield EncodedImage(name, read_bytes(folder / name, IMAGE_BYTES))
            except DataError as error:
                yield EncodedImage(name, error)
        else:
            count_left_out(name, left_out)


def check_first_image(folder: Path) -> None:
    """Check that there is an image in the class folders of a folder, without reading it.

    Raises:
        DataError: there is none, or a folder cannot be read.
    """
    has_others = False
    for name in _list_files(folder, LeftOut()):
        if is_class_image(name):
            return
        has_others = has_others or (name.suffix.lower() in IMAGE_SUFFIXES and not has_system_name(name.parts))
    if has_others:
        raise DataError(
            f"{folder}: its images have no labels; label them with `fer-edge review {folder}` and export them, or sort"
            " them into train/happy/, test/sad/, ..."
        )
    raise _no_images(folder)


def _no_images(path: Path, failed: str = "") -> DataError:
    return DataError(f"{path}: no images in class folders{failed}; expected train/happy/1.png, test/sad/2.png, ...")


def _list_files(folder: Path, left_out: LeftOut) -> Iterator[PurePosixPath]:
    """Yield the names of the files in a folder and in those inside it, in their order."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        left_out.system += sum(map(is_system_name, folders))
        folders[:] = sorted(folder for folder in folders if not is_system_name(folder))
        for file in sorted(files):
            yield PurePosixPath(Path(parent, file).relative_to(folder))


def is_class_image(name: PurePosixPath) -> bool:
    """Return whether a file is an image in a class folder."""
    return name.suffix.lower() in IMAGE_SUFFIXES and len(name.parts) > 1 and not has_system_name(name.parts)


def count_left_out(name: PurePosixPath, left_out: LeftOut) -> None:
    """Count a file that is not an image in a class folder; images beside the class folders are counted with others.

    The manifest of a review is not counted.
    """
    if has_system_name(name.parts):
        left_out.system += 1
    elif str(name) != MANIFEST:
        left_out.add_other_kind(name.name)


def _batches(images: Iterable[EncodedImage]) -> Iterator[list[EncodedImage]]:
    """Group images into batches of limited number and size."""
    batch: list[EncodedImage] = []
    size = 0
    for image in images:
        batch.append(image)
        size += 0 if isinstance(image.data, DataError) else len(image.data)
        if len(batch) == _MAX_BATCH_IMAGES or size > _MAX_BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _order_labels(labels: list[str], path: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the distinct labels in order, and the label of each image; folders 0 to 6 are FER-2013's numbers."""
    if set(labels) == set(CLASS_NUMBERS):
        labels = [FER2013[int(label)] for label in labels]
    present = set(labels)
    order = tuple(name for name in FER2013 if name in present) if present <= set(FER2013) else tuple(sorted(present))
    if flat := present & set(USAGES):
        raise DataError(f"{path}: images lie in {min(flat)}/ itself; put them into a folder for each class in it")
    return order, labels


def _name_usages(folders: list[str], path: Path) -> npt.NDArray[np.str_]:
    """Return the usage of each image by the folder above its class folder."""
    # One folder with another name may enclose the class folders. With several, or one beside train/, the usage of its
    # images would be a guess.
    unknown = sorted(set(folders) - set(USAGES))
    if len(unknown) > 1 or (unknown and set(folders) & set(USAGES)):
        names = ", ".join(repr(name) for name in unknown[:5])
        raise DataError(
            f"{path}: folders above the classes that are no known part: {names}; name them train, test or val"
        )
    return np.array([USAGES.get(folder, TRAINING) for folder in folders])
