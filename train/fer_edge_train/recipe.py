"""The recipe of a classifier: everything that decides how it is trained."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from fer_edge.utils.toml import Section
from fer_edge_train.architectures import Network
from fer_edge_train.architectures.pretrained import Pretrained
from fer_edge_train.recipe_sections import Amount, Count, Number, OpenShare, Optimizer, PartialShare, Schedule, Share


class Data(Section, frozen=True, kw_only=True):
    """What the faces are and which of them are held out.

    Attributes:
        labels: names of the outputs, in order; empty takes those of the data. Faces with other labels are left out.
        side: side of the images that the model takes, in pixels.
        validation: share of the training faces that is held out, to watch training, to stop it and to calibrate the
            scores. Near-duplicates stay on one side. It is not used if the data has a validation part of its own.
        validation_seed: seed of the choice of these faces. The choice depends on nothing but this seed and each face
            itself: runs with other seeds hold out the same faces, and runs with other labels nearly the same. So
            teachers, and models that a run starts from, have learnt little or nothing from the faces by which their
            student is chosen and calibrated.
    """

    labels: tuple[str, ...] = ()
    side: Annotated[int, msgspec.Meta(ge=16, le=512)] = 48
    validation: OpenShare = 0.05
    validation_seed: Number = 1

    def __post_init__(self) -> None:
        """Check the labels."""
        if len(set(self.labels)) != len(self.labels) or len(self.labels) == 1:
            message = "data.labels must be at least two, and all different"
            raise ValueError(message)


class Target(Section, frozen=True, kw_only=True):
    """What the network learns to answer.

    Attributes:
        protocol: ``labels`` takes the labels of the dataset. ``ferplus`` takes the eight labels of FER+: the class of
            a face is the one with most votes, and faces without a majority are left out (Barsoum et al. 2016,
            arXiv:1608.01041).
        votes: share of the FER+ votes in the target. The rest is the class.
        auxiliary: weight of a second head that learns the votes. It is removed after training.
        distillation: share of the teachers' probabilities in the target (Hinton et al. 2015, arXiv:1503.02531).
        views: how many views of each face the teachers classify, when they make a bank: the face, its mirror image
            and random views (Beyer et al. 2021, arXiv:2106.05237). The network sees each of them in turn.
        mix: share of the random views that are mixed with another face before the teachers classify them (the same).
        label_smoothing: share of the rest of the target that is spread over all classes (Szegedy et al. 2015,
            arXiv:1512.00567).
        class_weight: exponent of the weight of a class, which is (mean count / count of the class); 1 balances them.
    """

    protocol: Literal["labels", "ferplus"] = "labels"
    votes: Share = 0.0
    auxiliary: Amount = 0.0
    distillation: Share = 0.0
    views: Annotated[int, msgspec.Meta(ge=1, le=64)] = 16
    mix: Share = 0.0
    label_smoothing: PartialShare = 0.0
    class_weight: Share = 0.0


class Augmentation(Section, frozen=True, kw_only=True):
    """Strengths of the random changes of an image. 0 switches a change off.

    Attributes:
        flip: probability of a left-right flip.
        rotate_degrees: maximum rotation to either side.
        zoom: maximum enlargement or reduction, less 1.
        stretch: maximum change of the aspect ratio, less 1.
        shear: maximum horizontal shear, as a tangent.
        shift: maximum shift in each direction, divided by the side.
        identity_probability: probability that a face is flipped at most. The changes above resample the image, which
            makes it smoother than the images that a model is tested on.
        contrast: maximum change of the contrast, less 1.
        brightness: maximum change of the brightness, divided by the full range.
        erase: probability that a rectangle is covered with noise.
        erase_size: maximum side of that rectangle, divided by the side of the image.
        mixup: parameter of the Beta distribution of mixup.
        cutmix: parameter of the Beta distribution of CutMix. With mixup too, each batch gets one of the two.
    """

    flip: Share = 0.0
    rotate_degrees: Amount = 0.0
    zoom: Amount = 0.0
    stretch: Amount = 0.0
    shear: Amount = 0.0
    shift: Share = 0.0
    identity_probability: Share = 0.0
    contrast: Amount = 0.0
    brightness: Share = 0.0
    erase: Share = 0.0
    erase_size: Annotated[float, msgspec.Meta(ge=0.1, le=1)] = 0.4
    mixup: Amount = 0.0
    cutmix: Amount = 0.0


class ClassifierSchedule(Schedule, frozen=True, kw_only=True):
    """The schedule of a classifier.

    Attributes:
        batchnorm_faces: after training, recompute the means and variances of batch normalization from so many
            training faces without augmentation (Wu & Johnson 2021, arXiv:2105.07576). Those of training are of
            augmented faces, and of weights that had not been averaged yet. With 0, keep those of training.
    """

    batchnorm_faces: Number = 0


class Adaptation(Section, frozen=True, kw_only=True):
    """How a trained model is adapted to faces of one's own.

    Attributes:
        steps: training steps in an epoch. Few faces are shown several times in an epoch, many faces in several epochs.
        min_faces: fewest training faces of a class that can be learnt from; two classes must have them.
        rehearsal: share of each batch that are faces of other data, on which the model learns to answer as it did
            before, so that it forgets nothing (Robins 1995; with soft answers Li & Hoiem 2016, arXiv:1606.09282).
        rehearsal_faces: number of these faces.
        rehearsal_watched: number of further such faces that are watched: how many get another answer than before?
        pull: pull towards the weights that the model had before, with no rehearsal: in each step, the weights lose
            this share of their change, times the learning rate (L2-SP, Li et al. 2018, arXiv:1802.01483).
    """

    steps: Count = 20
    min_faces: Annotated[int, msgspec.Meta(ge=4)] = 10
    rehearsal: PartialShare = 0.5
    rehearsal_faces: Count = 4000
    rehearsal_watched: Count = 500
    pull: Amount = 0.0


class Recipe(Section, frozen=True, kw_only=True):
    """Everything that decides how a classifier is trained.

    Attributes:
        summary: description in one line.
        seed: seed of every random choice but that of the faces that are held out.
        precision: precision of the arithmetic: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``. ``auto`` is
            ``mixed_bfloat16`` if the processor or a GPU has instructions for it, and ``float32`` if not.
        adaptation: how a trained model is adapted; None to train a new one.
    """

    summary: str
    seed: Number = 1
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    data: Data = Data()
    target: Target = Target()
    network: Network
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer = Optimizer()
    schedule: ClassifierSchedule
    adaptation: Adaptation | None = None

    def __post_init__(self) -> None:
        """Check the relations between sections."""
        if isinstance(self.network, Pretrained) != (self.adaptation is not None):
            message = "a recipe with a section adaptation has network.kind = 'pretrained', and no other recipe has it"
            raise ValueError(message)
        if self.adaptation and not self.schedule.keeps_best:
            message = "a recipe with a section adaptation keeps the best epoch: set schedule.stop_epochs to 1 or more"
            raise ValueError(message)
        side, sizes = self.data.side, [size for _, size in self.schedule.sizes]
        if sizes and sizes[-1] != side:
            message = f"schedule.sizes must start at 0.0, rise, and end with data.side, which is {side}"
            raise ValueError(message)
        if not self.network.takes_any_size and any(size != side for size in sizes):
            message = "schedule.sizes needs a network that takes any size: residual, or plain with top = 'average'"
            raise ValueError(message)
        self.network.check_side(min([side, *sizes]))
        if self.schedule.batchnorm_faces and not self.network.has_batch_norm:
            message = "schedule.batchnorm_faces needs a network with batch normalization; set it to 0 for this one"
            raise ValueError(message)
