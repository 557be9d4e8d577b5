from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.device.machines import Pi, make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.install.program_source import ProgramSource


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    return Pi(tmp_path / "pi")


@pytest.fixture
def wheel(tmp_path: Path) -> ProgramSource:
    return make_wheel(tmp_path)
