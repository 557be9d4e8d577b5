"""Fixtures for all tests: real faces, and the command line as users run it."""

from __future__ import annotations

import csv
import functools
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import pytest

from fer_edge.classification.labels import FER2013
from tests.fork_server import LIGHT, WITH_TENSORFLOW, ForkServer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    import numpy.typing as npt

# Background jobs of a shell ignore SIGINT, and jobs of nohup ignore SIGHUP. The tested programs would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

DATA = Path(__file__).parent / "data"
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
# Tests that share a worker, longest group first: what one of them trains, converts or sets up serves the others. No
# group may take so long that it ends after all others: a worker has half of a core.
GROUPS = (
    "container",
    "picamera2",
    "adapt",
    "train",
    "home-assistant",  # the fifth waits behind the few tests of the first, so it is a short one
    "convert",
    "parity",
    "browser",
    "onnx",
    "train-faces",
    "install",
    "cluster",
    "site",
    "bench",
    "study",
    "greedy-video",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long tests first, so that all workers finish at about the same time."""
    items.sort(key=_run_order)


def _run_order(item: pytest.Item) -> tuple[int, float]:
    """Sort by group, then by the time that a test may take: behind the last two of a group, more work waits already."""
    group, limit = (item.get_closest_marker(name) for name in ("xdist_group", "timeout"))
    place = GROUPS.index(group.args[0]) if group else len(GROUPS) + (item.get_closest_marker("slow") is None)
    return place, -limit.args[0] if limit else 0


@dataclass(frozen=True)
class Sample:
    """700 faces of FER-2013, 50 of each class from Training and from PublicTest, with their FER+ votes."""

    faces: npt.NDArray[np.uint8]
    rows: list[dict[str, str]]

    def write_csv(self, path: Path, rows: slice = slice(None)) -> Path:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["emotion", "pixels", "Usage"])
            for face, row in zip(self.faces[rows], self.rows[rows], strict=True):
                writer.writerow([row["emotion"], " ".join(map(str, face.ravel())), row["Usage"]])
        return path

    def write_votes(self, path: Path, rows: slice = slice(None)) -> Path:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Usage", "Image name", *VOTES])
            for row in self.rows[rows]:
                writer.writerow([row["Usage"], f"fer{int(row['row']):07d}.png", *(row[vote] for vote in VOTES)])
        return path

    def write_tree(self, path: Path, rows: slice = slice(None)) -> Path:
        for number, (face, row) in enumerate(zip(self.faces[rows], self.rows[rows], strict=True)):
            part = "train" if row["Usage"] == "Training" else "test"
            folder = path / part / FER2013[int(row["emotion"])]
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{number:04d}.png"), face)
        return path


def load_sample() -> Sample:
    sheet = cv2.imread(str(DATA / "faces.webp"), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    faces = sheet.reshape(20, 48, 35, 48).transpose(0, 2, 1, 3).reshape(-1, 48, 48)
    with (DATA / "faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return Sample(faces.astype(np.uint8), rows)


@pytest.fixture(scope="session")
def sample() -> Sample:
    return load_sample()


@pytest.fixture(scope="session")
def fer2013_csv(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the 700 faces as the CSV of FER-2013, with the votes of FER+ beside it as ``fer2013new.csv``."""
    folder = tmp_path_factory.mktemp("fer2013")
    sample.write_votes(folder / "fer2013new.csv")
    return sample.write_csv(folder / "fer2013.csv")


class Cli(Protocol):
    def __call__(
        self, *args: str | Path, status: int = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that is the same for all workers."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def cli(shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Return a function that runs ``fer-edge`` in a process of its own and checks its exit status."""
    with ForkServer(LIGHT, shared_folder / "light.socket", tmp_path_factory.mktemp("output")) as server:
        yield server.run


@pytest.fixture(scope="session")
def fork_server(shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Run ``fer-edge`` in forks of a process that has loaded TensorFlow, which takes longer than most commands."""
    address = shared_folder / "tensorflow.socket"
    with ForkServer(WITH_TENSORFLOW, address, tmp_path_factory.mktemp("output")) as server:
        yield server


@pytest.fixture(scope="session")
def warm_cli(fork_server: ForkServer) -> Cli:
    """Return a function like `cli` with TensorFlow loaded."""
    return fork_server.run


@pytest.fixture(scope="session")
def eager_cli(fork_server: ForkServer) -> Cli:
    """Return a function like `warm_cli` without graphs, which take longer to build than a few training steps."""
    return functools.partial(fork_server.run, eager=True)
