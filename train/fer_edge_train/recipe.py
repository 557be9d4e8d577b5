"""Recipes: everything that decides how a model is trained, one TOML file each."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from fer_edge.errors import InputError
from fer_edge.utils.toml import Section, T, override, parse_toml, parse_value, to_struct

if TYPE_CHECKING:
    from collections.abc import Sequence

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
PartialShare = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Number = Annotated[int, msgspec.Meta(ge=0)]


class Data(Section, frozen=True, kw_only=True):
    """What the faces are.

    Attributes:
        labels: names of the outputs, in order; empty takes those of the data.  Faces of another label are left out.
        side: side of the images that the model takes, in pixels.
        validation: share of the training faces that is held out to watch, to stop by and to calibrate by,
            near-duplicates on one side; not used where the data has a validation part of its own.
        validation_seed: of the choice of those faces, which follows from each face itself.  Runs of other seeds hold
            out the same ones, and runs with other labels nearly the same, so that teachers and the model that is begun
            from have seen little or nothing of what their student is chosen and calibrated by.
    """

    labels: tuple[str, ...] = ()
    side: Annotated[int, msgspec.Meta(ge=16, le=512)] = 48
    validation: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05
    validation_seed: Number = 1

    def __post_init__(self) -> None:
        """Check what one field alone does not tell."""
        if len(set(self.labels)) != len(self.labels) or len(self.labels) == 1:
            message = "data.labels must be at least two, and all different"
            raise ValueError(message)


class Target(Section, frozen=True, kw_only=True):
    """What the network is taught.

    Attributes:
        protocol: ``labels`` takes the dataset's own labels; ``ferplus`` takes FER+'s eight, a face's class being
            what most annotators saw, and leaves out faces without a majority (Barsoum et al. 2016, arXiv:1608.01041).
        votes: share of the FER+ annotators' votes in the target; the rest is the class.
        auxiliary: weight of a second head that learns the votes beside the first and is cut off at the end.
        distillation: share of the teachers' probabilities in the target (Hinton et al. 2015, arXiv:1503.02531).
        every_view: whether the teachers are asked about each changed and mixed image, as the network sees it (Beyer
            et al. 2021, arXiv:2106.05237), which costs their time in every step, instead of once about each face.
        by_turns: whether each batch is then shown to one of the teachers alone, and the next batch to the next: what is
            learnt is the same on average, in the time of one.
        mirrored: whether teachers who are asked about each image are asked about its mirror image, too, and the mean
            of both is learnt, as of teachers who are asked once; twice their time.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2015, arXiv:1512.00567).
        class_weight: exponent of a class's weight, which is (mean count / its count); 1 balances the classes.
    """

    protocol: Literal["labels", "ferplus"] = "labels"
    votes: Share = 0.0
    auxiliary: Amount = 0.0
    distillation: Share = 0.0
    every_view: bool = False
    by_turns: bool = False
    mirrored: bool = False
    label_smoothing: PartialShare = 0.0
    class_weight: Share = 0.0


class Residual(Section, frozen=True, kw_only=True, tag_field="kind", tag="residual"):
    """A residual network (He et al. 2015, arXiv:1512.03385) of plain 3x3 convolutions.

    Attributes:
        stem: filters of the first, 5x5 convolution.
        stem_strides: its strides; 1 keeps the image's full size for the first stage.
        widths: filters of each stage; every stage but the first halves the image.
        pairs: residual pairs of convolutions in each stage.
        squeeze: what the channels of each pair are divided by in its squeeze-and-excitation (Hu et al. 2017,
            arXiv:1709.01507), which weighs them by their means over the image; 0 does without.
        dropout: share of the pooled features that is dropped in training.
    """

    stem: Count
    stem_strides: Literal[1, 2] = 2
    widths: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    pairs: tuple[Number, ...]
    squeeze: Number = 0
    dropout: PartialShare = 0.0

    def __post_init__(self) -> None:
        """Check what one field alone does not tell."""
        if len(self.widths) != len(self.pairs):
            message = "network.widths and network.pairs must have the same length"
            raise ValueError(message)


class Plain(Section, frozen=True, kw_only=True, tag_field="kind", tag="plain"):
    """A plain network: blocks of 3x3 convolutions and max pooling, then dense layers.

    Attributes:
        widths: filters of each block.
        convolutions: convolutions in each block, before its pooling.
        batch_norm: whether each convolution is followed by batch normalisation (Ioffe & Szegedy 2015,
            arXiv:1502.03167).
        block_dropout: share of each block's output that is dropped in training.
        top: what turns the last block's output into a vector.
        dense: units of the dense layers before the output.
        dropout: share of each dense layer's output that is dropped in training.
    """

    widths: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    convolutions: Count = 1
    batch_norm: bool = False
    block_dropout: PartialShare = 0.0
    top: Literal["flatten", "average"] = "flatten"
    dense: tuple[Count, ...] = ()
    dropout: PartialShare = 0.0


class Transfer(Section, frozen=True, kw_only=True, tag_field="kind", tag="transfer"):
    """A network of `keras.applications` under a new output, grey to RGB and resizing inside.

    Attributes:
        backbone: its name there.
        side: side of the images that it is given.
        weights: ``imagenet`` asks Keras for its file; ``none`` starts at random.  ``--weights FILE`` goes before both.
        dropout: share of the pooled features that is dropped in training.
        frozen_epochs: epochs in which only the new output learns, before all does.
        fine_tuning: learning rate after that, over the rate before.
    """

    backbone: Literal["MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "EfficientNetB0", "VGG16", "ResNet50"]
    side: Annotated[int, msgspec.Meta(ge=32, le=512)] = 96
    weights: Literal["imagenet", "none"] = "imagenet"
    dropout: PartialShare = 0.2
    frozen_epochs: Number = 3
    fine_tuning: Positive = 0.1


Network = Residual | Plain | Transfer


class Augmentation(Section, frozen=True, kw_only=True):
    """Strengths of the random changes; zero switches one off.

    Attributes:
        flip: chance of a left-right flip.
        rotate_degrees: most rotation to either side.
        zoom: largest enlargement or reduction, less 1.
        stretch: largest change of the aspect ratio, less 1.
        shear: most horizontal shear, as a tangent.
        shift: most shift each way, over the side.
        unwarped: share of the faces that are flipped at most: the changes above resample an image, which makes it
            smoother than those that a model is judged by.
        contrast: largest change of the contrast, less 1.
        brightness: most brightening or darkening, over the full range.
        erase: chance that a rectangle is covered with noise.
        erase_size: longest side of that rectangle, over the side.
        mixup: parameter of mixup's Beta distribution.
        cutmix: parameter of CutMix's Beta distribution; with mixup too, each batch gets one of the two.
    """

    flip: Share = 0.0
    rotate_degrees: Amount = 0.0
    zoom: Amount = 0.0
    stretch: Amount = 0.0
    shear: Amount = 0.0
    shift: Share = 0.0
    unwarped: Share = 0.0
    contrast: Amount = 0.0
    brightness: Share = 0.0
    erase: Share = 0.0
    erase_size: Annotated[float, msgspec.Meta(ge=0.1, le=1)] = 0.4
    mixup: Amount = 0.0
    cutmix: Amount = 0.0


class Optimizer(Section, frozen=True, kw_only=True):
    """How weights change.

    Attributes:
        kind: ``adamw`` (Loshchilov & Hutter 2017, arXiv:1711.05101), ``adam`` (Kingma & Ba 2014, arXiv:1412.6980)
            or ``sgd`` with Nesterov's momentum of 0.9.
        learning_rate: its peak.
        weight_decay: decoupled weight decay, of convolutions and dense layers alone.
        batch_size: faces a step.
    """

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Positive = 3e-3
    weight_decay: Amount = 0.0
    batch_size: Count = 128


class Schedule(Section, frozen=True, kw_only=True):
    """How long, at which rates, and on images of which size.

    Attributes:
        epochs: passes over the training faces, at most.
        rate: ``cosine`` to zero (Loshchilov & Hutter 2016, arXiv:1608.03983), ``constant``, or ``plateau``: reduced
            when the held-out loss has not fallen for a while.
        warmup_epochs: epochs in which a cosine's rate first rises to its peak.
        plateau_epochs: how long that while is.
        plateau_factor: what the rate is then multiplied by.
        stop_epochs: end when the held-out loss has not fallen for so many epochs, and keep the epoch at which it
            was lowest; 0 goes on to the end and keeps that.
        average_epochs: keep the mean of the weights at the ends of so many last epochs (Izmailov et al. 2018,
            arXiv:1803.05407); 0 keeps those of the last.
        statistics_faces: at the end, measure batch normalisation's means and variances anew, by so many training faces
            as they are (Wu & Johnson 2021, arXiv:2105.07576): those of training are of changed faces, and of weights
            that were not yet the mean; 0 keeps them.
        sizes: for each stage of training the share of the epochs at which it starts and the side of its
            images; smaller images at first cost a fraction of the time.  Empty is the model's side throughout.
        checkpoint_epochs: save so often; where an epoch takes a second, saving each would take as long again.
    """

    epochs: Count
    rate: Literal["cosine", "constant", "plateau"] = "cosine"
    warmup_epochs: Amount = 0.0
    plateau_epochs: Count = 5
    plateau_factor: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    stop_epochs: Number = 0
    average_epochs: Number = 0
    statistics_faces: Number = 0
    sizes: tuple[tuple[Share, Annotated[int, msgspec.Meta(ge=16)]], ...] = ()
    checkpoint_epochs: Count = 1


class Recipe(Section, frozen=True, kw_only=True):
    """Everything that decides how a model is trained.

    Attributes:
        summary: one line for people.
        seed: of every random choice but that of the faces that are held out.
        precision: of the arithmetic: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``; ``auto`` is
            ``mixed_bfloat16`` where the processor or a GPU is fast with it, else ``float32``.
    """

    summary: str
    seed: Number = 1
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    data: Data = Data()
    target: Target = Target()
    network: Network
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule

    def __post_init__(self) -> None:
        """Check what one field alone does not tell."""
        sizes = self.schedule.sizes
        starts = [start for start, _ in sizes]
        if sizes and (starts[0] != 0 or starts != sorted(set(starts)) or sizes[-1][1] != self.data.side):
            message = f"schedule.sizes must start at 0.0, rise, and end with data.side, which is {self.data.side}"
            raise ValueError(message)
        if self.schedule.stop_epochs and self.schedule.average_epochs:
            message = (
                "schedule.stop_epochs keeps the best epoch, schedule.average_epochs a mean: choose one, 0 the other"
            )
            raise ValueError(message)
        flat = isinstance(self.network, Transfer) or (isinstance(self.network, Plain) and self.network.top == "flatten")
        if flat and any(size != self.data.side for _, size in sizes):
            message = "schedule.sizes needs a network that takes any size: residual, or plain with top = 'average'"
            raise ValueError(message)
        least = min([self.data.side, *(size for _, size in sizes)])
        if isinstance(self.network, Plain) and least >> len(self.network.widths) == 0:
            message = f"network.widths: {len(self.network.widths)} poolings leave nothing of {least} pixels"
            raise ValueError(message)
        without = isinstance(self.network, Plain) and not self.network.batch_norm
        without = without or (isinstance(self.network, Transfer) and self.network.backbone == "VGG16")
        if self.schedule.statistics_faces and without:
            message = "schedule.statistics_faces is for batch normalisation, and this network has none; leave it out"
            raise ValueError(message)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("fer_edge_train") / "recipes"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """The TOML of a recipe that comes with the package, or of a file of one's own.

    Raises:
        InputError: there is no such recipe.
    """
    if name.endswith(".toml"):
        return read(name)
    names = recipe_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"no recipe {name!r}: {hint}there are {', '.join(names)}, or give a .toml file")
    return (resources.files("fer_edge_train") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Load a recipe that comes with the package, or a TOML file of one's own.

    Args:
        name: of the recipe, or the file's path.
        settings: changes such as ``optimizer.learning_rate=0.01``; a value that is no TOML is a string.

    Raises:
        InputError: there is no such recipe, or something in it or in the changes is wrong.
    """
    return load(recipe_text(name), name, settings, Recipe)


def load(text: str, name: str, settings: Sequence[str], to: type[T]) -> T:
    """A recipe of any kind from its TOML, with changes.

    Raises:
        InputError: something in it or in the changes is wrong; ``name`` says whose.
    """
    tables = parse_toml(text, f"recipe {name}")
    given = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        *path, last = key.strip().split(".")
        last = {"lr": "learning_rate"}.get(last, last)
        if not equals or not last or not all(path):
            raise InputError(f"--set {setting}: give KEY=VALUE, such as optimizer.learning_rate=0.01")
        given[f"--set {setting}"] = (".".join([*path, last]), parse_value(value))
    override(tables, given, to)
    return to_struct(tables, to, f"recipe {name}")


def read(path: str) -> str:
    """The text of a recipe of one's own.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise InputError(f"{path}: the recipe cannot be read ({reason})") from error
