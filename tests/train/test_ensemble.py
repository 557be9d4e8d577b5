from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import msgspec
import numpy as np
import pytest

from fer_edge.errors import ModelError
from fer_edge.modelcard.archive import write_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_train.adaptation import load_start_model
from fer_edge_train.architectures.base import HEAD
from fer_edge_train.ensemble import build_ensemble, check_members, fit_weights
from fer_edge_train.network import load_trained

if TYPE_CHECKING:
    from tests.conftest import Cli, Sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EDGE = Path(__file__).parents[2] / "models" / "edge.keras"


def make_model(path: Path, card: ClassifierCard) -> Path:
    """Write a small classifier with random weights."""
    keras.utils.set_random_seed(3)
    images = keras.Input((48, 48, 1))
    x = keras.layers.Conv2D(4, 5, strides=4, activation="relu")(images)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(len(card.labels), name=HEAD, kernel_initializer="he_normal")(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about TensorFlow's arrays
        keras.Model(images, keras.layers.Softmax(name="scores")(logits)).save(path)
    write_card(path, card)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = read_card(EDGE, ClassifierCard)
    made = msgspec.structs.replace(card, name="small", made_by=("make small",), data="nothing")
    return make_model(tmp_path_factory.mktemp("small") / "small.keras", made)


@pytest.mark.parametrize("mirror", [False, True])
def test_logits_are_the_sum_of_members(small: Path, sample: Sample, *, mirror: bool) -> None:
    images = sample.faces[::100, ..., None].astype(np.float32) / 128 - 1
    members = [load_start_model(path) for path in (EDGE, small)]
    logits = np.asarray(build_ensemble(members, mirror=mirror)(images)[HEAD])
    plain, mirrored = (
        sum(np.asarray(member(seen)[HEAD]) for member in members) for seen in (images, images[:, :, ::-1])
    )
    assert np.abs(plain - mirrored).max() > 0.1
    assert logits == pytest.approx((plain + mirrored) / 2 if mirror else plain, abs=1e-4)


def test_weight_follows_what_a_member_knows() -> None:
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 3, 3000)
    hint, noise = (rng.normal(size=(3000, 3)).astype(np.float32) for _ in range(2))
    hint[np.arange(3000), classes] += 2  # so that the posterior's logits are 2 * hint
    weights = fit_weights([hint, noise], classes)
    assert weights == pytest.approx([2, 0], abs=0.15)


def test_joins_models_to_one_that_converts(
    cli: Cli, eager_cli: Cli, fer2013_csv: Path, small: Path, tmp_path: Path
) -> None:
    joined, once, twice = tmp_path / "joined.keras", tmp_path / "once.tflite", tmp_path / "twice.tflite"
    join = ("ensemble", small, small, "--data", fer2013_csv, "--mirror", "--out", joined)
    assert "held-out faces right" in eager_cli(*join).stdout
    card = read_card(joined, ClassifierCard)
    assert card.name == "joined"
    assert card.made_by[0] == "make small"
    assert card.made_by[1].startswith("fer-edge ensemble ")
    assert card.data == "small: nothing"
    assert set(card.scores) == {"float accuracy on held-out training faces", "float accuracy on PublicTest"}
    parameters = []
    for model, out in ((small, once), (joined, twice)):
        cli(
            "convert", model, "--int8", "--for", "tflite-runtime", "--data", fer2013_csv, "-o", out, "--max-drop", "100"
        )
        inspected = json.loads(cli("inspect", out, "--json").stdout)
        assert inspected["integer_only"]
        parameters.append(inspected["parameters"])
    # Each member's weights are there once, though it sees two images. The layer that mirrors has 48 * 48 of its own.
    assert parameters[1] < 2 * parameters[0] + 48 * 52


