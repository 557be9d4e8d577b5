"""What a conversion gave."""

from __future__ import annotations

import msgspec

from fer_edge.errors import FerEdgeError
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_convert.parity import Parity
from fer_edge_convert.quantisation import Scheme


class RefusedError(FerEdgeError):
    """Raised when the quantised model lost more accuracy than it may.

    Attributes:
        warnings: what should be looked at, a line each.
    """

    def __init__(self, message: str, warnings: tuple[str, ...]) -> None:
        """Say what was lost, and what else was odd."""
        super().__init__(message)
        self.warnings = warnings


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One way of quantising that was tried.

    Attributes:
        what: how.
        kl_divergence: of its scores from the float ones, in nats, on training faces that it was not calibrated on, or
            on the test faces where nothing is calibrated; the way with the lowest is kept, unless a rescue finds one
            that loses little enough.
        change_points: change of accuracy on the test faces; None where that was not measured.
    """

    what: str
    kl_divergence: float
    change_points: float | None = None


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a model.

    Attributes:
        out: the file.
        scheme: how it is quantised.
        kind: what it was made of.
        card: the card in it.
        sha256: of the file.
        attempts: the ways that were tried, in order.
        way: the one that was kept.
        calibration_faces: how many faces of each label ranges were measured on; empty where none were.
        seed: by which they were chosen.
        float_operators: kinds of the operators that calculate in floats.
        kept_in_floats: how many layers a rescue left in floats.
        warnings: what should be looked at, a line each.
        parts: names of the dataset's parts that both models were tested on.
        parity: how both do; None where no data was given.
    """

    out: str
    scheme: Scheme
    kind: str
    card: ClassifierCard
    sha256: str
    attempts: tuple[Attempt, ...]
    way: str
    calibration_faces: dict[str, int]
    seed: int
    float_operators: tuple[str, ...]
    kept_in_floats: int
    warnings: tuple[str, ...]
    parts: tuple[str, ...]
    parity: Parity | None
