"""Messages between ``fer-edge deploy`` and the program that it runs on a host."""

from __future__ import annotations

from typing import Final

import msgspec

MARK: Final = "fer-edge-deploy "  # begins a line of output that is meant for the deploying machine
MANIFEST: Final = "manifest.json"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What to install from the files beside it.

    Attributes:
        wheel: the name of the program's wheel; None leaves the program of the host, and only the model changes.
        model: the configuration's new ``model``; None leaves it.
        model_file: the name of a model file to install; None for none.
        config: the name of the configuration; None leaves the host its own.
        password: the name of the file with the broker's password; None for none.
        model_back: whether the cameras get the model that they had before.
    """

    wheel: str | None = None
    model: str | None = None
    model_file: str | None = None
    config: str | None = None
    password: str | None = None
    model_back: bool = False


class MedianAndP95(msgspec.Struct, frozen=True):
    """Two figures of a latency, in milliseconds."""

    median: float
    p95: float


class HostBenchmark(msgspec.Struct, frozen=True):
    """What ``fer-edge bench`` measured on a host.

    Attributes:
        machine: the board or processor.
        runtime: name and version of the TFLite runtime.
        model: the model's file.
        classifier: one classification.
        detect: one detection.
        whole_frame: all stages together.
    """

    machine: str
    runtime: str
    model: str
    classifier: MedianAndP95
    detect: MedianAndP95
    whole_frame: MedianAndP95
