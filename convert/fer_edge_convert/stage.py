"""The protocol of a network to convert: a classifier, or a stage of a face detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from fer_edge_convert.detector_parity import DetectorParity
from fer_edge_convert.parity import Parity
from fer_edge_convert.result import Conversion

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from fer_edge_convert.quantization import Plan, Scheme
    from fer_edge_convert.result import Attempt

ParityT = TypeVar("ParityT", Parity, DetectorParity)
ResultT = TypeVar("ResultT", bound=Conversion)
SEED = 1  # of every random choice


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network quantized in one way.

    Attributes:
        way: the way of quantizing, in words.
        base: the float model that was quantized.
        plan: how it was quantized.
        model: the quantized model.
        divergence: divergence of its outputs from the original ones.
        rows: rows of the calibration data on which ranges were measured.
    """

    way: str
    base: bytes
    plan: Plan
    model: bytes
    divergence: float
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Choice(Generic[ParityT]):
    """The candidate that was chosen.

    Attributes:
        candidate: the candidate.
        parity: its comparison with the float model.
        attempts: all that were tried, in order.
    """

    candidate: Candidate
    parity: ParityT
    attempts: tuple[Attempt, ...]


class Trial(Protocol[ParityT, ResultT]):
    """A network with data and a scheme, ready to try ways of quantizing it.

    Attributes:
        can_lose: whether the float network is right more often than by chance, so that it has something to lose.
    """

    can_lose: bool

    def choose(self, max_drop: float, *, rescue: bool) -> Choice[ParityT]:
        """Return the best candidate.

        Args:
            max_drop: how many points may be lost.
            rescue: whether to try more ways when more is lost.
        """
        ...

    def warnings(self) -> tuple[str, ...]:
        """Return what the user should check, one line each."""
        ...

    def loss(self, parity: ParityT, max_drop: float) -> str:
        """Return how much was lost and how much may be, as the predicate of a sentence with ``;`` at its end."""
        ...

    def result(
        self, out: Path, choice: Choice[ParityT], command: str, warnings: tuple[str, ...]
    ) -> tuple[ResultT, bytes]:
        """Return the result, and the file with its card."""
        ...

    def write_report(self, stem: Path, result: ResultT, *, refused: bool, max_drop: float) -> None:
        """Write ``<stem>.json`` and ``<stem>.html``."""
        ...


class Stage(Protocol[ParityT, ResultT]):
    """A network to convert, with the data to compare on.

    Attributes:
        path: where it came from.
        kind: its form, for people.
        model: a float ``.tflite``.
        images: noun for what ranges are measured on: ``faces`` or ``images``.
        example: a dataset of them, for error messages.
        int16: whether activations may be in int16.
        one_dense_scale: whether dense layers have one scale for all outputs, as some runtimes need.
    """

    path: Path
    kind: str
    model: bytes
    images: str
    example: str
    int16: bool
    one_dense_scale: bool

    def trial(self, scheme: Scheme) -> Trial[ParityT, ResultT]:
        """Prepare the data for a scheme."""
        ...

    @property
    def has_data(self) -> bool:
        """Whether there is data to compare on."""
        ...

    def result(self, out: Path, candidate: Candidate, command: str) -> tuple[ResultT, bytes]:
        """Return the result of a conversion without comparison, and the file with its card."""
        ...
