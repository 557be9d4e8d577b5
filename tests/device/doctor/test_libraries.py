from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_edge_device.doctor.libraries import incompatibility
from tests.device.doctor.helpers import finding, with_source


def test_accepts_the_packages_of_this_machine() -> None:
    findings = {name: finding(name, with_source("demo")) for name in ("python", "runtime", "libraries", "detector")}
    assert {name: each.level for name, each in findings.items()} == dict.fromkeys(findings, "ok")
    assert findings["libraries"].message == f"NumPy {np.__version__}, OpenCV {cv2.__version__}"


@pytest.mark.parametrize(
    ("numpy", "opencv", "runtime", "level", "advice"),
    [
        ("2.2.6", "4.11.0", "ai-edge-litert 2.3.0", None, ""),
        ("1.24.4", "4.11.0", "ai-edge-litert 2.3.0", None, ""),
        ("1.26.4", "4.11.0", "tflite-runtime 2.14.0", None, ""),
        ("2.2.6", "4.11.0", "tflite-runtime 2.14.0", "failure", '"numpy<2"'),
        ("1.24.4", "4.12.0", "ai-edge-litert 2.3.0", "failure", '"opencv-python-headless<4.12"'),
        ("1.24.4", "5.0.0", "ai-edge-litert 2.3.0", "failure", '"opencv-python-headless<4.12"'),
        ("2.2.6", "5.0.0", "ai-edge-litert 2.3.0", None, ""),
        ("1.24.2", "4.6.0", "ai-edge-litert 2.3.0", "warning", ">=4.9"),
    ],
)
def test_reports_versions_that_do_not_work_together(
    numpy: str, opencv: str, runtime: str, level: str | None, advice: str
) -> None:
    result = incompatibility(numpy, opencv, runtime)
    assert (result.level if result else None) == level
    assert advice in (result.advice if result else "")
