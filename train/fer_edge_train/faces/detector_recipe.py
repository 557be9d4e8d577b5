"""The recipe of a face detector: everything that decides how it is trained."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from fer_edge.utils.toml import Section
from fer_edge_train.recipe_sections import Amount, Count, Number, Optimizer, Positive, Schedule, Share

STRIDES: Final = (8, 16, 32)

SceneSide = Annotated[int, msgspec.Meta(ge=64, multiple_of=32)]


class DetectorData(Section, frozen=True, kw_only=True):
    """Which images and labels count.

    Attributes:
        exclude: prefixes of the file names of images that are left out.
        noisy: prefixes of the file names of images with unreliable labels. In them, faces with a score below
            `min_score` count neither as face nor as background.
        min_score: minimum score that the labelling detector gave a face in such an image, 0..1.
        hard_score: an image is hard if it has a face with a score below this, 0..1.
        hard_repeats: how many times as often as others hard images are drawn.
        corrected_repeats: how many times as often as others images with corrected labels are drawn.
        teacher_scales: factors of the scene's size at which the teacher sees it, each of 1, 2 and 4. It finds the
            largest faces at 1 and smaller ones at 2. Both together take five times as long.
    """

    exclude: tuple[str, ...] = ()
    noisy: tuple[str, ...] = ()
    min_score: Share = 0.7
    hard_score: Share = 0.0
    hard_repeats: Count = 1
    corrected_repeats: Count = 1
    teacher_scales: Annotated[tuple[Literal[1, 2, 4], ...], msgspec.Meta(min_length=1)] = (1,)

    def __post_init__(self) -> None:
        """Check that the teacher has an answer for every cell: without one, a cell counts as background."""
        if 1 not in self.teacher_scales:
            message = "data.teacher_scales must have 1, or the largest faces would count as background"
            raise ValueError(message)


class DetectorNetwork(Section, frozen=True, kw_only=True):
    """Shape of the network.

    Attributes:
        stem: channels at stride 4, after the first two convolutions.
        widths: channels at strides 8, 16 and 32.
        blocks: residual blocks of two depthwise-separable convolutions at each of these strides.
    """

    stem: Count
    widths: tuple[Count, Count, Count]
    blocks: tuple[Number, Number, Number]


class DetectorLossOptions(Section, frozen=True, kw_only=True):
    """Options of the loss.

    Attributes:
        candidates: maximum number of cells that are assigned to a face.
        score_power: exponent of a cell's score in its alignment with a face.
        overlap_power: exponent of the overlap of its box with the face in that alignment.
        box: weight of the loss of the boxes, relative to that of the scores.
        landmarks: weight of the loss of the landmarks.
    """

    candidates: Count = 10
    score_power: Positive = 0.5
    overlap_power: Positive = 6.0
    box: Amount = 2.0
    landmarks: Amount = 1.0


class SceneAugmentation(Section, frozen=True, kw_only=True):
    """Strengths of the random changes of a scene.

    Attributes:
        mosaic: probability that a scene consists of four images.
        min_face: longer side of the smallest face in a scene, in pixels; smaller ones are neither face nor background.
        max_zoom: maximum enlargement of an image.
        flip: probability of a left-right flip.
        rotate: probability of a rotation.
        rotate_degrees: maximum rotation to either side.
        squeeze: maximum factor by which an image is made narrower or lower.
        occlude: probability that a drawn hand, something at a side or an object covers a part of a face.
        gamma: maximum change of the gamma, as a factor less 1.
        contrast: maximum change of the contrast, as a factor less 1.
        brightness: maximum change of the brightness, divided by the full range.
        gradient: probability that the light fades to one side.
        blur: probability of a blur.
        noise: probability of sensor noise.
        jpeg: probability of JPEG artefacts.
        paste: probability that a face of another dataset, if one is given, is pasted where no face is. It is drawn
            again after each pasted face, up to eight times.
        clutter: probability that a drawn wheel, ball, dial, letter or other object is put where no face is. It is
            drawn again likewise.
        mixup: probability that another image shines through.
    """

    mosaic: Share = 0.0
    min_face: Annotated[float, msgspec.Meta(ge=4)] = 10.0
    max_zoom: Annotated[float, msgspec.Meta(ge=1)] = 2.5
    flip: Share = 0.0
    rotate: Share = 0.0
    rotate_degrees: Amount = 0.0
    squeeze: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    occlude: Share = 0.0
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


class DetectorSchedule(Schedule, frozen=True, kw_only=True):
    """The schedule of a detector or refiner, which has no held-out loss.

    Attributes:
        measure_epochs: measure the detector on the validation images after every so many epochs.
    """

    measure_epochs: Count = 1

    def __post_init__(self) -> None:
        """Check the relations between fields."""
        super().__post_init__()
        if self.rate == "plateau" or self.stop_epochs:
            message = (
                "schedule.rate = 'plateau' and schedule.stop_epochs need a held-out loss, which a detector does not"
                " have: choose rate = 'cosine' or 'constant', and stop_epochs = 0"
            )
            raise ValueError(message)


class DetectorRecipe(Section, frozen=True, kw_only=True):
    """Everything that decides how a face detector is trained.

    Attributes:
        summary: description in one line.
        seed: seed of every random choice.
    """

    summary: str
    seed: Number = 1
    data: DetectorData = DetectorData()
    network: DetectorNetwork
    loss: DetectorLossOptions = DetectorLossOptions()
    augmentation: SceneAugmentation = SceneAugmentation()
    optimizer: Optimizer = Optimizer()
    schedule: DetectorSchedule

    def __post_init__(self) -> None:
        """Check the sizes of the scenes."""
        sides = [side for _, side in self.schedule.sizes]
        if not sides or any(side < 64 or side % max(STRIDES) for side in sides):
            message = f"schedule.sizes must have at least one size; each is a multiple of {max(STRIDES)} from 64 on"
            raise ValueError(message)
