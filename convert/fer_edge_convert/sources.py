"""Open any model as a float ``.tflite``, the one form in which models are quantized and compared.

Keras 3 files, the HDF5 files of Keras 2 and before, and SavedModel folders go through TensorFlow; a ``.tflite`` needs
none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from fer_edge.classification.labels import canonical_label
from fer_edge.detection.inference import FaceNetwork
from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.refiner import FaceRefiner
from fer_edge.errors import InputError, ModelError, printable
from fer_edge.model_zoo import missing_source
from fer_edge.modelcard.archive import attached_labels, check_flatbuffer, has_card, model_bytes
from fer_edge.modelcard.card_labels import label_problem
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import INPUT_RANGES, ClassifierCard, DetectorCard, InputSpec, RefinerCard
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.interpreter import Tensor, make_interpreter
from fer_edge.utils.words import counted, listed
from fer_edge_convert import flatbuffer, graph_edit
from fer_edge_convert.formats.forms import find_form
from fer_edge_convert.formats.isolated import read_isolated
from fer_edge_convert.formats.request import ReadOptions
from fer_edge_convert.formats.tensorflow import TOLERANCE
from fer_edge_convert.formats.tflite_file import read_tflite
from fer_edge_convert.layout import channels_last

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.modelcard.schema import PixelMapping
    from fer_edge_convert.pixel_values import PixelValues

_SUM_TOLERANCE: Final = 0.01  # of the sum of scores
_DETECTOR_SIDE: Final = 320  # the size for which a face detector is converted; that of most training images


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A model to convert.

    Attributes:
        path: where it came from.
        kind: name of its format, for messages.
        model: a float ``.tflite`` that takes one image and gives probabilities.
        height: rows of the image.
        width: columns of the image.
        channels: 1 or 3.
        outputs: how many classes it tells apart.
        card: its model card; None if somebody else made it.
        labels: names of the outputs that came with it; empty where none did.
        sums_to_one: whether its scores sum to one, as those of a softmax do; those of sigmoids do not.
    """

    path: Path
    kind: str
    model: bytes
    height: int
    width: int
    channels: Literal[1, 3]
    outputs: int
    card: ClassifierCard | None
    labels: tuple[str, ...]
    sums_to_one: bool = True

    def with_pixels(self, pixels: PixelValues) -> SourceModel:
        """Return the model for an input of ``pixels``; what differs from channel to channel goes into the model."""
        model = self.model
        last = 255 * pixels.scale[-1] + pixels.offset[-1]
        if flatbuffer.constants(model, {graph_edit.OPACITY}):
            plane = np.full((1, self.height, self.width, 1), last, np.float32)
            model = flatbuffer.with_constants(model, {graph_edit.OPACITY: plane})
        if not pixels.is_uniform:
            if self.channels != len(pixels.scale):
                raise InputError(
                    f"{self.path}: it takes images of {counted(self.channels, 'channel')}, and --input-mean or"
                    f" --input-std has {len(pixels.scale)} values; give one for all of them"
                )
            model = graph_edit.with_normalization(model, pixels.scale, pixels.offset)
        return replace(self, model=model)

    def input_spec(self, mapping: PixelMapping) -> InputSpec:
        """Return the input of the converted model, for pixels that become its values in some way."""
        return InputSpec.from_mapping(mapping, height=self.height, width=self.width, channels=self.channels)

    def make_card(self, labels: tuple[str, ...], mapping: PixelMapping | None) -> ClassifierCard:
        """Return the card of the converted model.

        Args:
            labels: names of the outputs; empty takes those that came with the model.
            mapping: from a pixel, 0..255, to its input; None takes what its own card says.

        Raises:
            InputError: something is neither given nor in the model, or they disagree.
        """
        known = labels or self.labels or (self.card.labels if self.card else ())
        if not known:
            raise InputError(
                f"{self.path}: it has {self.outputs} outputs and does not say what they mean: give --labels, in their"
                " order, such as --labels angry,disgust,fear,happy,sad,surprise,neutral"
            )
        if len(known) != self.outputs:
            raise InputError(
                f"{self.path}: it has {self.outputs} outputs, but there are {len(known)} labels ({', '.join(known)})"
            )
        if problem := label_problem(known):
            raise InputError(f"{self.path}: {problem}; each output needs a name of its own")
        if dimensions := {"arousal", "valence"}.intersection(map(canonical_label, known)):
            raise InputError(
                f"{self.path}: {' and '.join(sorted(dimensions))}: these are amounts, not expressions; fer-edge takes"
                " classifiers, which give a score for each label"
            )
        if mapping is None:
            if self.card is None:
                raise InputError(
                    f"{self.path}: it does not say which values its pixels had in training: give"
                    f" --input-range {listed(tuple(INPUT_RANGES), 'or')}"
                )
            mapping = self.card.input.mapping
        spec = self.input_spec(mapping)
        if self.card:
            return ClassifierCard(
                name=self.card.name,
                labels=known,
                input=spec,
                scores=self.card.scores,
                pixels=self.card.pixels,
                made_by=self.card.made_by,
                data=self.card.data,
                note=self.card.note,
            )
        name, file = printable(self.path.stem), printable(self.path.name)
        return ClassifierCard(name=name, labels=known, input=spec, note=f"converted from {file}")


