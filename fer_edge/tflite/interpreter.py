"""The TFLite interpreter, from whichever runtime package is installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from fer_edge.errors import FerEdgeError, MissingExtraError, ModelError, first_line
from fer_edge.tflite import trial
from fer_edge.tflite.graph import multiplies_floats_by_output_scales
from fer_edge.utils.native_stderr import hide_native_stderr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

# LiteRT first. Its predecessor supports only Python up to 3.11 and NumPy 1, but is the only one for 32-bit Pi OS.
_PACKAGES: Final = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)
_PAUSES_S: Final = (0.0, 0.001, 0.01, 0.1, 0.5)


class Interpreter(Protocol):
    """The part of the interpreter's API that fer-edge uses; all runtime packages have it."""

    def allocate_tensors(self) -> None:
        """See the documentation of `tf.lite.Interpreter`."""
        ...

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int]) -> None:
        """See the documentation of `tf.lite.Interpreter`."""
        ...

    def invoke(self) -> None:
        """See the documentation of `tf.lite.Interpreter`."""
        ...

    def get_input_details(self) -> list[dict[str, Any]]:
        """See the documentation of `tf.lite.Interpreter`."""
        ...

    def get_output_details(self) -> list[dict[str, Any]]:
        """See the documentation of `tf.lite.Interpreter`."""
        ...

    def tensor(self, tensor_index: int) -> Callable[[], npt.NDArray[np.generic]]:
        """See the documentation of `tf.lite.Interpreter`."""
        ...


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model.

    Attributes:
        index: index of the tensor in the interpreter.
        shape: dimensions.
        dtype: element type.
        scale: real value of one quantization step; 0 if the tensor is not quantized.
        zero_point: stored value that represents 0.
    """

    index: int
    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    scale: float
    zero_point: int

    @classmethod
    def from_detail(cls, detail: dict[str, Any]) -> Tensor:
        """Convert an entry of the interpreter's ``get_input_details`` or ``get_output_details``."""
        scale, zero_point = detail["quantization"]
        return cls(detail["index"], tuple(map(int, detail["shape"])), detail["dtype"], float(scale), int(zero_point))

    def quantize(self, real: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        """Convert real values to stored elements: the nearest ones, or the same values if it is not quantized."""
        if not self.scale:
            return real.astype(self.dtype)
        limits = np.iinfo(np.dtype(self.dtype))
        with np.errstate(all="ignore"):  # a damaged model can have any scale
            steps = np.nan_to_num(np.rint(real / np.float32(self.scale)) + np.float32(self.zero_point))
        return np.asarray(steps.clip(limits.min, limits.max), self.dtype)


def runtime_name() -> str:
    """Return the package and version of the installed runtime, such as ``ai-edge-litert 2.3.0``.

    Raises:
        MissingExtraError: no runtime is installed.
    """
    _, package = _find_runtime()
    return f"{package} {importlib.metadata.version(package)}"


def runtime_module() -> str:
    """Return the name of the module that contains the interpreter.

    Raises:
        MissingExtraError: no runtime is installed.
    """
    return _find_runtime()[0]


def make_interpreter(
    model: bytes,
    path: Path,
    threads: int = 1,
    *,
    xnnpack: bool = True,
    input_shape: tuple[int, ...] | None = None,
    own: bool = False,
) -> Interpreter:
    """Load a flatbuffer and allocate its tensors.

    A model of unknown origin is first tried in another process, because a damaged one can crash a runtime.

    Args:
        model: the flatbuffer.
        path: its file, for errors.
        threads: number of threads that an invocation may use.
        xnnpack: whether to use the XNNPACK delegate if the runtime has it.
        input_shape: shape of the only input, if it differs from the shape in the flatbuffer.
        own: whether this process made the flatbuffer, so that no trial is needed.

    Raises:
        MissingExtraError: no runtime is installed.
        ModelError: the flatbuffer is damaged, crashes the runtime, takes too much time or memory, does not accept the
            shape, has an operator that the runtime does not know, or is one that tflite-runtime calculates wrongly.
        FerEdgeError: the runtime does not work with the installed NumPy.
    """
    module = importlib.import_module(runtime_module())
    check_model_header(model, path)
    if not own and not trial.works(model, path, module.__name__, xnnpack=xnnpack, input_shape=input_shape):
        raise _refusal(path, input_shape)
    try:
        with hide_native_stderr():
            kernels = module.OpResolverType
            resolver = kernels.AUTO if xnnpack else kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            interpreter: Interpreter = module.Interpreter(
                model_content=model, num_threads=threads, experimental_op_resolver_type=resolver
            )
            if input_shape:
                interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], input_shape)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _refusal(path, input_shape) from error
    except (ImportError, AttributeError) as error:  # for example tflite-runtime with NumPy 2
        raise FerEdgeError(
            f"{runtime_name()} does not work here ({first_line(error)}); is it made for this NumPy?"
        ) from error
    if module.__name__.startswith("tflite_runtime") and multiplies_floats_by_output_scales(model):
        raise ModelError(
            f"{path}: {runtime_name()} takes the scale of a dense layer's first output for all of them, so its scores"
            " would be wrong; convert the model again with --for tflite-runtime"
        )
    return interpreter


def invoke(interpreter: Interpreter) -> None:
    """Run a model on the present content of its inputs.

    The runtime refuses to run while a view of its memory exists. A profiler that reads the stacks of other threads, as
    Dask's does in each worker, keeps such views alive for a moment after a function has returned, so a refused run is
    repeated after a short pause.

    Raises:
        RuntimeError: the runtime still refuses after all pauses.
    """
    for pause in _PAUSES_S:
        try:
            interpreter.invoke()
        except RuntimeError as error:
            if "reference to internal data" not in str(error):
                raise
            time.sleep(pause)
        else:
            return
    interpreter.invoke()


def _refusal(path: Path, input_shape: tuple[int, ...] | None) -> ModelError:
    if input_shape:
        return ModelError(f"{path}: cannot take an input of {list(input_shape)}")
    return ModelError(
        f"{path}: {runtime_name()} cannot load it, because it is damaged or has an operator that this runtime does"
        " not know; copy or make it again, or update the runtime"
    )


def _find_runtime() -> tuple[str, str]:
    """Return the module and the package of the installed runtime."""
    for module, package in _PACKAGES:
        if importlib.util.find_spec(module.partition(".")[0]) is not None:
            return module, package
    package = "tflite-runtime" if platform.machine() == "armv7l" else "ai-edge-litert"
    raise MissingExtraError("a TFLite runtime", "", package)


def check_model_header(model: bytes, path: Path) -> None:
    """Reject a file that is not a flatbuffer of a model.

    Raises:
        ModelError: it is anything else.
    """
    if path.suffix == ".keras" and model[4:8] != b"TFL3":
        raise ModelError(f"{path}: a Keras model; make a .tflite of it with `fer-edge convert`")
    if len(model) < 8 or model[4:8] != b"TFL3" or struct.unpack_from("<I", model)[0] >= len(model):
        raise ModelError(f"{path}: not a TFLite model, or one that was cut short; make or copy it again")
