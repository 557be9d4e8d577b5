"""The results of conversions."""

from __future__ import annotations

import msgspec

from fer_edge.errors import FerEdgeError
from fer_edge.modelcard.schema import ClassifierCard, DetectorCard
from fer_edge_convert.detector_parity import DetectorParity
from fer_edge_convert.parity import Parity
from fer_edge_convert.quantization import Scheme


class RefusedError(FerEdgeError):
    """Raised when the quantized model lost more accuracy than it may.

    Attributes:
        warnings: what the user should check, one line each.
    """

    def __init__(self, message: str, warnings: tuple[str, ...]) -> None:
        """Take what was lost, and the warnings."""
        super().__init__(message)
        self.warnings = warnings


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One way of quantizing that was tried.

    Attributes:
        way: the way of quantizing, in words.
        kl_divergence: divergence of its outputs from the float ones, on data that it was not calibrated on, or on the
            test data where nothing is calibrated. The way with the lowest is kept, unless a rescue finds one that
            loses little enough.
        change_points: change of accuracy, or of average precision, on the data that the way was chosen by: half of the
            test data for a rescue; None where that was not measured.
    """

    way: str
    kl_divergence: float
    change_points: float | None = None


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """The result of converting a network.

    Attributes:
        out: the file.
        scheme: how it is quantized.
        kind: form of the original.
        card: the card in the file.
        sha256: hash of the file.
        attempts: the ways that were tried, in order.
        way: the one that was kept.
        seed: seed of the choice of calibration data.
        parity: comparison of both models; None where no data was given.
        warnings: what the user should check, one line each.
    """

    out: str
    scheme: Scheme
    kind: str
    card: ClassifierCard | DetectorCard
    sha256: str
    attempts: tuple[Attempt, ...]
    way: str
    seed: int
    parity: Parity | DetectorParity | None
    warnings: tuple[str, ...] = ()


class ClassifierConversion(Conversion, frozen=True, kw_only=True):
    """The result of converting a classifier.

    Attributes:
        calibration_faces: how many faces of each label ranges were measured on; empty where none were.
        float_operators: kinds of the operators that calculate in floats.
        kept_in_floats: how many layers a rescue left in floats.
        choice_faces: how many faces a rescue chose by; the comparison is on others. 0 without a rescue.
        parts: names of the dataset's parts that both models were tested on.
    """

    card: ClassifierCard
    parity: Parity | None
    calibration_faces: dict[str, int]
    float_operators: tuple[str, ...]
    kept_in_floats: int
    choice_faces: int
    parts: tuple[str, ...]


class DetectorConversion(Conversion, frozen=True, kw_only=True):
    """The result of converting a stage of a face detector.

    Attributes:
        calibration_images: how many images ranges were measured on.
        choice_images: how many images a rescue chose by; the comparison is on others. 0 without a rescue.
    """

    card: DetectorCard
    parity: DetectorParity | None
    calibration_images: int
    choice_images: int
