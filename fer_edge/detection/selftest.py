"""Recording and checking the self-tests of a face detector's two stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.detection.inference import FaceNetwork
from fer_edge.detection.refiner import FaceRefiner
from fer_edge.errors import RuntimeMismatchError
from fer_edge.modelcard.selftest import SelfTest
from fer_edge.tflite.interpreter import runtime_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.modelcard.schema import DetectorCard, RefinerCard
    from fer_edge.tflite.interpreter import Tensor

TEST_SIDE: Final = 32  # of the first stage's test images, so that the card stays small

# Accepted difference between correct kernels, as a share of all quantization steps or as a real value; the same as for
# classifiers.
_TOLERANCE: Final = 0.1


def with_detector_self_test(flatbuffer: bytes, card: DetectorCard, path: Path) -> DetectorCard:
    """Run a first stage on the test images and return its card with the outputs recorded.

    Args:
        flatbuffer: the network.
        card: its card.
        path: its file, existing or not, for errors.

    Raises:
        ModelError: the network is damaged or does not match its card.
    """
    network = FaceNetwork(flatbuffer, card, path, height=TEST_SIDE, width=TEST_SIDE)
    return msgspec.structs.replace(card, self_test=_record(network.self_test_outputs(), network.outputs))


def with_refiner_self_test(flatbuffer: bytes, card: RefinerCard, path: Path) -> RefinerCard:
    """Run a second stage on the test images and return its card with the outputs recorded.

    Args:
        flatbuffer: the network.
        card: its card.
        path: its file, existing or not, for errors.

    Raises:
        ModelError: the network is damaged or does not match its card.
    """
    refiner = FaceRefiner(flatbuffer, card, path)
    return msgspec.structs.replace(card, self_test=_record(refiner.self_test_outputs(), refiner.outputs))


def check_self_test(test: SelfTest, outputs: npt.NDArray[np.float32], path: Path) -> float:
    """Compare a network's outputs with those on its card.

    Args:
        test: the recorded self-test.
        outputs: stored output elements for its images, float32 of shape (images, elements).
        path: the detector's file, for errors.

    Returns:
        The largest difference of a stored element.

    Raises:
        RuntimeMismatchError: the difference is larger than the card allows.
    """
    difference = test.max_difference(outputs)
    if not difference <= test.tolerance:  # written this way so that not-a-number fails, too
        raise RuntimeMismatchError(
            f"{path}: the output of {runtime_name()} on this machine differs by up to {difference:g} steps from the"
            f" output on the card, where {test.tolerance:g} are allowed; reinstall the runtime, or install another"
            " version"
        )
    return difference


def _record(outputs: npt.NDArray[np.float32], tensors: Sequence[Tensor]) -> SelfTest:
    """Record stored output elements of shape (images, elements) of a network's output tensors."""
    quantized = all(tensor.scale for tensor in tensors)
    steps = 256 ** np.dtype(tensors[0].dtype).itemsize if quantized else 1
    return SelfTest.from_outputs(outputs, _TOLERANCE * steps, quantized=quantized)
