"""Writing what reviewers decided as a dataset folder, whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections import Counter
from contextlib import contextmanager, suppress
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from fer_edge.classification.crop import crop_whole_image
from fer_edge.datasets.class_folders import MANIFEST
from fer_edge.datasets.near_duplicates import connected_groups, near_duplicates
from fer_edge.errors import DataError, FerEdgeError, InputError
from fer_edge.review.agreement import measure_agreement, number_answers
from fer_edge.review.choices import NO_EMOTION
from fer_edge.review.decisions import list_logs, read_log, utc_now
from fer_edge.review.face_folder import REVIEWS, THUMBNAIL_SIDE, read_image
from fer_edge.review.manifest import (
    DIVIDED,
    NO_MAJORITY,
    SCHEMA,
    DatasetFace,
    LeftOutFace,
    Manifest,
    Review,
    dataset_file,
    read_manifest,
)
from fer_edge.review.split import SplitFace, assign_sides
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.file_kinds import has_system_name
from fer_edge.utils.image_io import decode_gray
from fer_edge.utils.limits import REVIEW_IMAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from fer_edge.review.agreement import Agreement
    from fer_edge.review.decisions import Decisions
    from fer_edge.review.face_folder import FaceFolder, FaceImage
    from fer_edge.review.split import Side

_PNG: Final = b"\x89PNG\r\n\x1a\n"


class Export(NamedTuple):
    """What an export has done.

    Attributes:
        manifest: the manifest of the dataset.
        is_new: whether there is a new version; otherwise nothing had changed.
        kept: how many faces stay from earlier versions, whose images are not in the folder.
        unreviewed: how many faces of the folder have no answer.
        faults: one line for each log with lines that cannot be used.
    """

    manifest: Manifest
    is_new: bool
    kept: int
    unreviewed: int
    faults: tuple[str, ...]


def export_dataset(folder: FaceFolder, target: Path, *, test_share: float = 0.2, prune: bool = False) -> Export:
    """Write a new version of a dataset folder, which takes the place of the earlier one in one step.

    Args:
        folder: the faces, with the logs of their reviewers.
        target: the dataset folder; it may exist, if an export has written it.
        test_share: share of each emotion's faces to test on, 0..1.
        prune: whether to leave out the faces of earlier versions whose images are not in the folder.

    Raises:
        InputError: the dataset cannot lie there, or has files that no export has written.
        DataError: nothing is reviewed, or a file cannot be read.
    """
    target = target.resolve()
    _check_place(target, folder.path.resolve())
    logs = [read_log(path) for path in list_logs(folder.path / REVIEWS)]
    if not any(log.answers for log in logs):
        raise DataError(f"{folder.path}: nothing is reviewed; run `fer-edge review {folder.path}` first")
    with _locked(target):
        _recover(target)
        earlier = read_manifest(target)
        _check_files(target, earlier)
        plan = _Plan(folder, logs, target, earlier, prune=prune)
        manifest = plan.make_manifest(test_share)
        is_new = earlier is None or _content(manifest) != _content(earlier)
        if is_new:
            _write(manifest, plan, target)
        faults = [
            f"{folder.path / REVIEWS}: {log.faults} lines of {log.reviewer} are damaged" for log in logs if log.faults
        ]
        return Export(manifest if is_new or not earlier else earlier, is_new, plan.kept, plan.unreviewed, tuple(faults))


def choose_label(reviews: Sequence[Review]) -> str:
    """Return the answer that more reviewers gave than any other; empty if there is none."""
    counts = Counter(review.label for review in reviews).most_common(2)
    return counts[0][0] if len(counts) == 1 or counts[0][1] > counts[1][1] else ""


class _Face(NamedTuple):
    """A face of the folder or of the earlier version.

    Attributes:
        sha256: hash of the image that was reviewed.
        source: name of that image.
        group: what keeps it together with others.
        label: the answer of the majority; empty without one.
        reviews: the answers.
        side: where it is already; empty if it is new.
    """

    sha256: str
    source: str
    group: str
    label: str
    reviews: tuple[Review, ...]
    side: Side


class _Plan:
    """What the next version consists of.

    Attributes:
        kept: see `Export`.
        unreviewed: see `Export`.
    """

    def __init__(
        self, folder: FaceFolder, logs: Sequence[Decisions], target: Path, earlier: Manifest | None, *, prune: bool
    ) -> None:
        self._folder, self._logs, self._target = folder, logs, target
        self._earlier = {face.source_sha256: face for face in earlier.faces} if earlier else {}
        self._version = earlier.version + 1 if earlier else 1
        left_out = {face.source_sha256: face for face in earlier.left_out} if earlier else {}
        known = {sha256: face.split for sha256, face in (left_out | self._earlier).items()}
        here = {face.sha256 for face in folder.faces}
        gone = [] if prune else [face for face in self._earlier.values() if face.source_sha256 not in here]
        gone_left_out = [] if prune else [face for face in left_out.values() if face.source_sha256 not in here]
        self._gone_left_out = gone_left_out
        self._images = {face.sha256: face for face in folder.faces}
        self._faces = [
            *(self._face_here(image, known.get(image.sha256, "")) for image in folder.faces),
            *(
                _Face(face.source_sha256, face.source, face.group, face.label, face.reviews, face.split)
                for face in gone
            ),
        ]
        self.kept = len(gone)
        self.unreviewed = sum(not face.reviews for face in self._faces)
        self._near = near_duplicates(np.concatenate([folder.thumbnails, self._read_thumbnails(gone)]))
        self._agreement = self._measure_agreement()

    def make_manifest(self, test_share: float) -> Manifest:
        """Return the manifest of the next version."""
        groups = self._groups()
        wanted = [face.label and face.label not in NO_EMOTION for face in self._faces]
        gone = [SplitFace(face.source_sha256, 0, "", face.split) for face in self._gone_left_out]
        split = [
            SplitFace(face.sha256, 0, face.label if is_wanted else "", face.side)
            for face, is_wanted in zip(self._faces, wanted, strict=True)
        ]
        divided = [
            face._replace(group=int(group))
            for face, group in zip([*split, *gone], groups, strict=True)
            if face.label or face.side
        ]
        sides = dict(zip([face.key for face in divided], assign_sides(divided, test_share), strict=True))
        faces, left_out = [], [*self._gone_left_out]
        for face, is_wanted in zip(self._faces, wanted, strict=True):
            if is_wanted and sides[face.sha256]:
                faces.append(self._dataset_face(face, sides[face.sha256]))
            elif face.reviews:
                left_out.append(
                    LeftOutFace(
                        source=face.source,
                        source_sha256=face.sha256,
                        reason=DIVIDED if is_wanted else face.label or NO_MAJORITY,
                        split=face.side,
                        group=face.group,
                        reviews=face.reviews,
                    )
                )
        return Manifest(
            schema=SCHEMA,
            version=self._version,
            created=utc_now(),
            program=f"fer-edge {package_version('fer-edge')}",
            test_share=test_share,
            agreement=self._agreement,
            faces=tuple(sorted(faces, key=lambda face: face.file)),
            left_out=tuple(sorted(left_out, key=lambda face: (face.source, face.source_sha256))),
        )

    def write(self, face: DatasetFace, path: Path) -> None:
        """Write the image of a face: the file of the earlier version, or what was reviewed, as PNG."""
        earlier = self._earlier.get(face.source_sha256)
        if earlier:
            source = self._target / earlier.file
            with suppress(OSError):  # a file system without hard links
                path.hardlink_to(source)
                return
            shutil.copyfile(source, path)
            return
        path.write_bytes(self._read_png(face.source_sha256))

    def _dataset_face(self, face: _Face, side: Side) -> DatasetFace:
        earlier = self._earlier.get(face.sha256)
        digest = earlier.sha256 if earlier else hashlib.sha256(self._read_png(face.sha256)).hexdigest()
        return DatasetFace(
            file=dataset_file(side, face.label, face.sha256),
            sha256=digest,
            source=face.source,
            source_sha256=face.sha256,
            label=face.label,
            split=side,
            group=face.group,
            reviews=face.reviews,
        )

    def _read_png(self, sha256: str) -> bytes:
        """Return an image that was reviewed: a PNG as it is, anything else decoded to grey."""
        image = self._images[sha256]
        data = read_image(self._folder.path, image)
        if data.startswith(_PNG):
            return data
        return cv2.imencode(".png", decode_gray(data, image.name))[1].tobytes()

    def _face_here(self, image: FaceImage, side: Side) -> _Face:
        reviews = tuple(
            Review(log.reviewer, answer.label, answer.time)
            for log in self._logs
            if (answer := log.answers.get(image.sha256))
        )
        label = choose_label(reviews) if reviews else ""
        return _Face(image.sha256, image.name, image.group, label, reviews, side)

    def _read_thumbnails(self, faces: Sequence[DatasetFace]) -> npt.NDArray[np.uint8]:
        thumbnails = np.empty((len(faces), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
        for thumbnail, face in zip(thumbnails, faces, strict=True):
            path = self._target / face.file
            gray = decode_gray(read_bytes(path, REVIEW_IMAGE_BYTES), str(path))
            thumbnail[:] = crop_whole_image(gray, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
        return thumbnails

    def _groups(self) -> npt.NDArray[np.int64]:
        """Return the group of each face that must not be divided: near-duplicates, and those of one named group.

        At the end are those of earlier versions that were left out and are not in the folder.
        """
        first: dict[object, int] = {}
        pairs = [(first.setdefault(int(near), row), row) for row, near in enumerate(self._near)]
        names = [*(face.group for face in self._faces), *(face.group for face in self._gone_left_out)]
        pairs += [(first.setdefault(name, row), row) for row, name in enumerate(names) if name]
        return connected_groups(len(names), pairs)

    def _measure_agreement(self) -> Agreement:
        index = {face.sha256: row for row, face in enumerate(self._folder.faces)}
        numbers: dict[str, int] = {}
        answers = np.stack([number_answers(log, index, numbers) for log in self._logs])
        units = np.unique(self._near[: len(index)], return_index=True)[1]
        return measure_agreement([log.reviewer for log in self._logs], answers, units)


def _content(manifest: Manifest) -> tuple[object, ...]:
    """Return what makes a version another one."""
    return manifest.faces, manifest.left_out


def _check_place(target: Path, folder: Path) -> None:
    if target == folder or folder in target.parents or target in folder.parents:
        raise InputError(f"{target}: the dataset and the folder of faces must not lie in one another")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: a file; give a folder for the dataset")
    if not target.parent.is_dir():
        raise InputError(f"{target.parent}: no such folder; make it first")


def _check_files(target: Path, manifest: Manifest | None) -> None:
    """Check that a dataset folder has what its manifest names, and nothing that a new version would remove."""
    if not target.exists():
        return
    expected = {face.file: face.sha256 for face in manifest.faces} if manifest else {}
    for parent, folders, files in os.walk(target):
        for name in (*files, *(folder for folder in folders if Path(parent, folder).is_symlink())):
            file = Path(parent, name).relative_to(target)
            if file.as_posix() not in expected and file.as_posix() != MANIFEST and not has_system_name(file.parts):
                raise InputError(
                    f"{target / file}: no export has written it; move it out of {target}, or export to a new folder"
                )
    for name, sha256 in expected.items():
        path = target / name
        if path.is_symlink() or hashlib.sha256(read_bytes(path, REVIEW_IMAGE_BYTES)).hexdigest() != sha256:
            raise InputError(
                f"{path}: another image than {MANIFEST} names; put that one back, or export to a new folder"
            )


def _staging(target: Path) -> Path:
    return target.with_name(f".{target.name}.fer-edge-next")


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.fer-edge-previous")


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Let no two exports write into one folder."""
    try:
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{target.parent}: cannot be read ({error.strerror}); choose another place") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
        os.fsync(folder)
    except BlockingIOError:
        raise InputError(f"{target.parent}: another export writes there; try again when it has ended") from None
    finally:
        os.close(folder)


def _recover(target: Path) -> None:
    """Finish or undo what an export that was killed has begun."""
    staging, previous = _staging(target), _previous(target)
    if not target.exists() and previous.exists():
        previous.rename(target)
    for rest in (staging, previous):
        if rest.is_dir():
            shutil.rmtree(rest)


def _write(manifest: Manifest, plan: _Plan, target: Path) -> None:
    """Write a version beside the earlier one, and put it in its place."""
    staging, previous = _staging(target), _previous(target)
    try:
        staging.mkdir()
        for face in manifest.faces:
            path = staging / face.file
            path.parent.mkdir(parents=True, exist_ok=True)
            plan.write(face, path)
        (staging / MANIFEST).write_bytes(manifest.encode())
        os.sync()  # a power cut must not leave the new name with incomplete files
        if target.exists():
            target.rename(previous)
        staging.rename(target)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise FerEdgeError(f"{target}: cannot be written ({error.strerror}); make room") from error
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another place") from error
    finally:
        _recover(target)
