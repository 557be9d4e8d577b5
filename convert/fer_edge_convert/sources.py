"""Any model as a float ``.tflite``: the one form in which models are quantised and compared.

Keras 3 files, the HDF5 files of Keras 2 and before, and SavedModel folders go through TensorFlow; a ``.tflite`` needs
none.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_edge.detection.face_network import FaceNetwork
from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.refiner import FaceRefiner
from fer_edge.errors import InputError, ModelError, first_line, printable
from fer_edge.modelcard.archive import attached_labels, check_flatbuffer, has_card, model_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard, DetectorCard, InputSpec, RefinerCard
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.interpreter import Tensor, make_interpreter
from fer_edge_convert import flatbuffer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MODULES: Final = {"builtins", "keras", "tf_keras", "numpy"}  # whose classes may be made by name
_OPERATIONS: Final = (
    *("math.", "nn.", "__operators__.", "image.resize", "cast", "clip_by_value", "concat", "expand_dims", "identity"),
    *("pad", "reshape", "split", "squeeze", "stack", "tile", "transpose"),
)
_TRUST: Final = "; --unsafe runs it, if you trust who made it"
_DETECTOR_SIDE: Final = 320  # the size for which a face detector is converted; that of most images to learn from
_TOLERANCE: Final = 1e-3  # of probabilities, between TensorFlow and what it was converted to


@dataclass(frozen=True, slots=True)
class Source:
    """A model to convert.

    Attributes:
        path: where it came from.
        kind: what it is, for people.
        model: a float ``.tflite`` that takes one image and gives probabilities.
        height: rows of the image.
        width: columns of the image.
        channels: 1 or 3.
        outputs: how many classes it tells apart.
        card: what it says of itself; None where somebody else made it.
        labels: names of the outputs that came with it; empty where none did.
    """

    path: Path
    kind: str
    model: bytes
    height: int
    width: int
    channels: int
    outputs: int
    card: ClassifierCard | None
    labels: tuple[str, ...]

    def described(self, labels: tuple[str, ...], scale_offset: tuple[float, float] | None) -> ClassifierCard:
        """The card of what is made of it.

        Args:
            labels: names of the outputs; empty takes those that came with the model.
            scale_offset: from a pixel, 0..255, to its input; None takes what its own card says.

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
        if len(set(known)) != len(known):
            raise InputError(f"{self.path}: a label twice in {', '.join(known)}; each output needs a name of its own")
        if scale_offset is None:
            if self.card is None:
                raise InputError(
                    f"{self.path}: it does not say which values its pixels had in training: give --input-range 0..1,"
                    " -1..1 or 0..255"
                )
            scale_offset = self.card.input.scale, self.card.input.offset
        scale, offset = scale_offset
        spec = InputSpec(height=self.height, width=self.width, channels=self.channels, scale=scale, offset=offset)  # type: ignore[arg-type]
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


