"""Read an ONNX file as a float ``.tflite``, and compare the two.

ONNX Runtime first calculates what is constant once the size of the image is known, and merges what can be merged; the
operators that are left are translated one by one. Its answers also say whether the translation is right. The converters
that exist, onnx2tf among them, ask for versions of NumPy and LiteRT with which the quantizer does not run.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_edge.errors import ModelError, first_line, printable
from fer_edge.utils.bounded_file import open_regular, read_bytes
from fer_edge.utils.limits import KERAS_BYTES
from fer_edge.utils.words import megabytes
from fer_edge_convert.flatbuffer import run_model
from fer_edge_convert.formats.outputs import choose_output
from fer_edge_convert.formats.tensorflow import DEBUG, TOLERANCE, convert_function, fix_shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from fer_edge_convert.formats.request import ReadOptions

_OLDEST: Final = 7  # version of the operators that ONNX Runtime knows
_HALF_TOLERANCE: Final = 2e-2  # of probabilities, of a model that ONNX Runtime calculates in float16
_TYPES: Final = {"float": "float32", "float16": "float16", "double": "float64", "uint8": "uint8", "int64": "int64"}
_PROBES: Final = 6


def check_onnx(path: Path) -> None:
    """Read an ONNX file, and the file of weights beside it; see `check_keras_archive`."""
    load_onnx(path)


def load_onnx(path: Path) -> Any:  # noqa: ANN401 - onnx has no types
    """Return the content of an ONNX file, with the weights that it keeps in a file beside it.

    Raises:
        ModelError: it is damaged or too large, or refers to files elsewhere.
    """
    import onnx  # noqa: PLC0415 - an extra

    content = read_bytes(path, KERAS_BYTES, ModelError)
    try:
        model = onnx.load_model_from_string(content)
        is_network = bool(model.graph.node and model.graph.output)
    except Exception as error:  # protobuf has several ways to say it
        raise ModelError(f"{path}: damaged, or not an ONNX file; export or copy the model again") from error
    if not is_network:
        raise ModelError(f"{path}: damaged, or not an ONNX file; export or copy the model again")
    total = len(content)
    for tensor in _tensors([model.graph, *model.functions]):
        if onnx.external_data_helper.uses_external_data(tensor):
            total += _load_external(path, tensor, KERAS_BYTES - total)
    return model


def _tensors(graphs: list[Any]) -> Iterator[Any]:
    """Yield every constant of graphs and of those inside them."""
    waiting = graphs
    while waiting:
        graph = waiting.pop()
        yield from getattr(graph, "initializer", ())
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _load_external(path: Path, tensor: Any, room: int) -> int:  # noqa: ANN401 - onnx has no types
    """Read a tensor's values from a file beside the model, and return how many bytes they have."""
    entries = {one.key: one.value for one in tensor.external_data}
    name = entries.get("location", "")
    if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise ModelError(f"{path}: refused, its weights are in a file elsewhere ({printable(name)}); export it again")
    file = path.with_name(name)
    if not file.exists():
        raise ModelError(f"{path}: its weights are in {file}, which is missing; copy that file, too")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", file.stat().st_size))
    except ValueError:
        offset = length = -1
    with open_regular(file, ModelError) as opened:
        size = opened.seek(0, 2)
        if offset < 0 or length < 0 or offset + length > size:
            raise ModelError(f"{file}: shorter than {path} says; copy both again")
        if length > room:
            raise ModelError(f"{path}: refused, it is larger than {megabytes(KERAS_BYTES)}")
        opened.seek(offset)
        tensor.raw_data = opened.read(length)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    return length


def read_onnx(path: Path, options: ReadOptions) -> tuple[str, bytes]:
    """Read an ONNX file; see `read_keras_archive`."""
    content = load_onnx(path)
    model = OnnxModel(path, content)
    made_by = " ".join(filter(None, (content.producer_name, content.producer_version)))
    kind = f"ONNX, opset {model.opset}" + (f", by {printable(made_by)}" if made_by else "")
    return kind, model.convert(options)


