"""From a Keras model to a full-integer ``.tflite``, with proof that they agree."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import tensorflow as tf

from fer_edge.card import write_card
from fer_edge.classify import TFLiteClassifier
from fer_edge.datasets import TRAINING
from fer_edge.errors import InputError, ModelError, first_line
from fer_edge.files import replacing
from fer_edge.metrics import Metrics, measure
from fer_edge_convert.keras_classifier import KerasClassifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets import Dataset

logger = logging.getLogger(__name__)

CALIBRATION_FACES: Final = 700
_SEED: Final = 1


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """How far a converted model is from the one it was made of.

    Attributes:
        original: scores of the Keras model on the test faces.
        converted: scores of the converted model on the same faces.
        agreement: share of the faces that both give the same label, 0..1.
        original_bytes: size of the Keras model's weights in float32.
        converted_bytes: size of the converted file.
        calibration_faces: how many faces the ranges were measured on.
    """

    original: Metrics
    converted: Metrics
    agreement: float
    original_bytes: int
    converted_bytes: int
    calibration_faces: int


def convert_int8(path: Path, data: Dataset, out: Path, *, usage: str | None = None, command: str = "") -> Parity:
    """Quantise a Keras model to int8: weights per channel, activations, input and output.

    Post-training quantisation by integer arithmetic only (Jacob et al. 2017, arXiv:1712.05877), with ranges
    measured on faces of the training part, as many of each class.  The test part is what both are compared on.

    Args:
        path: the ``.keras`` model, with a card.
        data: faces to calibrate and to compare on.
        out: the ``.tflite`` to write, whole or not at all.
        usage: the part to compare on; by default all that is not Training.
        command: what makes the file, for its card.

    Raises:
        InputError: ``out`` does not end in ``.tflite``.
        ModelError: the model cannot be loaded or converted.
        DataError: the data has a label that the model does not know.
    """
    if out.suffix != ".tflite":
        raise InputError(f"{out}: a converted model ends in .tflite; choose such a name")
    source = KerasClassifier(path)
    card = source.card
    test = data.usage(usage)
    truth = test.classes_for(card.labels)
    chosen = calibration_faces(data, CALIBRATION_FACES)

    converter = tf.lite.TFLiteConverter.from_keras_model(source.model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8

    def samples() -> Iterator[list[npt.NDArray[np.float32]]]:
        for face in card.input.normalise(chosen):
            yield [face[None]]

    converter.representative_dataset = samples
    try:
        # The converter prints its inputs and warns that ranges will be measured, which is what they are for.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            flatbuffer = converter.convert()
    except Exception as error:  # TensorFlow has many ways to say that it cannot
        raise ModelError(f"{path}: TensorFlow cannot convert it ({first_line(error)})") from error

    float_scores = source.classify(test.faces)
    before = measure(float_scores, truth, card.labels)
    with replacing(out) as temporary:
        temporary.write_bytes(flatbuffer)
        write_card(temporary, card)
        scores = TFLiteClassifier(temporary).classify(test.faces)
        after = measure(scores, truth, card.labels)
        parts = " and ".join(sorted(set(test.usages.tolist())))
        final = msgspec.structs.replace(
            card,
            scores={**card.scores, f"int8 accuracy on {parts}": round(after.accuracy, 4)},
            flatbuffer_sha256=hashlib.sha256(flatbuffer).hexdigest(),
            made_by=(*card.made_by, command) if command else card.made_by,
        )
        temporary.write_bytes(flatbuffer)
        write_card(temporary, final)
        size = temporary.stat().st_size
    return Parity(
        original=before,
        converted=after,
        agreement=float((float_scores.argmax(axis=1) == scores.argmax(axis=1)).mean()),
        original_bytes=4 * source.model.count_params(),
        converted_bytes=size,
        calibration_faces=len(chosen),
    )


def calibration_faces(data: Dataset, count: int) -> npt.NDArray[np.uint8]:
    """Choose training faces to measure activation ranges on, as many of each class as there are.

    One of them is given a black and a white pixel, so that the input's range is that of all pictures.

    Returns:
        uint8 of shape (at most count, height, width).
    """
    training = np.flatnonzero(data.usages == TRAINING)
    if not len(training):
        logger.warning("%s has no Training rows: calibrating on the faces that are also tested on", data.name)
        training = np.arange(len(data))
    rng = np.random.default_rng(_SEED)
    present = np.unique(data.classes[training])
    each = max(count // len(present), 1)
    chosen = [rng.permutation(training[data.classes[training] == label])[:each] for label in present]
    faces: npt.NDArray[np.uint8] = data.faces[np.sort(np.concatenate(chosen))].copy()
    faces[0, 0, :2] = (0, 255)
    return faces