def open_model(path: Path, options: ReadOptions = ReadOptions()) -> SourceModel:  # noqa: B008 - it is immutable
    """Load a model of any form.

    Args:
        path: a ``.keras``, ``.h5``, ``.hdf5`` or ``.tflite`` file, a SavedModel folder, or the JSON file that describes
            the layers of the weights beside it.
        options: what the user says about it.

    Raises:
        ModelError: there is no such model, it is damaged, or it is not an image classifier.
        InputError: an option is needed and was not given, or does not fit the model.
    """
    if not path.exists():
        raise missing_source(path)
    card: ClassifierCard | None = None
    form = find_form(path)
    kind, model = read_tflite(path, options) if form == "tflite" else read_isolated(path, form, options)
    labels = attached_labels(path) if form == "tflite" else ()
    if path.is_file() and has_card(path):
        card = read_card(path, ClassifierCard)
        if form == "tflite":
            check_flatbuffer(path, card, model_bytes(path))
    source = _check_classifier(path, kind, model, card, labels)
    if options.size and (source.height, source.width) != (options.size, options.size):
        raise InputError(f"{path}: it takes {source.width}x{source.height} and no other size; leave --size out")
    return source


@dataclass(frozen=True, slots=True)
class DetectorSource:
    """A face detector to convert.

    Attributes:
        path: where it came from.
        kind: what it is, for people.
        model: a float ``.tflite``, of one size that the runtime may change.
        height: rows of that size.
        width: columns of that size.
        card: what it says of itself.
    """

    path: Path
    kind: str
    model: bytes
    height: int
    width: int
    card: DetectorCard


def open_detector(path: Path, *, unsafe: bool = False) -> DetectorSource:
    """Load a face detector that says so on its card.

    Args:
        path: a ``.keras`` or a float ``.tflite``.
        unsafe: whether code that is stored in the file, a Lambda layer's, may be run.

    Raises:
        ModelError: there is no such model, it is damaged, or it does not give what a face detector does.
    """
    card = read_card(path, DetectorCard)
    if path.suffix == ".keras":
        kind, model = read_isolated(path, "keras", ReadOptions(size=_DETECTOR_SIDE, every_output=True, unsafe=unsafe))
    else:
        check_flatbuffer(path, card, model_bytes(path))
        kind, model = read_tflite(path, ReadOptions(every_output=True))
    _, height, width, _ = Tensor.from_detail(make_interpreter(model, path).get_input_details()[0]).shape
    # Of another size, too, where a layer may have taken the first for granted.
    for rows, columns in ((height, width), (max(card.strides), 2 * max(card.strides))):
        FaceNetwork(model, card, path, height=rows, width=columns).run(
            np.zeros((rows, columns), np.uint8), rows, columns
        )
    return DetectorSource(path, kind, model, height, width, card)


