"""Check the TFLite runtime, NumPy and OpenCV."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from fer_edge.errors import first_line
from fer_edge_device.doctor.base import Finding

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config


def check_runtime(config: Config) -> Finding:
    """Check that a TFLite runtime can be imported."""
    del config
    from fer_edge.tflite.interpreter import runtime_module, runtime_name  # noqa: PLC0415 - heavy

    importlib.import_module(runtime_module())
    return Finding("ok", runtime_name())


def check_libraries(config: Config) -> Finding:
    """Check that NumPy and OpenCV can be imported and work together."""
    del config
    from fer_edge.tflite.interpreter import runtime_name  # noqa: PLC0415 - heavy

    versions, broken = [], []
    for module, package in (("numpy", "numpy"), ("cv2", "opencv-python-headless")):
        try:
            versions.append(str(importlib.import_module(module).__version__))
        except Exception as error:  # noqa: BLE001 - a module built for another NumPy raises many kinds of errors
            broken.append(f"{package} cannot be imported ({first_line(error)})")
            with suppress(importlib.metadata.PackageNotFoundError):
                versions.append(importlib.metadata.version(package))
    if len(versions) == 2 and (finding := incompatibility(versions[0], versions[1], runtime_name())):
        return finding
    if broken:
        return Finding("failure", "; ".join(broken), f'{sys.prefix}/bin/pip install --force-reinstall "fer-edge"')
    return Finding("ok", f"NumPy {versions[0]}, OpenCV {versions[1]}")


def incompatibility(numpy: str, opencv: str, runtime: str) -> Finding | None:
    """Return a finding for versions that are known not to work together, or None.

    Args:
        numpy: the version of NumPy.
        opencv: the version of OpenCV.
        runtime: name and version of the TFLite runtime.
    """
    pip = f"{sys.prefix}/bin/pip install"
    is_old_numpy, opencv_version = _major_minor(numpy) < (2,), _major_minor(opencv)
    if runtime.startswith("tflite-runtime") and not is_old_numpy:
        return Finding("failure", f"{runtime} does not work with NumPy {numpy}", f'{pip} "numpy<2"')
    if is_old_numpy and opencv_version >= (4, 12):
        return Finding(
            "failure",
            f"OpenCV {opencv} needs NumPy 2, but NumPy {numpy} is installed",
            f'{pip} "opencv-python-headless<4.12"',
        )
    if opencv_version < (4, 9):
        return Finding(
            "warning", f"fer-edge is not tested with OpenCV {opencv}", f'{pip} "opencv-python-headless>=4.9"'
        )
    return None


def _major_minor(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
