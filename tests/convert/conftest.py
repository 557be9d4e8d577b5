"""Models to convert, each made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cli

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="session")
def cli(warm_cli: Cli) -> Cli:
    """TensorFlow takes longer to load than most conversions take."""
    return warm_cli


@pytest.fixture(scope="session")
def edge_float(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model as a float ``.tflite``, with its card."""
    out = tmp_path_factory.mktemp("float") / "edge.tflite"
    cli("convert", MODELS / "edge.keras", "--float32", "-o", out)
    return out


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models as other people make them, and with a face detector for squares."""
    out = tmp_path_factory.mktemp("foreign")
    done = subprocess.run(
        [sys.executable, "-m", "tests.convert.foreign_models", out],
        capture_output=True,
        text=True,
        check=False,
        cwd=MODELS.parent,
    )
    assert done.returncode == 0, done.stderr
    return out
