"""Adding a card to a classifier from elsewhere, and changing an existing card."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from fer_edge.classification.classifier import TFLiteClassifier, with_self_test
from fer_edge.errors import InputError, ModelError, printable
from fer_edge.modelcard.archive import attached_labels, attached_members, check_flatbuffer, model_bytes, with_card
from fer_edge.modelcard.card_labels import label_problem
from fer_edge.modelcard.reader import read_any_card
from fer_edge.modelcard.schema import INPUT_RANGES, ClassifierCard, InputSpec
from fer_edge.tflite.interpreter import make_interpreter
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.words import listed

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.modelcard.schema import PixelMapping

_ROUNDING: Final = 0.02  # by which a correct score may lie outside 0..1


def set_card(path: Path, labels: tuple[str, ...], mapping: PixelMapping | None) -> ClassifierCard:
    """Add a card to a ``.tflite`` file, or change its card; everything else in the file stays the same.

    Args:
        path: the file, which is replaced completely or left unchanged.
        labels: names of the outputs; if empty, the labels in the file.
        mapping: how pixels, 0..255, become the real-valued input; None for what is on the card.

    Raises:
        ModelError: the file is missing, damaged or not an image classifier.
        InputError: a value is neither given nor in the file, or does not fit the model.
    """
    old = _read_old_card(path)
    flatbuffer, attached = model_bytes(path), attached_members(path)
    if old:
        check_flatbuffer(path, old, flatbuffer)
    interpreter = make_interpreter(flatbuffer, path)
    (height, width, channels), outputs = _check_shapes(
        interpreter.get_input_details(), interpreter.get_output_details(), path
    )
    labels = labels or (old.labels if old else attached_labels(path))
    if len(labels) != outputs:
        known = f"there are {len(labels)} labels ({', '.join(labels)})" if labels else "no labels are known"
        raise InputError(f"{path}: it has {outputs} outputs, but {known}: give --labels, in the order of the outputs")
    if problem := label_problem(labels):
        raise InputError(f"{path}: {problem}; give each output a different name")
    if mapping is None:
        if old is None:
            raise InputError(
                f"{path}: the file does not say which values its pixels had in training: give --input-range"
                f" {listed(tuple(INPUT_RANGES), 'or')}"
            )
        mapping = old.input.mapping
    spec = InputSpec.from_mapping(mapping, height=height, width=width, channels=3 if channels == 3 else 1)
    sha256 = hashlib.sha256(flatbuffer).hexdigest()
    base = old or ClassifierCard(name=printable(path.stem), labels=labels, input=spec)
    card = msgspec.structs.replace(base, labels=labels, input=spec, flatbuffer_sha256=sha256)
    # A self-test of another machine is kept: recorded again here, it could not find a fault of this machine's runtime.
    if old is None or old.self_test is None or old.input != spec:
        card = with_self_test(flatbuffer, card, path)
    with replacing(path) as temporary:
        temporary.write_bytes(with_card(flatbuffer, card, attached))
        _check_scores(TFLiteClassifier(temporary), path)
    return card


def _check_shapes(
    inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], path: Path
) -> tuple[tuple[int, int, int], int]:
    """Return the input's height, width and channels and the number of outputs, if they are those of a classifier."""
    if not inputs or not outputs:
        raise ModelError(
            f"{path}: it has {len(inputs)} inputs and {len(outputs)} outputs; a classifier has one of each"
        )
    taken, given = tuple(map(int, inputs[0]["shape"])), tuple(map(int, outputs[0]["shape"]))
    if (len(inputs), len(outputs), len(taken), len(given)) != (1, 1, 4, 2) or taken[3] not in {1, 3}:
        raise ModelError(
            f"{path}: it takes {list(taken)} and gives {list(given)}; a classifier takes one image,"
            " [1, height, width, 1 or 3], and gives [1, labels]"
        )
    return (taken[1], taken[2], taken[3]), given[1]


def _read_old_card(path: Path) -> ClassifierCard | None:
    """Return the card of a classifier's file, or None if it has no readable card."""
    try:
        card = read_any_card(path)
    except ModelError:
        if not path.is_file():
            raise
        return None
    if not isinstance(card, ClassifierCard):
        raise ModelError(
            f"{path}: a face detector, whose card only `fer-edge convert` can write; give a classifier here"
        )
    return card


def _check_scores(classifier: TFLiteClassifier, path: Path) -> None:
    """Reject a model without a final softmax, whose outputs are not scores of 0..1."""
    spec = classifier.card.input
    # Always the same images, so that the answer is always the same.
    noise = np.random.default_rng(0).integers(0, 256, (8, spec.height, spec.width), np.uint8)
    scores = classifier.classify(noise)
    if not (scores.min() > -_ROUNDING and scores.max() < 1 + _ROUNDING):
        raise ModelError(
            f"{path}: its outputs are not scores of 0..1 but range from {scores.min():.2g} to {scores.max():.2g}, like"
            " logits; convert the float model from which it was made, which adds a softmax"
        )