def open_source(path: Path, *, size: int | None = None, unsafe: bool = False) -> Source:
    """Load a model of any form.

    Args:
        path: a ``.keras``, ``.h5`` or ``.hdf5`` file, a SavedModel folder or a float ``.tflite``.
        size: side of the images, for a model that takes any; None asks for it.
        unsafe: whether code that is stored in the file, a Lambda layer's, may be run.

    Raises:
        ModelError: there is no such model, it is damaged, or it is not an image classifier.
        InputError: the size is needed and not given, or given and not that of the model.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such model")
    card: ClassifierCard | None = None
    labels: tuple[str, ...] = ()
    if path.is_dir():
        kind, model = "SavedModel", _saved_model(path, size)
    elif path.suffix == ".tflite":
        kind, model = "float .tflite", model_bytes(path)
        labels = attached_labels(path)
        _refuse_quantised(path, model)
    elif path.suffix == ".keras":
        kind, model = _keras_archive(path, size, unsafe=unsafe)
    elif path.suffix in {".h5", ".hdf5"}:
        kind, model = _hdf5(path, size, unsafe=unsafe)
    else:
        raise ModelError(
            f"{path}: not a model that can be converted: give a .keras, .h5 or .hdf5 file, a SavedModel folder or a"
            " float .tflite"
        )
    if path.is_file() and has_card(path):
        card = read_card(path, ClassifierCard)
        if path.suffix == ".tflite":
            check_flatbuffer(path, card, model)
    source = _checked(path, kind, model, card, labels)
    if size and (source.height, source.width) != (size, size):
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
        kind, model = _keras_archive(path, _DETECTOR_SIDE, unsafe=unsafe)
    else:
        kind, model = "float .tflite", model_bytes(path)
        check_flatbuffer(path, card, model)
        _refuse_quantised(path, model)
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
        card: what it says of itself.
        detector: the ``.tflite`` of the first stage.
        first: that one, loaded.
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
    kind, model = _keras_archive(path, card.side, unsafe=unsafe)
    FaceRefiner(model, card, path)
    return RefinerSource(path, kind, model, card, detector, first)


def _checked(path: Path, kind: str, model: bytes, card: ClassifierCard | None, labels: tuple[str, ...]) -> Source:
    """Refuse what is no image classifier, and make scores of what is not."""
    interpreter = make_interpreter(model, path)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        many, what = (inputs, "inputs") if len(inputs) != 1 else (outputs, "outputs")
        raise ModelError(
            f"{path}: it has {len(many)} {what}, and a classifier has one: save the part of it that gives the emotions"
        )
    taken, given = Tensor.from_detail(inputs[0]), Tensor.from_detail(outputs[0])
    if -1 in list(inputs[0].get("shape_signature", ()))[1:]:
        raise ModelError(
            f"{path}: it takes images of any size; make it anew with a fixed one, or give the model it was"
        )
    if len(taken.shape) != 4 or taken.shape[0] != 1 or taken.shape[3] not in {1, 3}:
        raise ModelError(
            f"{path}: it takes {list(taken.shape)}; a classifier takes one image, [1, height, width, 1 or 3]"
        )
    if len(given.shape) != 2 or given.shape[0] != 1 or given.shape[1] < 2:
        raise ModelError(f"{path}: it gives {list(given.shape)}; a classifier gives a score each for 2 labels or more")
    # Fixed images, for the question must have one answer, in each of the ranges that it may have been trained with.
    noise = np.random.default_rng(0).uniform(0, 1, (8, *taken.shape[1:])).astype(np.float32)
    scores = flatbuffer.run(model, np.concatenate([noise, 2 * noise - 1, 255 * noise]))
    if not np.isfinite(scores).all():
        raise ModelError(f"{path}: its scores are not numbers; did its training diverge?")
    if scores.min() < 0 or scores.max() > 1 + _TOLERANCE:
        model = flatbuffer.with_softmax(model)
    _, height, width, channels = taken.shape
    return Source(path, kind, model, height, width, channels, given.shape[1], card, labels)


def _keras_archive(path: Path, size: int | None, *, unsafe: bool) -> tuple[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])
            config = json.loads(archive.read("config.json"))
    except Exception as error:  # a damaged archive can fail anywhere
        raise ModelError(
            f"{path}: damaged, or not a .keras file ({first_line(error)}); save the model again"
        ) from error
    _refuse_code(path, config, unsafe=unsafe)
    return f"Keras {printable(version)}", _by_keras(path, version, size, unsafe=unsafe)


def _hdf5(path: Path, size: int | None, *, unsafe: bool) -> tuple[str, bytes]:
    import h5py  # noqa: PLC0415 - Keras brings it

    try:
        with h5py.File(path) as file:
            version, text = (_text(file.attrs.get(name)) for name in ("keras_version", "model_config"))
        config = json.loads(text) if text else None
    except Exception as error:  # a damaged file can fail anywhere
        raise ModelError(f"{path}: damaged, or not an HDF5 file; save or copy the model again") from error
    if config is None:
        raise ModelError(
            f"{path}: it holds weights without their model; build the model, load them, and save it whole:"
            ' model.save("model.keras")'
        )
    _refuse_code(path, config, unsafe=unsafe)
    return f"Keras {version or '1'}, HDF5", _by_keras(path, version, size, unsafe=unsafe)


def _text(value: object) -> str:
    """An attribute of an HDF5 file, which old ones hold as bytes; empty where there is none."""
    return value.decode() if isinstance(value, bytes) else "" if value is None else str(value)


def _refuse_code(path: Path, config: object, *, unsafe: bool) -> None:
    """Look through a model's description for what would run as code while it is loaded.

    A Lambda layer, and a wrapper with a function of its own, are pickled functions; a class of somebody's module is
    imported; and an operation by name may be any of TensorFlow's, those that write files among them.
    """
    if unsafe:
        return
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        if not isinstance(one, dict):
            continue
        waiting += one.values()
        name, module = one.get("class_name"), one.get("module")
        lambdas = [key for key, value in one.items() if key.endswith("_type") and value == "lambda"]
        if name in {"Lambda", "__lambda__"} or lambdas:
            raise ModelError(f"{path}: it has a Lambda layer, which is code that loading would run{_TRUST}")
        if name and module and str(module).partition(".")[0] not in _MODULES:
            raise ModelError(f"{path}: it has a {name} of {module}, which is code that loading would run{_TRUST}")
        function = one.get("function")
        if isinstance(function, str) and not function.startswith(_OPERATIONS):
            raise ModelError(f"{path}: it calls {function}, which is code that loading would run{_TRUST}")


def _by_keras(path: Path, version: str, size: int | None, *, unsafe: bool) -> bytes:
    """Load by the Keras of the file's time: the third reads few files of the second."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # what it was trained by is no matter
    with _quiet():
        try:
            if version.startswith("3"):
                import keras  # noqa: PLC0415 - seconds, and not needed for a .tflite

                model = keras.models.load_model(str(path), compile=False, safe_mode=not unsafe)
            else:
                import tf_keras  # noqa: PLC0415 - likewise
                from tf_keras.src.saving.serialization_lib import SafeModeScope  # noqa: PLC0415

                # Its loader of HDF5 files asks for the mode, but has no argument for it.
                with SafeModeScope(safe_mode=not unsafe):
                    model = tf_keras.models.load_model(str(path), compile=False)
            shapes = [tuple(one.shape) for one in model.inputs]
        except Exception as error:  # a damaged file can fail anywhere in Keras
            raise ModelError(
                f"{path}: Keras cannot load it ({first_line(error)}); if it has layers of its maker's own, save it with"
                ' model.export("folder") there and convert that SavedModel'
            ) from error
    if len(shapes) != 1:
        raise ModelError(f"{path}: it has {len(shapes)} inputs; a classifier takes one image")
    return _converted(path, lambda x: model(x, training=False), shapes[0], size)


