"""Check the Python packages of the camera module."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import first_line
from fer_edge.utils.system import machine_name
from fer_edge_device.capture.source_name import module_number
from fer_edge_device.doctor.base import Finding

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config

_APT_MODULES: Final = Path("/usr/lib/python3/dist-packages")
_APT_NAMES: Final = {"PIL": "pil", "libarchive": "libarchive-c", "pykms": "kms++"}  # packages named unlike their module


def check_picamera2(config: Config) -> Finding:
    """Check that picamera2 can be imported, if the source needs it."""
    source = config.camera.source
    is_module = module_number(source) is not None
    try:
        importlib.import_module("picamera2")
    except Exception as error:  # noqa: BLE001 - a module built for another NumPy raises ValueError
        if is_module or (source == "auto" and machine_name().startswith("Raspberry Pi")):
            message, advice = explain_import_error(error)
            return Finding("failure" if is_module else "warning", message, advice)
        return Finding("ok", "not installed; only a camera module needs it")
    return Finding("ok", "can be imported, with libcamera")


def explain_import_error(
    error: Exception, apt_modules: Path = _APT_MODULES, base: str = sys.base_prefix
) -> tuple[str, str]:
    """Return why picamera2 cannot be imported, and what to do.

    Args:
        error: the exception of the import.
        apt_modules: the folder in which apt installs Python modules.
        base: the prefix of the Python that the venv was created with.
    """
    message = f"picamera2 cannot be imported ({first_line(error)})"
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not module:
        if "numpy" in str(error).lower():
            return message, f'it is built for apt\'s NumPy: {sys.prefix}/bin/pip install "numpy<2"'
        return message, "sudo apt install --reinstall python3-picamera2 python3-libcamera"
    if not (apt_modules / module).is_dir() and not list(apt_modules.glob(f"{module}.*")):
        package = f"python3-{_APT_NAMES.get(module, module)}"
        return message, f"sudo apt install {package} (Raspberry Pi OS has it, plain Debian does not)"
    if base != "/usr":
        return message, (
            f"apt's modules work only with the system's Python, and this is {base}: create the venv with"
            " /usr/bin/python3 -m venv --system-site-packages"
        )
    return message, (
        "apt has installed it, but this venv does not use apt's modules: set include-system-site-packages = true in"
        f" {sys.prefix}/pyvenv.cfg"
    )
