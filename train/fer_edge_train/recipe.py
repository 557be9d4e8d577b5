"""Recipes: everything that decides how a model is trained, one TOML file each."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from fer_edge.errors import InputError

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a recipe; an unknown key is refused."""


class Target(Section, frozen=True, kw_only=True):
    """What the network is taught.

    Attributes:
        votes: share of the FER+ annotators' votes in the target; the rest is the dataset's own label.
    """

    votes: Share = 0.0


class Network(Section, frozen=True, kw_only=True):
    """A residual network (He et al. 2015, arXiv:1512.03385) of plain 3x3 convolutions.

    Attributes:
        stem: filters of the first, strided 5x5 convolution.
        widths: filters of each stage; every stage but the first halves the picture.
        pairs: residual pairs of convolutions in each stage.
        dropout: share of the pooled features that is dropped in training.
    """

    stem: Count
    widths: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    pairs: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0


class Augmentation(Section, frozen=True, kw_only=True):
    """Strengths of the random changes; zero switches one off.

    Attributes:
        flip: chance of a left-right flip.
        rotate_degrees: most rotation to either side.
        zoom: largest enlargement or reduction, less 1.
        stretch: largest change of the aspect ratio, less 1.
        shear: most horizontal shear, as a tangent.
        shift: most shift each way, over the side.
        contrast: largest change of the contrast, less 1.
        brightness: most brightening or darkening, over the full range.
        erase: chance that a rectangle is covered with noise.
        erase_size: longest side of that rectangle, over the side.
        mixup: parameter of mixup's Beta distribution.
    """

    flip: Share = 0.0
    rotate_degrees: Amount = 0.0
    zoom: Amount = 0.0
    stretch: Amount = 0.0
    shear: Amount = 0.0
    shift: Share = 0.0
    contrast: Amount = 0.0
    brightness: Share = 0.0
    erase: Share = 0.0
    erase_size: Annotated[float, msgspec.Meta(ge=0.1, le=1)] = 0.4
    mixup: Amount = 0.0


class Optimizer(Section, frozen=True, kw_only=True):
    """AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) under a warm-up and one cosine.

    Attributes:
        learning_rate: its peak.
        weight_decay: decoupled weight decay.
        batch_size: faces a step.
        warmup_epochs: epochs in which the rate rises to its peak.
    """

    learning_rate: Positive = 3e-3
    weight_decay: Amount = 0.05
    batch_size: Count = 128
    warmup_epochs: Amount = 2.0


class Schedule(Section, frozen=True, kw_only=True):
    """How long, and on pictures of which size.

    Attributes:
        epochs: passes over the training faces.
        sizes: for each stage of training the share of the epochs at which it starts and the side of its
            pictures; smaller pictures at first cost a fraction of the time.  The last must be 48.
    """

    epochs: Count
    sizes: tuple[tuple[Share, Annotated[int, msgspec.Meta(ge=16)]], ...] = ((0.0, 48),)


class Recipe(Section, frozen=True, kw_only=True):
    """Everything that decides how a model is trained.

    Attributes:
        summary: one line for people.
        seed: of every random choice.
        validation: share of the training faces that is held out to watch, and to fit the temperature.
        precision: ``float32``, or ``mixed_bfloat16`` where the processor is fast with it.
    """

    summary: str
    seed: int = 1
    validation: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    target: Target = Target()
    network: Network
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule

    def __post_init__(self) -> None:
        """Check what one field alone does not tell."""
        if len(self.network.widths) != len(self.network.pairs):
            message = "network.widths and network.pairs must have the same length"
            raise ValueError(message)
        starts = [start for start, _ in self.schedule.sizes]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)) or self.schedule.sizes[-1][1] != 48:
            message = "schedule.sizes must start at 0.0, rise, and end with pictures of 48"
            raise ValueError(message)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("fer_edge_train") / "recipes"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str) -> Recipe:
    """Load a recipe that comes with the package, or a TOML file of one's own.

    Raises:
        InputError: there is no such recipe, or something in it is wrong.
    """
    if name.endswith(".toml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: the recipe cannot be read ({error})") from error
    else:
        names = recipe_names()
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"no recipe {name!r}: {hint}there are {', '.join(names)}, or give a .toml file")
        text = (resources.files("fer_edge_train") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    try:
        return msgspec.toml.decode(text, type=Recipe)
    except msgspec.DecodeError as error:
        raise InputError(f"recipe {name}: {error}") from error