def _saved_model(path: Path, size: int | None) -> bytes:
    if not (path / "saved_model.pb").is_file():
        raise ModelError(f"{path}: not a SavedModel folder, it has no saved_model.pb")
    with _quiet():
        import tensorflow as tf  # noqa: PLC0415 - seconds, and not needed for a .tflite

        try:
            loaded = tf.saved_model.load(str(path))
            signature: Any = loaded.signatures.get("serving_default") or next(iter(loaded.signatures.values()))
            taken = {name: tuple(spec.shape) for name, spec in signature.structured_input_signature[1].items()}
        except Exception as error:  # TensorFlow has many ways to say that it cannot
            raise ModelError(
                f"{path}: TensorFlow cannot load it, or nothing in it can be called ({first_line(error)}); save it with"
                " model.export"
            ) from error
    if len(taken) != 1:
        raise ModelError(f"{path}: it has {len(taken)} inputs ({', '.join(taken)}); a classifier takes one image")
    ((name, shape),) = taken.items()
    return _converted(path, lambda x: signature(**{name: x}), shape, size)


def _converted(path: Path, function: Callable[[Any], Any], shape: tuple[int | None, ...], size: int | None) -> bytes:
    """A float ``.tflite`` of a function of images, checked against it."""
    import tensorflow as tf  # noqa: PLC0415 - seconds, and not needed for a .tflite

    if len(shape) != 4 or shape[3] is None:
        raise ModelError(f"{path}: it takes {list(shape)}; a classifier takes images, [n, height, width, channels]")
    height, width = shape[1] or size, shape[2] or size
    if height is None or width is None:
        raise InputError(f"{path}: it takes images of any size: say which with --size, such as --size 48")
    fixed = (1, height, width, shape[3])
    with _quiet():
        try:
            concrete = tf.function(function).get_concrete_function(tf.TensorSpec(fixed, tf.float32))
            # The converter freezes those variables alone that something holds which TensorFlow can track.
            owner = tf.Module()
            owner.variables_used = list(concrete.variables)
            converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
            model = bytes(converter.convert())
            images = np.random.default_rng(0).uniform(0, 1, (4, *fixed[1:])).astype(np.float32)
            wanted = [concrete(tf.constant(image[None])) for image in images]
        except Exception as error:  # TensorFlow has many ways to say that it cannot
            raise ModelError(f"{path}: TensorFlow cannot convert it ({first_line(error)})") from error
    expected = [np.concatenate(list(map(np.asarray, each))) for each in zip(*map(tf.nest.flatten, wanted), strict=True)]
    if len({output.shape for output in expected}) == len(expected):  # else nobody knows which is which
        given = flatbuffer.run_all(model, images)
        for output, other in zip(sorted(expected, key=lambda output: output.shape), given, strict=True):
            difference = float(np.abs(output - other).max() / max(np.abs(output).max(), 1.0))
            if not difference < _TOLERANCE:
                raise ModelError(f"{path}: TensorFlow converted it to another model, {difference:.2g} apart; report it")
    return model


def _refuse_quantised(path: Path, model: bytes) -> None:
    interpreter = make_interpreter(model, path)
    details = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    if any(np.dtype(detail["dtype"]) != np.float32 for detail in details) or any(
        node.quantised for node in read_graph(model, path).tensors
    ):
        raise ModelError(
            f"{path}: it is quantised already; give the float model it was made of, or use it as it is:"
            f" fer-edge card set {path} --labels ... --input-range ..."
        )


@contextlib.contextmanager
def _quiet() -> Any:  # noqa: ANN401 - a generator
    """Without what TensorFlow and Keras say of themselves."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        yield
