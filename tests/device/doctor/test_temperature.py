from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fer_edge.utils.system import describe_throttling, throttled_flags
from fer_edge_device.doctor.base import Finding
from fer_edge_device.doctor.temperature import temperature_finding

if TYPE_CHECKING:
    from pathlib import Path


def test_judges_temperature_and_throttling_flags() -> None:
    assert temperature_finding(None, None).level == "ok"
    assert temperature_finding(48.3, 0) == Finding("ok", "48 degrees C, not throttled")
    assert temperature_finding(84.0, None).level == "warning"
    assert "heat sink" in temperature_finding(84.0, 0x60002).advice
    assert describe_throttling(0x50005) == ("low voltage now", "throttling now")
    weak = temperature_finding(50.0, 0x10000)
    assert weak.message == "50 degrees C, low voltage since its start"
    assert "power supply" in weak.advice


@pytest.mark.parametrize("soc", ["soc", "soc@107c000000"])
def test_finds_the_firmwares_flags_under_each_name_of_its_folder(tmp_path: Path, soc: str) -> None:
    assert throttled_flags(tmp_path) is None
    folder = tmp_path / soc / f"{soc}:firmware"
    folder.mkdir(parents=True)
    assert throttled_flags(tmp_path) is None
    (folder / "get_throttled").write_text("50005\n")
    assert throttled_flags(tmp_path) == 0x50005
