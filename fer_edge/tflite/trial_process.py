"""The process in which a model of unknown origin is loaded and run for the first time.

A damaged model can crash a runtime, hang it, or make it take all memory; here it does so to this process alone.
Standard input has a line of JSON, a `Request`, and then the model. The exit status is the result.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from fer_edge.utils.address_space import is_known, own_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

WORKS: Final = 0
REFUSED: Final = 20  # the runtime says that it cannot load or run it
OUT_OF_MEMORY: Final = 21
NO_TRIAL: Final = 22  # the runtime is missing, or does not work
_RUNS: Final = 3


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to try.

    Attributes:
        module: module of the TFLite runtime; ``cv2`` for YuNet's ONNX file, which is a file of this name.
        path: file of the ONNX model; empty for a flatbuffer, which follows the request.
        xnnpack: whether to use the XNNPACK delegate if the runtime has it.
        input_shape: shape of the only input, if it differs from that in the flatbuffer.
        max_bytes: memory that the model may take.
        max_cpu_s: processor time that it may take, in seconds.
    """

    module: str
    path: str = ""
    xnnpack: bool = True
    input_shape: tuple[int, ...] | None = None
    max_bytes: int
    max_cpu_s: int


def main() -> None:
    """Try the model on standard input, and exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    text, _, model = sys.stdin.buffer.read().partition(b"\n")
    os._exit(attempt(msgspec.json.decode(text, type=Request), model))


def attempt(request: Request, model: bytes) -> int:
    """Load and run a model in this process, whose limits this lowers; return the result."""
    try:
        run = _prepare_yunet(request) if request.path else _prepare_flatbuffer(request, model)
    except (ImportError, AttributeError):
        return NO_TRIAL
    _limit(request.max_bytes, request.max_cpu_s)
    try:
        run()
    except MemoryError:
        return OUT_OF_MEMORY
    except Exception:  # noqa: BLE001 - whatever it says, the model cannot be used
        return REFUSED
    return WORKS


def _prepare_flatbuffer(request: Request, model: bytes) -> Callable[[], None]:
    module = __import__(request.module, fromlist=["Interpreter"])
    kernels = module.OpResolverType
    resolver = kernels.AUTO if request.xnnpack else kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES

    def run() -> None:
        interpreter = module.Interpreter(model_content=model, num_threads=1, experimental_op_resolver_type=resolver)
        if request.input_shape:
            interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], request.input_shape)
        interpreter.allocate_tensors()
        generator = np.random.default_rng(0)
        for number in range(_RUNS):
            for detail in interpreter.get_input_details():
                interpreter.set_tensor(detail["index"], _noise(detail, generator, number))
            interpreter.invoke()
            for detail in interpreter.get_output_details():
                interpreter.get_tensor(detail["index"])
        interpreter._get_ops_details()  # noqa: SLF001 - as `fer-edge inspect` does

    return run


def _noise(detail: dict[str, Any], generator: np.random.Generator, number: int) -> Any:  # noqa: ANN401 - of any type
    """Return random elements for an input: zeros in the first run."""
    shape, dtype = tuple(map(int, detail["shape"])), np.dtype(detail["dtype"])
    if number == 0:
        return np.zeros(shape, dtype)
    if dtype.kind == "f":
        return (255 * generator.random(shape, np.float32)).astype(dtype)
    return generator.integers(0, 127, shape).astype(dtype)


def _prepare_yunet(request: Request) -> Callable[[], None]:
    import cv2  # noqa: PLC0415 - a flatbuffer does not need it

    def run() -> None:
        network = cv2.FaceDetectorYN.create(request.path, "", (320, 320))
        for _ in range(_RUNS):
            network.detect(np.zeros((320, 320, 3), np.uint8))

    return run


def _limit(max_bytes: int, max_cpu_s: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    for kind, limit in (
        *([(resource.RLIMIT_AS, own_bytes() + max_bytes)] if is_known() else []),
        (resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + max_cpu_s),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
