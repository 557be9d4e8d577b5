"""Images for the tests of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

import fer_edge
from fer_edge import demo

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


@pytest.fixture(scope="session")
def recognizer() -> fer_edge.Recognizer:
    """Return the shipped classifier and detector."""
    return fer_edge.load()


@pytest.fixture(scope="session")
def gray() -> npt.NDArray[np.uint8]:
    """Return a grey frame of the demo with three faces."""
    return demo.frame(60)


@pytest.fixture(scope="session")
def bgr(gray: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the frame in warm light, so that its channels differ."""
    return np.stack([gray // 2, gray // 4 * 3, gray], axis=-1)


@pytest.fixture(scope="session")
def image_path(tmp_path_factory: pytest.TempPathFactory, bgr: npt.NDArray[np.uint8]) -> Path:
    """Return the file of that frame; PNG keeps every pixel."""
    path = tmp_path_factory.mktemp("image") / "warm.png"
    cv2.imwrite(str(path), bgr)
    return path
