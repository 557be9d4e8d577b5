"""A bank of teachers' answers, from which a student learns while no teacher is present.

A teacher classifies several views of each training face once. A view depends only on the seed, the row of the face and
the number of the view. So a student can make the same image again at any time and size, and look up the answer.

    bank = Bank.load(path, faces)
    images = bank.render(faces, rows, view, size=48)
    targets = np.exp(bank.log_probabilities(rows, view))

A view may be mixed with the same view of another face. No teacher has learnt such an image by heart, and there are as
many of them as one likes (Beyer et al. 2021, arXiv:2106.05237).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import cv2
import msgspec
import numpy as np

from fer_edge.errors import DataError
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.npz_reader import read_npz
from fer_edge_train.augment import affine_matrices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

FORMAT: Final = 1
STEP: Final = 0.04  # of a stored log probability: 255 steps reach down to a probability of 0.00004
IDENTITY, MIRRORED = 0, 1  # the first two views; those after them are random
_DRAWS: Final = 10
_CHUNK: Final = 4096
_DAMAGE: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError, msgspec.ValidationError)


@dataclass(frozen=True, slots=True)
class Views:
    """Random views of faces: view 0 is the face as it is, view 1 its mirror image, and all others are random.

    A random view is a pure function of ``seed``, its number and the face's row. It has no noise; a student may add
    that, and may mix images once more, and their answers with them.

    Attributes:
        seed: of all random views.
        flip: chance of a left-right flip.
        identity_probability: share of the views that are flipped and relit at most, and so are as sharp as the face.
        rotate_degrees: most rotation to either side.
        zoom: largest enlargement or reduction, less 1.
        stretch: largest change of the aspect ratio, less 1.
        shear: most horizontal shear, as a tangent.
        shift: most shift each way, over the side.
        contrast: largest change of the contrast, less 1.
        brightness: most brightening or darkening, over the full range.
        mix: share of the random views that are mixed with the same view of another face (`Bank.render`).
    """

    seed: int = 1
    flip: float = 0.5
    identity_probability: float = 0.2
    rotate_degrees: float = 15.0
    zoom: float = 0.12
    stretch: float = 0.06
    shear: float = 0.08
    shift: float = 0.08
    contrast: float = 0.4
    brightness: float = 0.1
    mix: float = 0.0

    def __post_init__(self) -> None:
        """Check the values, which may come from a file."""
        strengths = asdict(self)
        if strengths.pop("seed") < 0 or not all(0 <= value <= 180 for value in strengths.values()):
            message = "views whose seed is negative, or whose strengths are not within 0..180"
            raise ValueError(message)

    def render(
        self, faces: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], view: int | npt.NDArray[np.int64], size: int
    ) -> npt.NDArray[np.uint8]:
        """Make images of some faces, without mixing them.

        Each face is resampled once, by cubic convolution, from its own pixels to those of the result.

        Args:
            faces: the faces, uint8 of shape (m, height, width).
            rows: their rows in the bank, of shape (m,).
            view: number of the view, or that of each face.
            size: side of the images, in pixels.

        Returns:
            uint8 of shape (m, size, size).
        """
        draws = self._draws(rows, np.broadcast_to(view, rows.shape))
        shape = (faces.shape[1], faces.shape[2])
        images = np.empty((len(rows), size, size), np.uint8)
        for face, matrix, image in zip(faces, self._matrices(draws, shape, size), images, strict=True):
            cv2.warpAffine(
                face,
                matrix,
                (size, size),
                dst=image,
                flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
        if self.contrast or self.brightness:
            contrast = np.exp(_spread(draws[:, 8]) * math.log1p(self.contrast))[:, None]
            bright = _spread(draws[:, 9])[:, None] * self.brightness * 255
            means = images.mean(axis=(1, 2))[:, None]
            curves = np.arange(256) * contrast + means * (1 - contrast) + bright
            for image, curve in zip(images, np.clip(np.rint(curves), 0, 255).astype(np.uint8), strict=True):
                image[:] = curve[image]
        return images

    def mixture(
        self, view: int, unmixed: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Draw which face each one is mixed with in a view, and its own share of the image, half or more.

        Args:
            view: number of the view.
            unmixed: for each face, whether it is left as it is and mixed with no other, of shape (n,).

        Returns:
            Rows of the other faces and shares, each of shape (n,); a face with a share of 1 is not mixed.
        """
        others, shares = np.arange(len(unmixed), dtype=np.int64), np.ones(len(unmixed), np.float32)
        mixed = np.flatnonzero(~unmixed)
        if self.mix and view > MIRRORED:
            rng = np.random.default_rng((self.seed, view - MIRRORED - 1))
            others[mixed] = rng.permutation(mixed)
            drawn = rng.random(len(mixed))
            shares[mixed] = np.where(rng.random(len(mixed)) < self.mix, np.maximum(drawn, 1 - drawn), 1)
        return others, shares

    def _draws(self, rows: npt.NDArray[np.int64], views: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Draw ten numbers of 0..1 for each row; the fixed views get the middle of the range, which is no change."""
        draws = np.full((len(rows), _DRAWS), 0.5)
        draws[:, 0] = np.where(views == MIRRORED, -1.0, 2.0)
        for i in np.flatnonzero(views > MIRRORED):
            draws[i] = np.random.default_rng((self.seed, int(views[i]), int(rows[i]))).random(_DRAWS)
        return draws

    def _matrices(self, draws: npt.NDArray[np.float64], shape: tuple[int, int], size: int) -> npt.NDArray[np.float64]:
        """Make matrices of shape (n, 2, 3) from pixels of the result to pixels of faces of a shape."""
        warped = (draws[:, 1] >= self.identity_probability).astype(np.float64)
        flip = np.where(draws[:, 0] < self.flip, -1.0, 1.0)
        angle, zoom, aspect, shear, right, down = (_spread(draws[:, 2:8]) * warped[:, None]).T
        angle = np.radians(self.rotate_degrees) * angle
        zoom = np.exp(math.log1p(self.zoom) * zoom)
        aspect = np.exp(math.log1p(self.stretch) * aspect)
        shift = self.shift * np.stack((right, down), axis=1)
        return affine_matrices(
            angle=angle,
            zoom=zoom,
            width=aspect * flip,
            height=1 / aspect,
            shear=self.shear * shear,
            shift=shift,
            shape=shape,
            size=size,
        )


@dataclass(frozen=True, slots=True)
class Bank:
    """Log probabilities of teachers for views of faces, in 8 bits each.

    Attributes:
        labels: names of the classes.
        views: how the views are made.
        codes: uint8 of shape (views, faces, classes): negative log probabilities in steps of `STEP`.
        unseen: bool of shape (faces,): faces that no teacher learnt from, for validation and calibration.
        faces: SHA-256 of the faces, as hexadecimal digits.
        teachers: names and descriptions of the teachers.
        unmixed: bool of shape (faces,): faces that are mixed with no other, because students hold them out; None for
            those that are unseen.
    """

    labels: tuple[str, ...]
    views: Views
    codes: npt.NDArray[np.uint8]
    unseen: npt.NDArray[np.bool_]
    faces: str
    teachers: Mapping[str, str] = field(default_factory=dict)
    unmixed: npt.NDArray[np.bool_] | None = None
    _mixtures: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        """Return the number of views of each face."""
        return len(self.codes)

    @property
    def mixable(self) -> npt.NDArray[np.bool_]:
        """Which faces are mixed with each other."""
        return ~(self.unseen if self.unmixed is None else self.unmixed)

    def render(
        self,
        faces: npt.NDArray[np.uint8],
        rows: npt.NDArray[np.int64],
        view: int | npt.NDArray[np.int64],
        size: int,
        at: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Make the images that the answers are for.

        Args:
            faces: faces of a dataset, of shape (n, height, width).
            rows: rows in the bank of those to show, of shape (m,).
            view: number of the view, or that of each face.
            size: side of the images, in pixels.
            at: index in ``faces`` of each face of the bank; None if they are the faces of the bank.

        Returns:
            uint8 of shape (m, size, size).
        """
        views = np.broadcast_to(view, rows.shape)
        images = self.views.render(faces[rows if at is None else at[rows]], rows, views, size)
        if not self.views.mix:
            return images
        found = [self._mixture(int(one)) for one in views]
        shares = np.array([share[row] for (_, share), row in zip(found, rows, strict=True)], np.float32)
        others = np.array([other[row] for (other, _), row in zip(found, rows, strict=True)], np.int64)
        mixed = shares < 1
        others, own = others[mixed], shares[mixed][:, None, None]
        added = self.views.render(faces[others if at is None else at[others]], others, views[mixed], size)
        images[mixed] = np.rint(images[mixed] * own + added * (1 - own))
        return images

    def _mixture(self, view: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return `Views.mixture`, which is drawn once for each view."""
        if view not in self._mixtures:
            self._mixtures[view] = self.views.mixture(view, ~self.mixable)
        return self._mixtures[view]

    def log_probabilities(
        self, rows: npt.NDArray[np.int64], view: int | npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return the log probabilities of some faces in one view or in one each, float32 of shape (rows, classes)."""
        return log_softmax(self.codes[view, rows].astype(np.float32) * -STEP)

    def save(self, path: Path) -> None:
        """Write the bank to an ``.npz``."""
        about = {"format": FORMAT, "views": asdict(self.views), "teachers": dict(self.teachers)}
        # An answer is stored as the difference from the one for the view before, which packs better.
        packed = np.diff(self.codes, axis=0, prepend=np.uint8(0))
        arrays: dict[str, Any] = {
            "about": np.array(json.dumps(about)),
            "labels": np.array(self.labels),
            "codes": packed,
            "unseen": np.packbits(self.unseen),
            "faces": np.array(self.faces),
        }
        if self.unmixed is not None:
            arrays["unmixed"] = np.packbits(self.unmixed)
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **arrays)

    @classmethod
    def load(cls, path: Path, faces: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64] | None = None) -> Bank:
        """Read a bank that was made for these faces, in this order.

        Args:
            path: an ``.npz``.
            faces: uint8 of shape (n, height, width).
            rows: which of them the bank is for; None for all.

        Raises:
            DataError: it cannot be read, is no bank, or is for other faces.
        """
        try:
            stored = read_npz(path)
        except UnpackError as error:
            raise DataError(f"{path}: damaged, or not a bank of answers; make it again") from error
        try:
            about = json.loads(str(stored["about"]))
            if about["format"] != FORMAT:
                raise DataError(f"{path}: a bank of format {about['format']}; this version reads format {FORMAT}")
            codes = np.cumsum(stored["codes"], axis=0, dtype=np.uint8)
            bits = {
                name: np.unpackbits(stored[name], count=codes.shape[1]).astype(bool)
                for name in ("unseen", "unmixed")
                if name == "unseen" or name in stored
            }
            bank = cls(
                labels=tuple(str(label) for label in stored["labels"]),
                views=msgspec.convert(about["views"], Views),
                codes=codes,
                unseen=bits["unseen"],
                faces=str(stored["faces"]),
                teachers=about["teachers"],
                unmixed=bits.get("unmixed"),
            )
        except _DAMAGE as error:
            raise DataError(f"{path}: damaged, or not a bank of answers; make it again") from error
        count = len(faces) if rows is None else len(rows)
        if not len(bank) or codes.shape[1:] != (count, len(bank.labels)) or bank.faces != digest(faces, rows):
            raise DataError(f"{path}: a bank for other faces; give the data, and the data.side, that it was made for")
        return bank

    def with_labels(self, labels: tuple[str, ...]) -> Bank:
        """Return the answers for some of the classes, in their order.

        Raises:
            DataError: a label is not among those of the bank.
        """
        if labels == self.labels:
            return self
        if missing := [label for label in labels if label not in self.labels]:
            raise DataError(f"the bank has no answers for {', '.join(missing)}; it knows {', '.join(self.labels)}")
        return replace(self, labels=labels, codes=self.codes[:, :, [self.labels.index(label) for label in labels]])


