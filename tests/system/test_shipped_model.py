"""What the README says of the shipped model, from the float model beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.classify import DEFAULT_MODEL

if TYPE_CHECKING:
    from tests.conftest import Cli

FLOAT_MODEL = Path(__file__).parents[2] / "models" / "edge.keras"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def data(fer2013_csv: Path) -> Path:
    """All of FER-2013 where FER_EDGE_FER2013 names its CSV, else the faces that come with the tests."""
    return Path(os.environ.get("FER_EDGE_FER2013", fer2013_csv))


def test_int8_agrees_with_float(cli: Cli, fer2013_csv: Path) -> None:
    accuracy = {}
    for name, model in (("float", FLOAT_MODEL), ("int8", DEFAULT_MODEL)):
        found = json.loads(cli("evaluate", model, data(fer2013_csv), "--usage", "PublicTest", "--json").stdout)
        accuracy[name], faces = found["accuracy"], found["faces"]
    # Half a point on all of PublicTest; of 350 faces a single one is 0.3 points, so there only a blunder shows.
    assert abs(accuracy["float"] - accuracy["int8"]) <= (0.005 if faces > 3000 else 0.02)

    # In a process of its own, for TensorFlow's warnings.
    code = """if True:
        import sys; from pathlib import Path
        from fer_edge.classify import TFLiteClassifier
        from fer_edge.dataset_files import load_dataset
        from fer_edge_convert.keras_classifier import KerasClassifier
        faces = load_dataset(Path(sys.argv[3])).usage("PublicTest").faces
        one, two = (c(Path(p)).classify(faces).argmax(axis=1) for c, p in
                    ((KerasClassifier, sys.argv[1]), (TFLiteClassifier, sys.argv[2])))
        print((one == two).mean())
    """
    command = [sys.executable, "-c", code, str(FLOAT_MODEL), str(DEFAULT_MODEL), str(data(fer2013_csv))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) >= 0.97


@pytest.mark.skipif("FER_EDGE_FER2013" not in os.environ, reason="FER_EDGE_FER2013 does not name a fer2013.csv")
def test_the_accuracy_in_the_readme_is_what_evaluate_gives(cli: Cli) -> None:
    found = json.loads(
        cli("evaluate", DEFAULT_MODEL, os.environ["FER_EDGE_FER2013"], "--usage", "PublicTest", "--json").stdout
    )
    assert found["accuracy"] >= 0.66
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"{found['accuracy']:.2%}".replace("%", " %") in readme
    for label, one in found["classes"].items():
        assert (
            f"| {label} | {one['precision']:.3f} | {one['recall']:.3f} | {one['f1']:.3f} | {one['support']} |" in readme
        )
