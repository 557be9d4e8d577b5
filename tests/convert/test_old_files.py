"""Test files of libraries that are long gone; `tests.convert.old_models` made them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from fer_edge.classification.card_edit import set_card
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.classification.labels import FER2013
from fer_edge.errors import ModelError
from fer_edge.modelcard.schema import INPUT_RANGES
from fer_edge_convert.flatbuffer import run_model
from fer_edge_convert.sources import open_model
from tests.convert.old_models import images

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]
DATA = Path(__file__).parents[1] / "data"
OLD = DATA / "old"
# What the libraries said of the first of the images.
THEANO = (0.00170320, 0.05314864, 0.00549834, 0.02674118, 0.00011746, 0.90370655, 0.00908469)
OPERATIONS = (0.12071518, 0.15613100, 0.14130318, 0.13872322, 0.11252783, 0.09671690, 0.23388277)
TOOLS = (0.16106069, 0.15246536, 0.13766684, 0.13093087, 0.11083800, 0.16251069, 0.14452752)


def scores(path: Path, scale: float) -> npt.NDArray[np.float32]:
    return run_model(open_model(path).model, scale * images()[..., None])


def test_reads_keras_1_with_the_kernels_of_theano(tmp_path: Path) -> None:
    assert scores(OLD / "theano.h5", 0.25)[0] == pytest.approx(THEANO, abs=1e-5)
    for name in ("theano-weights.h5", "theano-weights.json"):
        shutil.copy(OLD / name, tmp_path)
    assert scores(tmp_path / "theano-weights.h5", 0.25)[0] == pytest.approx(THEANO, abs=1e-5)


def change_layers(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the description of each layer in a file."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layers = config["config"]
        for layer in layers if isinstance(layers, list) else layers["layers"]:
            change(layer)
        file.attrs["model_config"] = json.dumps(config)
    return path


def test_refuses_normalization_by_the_image_itself(tmp_path: Path) -> None:
    def change(layer: dict[str, Any]) -> None:
        layer["config"].update(mode=1)

    with pytest.raises(ModelError, match="it has a layer BatchNormalization_mode_1, which Keras does not know"):
        open_model(change_layers(Path(shutil.copy(OLD / "theano.h5", tmp_path)), change))


def test_reads_functions_between_layers_of_tensorflow_2_3() -> None:
    assert scores(OLD / "operations.h5", 255)[0] == pytest.approx(OPERATIONS, abs=1e-5)


def test_reads_a_file_of_tf2onnx() -> None:
    assert scores(OLD / "tf2onnx.onnx", 1)[0] == pytest.approx(TOOLS, abs=1e-5)


def test_takes_the_labels_of_tflite_metadata(tmp_path: Path) -> None:
    assert open_model(OLD / "metadata.tflite").labels == FER2013
    assert scores(OLD / "metadata.tflite", 1)[0] == pytest.approx(TOOLS, abs=1e-5)
    quantized = Path(shutil.copy(OLD / "metadata-uint8.tflite", tmp_path))
    with pytest.raises(ModelError, match=r"it is quantized already; .* fer-edge card set"):
        open_model(quantized)
    assert set_card(quantized, (), INPUT_RANGES["0..1"]).labels == FER2013
    faces = np.rint(255 * images()).astype(np.uint8)
    assert TFLiteClassifier(quantized).classify(faces)[0] == pytest.approx(TOOLS, abs=0.015)


def test_leaves_out_the_dropout_of_a_package(tmp_path: Path) -> None:
    def change(layer: dict[str, Any]) -> None:
        if layer["class_name"] == "Dropout":
            layer["class_name"] = "FixedDropout"

    changed = change_layers(Path(shutil.copy(DATA / "keras2" / "sequential.h5", tmp_path)), change)
    assert "FixedDropout" in h5py.File(changed).attrs["model_config"]
    assert np.array_equal(scores(changed, 1), scores(DATA / "keras2" / "sequential.h5", 1))
