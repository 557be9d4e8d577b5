"""What must be known about a classifier, from its card, the user or the data."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fer_edge.classification.labels import FER2013
from fer_edge.errors import InputError, printable
from fer_edge.model_zoo import missing_source
from fer_edge.modelcard.archive import attached_labels, has_card
from fer_edge.modelcard.schema import INPUT_RANGES
from fer_edge.utils.words import listed
from fer_edge_convert.conversion import check_out
from fer_edge_convert.evidence import find_out
from fer_edge_convert.formats.forms import find_form
from fer_edge_convert.formats.isolated import find_heads
from fer_edge_convert.formats.outputs import fitting_outputs, likely_output
from fer_edge_convert.pixel_values import RANGES, PixelValues, normalized
from fer_edge_convert.quantization import Scheme

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset
    from fer_edge.modelcard.schema import ClassifierCard
    from fer_edge_convert.formats.forms import Form
    from fer_edge_convert.formats.heads import Heads
    from fer_edge_convert.formats.request import ReadOptions
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
    path: Path,
    statement: Statement,
    options: ReadOptions,
    *,
    scheme: Scheme | None,
    out: Path | None,
    data: Path | None,
) -> tuple[Scheme, Path]:
    """Ask for everything that is needed and missing, before anything takes time.

    Args:
        path: a classifier.
        statement: what the user says about it.
        options: what the user says about its file, and the command, to which a message adds what is missing.
        scheme: how it will be quantized; None if the user has not chosen.
        out: the file to write; None if the user has not named one.
        data: faces to compare on.

    Returns:
        The scheme and the file to write.

    Raises:
        ModelError: there is no such model, or it is of no form that can be converted.
        InputError: something is missing, and the message holds the command to type; or ``out`` cannot be written.
    """
    form = _check_files(path, out)
    known = path.is_file() and has_card(path)
    is_calibrated = (scheme or Scheme.INT8).calibrated
    asked = _ask_for_scheme(scheme)
    needs_labels = not (known or statement.labels or data or (form == "tflite" and attached_labels(path)))
    if needs_labels:
        asked.append(_Missing("--labels", ",".join(FER2013), "the names of its outputs, in their order"))
    if not (known or statement.pixels or data or is_calibrated):  # for int8, faces tell it
        asked.append(_Missing("--input-range", "0..1", f"of its pixels in training: {', '.join(INPUT_RANGES)}"))
    if is_calibrated and not data:
        asked.append(_Missing("--data", "fer2013.csv", "faces to measure ranges and to compare on"))
    asked += _ask_for_out(path, scheme, out)
    if asked and not options.output:  # otherwise, who reads the model asks for it
        asked += _ask_for_output(find_heads(path, form, options), options.classes or len(FER2013) * needs_labels)
    return _raise_if_missing(path, asked, options.command, scheme, out)


def ask_for_missing_of_detector(
    path: Path, command: str, *, scheme: Scheme | None, out: Path | None, data: Path | None
) -> tuple[Scheme, Path]:
    """Ask for what is missing to convert a face detector; see `ask_for_missing`."""
    _check_files(path, out)
    asked = _ask_for_scheme(scheme)
    if (scheme or Scheme.INT8).calibrated and not data:
        asked.append(_Missing("--data", "faces/", "images with marked faces, to measure ranges and to compare on"))
    asked += _ask_for_out(path, scheme, out)
    return _raise_if_missing(path, asked, command, scheme, out)


@dataclass(frozen=True, slots=True)
class _Missing:
    """An option to ask for.

    Attributes:
        option: the option.
        value: the value to propose; empty for an option that takes none.
        meaning: what it says.
    """

    option: str
    value: str
    meaning: str


def _check_files(path: Path, out: Path | None) -> Form:
    """Return the form of a model, after a check of both files."""
    if not path.exists():
        raise missing_source(path)
    if out is not None:
        check_out(path, out)
    return find_form(path)


def _ask_for_scheme(scheme: Scheme | None) -> list[_Missing]:
    if scheme is not None:
        return []
    others = listed([f"--{one}" for one in Scheme if one is not Scheme.INT8], "or")
    return [_Missing(f"--{Scheme.INT8}", "", f"the smallest and fastest, or {others}")]


def _ask_for_out(path: Path, scheme: Scheme | None, out: Path | None) -> list[_Missing]:
    if out is not None:
        return []
    stem = path.resolve().stem.removesuffix(".weights")
    name = f"{stem}-{scheme or Scheme.INT8}" if path.suffix == ".tflite" else stem
    return [_Missing("-o", f"{name}.tflite", "the file to write")]


def _ask_for_output(heads: Heads, classes: int) -> list[_Missing]:
    if len(heads) < 2 or len(fitting_outputs(heads, classes)) == 1:
        return []
    spelled = listed([f"{printable(name)}{f' of {count}' if count else ''}" for name, count in heads.items()], "or")
    return [_Missing("--output", likely_output(heads, classes), f"the one that gives the expression: {spelled}")]


def _raise_if_missing(
    path: Path, asked: list[_Missing], command: str, scheme: Scheme | None, out: Path | None
) -> tuple[Scheme, Path]:
    if asked or scheme is None or out is None:
        needed = listed([f"{one.option} ({one.meaning})" for one in asked], "and")
        added = shlex.join(word for one in asked for word in (one.option, one.value) if word)
        raise InputError(f"{path}: give {needed}, as in: {command or f'fer-edge convert {path}'} {added}")
    return scheme, out


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
