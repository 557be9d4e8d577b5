"""The recipe of a face detector: everything that decides how it is trained."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from fer_edge.utils.toml import Section
from fer_edge_train.recipe import Amount, Count, Number, Optimizer, Positive, Share, load, read

if TYPE_CHECKING:
    from collections.abc import Sequence

STRIDES: Final = (8, 16, 32)

Side = Annotated[int, msgspec.Meta(ge=64, multiple_of=32)]


class Data(Section, frozen=True, kw_only=True):
    """What is learnt from.

    Attributes:
        leave_out: beginnings of the file names of sources that are not wanted.
        doubtful: beginnings of the file names of sources whose labels below `least_score` count neither as face nor
            as background.
        least_score: the labelling detector's score from which on its word is taken for such a source, 0..1.
        hard_score: an image with a face of which it is less sure than that is a hard one.
        hard_times: how many times as often as others hard images are drawn.
        teacher_sizes: times a scene's size at which a teacher is asked about it, each of 1, 2 and 4. The largest faces
            want 1, at 2 it sees smaller ones, too; both take it five times as long.
    """

    leave_out: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    least_score: Share = 0.7
    hard_score: Share = 0.0
    hard_times: Count = 1
    teacher_sizes: Annotated[tuple[Literal[1, 2, 4], ...], msgspec.Meta(min_length=1)] = (1,)

    def __post_init__(self) -> None:
        """Check that somebody tells of every cell: who says nothing of one says that no face is there."""
        if 1 not in self.teacher_sizes:
            message = "teacher_sizes must have 1, or the largest faces would count as none"
            raise ValueError(message)


class Network(Section, frozen=True, kw_only=True):
    """Shape of the network.

    Attributes:
        stem: channels at stride 4, where all is two convolutions.
        widths: channels at strides 8, 16 and 32.
        blocks: residual blocks of two depthwise-separable convolutions at each of these strides.
    """

    stem: Count
    widths: tuple[Count, Count, Count]
    blocks: tuple[Number, Number, Number]


class Loss(Section, frozen=True, kw_only=True):
    """What is minimised.

    Attributes:
        candidates: cells that each face may have at most.
        score_power: exponent of a cell's score in its claim to a face.
        overlap_power: exponent of its box's overlap with the face's in that claim.
        box: weight of the boxes' loss beside that of the scores.
        landmarks: weight of the landmarks' loss.
    """

    candidates: Count = 10
    score_power: Positive = 0.5
    overlap_power: Positive = 6.0
    box: Amount = 2.0
    landmarks: Amount = 1.0


class Augmentation(Section, frozen=True, kw_only=True):
    """Strengths of the random changes.

    Attributes:
        mosaic: chance that a scene is made of four images.
        smallest: longer side of the smallest face to make, in pixels; smaller ones are neither face nor background.
        enlarge: most that an image is enlarged.
        flip: chance of a left-right flip.
        rotate: chance that an image is turned.
        rotate_degrees: most rotation to either side.
        squeeze: most that an image is made narrower or lower, as a factor.
        cover: chance that a part of a face is covered by a piece of another image.
        gamma: largest change of the gamma, as a factor less 1.
        contrast: largest change of the contrast, as a factor less 1.
        brightness: most brightening or darkening, over the full range.
        gradient: chance that light falls off to one side.
        blur: chance of a blur.
        noise: chance of sensor noise.
        jpeg: chance of JPEG's artefacts.
        paste: chance that a face of a table of faces is pasted where none is, if there is a table; then another,
            and so on, eight at most.
        clutter: chance that a wheel, ball, dial, letter or other drawn thing lies where no face is; then another, and
            so on, as many at most.
        mixup: chance that another image shines through.
    """

    mosaic: Share = 0.0
    smallest: Annotated[float, msgspec.Meta(ge=4)] = 10.0
    enlarge: Annotated[float, msgspec.Meta(ge=1)] = 2.5
    flip: Share = 0.0
    rotate: Share = 0.0
    rotate_degrees: Amount = 0.0
    squeeze: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    cover: Share = 0.0
    gamma: Amount = 0.0
    contrast: Amount = 0.0
    brightness: Share = 0.0
    gradient: Share = 0.0
    blur: Share = 0.0
    noise: Share = 0.0
    jpeg: Share = 0.0
    paste: Share = 0.0
    clutter: Share = 0.0
    mixup: Share = 0.0


class Schedule(Section, frozen=True, kw_only=True):
    """How long, and on scenes of which size.

    Attributes:
        epochs: passes over the images.
        warmup_epochs: epochs in which the rate rises to its peak; from there it falls to zero as a cosine.
        average_epochs: keep the mean of the weights at the ends of so many last epochs (Izmailov et al. 2018,
            arXiv:1803.05407); 0 keeps those of the last.
        measure_epochs: the validation images are looked at after each so many epochs.
        checkpoint_epochs: the run is saved after each so many epochs; a killed one loses as many.
        sizes: for each stage of training the share of the epochs at which it starts and the side of its scenes.
    """

    epochs: Count
    warmup_epochs: Amount = 0.0
    average_epochs: Number = 0
    measure_epochs: Count = 1
    checkpoint_epochs: Count = 1
    sizes: Annotated[tuple[tuple[Share, Side], ...], msgspec.Meta(min_length=1)]


class FacesRecipe(Section, frozen=True, kw_only=True):
    """Everything that decides how a face detector is trained.

    Attributes:
        summary: one line for people.
        seed: of every random choice.
    """

    summary: str
    seed: Number = 1
    data: Data = Data()
    network: Network
    loss: Loss = Loss()
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule

    def __post_init__(self) -> None:
        """Check what one field alone does not tell."""
        starts = [start for start, _ in self.schedule.sizes]
        if starts[0] != 0 or starts != sorted(set(starts)):
            message = "schedule.sizes must start at 0.0 and rise"
            raise ValueError(message)


class RefinerNetwork(Section, frozen=True, kw_only=True):
    """Shape of the second stage's network.

    Attributes:
        side: rows and columns of the square that it sees.
        extent: side of that square in the image, over the longer side of a box of the first stage.
        stem: channels of the first convolution, at half of the rows and columns.
        widths: channels of each level, each of half as many rows and columns as what comes before.
        blocks: residual blocks of two depthwise-separable convolutions at each of them.
    """

    side: Annotated[int, msgspec.Meta(ge=16, multiple_of=8)] = 48
    extent: Annotated[float, msgspec.Meta(ge=1)] = 1.6
    stem: Count
    widths: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    blocks: tuple[Number, ...]

    def __post_init__(self) -> None:
        """Check what one field alone does not tell."""
        if len(self.blocks) != len(self.widths):
            message = "network.blocks must have a number for each of network.widths"
            raise ValueError(message)


class Proposals(Section, frozen=True, kw_only=True):
    """Which boxes of the first stage are learnt from.

    Attributes:
        scenes: how many scenes are made to find them in.
        side: of the scenes, in pixels.
        least: score of the first stage, 0..1, from which on a box counts.
        each: boxes of different things that are taken of a scene at most, the surer the likelier.
        near: more boxes of faces, of which the first stage has several each.
    """

    scenes: Count
    side: Side = 256
    least: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.03
    each: Count = 8
    near: Number = 4


class RefinerLoss(Section, frozen=True, kw_only=True):
    """What is minimised besides the score's cross-entropy.

    Attributes:
        box: weight of the box's loss.
        landmarks: weight of the landmarks' loss.
    """

    box: Amount = 3.0
    landmarks: Amount = 2.0


class RefinerSchedule(Section, frozen=True, kw_only=True):
    """How long.

    Attributes:
        epochs: passes over the proposals.
        warmup_epochs: as in `Schedule`, like the other two.
        average_epochs: likewise.
        measure_epochs: likewise.
    """

    epochs: Count
    warmup_epochs: Amount = 0.0
    average_epochs: Number = 0
    measure_epochs: Count = 1


class RefinerRecipe(Section, frozen=True, kw_only=True):
    """Everything that decides how the second stage of a face detector is trained.

    Attributes:
        summary: one line for people.
        seed: of every random choice.
        least: score of the first stage, 0..1, from which on the device asks the second one.
    """

    summary: str
    seed: Number = 1
    least: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    data: Data = Data()
    proposals: Proposals
    network: RefinerNetwork
    loss: RefinerLoss = RefinerLoss()
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer = Optimizer()
    schedule: RefinerSchedule


def load_faces_recipe(name: str | None = None, settings: Sequence[str] = ()) -> FacesRecipe:
    """The recipe of a detector that comes with the package, or a TOML file of one's own.

    Args:
        name: path of that file.
        settings: changes such as ``optimizer.learning_rate=0.01``.

    Raises:
        InputError: there is no such recipe, or something in it or in the changes is wrong.
    """
    return load(_text(name, "faces"), name or "faces", settings, FacesRecipe)


def load_refiner_recipe(name: str | None = None, settings: Sequence[str] = ()) -> RefinerRecipe:
    """The recipe of a second stage, as `load_faces_recipe`."""
    return load(_text(name, "refiner"), name or "refiner", settings, RefinerRecipe)


def _text(name: str | None, shipped: str) -> str:
    if name is not None:
        return read(name)
    folder = "detector" if shipped == "faces" else "refiner"
    return (resources.files("fer_edge_train") / "recipes" / folder / f"{shipped}.toml").read_text(encoding="utf-8")
