"""Models to convert, each made once per session."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge_convert.formats import isolated
from tests.fork_server import read_in_process
from tests.locks import locked

if TYPE_CHECKING:
    from tests.conftest import Cli, Sample
    from tests.fork_server import ForkServer

MODELS = Path(__file__).parents[2] / "models"
COLUMNS = ("file", "width", "height", "x", "y", "w", "h", "score", *(f"lm{i}{axis}" for i in range(5) for axis in "xy"))


@pytest.fixture(autouse=True)
def _read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read models that need TensorFlow in this process, because loading it takes longer than most conversions."""
    monkeypatch.setattr(isolated, "run_reader", read_in_process)


@pytest.fixture(scope="session")
def cli(warm_cli: Cli) -> Cli:
    """Run ``fer-edge`` with TensorFlow loaded, because loading takes longer than most conversions."""
    return warm_cli


@pytest.fixture(scope="session")
def edge_float(cli: Cli, shared_folder: Path) -> Path:
    """Return the shipped classifier as a float ``.tflite`` with its card; the first worker that needs it makes it."""
    out = shared_folder / "float" / "edge.tflite"
    with locked(shared_folder / "float.lock"):
        if not out.exists():
            out.parent.mkdir()
            cli("convert", MODELS / "edge.keras", "--float32", "-o", out)
    return out


@pytest.fixture(scope="session")
def foreign(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with models as other people make them, and a detector of squares."""
    out = tmp_path_factory.mktemp("foreign")
    fork_server.run(out, program="tests.convert.foreign_models", cwd=MODELS.parent)
    return out


@pytest.fixture(scope="session")
def squares_in_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 30 dark images of bright squares, split into ``train`` and ``val``."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        (folder / part).mkdir()
        rows = [COLUMNS]
        with zipfile.ZipFile(folder / part / "images.zip", "w") as archive:
            for number in range(15):
                gray = rng.integers(0, 140, (64, 96)).astype(np.uint8)
                cells = rng.choice(np.arange(96), 3, replace=False).tolist() if number % 3 else []
                for cell in cells:
                    x, y = 8 * (cell % 12), 8 * (cell // 12)
                    gray[y : y + 8, x : x + 8] = rng.integers(225, 256)
                    rows.append((f"{number}.png", "96", "64", f"{x}", f"{y}", "8", "8", "0.9", *("",) * 10))
                if not cells:
                    rows.append((f"{number}.png", "96", "64", *("",) * 15))
                archive.writestr(f"{number}.png", cv2.imencode(".png", gray)[1].tobytes())
        with (folder / part / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="session")
def few_faces_csv(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the CSV of 70 faces, half of them for calibration."""
    return sample.write_csv(tmp_path_factory.mktemp("few") / "fer2013.csv", slice(0, 700, 10))


@pytest.fixture(scope="session")
def half_csv(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the CSV of 350 faces, half of them for calibration."""
    return sample.write_csv(tmp_path_factory.mktemp("half") / "fer2013.csv", slice(0, 700, 2))


@pytest.fixture(scope="session")
def first_stage(cli: Cli, foreign: Path, squares_in_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the detector of squares, converted to int8, with its parity report beside it."""
    out = tmp_path_factory.mktemp("first") / "squares.tflite"
    cli("convert", foreign / "squares.keras", "--int8", "--data", squares_in_images, "-o", out)
    return out
