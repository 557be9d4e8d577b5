"""Keras files and SavedModels of unknown origin are read in a process that may die."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import h5py
import pytest

from fer_edge.errors import InputError, ModelError
from fer_edge.utils.limits import TRIAL_CPU_S
from fer_edge_convert.formats import checks, isolated
from fer_edge_convert.formats.isolated import check_isolated, read_isolated, run_reader
from fer_edge_convert.formats.request import ReadOptions

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("convert")]  # the worker that has models of other people

KERAS2 = Path(__file__).parents[1] / "data" / "keras2"


@pytest.fixture
def _own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "run_reader", run_reader)


def test_unpacks_no_bomb_in_a_keras_file(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    shutil.copy(KERAS2 / "sequential-2.keras", path)
    checks.check_keras_archive(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("weights.h5", bytes(100 << 20))
    with pytest.raises(ModelError, match=r"m\.keras: damaged, or not a \.keras file"):
        checks.check_keras_archive(path)


def test_reads_no_other_files_through_a_model(tmp_path: Path) -> None:
    outside = tmp_path / "outside.bin"
    outside.write_bytes(bytes(400))
    path = tmp_path / "m.h5"
    for number in range(3):
        shutil.copy(KERAS2 / "sequential.h5", path)
        with h5py.File(path, "r+") as file:
            if number == 0:
                file["x"] = h5py.ExternalLink(str(KERAS2 / "xception.h5"), "/")
            elif number == 1:
                file.create_dataset("x", (100,), "f4", external=[(str(outside), 0, 400)])
            else:
                layout = h5py.VirtualLayout((4,), "f4")
                layout[:] = h5py.VirtualSource(str(KERAS2 / "xception.h5"), "x", (4,))
                file.create_virtual_dataset("x", layout)
        with pytest.raises(ModelError, match=r"m\.h5: refused, it refers to other files"):
            checks.check_hdf5(path)


def test_unpacks_no_weights_beyond_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    shutil.copy(KERAS2 / "sequential.h5", path)
    with h5py.File(path, "r+") as file:
        file.create_dataset("x", (1 << 20, 1 << 10), "f4", compression="gzip", chunks=(1 << 10, 1 << 10))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ModelError, match=r"refused, its weights are larger than 1074 MB"):
        checks.check_hdf5(path)


def test_links_in_circles_end(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    shutil.copy(KERAS2 / "sequential.h5", path)
    with h5py.File(path, "r+") as file:
        file["a/b"] = file["/"]
        file["a/soft"] = h5py.SoftLink("/a")
    assert checks.check_hdf5(path)["keras_version"].startswith("2.")


def test_refuses_special_files_in_a_saved_model(foreign: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    shutil.copytree(foreign / "saved", saved)
    checks.check_saved_model(saved)
    os.mkfifo(saved / "variables" / "more")
    with pytest.raises(ModelError, match=r"more: not a regular file but a device, pipe or socket"):
        checks.check_saved_model(saved)


@pytest.mark.usefixtures("_own_process")
@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.kill(os.getpid(), 11)", r"m\.keras: crashes what reads it \(SIGSEGV, with \d+ MB of memory"),
        ("import os; os._exit(3)", r"m\.keras: crashes what reads it \(status 3,"),
        ("import os; os.kill(os.getpid(), 24)", r"m\.keras: takes too much processor time to read"),
        ("import time; time.sleep(600)", r"m\.keras: takes longer than 1 s to read"),
    ],
)
def test_whatever_happens_in_the_process_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    shutil.copy(KERAS2 / "sequential-2.keras", tmp_path / "m.keras")
    monkeypatch.setattr(isolated, "_COMMAND", program)
    monkeypatch.setattr(isolated, "TRIAL_S", 1 - 2 * TRIAL_CPU_S)
    if "sleep" not in program:
        monkeypatch.setattr(isolated, "TRIAL_S", 60)
    with pytest.raises(ModelError, match=message) as caught:
        check_isolated(tmp_path / "m.keras")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_own_process")
def test_says_what_it_needs_where_memory_cannot_be_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(KERAS2 / "sequential-2.keras", tmp_path / "m.keras")
    hide_proc = "from fer_edge.utils import address_space; address_space.is_known = lambda: False"
    monkeypatch.setattr(
        isolated, "_COMMAND", isolated._COMMAND.replace("from fer_edge", f"{hide_proc}; from fer_edge", 1)
    )
    with pytest.raises(InputError, match=r"need /proc: sudo mount -t proc proc /proc"):
        check_isolated(tmp_path / "m.keras")


@pytest.mark.usefixtures("_own_process")
def test_checks_files_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    shutil.copy(KERAS2 / "sequential-2.keras", path)
    check_isolated(path)
    check_isolated(KERAS2 / "sequential.h5")
    content = bytearray((KERAS2 / "sequential.h5").read_bytes())
    content[0:4] = b"none"
    (tmp_path / "m.h5").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.h5: damaged, or not an HDF5 file"):
        check_isolated(tmp_path / "m.h5")


@pytest.mark.usefixtures("_own_process")
def test_converts_in_another_process() -> None:
    kind, model = read_isolated(KERAS2 / "sequential.h5", "hdf5", ReadOptions())
    assert kind.startswith("Keras 2.")
    assert kind.endswith(", HDF5")
    assert model[4:8] == b"TFL3"


@pytest.mark.usefixtures("_own_process")
def test_converts_models_of_another_backend(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who trains with PyTorch or JAX may have set this in the shell."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    kind, model = read_isolated(foreign / "curves.keras", "keras", ReadOptions())
    assert kind.startswith("Keras 3.")
    assert model[4:8] == b"TFL3"