def run_onnx(path: Path, options: ReadOptions, images: Path) -> bytes:
    """Return the outputs of an ONNX file for images, by ONNX Runtime.

    Args:
        path: the file.
        options: what the user says about it.
        images: a ``.npy`` file of float32 images of shape (n, height, width, channels), whatever order the model has.

    Returns:
        Float32 values, those of one image after the other.
    """
    original = OnnxModel(path, load_onnx(path)).open(options)
    return original.run(np.load(images)).astype("<f4").tobytes()


@dataclass(frozen=True, slots=True)
class Original:
    """A model in ONNX Runtime.

    Attributes:
        path: the model's file, for errors.
        session: the session.
        output: name of the output to calculate.
        shape: shape of an image, (1, height, width, channels) or of fewer axes.
        is_channels_first: whether the model has the channels before the rows.
        dtype: element type that it takes.
    """

    path: Path
    session: Any
    output: str
    shape: tuple[int, ...]
    is_channels_first: bool
    dtype: str

    def probes(self) -> npt.NDArray[np.float32]:
        """Return random images of shape (n, height, width, channels), of each range that models take."""
        images = np.random.default_rng(0).uniform(0, 1, (_PROBES, *self.shape[1:])).astype(np.float32)
        images[2:4] = 2 * images[2:4] - 1
        images[4:] *= 255
        return np.rint(np.abs(images)) if "int" in self.dtype else images

    def feeds(self, images: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return images of shape (n, height, width, channels) as the model takes them."""
        if len(self.shape) == 4 and self.shape[3] == images.shape[-1] + 1:  # of opacity
            images = np.concatenate([images, np.ones_like(images[..., :1])], axis=3)
        images = images.reshape(len(images), *self.shape[1:])
        if "int" in self.dtype:
            images = np.rint(images)
        return (images.transpose(0, 3, 1, 2) if self.is_channels_first else images).astype(self.dtype)

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return its outputs of shape (n, values) for images of shape (n, height, width, channels).

        Raises:
            ModelError: ONNX Runtime cannot calculate them.
        """
        name = self.session.get_inputs()[0].name
        try:
            outputs = [self.session.run([self.output], {name: one[None]})[0].ravel() for one in self.feeds(images)]
            return np.stack(outputs).astype(np.float32)
        except Exception as error:  # it has a class for each reason, and no common one
            raise ModelError(f"{self.path}: ONNX Runtime cannot run it ({first_line(error)[:200]}); {DEBUG}") from error


def refuse_difference(
    path: Path,
    program: str,
    expected: npt.NDArray[np.float32],
    got: npt.NDArray[np.float32],
    tolerance: float = TOLERANCE,
) -> None:
    """Refuse a translation whose outputs are not those of the original.

    Args:
        path: the model, for errors.
        program: what gave the original outputs.
        expected: the original outputs, of shape (n, ...).
        got: outputs of the translation.
        tolerance: how far apart they may be, in parts of the largest if that is above 1.
    """
    difference = float(np.abs(expected - got.reshape(expected.shape)).max() / max(np.abs(expected).max(), 1.0))
    if not difference < tolerance:
        raise ModelError(f"{path}: translated to another model, {difference:.2g} from what {program} says; report it")


class OnnxModel:
    """An ONNX model that takes one image.

    Attributes:
        opset: version of its operators.
    """

    def __init__(self, path: Path, model: Any) -> None:  # noqa: ANN401 - onnx has no types
        """Take the content of a file.

        Raises:
            ModelError: it has several inputs, or operators that ONNX Runtime does not know any more.
        """
        self._path, self._model = path, model
        self.opset = next((one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}), 0)
        if self.opset < _OLDEST:
            raise ModelError(
                f"{path}: of ONNX's operators version {self.opset}, and ONNX Runtime reads {_OLDEST} and later; export"
                " it again"
            )
        constants = {one.name for one in model.graph.initializer}
        inputs = [one for one in model.graph.input if one.name not in constants]
        if len(inputs) != 1:
            raise ModelError(f"{path}: it has {len(inputs)} inputs; a classifier takes one image")
        (self._input,) = inputs
        # Constants among the inputs, as in old files, would not be merged.
        del model.graph.input[:]
        model.graph.input.append(self._input)
        del model.graph.value_info[:]  # of other sizes, perhaps
        model.ir_version = max(model.ir_version, 4)
        self._simple: Any = None

    def open(self, options: ReadOptions) -> Original:
        """Load it into ONNX Runtime, for one image.

        Raises:
            ModelError: it cannot be loaded, or is no classifier.
            InputError: an option is needed and was not given.
        """
        dimensions = self._model.graph.input[0].type.tensor_type.shape.dim
        if not dimensions:
            raise ModelError(f"{self._path}: it does not say what it takes; export it with the shape of an image")
        fixed = (1, *fix_shape(self._path, tuple(one.dim_value or None for one in dimensions), options))
        for dimension, length in zip(dimensions, fixed, strict=True):
            dimension.dim_value = length
        session = self._load()
        (given,) = session.get_inputs()
        dtype = _TYPES.get(given.type.removeprefix("tensor(").removesuffix(")"), "")
        if not dtype:
            raise ModelError(f"{self._path}: it takes {printable(given.type)}; a classifier takes an image of numbers")
        outputs = {
            one.name: tuple(length if isinstance(length, int) else None for length in one.shape)
            for one in session.get_outputs()
            if one.type in {"tensor(float)", "tensor(float16)", "tensor(double)"}
        }
        is_first = len(fixed) == 4 and fixed[1] <= 4 < min(fixed[2:])
        shape = (1, *fixed[2:], fixed[1]) if is_first else fixed
        return Original(self._path, session, choose_output(self._path, outputs, options), shape, is_first, dtype)

    def convert(self, options: ReadOptions) -> bytes:
        """Return the model as a ``.tflite``.

        Raises:
            ModelError: it cannot be converted, or gives other outputs afterwards.
            InputError: an option is needed and was not given.
        """
        import tensorflow as tf  # noqa: PLC0415 - takes seconds

        from fer_edge_convert.formats.onnx_graph import OnnxGraph  # noqa: PLC0415 - loads TensorFlow

        original = self.open(options)
        try:
            graph = OnnxGraph(self._path, self._simple.graph, self.opset, original.output)
        except (TypeError, ValueError) as error:  # of a constant that is no array
            raise ModelError(f"{self._path}: damaged, or not an ONNX file; export or copy the model again") from error

        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator] # TensorFlow has no types
        def classify(image: Any) -> Any:  # noqa: ANN401 - a tensor
            return graph(image, channels_last=original.is_channels_first)

        dtype = original.dtype if "int" in original.dtype else "float32"
        made = convert_function(self._path, classify, original.shape, options, dtype)
        images = original.probes()
        tolerance = _HALF_TOLERANCE if self._has_halves() else TOLERANCE
        refuse_difference(self._path, "ONNX Runtime", original.run(images), run_model(made, images), tolerance)
        return made

    def _load(self) -> Any:  # noqa: ANN401 - a session of ONNX Runtime
        """Load it, and keep it without what is constant."""
        import onnx  # noqa: PLC0415 - an extra
        import onnxruntime  # noqa: PLC0415 - likewise

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        with tempfile.TemporaryDirectory() as folder:
            simple = Path(folder) / "model.onnx"
            settings.optimized_model_filepath = str(simple)
            try:
                session = onnxruntime.InferenceSession(
                    self._model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
                )
                self._simple = onnx.load(simple)
            except Exception as error:  # it has a class for each reason, and no common one
                raise ModelError(
                    f"{self._path}: ONNX Runtime cannot load it ({first_line(error)[:200]}); {DEBUG}"
                ) from error
        return session

    def _has_halves(self) -> bool:
        """Return whether weights are in float16, in which ONNX Runtime then calculates."""
        import onnx  # noqa: PLC0415 - an extra

        return any(one.data_type == onnx.TensorProto.FLOAT16 for one in self._model.graph.initializer)
