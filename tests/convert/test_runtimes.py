"""A converted model gives the same scores in every runtime that people have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.card import read_card
from fer_edge.classify import DEFAULT_MODEL
from fer_edge.dataset_files import load_dataset
from fer_edge.emotions import FER2013
from fer_edge_convert.conversion import convert
from fer_edge_convert.quantisation import Scheme
from fer_edge_convert.sources import open_source

if TYPE_CHECKING:
    import numpy.typing as npt

    from tests.conftest import Sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]

# Scores by the plain kernels, and by those that a user gets, for the stored inputs in a file.
SCORES = """
import sys
import numpy as np
{imports}
stored = np.load(sys.argv[2])
for name, resolver in (("plain", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"), ("usual", "AUTO")):
    interpreter = Interpreter(sys.argv[1], experimental_op_resolver_type=getattr(OpResolverType, resolver))
    interpreter.allocate_tensors()
    given, scores = interpreter.get_output_details()[0]["index"], []
    for picture in stored:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(given)[0])
    np.save(f"{{sys.argv[3]}}-{{name}}.npy", np.array(scores))
"""
IMPORTS = {
    "litert": "from ai_edge_litert.interpreter import Interpreter, OpResolverType",
    "tensorflow": "import tensorflow as tf; from tensorflow.lite.python.interpreter import Interpreter, OpResolverType",
    "tflite-runtime": "from tflite_runtime.interpreter import Interpreter, OpResolverType",
}


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python 3.11 with the last tflite-runtime, as 32-bit systems have it."""
    base = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if base is None or subprocess.run([base, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("tflite-runtime ends at Python 3.11, which is not here")
    folder = tmp_path_factory.mktemp("old")
    subprocess.run([base, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    needs = ("tflite-runtime==2.14.0", "numpy<2")
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *needs], check=True)
    return python


@pytest.mark.parametrize("name", ["edge", "edge-plus", "xception.h5"])
def test_scores_are_equal_in_every_runtime(name: str, old_python: Path, sample: Sample, tmp_path: Path) -> None:
    model = DEFAULT_MODEL.with_name(f"{name}.tflite")
    if name == "xception.h5":
        model = tmp_path / "xception.tflite"
        source = open_source(Path(__file__).parents[1] / "data" / "keras2" / name)
        faces = load_dataset(sample.write_csv(tmp_path / "few.csv", slice(0, 700, 20)), 64)
        convert(source, source.described(FER2013, (1 / 255, 0)), Scheme.INT8, model, data=faces, max_drop=100)
    spec = read_card(model).input
    rows = sample.faces[::20]
    if spec.height != 48:
        rows = np.stack([np.pad(face, 8, mode="edge") for face in rows])
    stored = (rows.astype(np.int16) - 128).astype(np.int8)[..., None]
    np.save(tmp_path / "stored.npy", stored)
    scores: dict[str, dict[str, npt.NDArray[np.int8]]] = {}
    for runtime, imports in IMPORTS.items():
        python = old_python if runtime == "tflite-runtime" else sys.executable
        command = [str(python), "-c", SCORES.format(imports=imports), str(model), "stored.npy", runtime]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        scores[runtime] = {kind: np.load(tmp_path / f"{runtime}-{kind}.npy") for kind in ("plain", "usual")}
    ours = scores["litert"]
    for theirs in scores.values():
        # Between tflite-runtime 2.14 and today one of the kernels of the third learnt to round.
        assert np.abs(ours["plain"].astype(int) - theirs["plain"]).max() <= (1 if name == "xception.h5" else 0)
        # XNNPACK rounds otherwise than the plain kernels do, and each release its own way.
        assert (ours["usual"].argmax(axis=1) == theirs["usual"].argmax(axis=1)).mean() >= 0.9
        assert np.abs(ours["usual"].astype(int) - theirs["usual"]).mean() < 3
