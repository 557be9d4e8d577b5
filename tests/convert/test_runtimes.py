"""Test that converted models give the same outputs in every runtime."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.classification.labels import FER2013
from fer_edge.datasets.readers import load_dataset
from fer_edge.model_zoo import CLASSIFIERS, DEFAULT_DETECTOR, DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes, refiner_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import INPUT_RANGES, ClassifierCard
from fer_edge_convert.classifier_stage import ClassifierStage
from fer_edge_convert.conversion import convert
from fer_edge_convert.quantization import Scheme
from fer_edge_convert.sources import open_model
from tests.convert import runtime_scores
from tests.convert.test_sources import INPUT_OPTIONS, KERAS2

if TYPE_CHECKING:
    import numpy.typing as npt

    from tests.conftest import Cli, Sample
    from tests.fork_server import ForkServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]

MODELS = ("edge", "edge-plus", "large", "xception")
STAGES = ("first", "second")  # of the detector


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python 3.11 with the last tflite-runtime, which 32-bit systems use."""
    base = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if base is None or subprocess.run([base, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("tflite-runtime ends at Python 3.11, which is not here")
    folder = tmp_path_factory.mktemp("old")
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", f"--python={python}", "install", "-q", "--no-compile")
    # And what fer_edge needs to load a classifier.
    subprocess.run([*pip, "tflite-runtime==2.14.0", "numpy<2", "msgspec", "opencv-python-headless<4.12"], check=True)
    return python


# Saves the scores of classifiers for faces, or says why one is refused.
CLASSIFY = """
import sys
from pathlib import Path
import numpy as np
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.errors import ModelError
faces = np.load(sys.argv[1])
for model in map(Path, sys.argv[2:]):
    try:
        np.save(model.with_suffix(".scores.npy"), TFLiteClassifier(model, xnnpack=False).classify(faces))
    except ModelError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def scores(
    cli: Cli, fork_server: ForkServer, old_python: Path, sample: Sample, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder with the outputs of all models in every runtime; each runtime is started once."""
    folder = tmp_path_factory.mktemp("scores")
    for name in CLASSIFIERS:
        shutil.copy(DEFAULT_MODEL.with_name(f"{name}.tflite"), folder)
    faces = sample.write_csv(folder / "few.csv", slice(0, 700, 20))
    given = ("--data", faces, *INPUT_OPTIONS, "--max-drop", "100")
    cli("convert", KERAS2 / "xception.h5", "--int8", *given, "-o", folder / "xception.tflite")
    (folder / "first.tflite").write_bytes(model_bytes(DEFAULT_DETECTOR))
    (folder / "second.tflite").write_bytes(refiner_bytes(DEFAULT_DETECTOR))
    models = [folder / f"{name}.tflite" for name in (*MODELS, *STAGES)]
    for model in models:
        rows = sample.faces[::20]
        if model.stem == "first":
            rows = np.stack([np.tile(face, (7, 7))[:320, :320] for face in rows[:4]])
        elif model.stem in MODELS and read_card(model, ClassifierCard).input.height != 48:
            rows = np.stack([np.pad(face, 8, mode="edge") for face in rows])
        np.save(model.with_suffix(".npy"), (rows.astype(np.int16) - 128).astype(np.int8)[..., None])
    for python, runtime in ((sys.executable, "litert"), (old_python, "tflite-runtime")):
        command = [python, runtime_scores.__file__, runtime, *models]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    fork_server.run("tensorflow", *models, program=runtime_scores.__name__)
    return folder


def load_scores(scores: Path, name: str, runtime: str, kernels: str) -> npt.NDArray[np.int_]:
    return np.load(scores / f"{name}-{runtime}-{kernels}.npy").astype(int)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", MODELS)
def test_classifiers_agree_in_every_runtime(name: str, scores: Path) -> None:
    for runtime in runtime_scores.MODULES:
        # Runtimes newer than tflite-runtime 2.14 round in MEAN, which edge uses in each of its stages.
        steps = {"edge": 12, "edge-plus": 6, "large": 12, "xception": 1}[name] if runtime == "tflite-runtime" else 0
        litert, other = load_scores(scores, name, "litert", "plain"), load_scores(scores, name, runtime, "plain")
        assert np.abs(litert - other).max() <= steps
        assert np.abs(litert - other).mean() < 1
        assert (litert.argmax(axis=1) == other.argmax(axis=1)).all()
        # XNNPACK rounds differently from the plain kernels, and differently in each release.
        litert, other = load_scores(scores, name, "litert", "usual"), load_scores(scores, name, runtime, "usual")
        assert (litert.argmax(axis=1) == other.argmax(axis=1)).mean() >= 0.9
        assert np.abs(litert - other).mean() < 3


def test_tflite_runtime_is_right_or_refuses(old_python: Path, foreign: Path, sample: Sample, tmp_path: Path) -> None:
    source = open_model(foreign / "spread.keras")
    card = source.make_card(FER2013, INPUT_RANGES["0..1"])
    faces = load_dataset(sample.write_csv(tmp_path / "few.csv", slice(0, 700, 20)), 48)
    models = []
    for scheme in (Scheme.INT8, Scheme.INT16X8, Scheme.DYNAMIC):
        for one_dense_scale in (False, True):
            stage = ClassifierStage(source, card, data=faces, one_dense_scale=one_dense_scale)
            models.append(tmp_path / f"{scheme}-{'one' if one_dense_scale else 'each'}.tflite")
            convert(stage, scheme, models[-1], max_drop=100)
    np.save(tmp_path / "faces.npy", faces.faces)
    command = [old_python, "-c", CLASSIFY, tmp_path / "faces.npy", *models]
    result = subprocess.run(
        list(map(str, command)), cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    (refusal,) = result.stdout.splitlines()
    assert refusal.startswith(f"{tmp_path / 'dynamic-each.tflite'}: tflite-runtime 2.14.0 takes the scale of a dense")
    assert refusal.endswith("convert the model again with --for tflite-runtime")
    for model in models:
        if model.stem == "dynamic-each":
            continue
        found = np.load(model.with_suffix(".scores.npy"))
        assert np.ptp(found, axis=0).max() > 0.2, "the scores depend on the face"
        # The two round their inputs in floats differently, and nothing else.
        tolerance = 0.02 if model.stem == "dynamic-one" else 1e-6
        assert np.abs(found - TFLiteClassifier(model, xnnpack=False).classify(faces.faces)).max() <= tolerance


@pytest.mark.parametrize("name", STAGES)
def test_detector_stages_agree_in_every_runtime(name: str, scores: Path) -> None:
    for runtime in runtime_scores.MODULES:
        litert, other = load_scores(scores, name, "litert", "plain"), load_scores(scores, name, runtime, "plain")
        # Newer runtimes round differently in depthwise convolutions, here in more than a dozen layers.
        steps = {"first": 32, "second": 13}[name] if runtime == "tflite-runtime" else 0
        assert np.abs(litert - other).max() <= steps
        assert np.abs(litert - other).mean() < 2
        litert, other = load_scores(scores, name, "litert", "usual"), load_scores(scores, name, runtime, "usual")
        assert np.abs(litert - other).mean() < 3