def test_shares_are_taken(eager_cli: Cli, fer2013_csv: Path, small: Path, sample: Sample, tmp_path: Path) -> None:
    joined = tmp_path / "joined.keras"
    shares = ("--share", "3", "--share", "1")
    output = eager_cli("ensemble", EDGE, small, "--data", fer2013_csv, *shares, "--out", joined).stdout
    assert f"{EDGE} 0.75, {small} 0.25" in output
    images = sample.faces[::100, ..., None].astype(np.float32) / 128 - 1
    answers = [np.log(np.asarray(load_trained(path)(images))) for path in (joined, EDGE, small)]
    mixed, logits = (each[:, 1:] - each[:, :1] for each in (0.75 * answers[1] + 0.25 * answers[2], answers[0]))
    # What is left is the calibration: one factor for all classes, and a bias for each.
    lines = [np.polyfit(mixed[:, i], logits[:, i], 1) for i in range(6)]
    assert [slope for slope, _ in lines] == pytest.approx([lines[0][0]] * 6, rel=1e-3)
    for i in range(6):
        assert np.polyval(lines[i], mixed[:, i]) == pytest.approx(logits[:, i], abs=1e-3)


def test_fits_nothing_on_faces_that_a_member_has_learnt(
    eager_cli: Cli, fer2013_csv: Path, small: Path, sample: Sample, tmp_path: Path
) -> None:
    modest, joined = tmp_path / "modest.keras", tmp_path / "joined.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about TensorFlow's arrays
        load_trained(EDGE).save(modest)
    scores = {"float accuracy on held-out training faces": 0.1}
    write_card(modest, msgspec.structs.replace(read_card(EDGE, ClassifierCard), scores=scores))
    result = eager_cli("ensemble", modest, small, "--data", fer2013_csv, "--out", joined)
    assert f"{modest} 0.50, {small} 0.50" in result.stdout
    (warning,) = [line for line in result.stderr.splitlines() if "it has learnt some of them" in line]
    assert warning.startswith(f"fer-edge: warning: {modest}: right on ")
    images = sample.faces[::100, ..., None].astype(np.float32) / 128 - 1
    answers = [np.asarray(load_trained(path)(images)) for path in (joined, modest, small)]
    expected = np.sqrt(answers[1] * answers[2])
    assert answers[0] == pytest.approx(expected / expected.sum(axis=1, keepdims=True), abs=1e-5)


def test_refuses_models_that_do_not_fit(small: Path, tmp_path: Path) -> None:
    card = read_card(small, ClassifierCard)
    other = make_model(tmp_path / "other.keras", msgspec.structs.replace(card, labels=card.labels[::-1]))
    with pytest.raises(ModelError, match=r"other.keras: labels neutral, .* join models of the same labels"):
        check_members([small, other])
    scaled = msgspec.structs.replace(card, input=msgspec.structs.replace(card.input, scale=1 / 255))
    with pytest.raises(ModelError, match=r"scaled.keras: takes 48x48 of pixel \* 0.00392157"):
        check_members([small, make_model(tmp_path / "scaled.keras", scaled)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("edge", "--out", "x.keras"), "edge: one model is no ensemble; give more of them, or --mirror"),
        (
            ("edge", "edge-plus", "--share", "1", "--out", "x.keras"),
            "--share: 1 weight for 2 models; give one for each",
        ),
        (("edge", "edge-plus", "--out", "x.tflite"), "x.tflite: a Keras model ends in .keras; choose such a name"),
        (("edge", "edge-plus", "--out", "x.keras"), "edge-plus.keras: labels "),
    ],
)
def test_wrong_options_give_one_line(
    eager_cli: Cli, fer2013_csv: Path, arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    here = [str(EDGE.parent / f"{word}.keras") if word.startswith("edge") else word for word in arguments]
    stderr = eager_cli("ensemble", *here, "--data", fer2013_csv, status=2, cwd=tmp_path).stderr
    assert message in stderr.replace(f"{EDGE.parent}/", "").replace(".keras: one", ": one").splitlines()[-1]
