"""Test the soak of the privacy switch for a few sequences; see `tests.device.switch_soak`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.device.switch_soak import soak

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_camera_is_never_open_while_the_node_reports_off(tmp_path: Path) -> None:
    figures = soak(tmp_path, sequences=3, seed=7)
    assert figures.violations == []
    assert figures.samples_while_off > 100
    assert len(figures.off_s) >= 2
    assert len(figures.on_s) >= 2
