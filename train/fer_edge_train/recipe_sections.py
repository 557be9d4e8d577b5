"""Sections that the recipes of classifiers, face detectors and refiners share: number types, optimizer and schedule."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec

from fer_edge.utils.toml import Section

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
PartialShare = Annotated[float, msgspec.Meta(ge=0, lt=1)]
OpenShare = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Number = Annotated[int, msgspec.Meta(ge=0)]


class Optimizer(Section, frozen=True, kw_only=True):
    """How the weights are updated.

    Attributes:
        kind: ``adamw`` (Loshchilov & Hutter 2017, arXiv:1711.05101), ``adam`` (Kingma & Ba 2014, arXiv:1412.6980)
            or ``sgd`` with Nesterov momentum of 0.9.
        learning_rate: peak of the learning rate.
        weight_decay: decoupled weight decay. It applies to the kernels of convolutions and dense layers only.
        batch_size: number of images in a training step.
    """

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Positive = 3e-3
    weight_decay: Amount = 0.0
    batch_size: Count = 128


class SizeStage(NamedTuple):
    """Consecutive epochs with images of one size.

    Attributes:
        size: side of the images, in pixels.
        epochs: the epochs, counted from 0.
    """

    size: int
    epochs: range


class Schedule(Section, frozen=True, kw_only=True):
    """How long training takes, with which learning rates and on images of which sizes.

    Attributes:
        epochs: maximum number of passes over the training data.
        rate: ``cosine`` falls to zero (Loshchilov & Hutter 2016, arXiv:1608.03983), ``constant`` stays, and ``plateau``
            is reduced when the held-out loss has stopped falling.
        warmup_epochs: epochs in which a cosine rate first rises to its peak.
        plateau_epochs: epochs without a lower held-out loss before a plateau rate is reduced.
        plateau_factor: factor of that reduction.
        stop_epochs: stop training after so many epochs without a lower held-out loss, and keep the model of the epoch
            with the lowest one. With 0, training runs to the end and keeps the last model.
        average_epochs: keep the mean of the weights after each of the last so many epochs (Izmailov et al. 2018,
            arXiv:1803.05407). With 0, keep the weights of the last epoch.
        sizes: for each stage of training, the share of the epochs at which it starts and the side of its images in
            pixels. Smaller images at first save most of the time. Empty means one size throughout.
        checkpoint_epochs: save a checkpoint after every so many epochs. If an epoch takes a second, saving each one
            takes as long again.
    """

    epochs: Count
    rate: Literal["cosine", "constant", "plateau"] = "cosine"
    warmup_epochs: Amount = 0.0
    plateau_epochs: Count = 5
    plateau_factor: OpenShare = 0.5
    stop_epochs: Number = 0
    average_epochs: Number = 0
    sizes: tuple[tuple[Share, Annotated[int, msgspec.Meta(ge=16)]], ...] = ()
    checkpoint_epochs: Count = 1

    def __post_init__(self) -> None:
        """Check the relations between fields."""
        starts = [start for start, _ in self.sizes]
        if self.sizes and (starts[0] != 0 or starts != sorted(set(starts))):
            message = "schedule.sizes must start at 0.0 and rise"
            raise ValueError(message)
        if self.stop_epochs and self.average_epochs:
            message = (
                "schedule.stop_epochs keeps the best epoch and schedule.average_epochs a mean of epochs:"
                " choose one and set the other to 0"
            )
            raise ValueError(message)

    @property
    def keeps_best(self) -> bool:
        """Whether the run keeps the model of the epoch with the lowest held-out loss."""
        return self.stop_epochs > 0

    def warmup(self, epochs: int) -> float:
        """Return the warmup of a run of ``epochs``, which is at most a quarter of it."""
        return min(self.warmup_epochs, epochs / 4)

    def stages(self, default_size: int) -> list[SizeStage]:
        """Return the stages that have at least one epoch.

        Args:
            default_size: side of the images if `sizes` is empty, in pixels.
        """
        sizes = self.sizes or ((0.0, default_size),)
        # The last stage gets at least one epoch even in a short run, because the model is used at its size.
        starts = [min(round(start * self.epochs), self.epochs - 1) for start, _ in sizes] + [self.epochs]
        stages = [SizeStage(size, range(starts[i], starts[i + 1])) for i, (_, size) in enumerate(sizes)]
        return [stage for stage in stages if stage.epochs]
