"""The recipe of a face detector's second stage: everything that decides how it is trained."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fer_edge.utils.toml import Section
from fer_edge_train.faces.detector_recipe import DetectorData, DetectorSchedule, SceneAugmentation, SceneSide
from fer_edge_train.recipe_sections import Amount, Count, Number, OpenShare, Optimizer


class RefinerNetwork(Section, frozen=True, kw_only=True):
    """Shape of the network.

    Attributes:
        side: side of the square that the network takes, in pixels.
        extent: side of that square in the image, divided by the longer side of the first stage's box.
        stem: channels of the first convolution, at half of the resolution.
        widths: channels of each level. Each level halves the resolution.
        blocks: residual blocks of two depthwise-separable convolutions at each level.
    """

    side: Annotated[int, msgspec.Meta(ge=16, multiple_of=8)] = 48
    extent: Annotated[float, msgspec.Meta(ge=1)] = 1.6
    stem: Count
    widths: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    blocks: tuple[Number, ...]

    def __post_init__(self) -> None:
        """Check the relations between fields."""
        if len(self.blocks) != len(self.widths):
            message = "network.blocks must have a number for each of network.widths"
            raise ValueError(message)


class ProposalOptions(Section, frozen=True, kw_only=True):
    """Which boxes of the first stage the second one learns from.

    Attributes:
        scenes: number of scenes that are made to find boxes in.
        side: side of the scenes, in pixels.
        min_score: minimum score of a box, 0..1.
        max_per_scene: maximum number of boxes of different objects from a scene. Boxes with higher scores are more
            likely to be drawn.
        extra_positives: maximum number of further boxes of faces, of which the first stage has several each.
    """

    scenes: Count
    side: SceneSide = 256
    min_score: OpenShare = 0.03
    max_per_scene: Count = 8
    extra_positives: Number = 4


class RefinerLossOptions(Section, frozen=True, kw_only=True):
    """Weights of the losses, relative to the cross-entropy of the scores.

    Attributes:
        box: weight of the loss of the boxes.
        landmarks: weight of the loss of the landmarks.
    """

    box: Amount = 3.0
    landmarks: Amount = 2.0


class RefinerRecipe(Section, frozen=True, kw_only=True):
    """Everything that decides how the second stage of a face detector is trained.

    Attributes:
        summary: description in one line.
        seed: seed of every random choice.
        min_score: minimum score of the first stage, 0..1, from which on the device runs the second stage.
    """

    summary: str
    seed: Number = 1
    min_score: OpenShare = 0.1
    data: DetectorData = DetectorData()
    proposals: ProposalOptions
    network: RefinerNetwork
    loss: RefinerLossOptions = RefinerLossOptions()
    augmentation: SceneAugmentation = SceneAugmentation()
    optimizer: Optimizer = Optimizer()
    schedule: DetectorSchedule

    def __post_init__(self) -> None:
        """Check the relations between sections."""
        if self.schedule.sizes:
            message = "schedule.sizes is not for a refiner, whose images have one size, network.side; leave it out"
            raise ValueError(message)
