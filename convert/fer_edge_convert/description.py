"""What must be known about a classifier, from its card, the user or the data."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fer_edge.classification.labels import FER2013
from fer_edge.errors import InputError
from fer_edge.model_zoo import missing_source
from fer_edge.modelcard.archive import attached_labels, has_card
from fer_edge.modelcard.schema import INPUT_RANGES
from fer_edge.utils.words import listed
from fer_edge_convert.conversion import check_out
from fer_edge_convert.evidence import find_out
from fer_edge_convert.formats.forms import find_form
from fer_edge_convert.pixel_values import RANGES, PixelValues, normalized
from fer_edge_convert.targets import Target

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset
    from fer_edge.modelcard.schema import ClassifierCard
    from fer_edge_convert.quantization import Scheme
    from fer_edge_convert.sources import SourceModel


@dataclass(frozen=True, slots=True)
class Statement:
    """What the user states about a classifier.

    Attributes:
        labels: names of the outputs, in order; empty if not given.
        pixels: values of the pixels in training; None if not given.
        unchecked: whether to accept it even if the data contradicts it.
    """

    labels: tuple[str, ...] = ()
    pixels: PixelValues | None = None
    unchecked: bool = False


def read_pixel_options(input_range: str | None, mean: str | None, deviation: str | None) -> PixelValues | None:
    """Return what ``--input-range``, ``--input-mean`` and ``--input-std`` say; None if they are not given.

    Raises:
        InputError: a value is not a number or three.
    """
    if mean is None and deviation is None:
        return RANGES[input_range] if input_range else None
    return normalized(
        _numbers("--input-mean", mean or "0"), _numbers("--input-std", deviation or "1"), input_range or "0..255"
    )


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(abs(value) <= 1e6 for value in values):
        raise InputError(f"{option} {text}: give a number, or three with commas between, such as 0.485,0.456,0.406")
    return values


def ask_for_missing(
    path: Path, scheme: Scheme, out: Path, statement: Statement, data: Path | None, *, target: str | None = None
) -> None:
    """Ask for everything that is needed and missing, before anything takes time.

    Args:
        path: the model.
        scheme: how it will be quantized.
        out: the file to write.
        statement: what the user says.
        data: faces to compare on.
        target: the accelerator that ``--for`` names, which implies the scheme.

    Raises:
        ModelError: there is no such model, or it is of no form that can be converted.
        InputError: something is missing, and the message holds the command to type; or ``out`` cannot be written.
    """
    if not path.exists():
        raise missing_source(path)
    check_out(path, out)
    form = find_form(path)
    known = path.is_file() and has_card(path)
    asked = []
    if not (known or statement.labels or data or (form == "tflite" and attached_labels(path))):
        asked.append(("--labels", ",".join(FER2013), "the names of its outputs, in their order"))
    if not (known or statement.pixels or data or scheme.calibrated):  # for int8, faces tell it
        asked.append(("--input-range", "0..1", f"of its pixels in training: {', '.join(INPUT_RANGES)}"))
    if scheme.calibrated and not data:
        asked.append(("--data", "fer2013.csv", "faces to measure ranges and to compare on"))
    if not asked:
        return
    needed = listed([f"{option} ({meaning})" for option, _, meaning in asked], "and")
    stated = ["--labels", ",".join(statement.labels)] if statement.labels else []
    stated += statement.pixels.option.split() if statement.pixels else []
    words = ["fer-edge", "convert", str(path), *_spell_scheme(scheme, target), *stated]
    words += [word for option, value, _ in asked for word in (option, value)]
    command = shlex.join([*words, "-o", str(out)])
    raise InputError(f"{path}: give {needed}, as in: {command}")


def _spell_scheme(scheme: Scheme, target: str | None) -> list[str]:
    """Return the options for a target and a scheme, which is left out where the target implies it."""
    if target is None:
        return [f"--{scheme}"]
    return ["--for", target, *([] if Target(target).schemes[0] == scheme else [f"--{scheme}"])]


def describe(
    source: SourceModel, statement: Statement, data: Dataset | None, usage: str | None
) -> tuple[SourceModel, ClassifierCard, tuple[str, ...]]:
    """Describe a classifier, by its own card, by what the user says, and by what the data tells.

    Args:
        source: the model.
        statement: what the user says.
        data: labelled faces, if there are any.
        usage: the part of them to test on.

    Returns:
        The model for the pixels of its card, the card, and what to tell the user, one line each.

    Raises:
        InputError: something is neither stated nor in the model, the data does not tell it, or contradicts it.
        DataError: the data has a label that the model does not have.
    """
    if source.card is not None:
        mapping = statement.pixels.mapping if statement.pixels else None
        made = source.with_pixels(statement.pixels) if statement.pixels else source
        return made, made.make_card(statement.labels, mapping), ()
    labels, pixels, lines = statement.labels or source.labels, statement.pixels, []
    if labels:
        source.make_card(labels, INPUT_RANGES["0..255"])  # refuses labels that do not fit
    if not source.sums_to_one:
        lines.append(
            "scores      do not sum to one, like those of sigmoids: each says how likely its label is on its own"
        )
    if data is not None and not (statement.unchecked and labels and pixels):
        finding = find_out(source, data, usage, labels, pixels)
        labels, pixels = finding.labels, finding.pixels
        lines += finding.lines
    made = source.with_pixels(pixels) if pixels else source
    return made, made.make_card(labels, pixels.mapping if pixels else None), tuple(lines)
