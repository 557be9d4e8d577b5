"""Trying a model in another process before this one loads it.

The shipped models, and those that were tried before, are known by their hash and need no trial.
"""

from __future__ import annotations

import functools
import hashlib
import signal
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import FerEdgeError, ModelError
from fer_edge.model_zoo import SHIPPED
from fer_edge.modelcard.reader import read_any_card
from fer_edge.modelcard.schema import DetectorCard
from fer_edge.tflite.trial_process import OUT_OF_MEMORY, REFUSED, WORKS, Request
from fer_edge.utils.limits import TRIAL_BYTES, TRIAL_CPU_S, TRIAL_S
from fer_edge.utils.words import megabytes

if TYPE_CHECKING:
    from pathlib import Path

_COMMAND: Final = "import sys; sys.path[:] = sys.argv[1:]; from fer_edge.tflite.trial_process import main; main()"
_ADVICE: Final = "it is damaged, or made to do harm: copy or make it again"
_known: set[str] = set()
_needed = True


def trust_models() -> None:
    """Load models without a trial from now on: the process that started this one has tried them."""
    global _needed  # noqa: PLW0603 - a fact about this process
    _needed = False


def works(
    model: bytes, path: Path, module: str, *, xnnpack: bool = True, input_shape: tuple[int, ...] | None = None
) -> bool:
    """Load and run a model in another process, unless it is known to work.

    Args:
        model: the flatbuffer; the whole file for YuNet.
        path: its file.
        module: module of the runtime; ``cv2`` for YuNet's ONNX file.
        xnnpack: whether to use the XNNPACK delegate if the runtime has it.
        input_shape: shape of the only input, if it differs from the shape in the flatbuffer.

    Returns:
        Whether the runtime accepts the model.

    Raises:
        ModelError: it crashes the runtime, or takes too much time or memory.
        FerEdgeError: the other process does not work.
    """
    digest = hashlib.sha256(model).hexdigest()
    if not _needed or digest in _known or digest in _shipped_hashes():
        return True
    is_onnx = module == "cv2"
    request = Request(
        module=module,
        path=str(path.absolute()) if is_onnx else "",
        xnnpack=xnnpack,
        input_shape=input_shape,
        max_bytes=TRIAL_BYTES,
        max_cpu_s=TRIAL_CPU_S,
    )
    accepted = _try(path, request, b"" if is_onnx else model)
    if accepted:
        _known.add(digest)
    return accepted


@functools.cache
def _shipped_hashes() -> frozenset[str]:
    """Return the hashes of the flatbuffers that the package ships, from their cards."""
    cards = [read_any_card(path) for path in SHIPPED]
    refiners = [card.refiner for card in cards if isinstance(card, DetectorCard) and card.refiner]
    return frozenset(card.flatbuffer_sha256 for card in (*cards, *refiners)) - {""}


def _try(path: Path, request: Request, model: bytes) -> bool:
    import subprocess  # noqa: PLC0415 - the shipped models need no trial

    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", _COMMAND, *sys.path],
            input=msgspec.json.encode(request) + b"\n" + model,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{path}: takes longer than {TRIAL_S:g} s to load and run; {_ADVICE}") from None
    except (OSError, MemoryError) as error:
        raise FerEdgeError(f"{path}: cannot be tried in a process of its own ({error}); make room in memory") from error
    return interpret(path, done.returncode)


def interpret(path: Path, status: int) -> bool:
    """Return whether the runtime accepts a model, by the exit status of the process that tried it.

    Args:
        path: the model's file.
        status: the exit status; minus the number of a signal.

    Raises:
        ModelError: the model ended the process, or took too much time or memory.
        FerEdgeError: the process did not work.
    """
    if status == -signal.SIGXCPU:
        raise ModelError(f"{path}: takes longer than {TRIAL_CPU_S} s to load and run; {_ADVICE}")
    if status < 0:
        name = signal.Signals(-status).name
        raise ModelError(f"{path}: crashes the runtime ({name} in a process of its own); {_ADVICE}")
    if status == OUT_OF_MEMORY:
        raise ModelError(f"{path}: takes more than {megabytes(TRIAL_BYTES)} of memory; {_ADVICE}")
    if status not in {WORKS, REFUSED}:
        raise FerEdgeError(
            f"{path}: cannot be tried in a process of its own (exit status {status}); is the runtime installed"
            " for this Python, and is there memory left?"
        )
    return status == WORKS
