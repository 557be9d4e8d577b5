"""Test the shipped model against its float model and the README."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.datasets.readers import load_dataset
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge_convert.keras_classifier import KerasClassifier

if TYPE_CHECKING:
    from tests.conftest import Cli

FLOAT_MODEL = Path(__file__).parents[2] / "models" / "edge.keras"

# The worker of the conversions, where TensorFlow is loaded already.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("parity")]


def fer2013_path(fer2013_csv: Path) -> Path:
    """Return the CSV that FER_EDGE_FER2013 names, or else the faces that come with the tests."""
    return Path(os.environ.get("FER_EDGE_FER2013", fer2013_csv))


def test_int8_agrees_with_float(warm_cli: Cli, fer2013_csv: Path) -> None:
    accuracy = {}
    for name, model in (("float", FLOAT_MODEL), ("int8", DEFAULT_MODEL)):
        metrics = json.loads(
            warm_cli("evaluate", model, fer2013_path(fer2013_csv), "--usage", "PublicTest", "--json").stdout
        )
        accuracy[name], faces = metrics["accuracy"], metrics["faces"]
    # Half a point on all of PublicTest. One of 350 faces is already 0.3 points, so the limit is wider there.
    assert abs(accuracy["float"] - accuracy["int8"]) <= (0.005 if faces > 3000 else 0.02)

    faces_of_test = load_dataset(fer2013_path(fer2013_csv)).select_usage("PublicTest").faces
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's
        float_scores = KerasClassifier(FLOAT_MODEL).classify(faces_of_test)
    int8_scores = TFLiteClassifier(DEFAULT_MODEL).classify(faces_of_test)
    assert (float_scores.argmax(axis=1) == int8_scores.argmax(axis=1)).mean() >= 0.97


@pytest.mark.skipif("FER_EDGE_FER2013" not in os.environ, reason="FER_EDGE_FER2013 does not name a fer2013.csv")
def test_readme_shows_the_accuracy_of_evaluate(cli: Cli) -> None:
    metrics = json.loads(
        cli("evaluate", DEFAULT_MODEL, os.environ["FER_EDGE_FER2013"], "--usage", "PublicTest", "--json").stdout
    )
    assert metrics["accuracy"] >= 0.66
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"{metrics['accuracy']:.2%}".replace("%", " %") in readme
    for label, row in metrics["classes"].items():
        assert (
            f"| {label} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['support']} |" in readme
        )
