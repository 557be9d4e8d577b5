"""Install the wheel: it runs without TensorFlow and adds no names that shadow a user's modules."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.system.arm64.wheels import for_arm64, requirements

if TYPE_CHECKING:
    from pathlib import Path

# One worker, so that the wheel is built once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("install")]


def make_venv(folder: Path, *packages: str | Path) -> list[str]:
    """Create a venv with packages and return its pip command, which uses our pip, because installing one is slow."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", f"--python={folder}/bin/python", "-q"]
    subprocess.run([*pip, "install", "--no-compile", *packages], check=True, capture_output=True)
    return pip


def test_wheel_contains_only_packages_and_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist()}
    names = set(sizes)
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {
        *("fer_edge", "fer_edge_train", "fer_edge_convert", "fer_edge_device"),
    }
    for path in ("models/edge.tflite", "models/faces.tflite", "data/demo_faces.png", "py.typed"):
        assert f"fer_edge/{path}" in names
    for recipe in ("classifier/edge.toml", "detector/faces.toml", "refiner/refiner.toml"):
        assert f"fer_edge_train/recipes/{recipe}" in names
    assert "fer_edge/reports/templates/base.html" in names
    assert "fer_edge_device/web/static/index.html" in names
    data = {name for name in names if not name.endswith((".py", "py.typed")) and ".dist-info/" not in name}
    assert {name.rpartition(".")[2] for name in data} == {
        *("tflite", "png", "html", "toml", "service", "sh"),
        *("css", "js", "json", "svg"),  # the live page
    }
    assert sum(sizes[name] for name in data) < 6_100_000  # the four models are 6.0 MB in the wheel
    assert max(sizes[name] for name in names - data) < 50_000


def test_installation_keeps_the_systems_numpy(wheel: Path, tmp_path: Path) -> None:
    # The versions of Pi OS Bookworm and Trixie. A newer NumPy would break the picamera2 of apt.
    present = "1.24.4" if sys.version_info < (3, 12) else "2.2.6"
    pip = make_venv(tmp_path / "venv", f"numpy=={present}")
    report = tmp_path / "report.json"
    planned = [*pip, "install", "--dry-run", "--report", str(report), str(wheel)]
    subprocess.run(planned, check=True, capture_output=True)
    names = {item["metadata"]["name"].lower() for item in json.loads(report.read_text())["install"]}
    assert "opencv-python-headless" in names
    assert "numpy" not in names


@pytest.mark.parametrize(("python", "glibc"), [("3.11", 36), ("3.13", 41)], ids=["bookworm", "trixie"])
def test_pi_needs_neither_compiler_nor_tensorflow(tmp_path: Path, python: str, glibc: int) -> None:
    report = tmp_path / "report.json"
    # Only metadata: if an index does not serve it separately, fast-deps reads it from the end of a wheel.
    metadata_only = [
        "--dry-run",
        "--ignore-installed",
        "--use-feature=fast-deps",
        f"--report={report}",
        f"--target={tmp_path}",
    ]
    pip = [sys.executable, "-m", "pip", "-q", "install", "--disable-pip-version-check"]
    resolved = subprocess.run(
        [*pip, *metadata_only, *for_arm64(python, glibc), *requirements(python)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert resolved.returncode == 0, resolved.stderr
    names = {item["metadata"]["name"].lower() for item in json.loads(report.read_text())["install"]}
    assert {"ai-edge-litert", "numpy", "opencv-python-headless"} <= names
    assert not names & {"tensorflow", "keras", "jax", "torch", "scipy", "scikit-learn", "matplotlib"}


def test_plain_installation_runs_the_demo_without_tensorflow(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    python = str(venv / "bin" / "python")
    make_venv(venv, f"{wheel}[device]")
    result = subprocess.run(
        [str(venv / "bin" / "fer-edge"), "run", "--source", "demo", "--full-speed", "--node", "test"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert result.stdout.count('"event_type":"new"') == 3
    assert result.stdout.splitlines()[-1].startswith('{"topic":"fer-edge/test/availability","payload":"offline"')

    code = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    module_names = ("tensorflow", "keras", "sklearn", "matplotlib", "train", "convert", "device", "tests", "systemd")
    listed = subprocess.run(
        [python, "-c", code, *module_names], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert listed.stdout.strip() == "[]"

    missing = subprocess.run(
        [str(venv / "bin" / "fer-edge"), "train", "x.csv", "--out", "y"], capture_output=True, text=True, check=False
    )
    assert missing.returncode == 2
    assert f"pip --python {python} install '" in missing.stderr
    assert " 'keras<4,>=3.12'" in missing.stderr
    assert missing.stderr.count("\n") == 1
