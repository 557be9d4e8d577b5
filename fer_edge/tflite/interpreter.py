"""The TFLite interpreter, whichever package brings it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from fer_edge.errors import FerEdgeError, MissingExtraError, ModelError, first_line
from fer_edge.utils.native_stderr import native_stderr_hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

# LiteRT first: its predecessor ends at Python 3.11 and NumPy 1, but is all there is on 32-bit Pi OS.
_PACKAGES: Final = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)
_PAUSES_S: Final = (0.0, 0.001, 0.01, 0.1, 0.5)


class Interpreter(Protocol):
    """The part of the interpreter's API that is used here; the packages share it."""

    def allocate_tensors(self) -> None:
        """As in the packages."""
        ...

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int]) -> None:
        """As in the packages."""
        ...

    def invoke(self) -> None:
        """As in the packages."""
        ...

    def get_input_details(self) -> list[dict[str, Any]]:
        """As in the packages."""
        ...

    def get_output_details(self) -> list[dict[str, Any]]:
        """As in the packages."""
        ...

    def tensor(self, tensor_index: int) -> Callable[[], npt.NDArray[np.generic]]:
        """As in the packages."""
        ...


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model.

    Attributes:
        index: the interpreter's number for it.
        shape: its dimensions.
        dtype: its element type.
        scale: real value of one step, 0 where it is not quantised.
        zero_point: the stored value that stands for 0.
    """

    index: int
    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    scale: float
    zero_point: int

    @classmethod
    def of(cls, detail: dict[str, Any]) -> Tensor:
        """From the interpreter's description."""
        scale, zero_point = detail["quantization"]
        return cls(detail["index"], tuple(map(int, detail["shape"])), detail["dtype"], float(scale), int(zero_point))

    def stored(self, real: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        """The elements that stand for real values, the nearest where they are quantised."""
        if not self.scale:
            return real.astype(self.dtype)
        limits = np.iinfo(np.dtype(self.dtype))
        steps = np.rint(real / np.float32(self.scale)) + self.zero_point
        return np.asarray(steps.clip(limits.min, limits.max), self.dtype)


def runtime_name() -> str:
    """Package and version of the runtime that is used, such as ``ai-edge-litert 2.3.0``."""
    return f"{(found := _find())[1]} {importlib.metadata.version(found[1])}"


def runtime_module() -> str:
    """Name of the module that has the interpreter.

    Raises:
        MissingExtraError: no runtime is installed.
    """
    return _find()[0]


def make_interpreter(
    model: bytes,
    where: Path,
    threads: int = 1,
    *,
    xnnpack: bool = True,
    input_shape: tuple[int, ...] | None = None,
) -> Interpreter:
    """Load a flatbuffer and make it ready to run.

    Args:
        model: the flatbuffer.
        where: the file it came from, for errors.
        threads: how many threads an invocation may use.
        xnnpack: whether the XNNPACK delegate, where the runtime has it, takes what it can.
        input_shape: of its one input, where that is not what the flatbuffer says.

    Raises:
        MissingExtraError: no runtime is installed.
        ModelError: the flatbuffer is damaged, cannot take the shape, or the runtime does not know an operator in it.
    """
    module = importlib.import_module(runtime_module())
    _refuse_damaged(model, where)
    try:
        with native_stderr_hidden():
            kernels = module.OpResolverType
            resolver = kernels.AUTO if xnnpack else kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            interpreter: Interpreter = module.Interpreter(
                model_content=model, num_threads=threads, experimental_op_resolver_type=resolver
            )
            if input_shape:
                interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], input_shape)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = first_line(error)
        if input_shape:
            raise ModelError(f"{where}: cannot take an input of {list(input_shape)} ({reason})") from error
        raise ModelError(f"{where}: {runtime_name()} cannot load it ({reason}); make the model again") from error
    except (ImportError, AttributeError) as error:  # tflite-runtime beside NumPy 2, for one
        raise FerEdgeError(
            f"{runtime_name()} does not work here ({first_line(error)}); is it made for this NumPy?"
        ) from error
    return interpreter


def invoke(interpreter: Interpreter) -> None:
    """Run a model on what its inputs hold.

    The runtime refuses while there is a view of its memory, and a profiler that takes the stacks of other threads, as
    Dask's does in each worker, keeps those of functions that have ended for a moment longer.

    Raises:
        RuntimeError: the runtime refuses for longer than a moment.
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


def _find() -> tuple[str, str]:
    for module, package in _PACKAGES:
        if importlib.util.find_spec(module.partition(".")[0]) is not None:
            return module, package
    message = "a TFLite runtime (ai-edge-litert, or tflite-runtime for 32-bit systems)"
    raise MissingExtraError(message, "device")


def _refuse_damaged(model: bytes, where: Path) -> None:
    """Catch what is no flatbuffer at all before the runtime prints warnings of its own about it."""
    if where.suffix == ".keras" and model[4:8] != b"TFL3":
        raise ModelError(f"{where}: a Keras model; make a .tflite of it with `fer-edge convert`")
    if len(model) < 8 or model[4:8] != b"TFL3" or struct.unpack_from("<I", model)[0] >= len(model):
        raise ModelError(f"{where}: not a TFLite model, or one that was cut short; make or copy it again")