def encode_log_probabilities(log_probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Encode log probabilities of any shape in 8 bits each; values below ``-255 * STEP`` are clipped."""
    codes: npt.NDArray[np.uint8] = np.clip(np.rint(log_probabilities / -STEP), 0, 255).astype(np.uint8)
    return codes


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the logarithm of the softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), np.float32)


def digest(faces: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64] | None = None) -> str:
    """Return the SHA-256 of faces, or of some of them, in their order, as hexadecimal digits."""
    hashed = hashlib.sha256()
    for begin in range(0, len(faces) if rows is None else len(rows), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        hashed.update(faces[chunk if rows is None else rows[chunk]].tobytes())
    return hashed.hexdigest()


def combine(banks: Sequence[Bank], weights: Sequence[float] | None = None) -> Bank:
    """Combine banks by the weighted geometric mean of their answers.

    Args:
        banks: banks of the same faces, labels and views; only views that all of them have are used.
        weights: weight of each bank, of any sum; None for equal weights.

    Raises:
        DataError: the banks are not for the same faces, labels and views.
    """
    first = banks[0]
    if any((bank.faces, bank.labels, bank.views) != (first.faces, first.labels, first.views) for bank in banks):
        raise DataError("banks of different faces, labels or views cannot be combined")
    if first.views.mix and not all(np.array_equal(bank.mixable, first.mixable) for bank in banks):
        raise DataError("banks whose views mix other faces cannot be combined")
    shares = np.asarray(weights if weights is not None else np.ones(len(banks)), np.float32)
    shares /= shares.sum()
    codes = np.empty((min(map(len, banks)), *first.codes.shape[1:]), np.uint8)
    rows = np.arange(codes.shape[1], dtype=np.int64)
    for view in range(len(codes)):
        answers = (share * bank.log_probabilities(rows, view) for bank, share in zip(banks, shares, strict=True))
        codes[view] = encode_log_probabilities(log_softmax(np.asarray(sum(answers), np.float32)))
    unseen = np.logical_and.reduce([bank.unseen for bank in banks])
    teachers = {name: description for bank in banks for name, description in bank.teachers.items()}
    return Bank(first.labels, first.views, codes, unseen, first.faces, teachers, ~first.mixable)


def _spread(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Map numbers of 0..1 to -1..1."""
    return 2 * draws - 1