@dataclass(frozen=True, slots=True)
class RefinerSource:
    """The second stage of a face detector, to convert.

    Attributes:
        path: where it came from.
        kind: what it is, for people.
        model: a float ``.tflite``.
        card: its model card.
        detector: the ``.tflite`` of the first stage.
        first: the first stage, loaded.
    """

    path: Path
    kind: str
    model: bytes
    card: RefinerCard
    detector: Path
    first: NetworkDetector


def open_refiner(path: Path, detector: Path, *, unsafe: bool = False) -> RefinerSource:
    """Load the second stage of a face detector.

    Args:
        path: its ``.keras``.
        detector: the ``.tflite`` of the first stage; a second one that it has already is replaced.
        unsafe: whether code that is stored in the file, a Lambda layer's, may be run.

    Raises:
        ModelError: there is no such model, it is damaged, or it does not give what a second stage does.
    """
    card = read_card(path, RefinerCard)
    first = NetworkDetector(detector, min_face=1)
    kind, model = read_isolated(path, "keras", ReadOptions(size=card.side, every_output=True, unsafe=unsafe))
    FaceRefiner(model, card, path)
    return RefinerSource(path, kind, model, card, detector, first)


def _check_classifier(
    path: Path, kind: str, model: bytes, card: ClassifierCard | None, labels: tuple[str, ...]
) -> SourceModel:
    """Refuse what is not an image classifier; add a softmax to one that gives logits."""
    interpreter = make_interpreter(model, path, own=True)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        many, noun = (inputs, "inputs") if len(inputs) != 1 else (outputs, "outputs")
        raise ModelError(
            f"{path}: it has {len(many)} {noun}, and a classifier has one: save the part of it that gives the emotions"
        )
    taken, given = Tensor.from_detail(inputs[0]), Tensor.from_detail(outputs[0])
    if -1 in list(inputs[0].get("shape_signature", ()))[1:]:
        raise ModelError(
            f"{path}: it takes images of any size; make it again with a fixed size, or give the original model"
        )
    model = graph_edit.with_simple_activations(graph_edit.with_constant_shapes(graph_edit.with_joined_tiles(model)))
    model, shape = channels_last(path, model, taken.shape)
    classes = math.prod(given.shape)
    if classes < 2 or classes != max(given.shape):
        raise ModelError(f"{path}: it gives {list(given.shape)}; a classifier gives a score each for 2 labels or more")
    if given.shape != (1, classes):
        model = graph_edit.with_output_shape(model, (1, classes))
    # Fixed images, for the question must have one answer, in each of the ranges that it may have been trained with.
    noise = np.random.default_rng(0).uniform(0, 1, (8, *shape)).astype(np.float32)
    scores = flatbuffer.run_model(model, np.concatenate([noise, 2 * noise - 1, 255 * noise]))
    if not np.isfinite(scores).all():
        raise ModelError(f"{path}: its scores are not numbers; did its training diverge?")
    if read_graph(model, path).operations[-1].kind == "TANH":
        raise ModelError(
            f"{path}: its {classes} outputs are of -1..1, such as valence and arousal; a classifier gives a score for"
            " each label"
        )
    if scores.min() < -TOLERANCE or scores.max() > 1 + TOLERANCE:
        model = graph_edit.with_softmax(model)
        sums_to_one = True
    else:
        sums_to_one = bool(np.abs(scores.sum(axis=1) - 1).max() < _SUM_TOLERANCE)
    height, width, channels = shape
    return SourceModel(path, kind, model, height, width, 3 if channels == 3 else 1, classes, card, labels, sums_to_one)
