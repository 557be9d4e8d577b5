"""Giving a classifier of somebody else a card, and changing the card of one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.classification.classifier import TFLiteClassifier, with_self_test
from fer_edge.errors import InputError, ModelError, printable
from fer_edge.modelcard.archive import (
    attached_by_others,
    attached_labels,
    check_flatbuffer,
    model_bytes,
    read_any_card,
    with_card,
)
from fer_edge.modelcard.schema import ClassifierCard, InputSpec
from fer_edge.tflite.interpreter import make_interpreter
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from pathlib import Path


_SLACK: Final = 0.02  # what rounding may add to a score


def set_card(path: Path, labels: tuple[str, ...], scale_offset: tuple[float, float] | None) -> ClassifierCard:
    """Give a ``.tflite`` of somebody else's a card, or change what its own says; all else in it stays as it is.

    Args:
        path: the file, which is replaced whole or not at all.
        labels: names of its outputs; empty takes those that it has.
        scale_offset: from a pixel, 0..255, to its real-valued input; None takes what it says.

    Raises:
        ModelError: it is missing, damaged or no image classifier.
        InputError: something is neither given nor in the file, or does not fit it.
    """
    old = _own_card(path)
    flatbuffer, attached = model_bytes(path), attached_by_others(path)
    if old:
        check_flatbuffer(path, old, flatbuffer)
    interpreter = make_interpreter(flatbuffer, path)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    taken, given = tuple(map(int, inputs[0]["shape"])), tuple(map(int, outputs[0]["shape"]))
    if (len(inputs), len(outputs), len(taken), len(given)) != (1, 1, 4, 2) or taken[3] not in {1, 3}:
        raise ModelError(
            f"{path}: it takes {list(taken)} and gives {list(given)}; a classifier takes one image,"
            " [1, height, width, 1 or 3], and gives [1, labels]"
        )
    labels = labels or (old.labels if old else attached_labels(path))
    if len(labels) != given[1]:
        have = f"there are {len(labels)} labels ({', '.join(labels)})" if labels else "no labels are known"
        raise InputError(f"{path}: it has {given[1]} outputs, but {have}: give --labels, in their order")
    if len(set(labels)) != len(labels):
        raise InputError(f"{path}: a label twice in {', '.join(labels)}; each output needs a name of its own")
    if scale_offset is None:
        if old is None:
            raise InputError(
                f"{path}: it does not say which values its pixels had in training: give --input-range 0..1, -1..1 or"
                " 0..255"
            )
        scale_offset = old.input.scale, old.input.offset
    spec = InputSpec(
        height=taken[1],
        width=taken[2],
        channels=3 if taken[3] == 3 else 1,
        scale=scale_offset[0],
        offset=scale_offset[1],
    )
    sha256 = hashlib.sha256(flatbuffer).hexdigest()
    base = old or ClassifierCard(name=printable(path.stem), labels=labels, input=spec)
    card = msgspec.structs.replace(base, labels=labels, input=spec, flatbuffer_sha256=sha256)
    if old is None or old.self_test is None or old.input != spec:  # else this machine would vouch for itself
        card = with_self_test(flatbuffer, card, path)
    with replacing(path) as temporary:
        temporary.write_bytes(with_card(flatbuffer, card, attached))
        _refuse_logits(TFLiteClassifier(temporary), path)
    return card


def _own_card(path: Path) -> ClassifierCard | None:
    """What a classifier's file says, if it says anything that can be read."""
    try:
        card = read_any_card(path)
    except ModelError:
        if not path.is_file():
            raise
        return None
    if not isinstance(card, ClassifierCard):
        raise ModelError(f"{path}: a face detector, whose card `fer-edge convert` writes; give a classifier here")
    return card


def _refuse_logits(classifier: TFLiteClassifier, path: Path) -> None:
    spec = classifier.card.input
    # Fixed images, for the question must have one answer.
    noise = np.random.default_rng(0).integers(0, 256, (8, spec.height, spec.width), np.uint8)
    scores = classifier.classify(noise)
    if not (scores.min() > -_SLACK and scores.max() < 1 + _SLACK):
        raise ModelError(
            f"{path}: its outputs are no scores of 0..1 but reach from {scores.min():.2g} to {scores.max():.2g}, as"
            " logits do; convert the float model that it was made of, which gives it a softmax"
        )
