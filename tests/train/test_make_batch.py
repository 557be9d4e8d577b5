"""Batches of a student that learns from a bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge_train.bank import Bank, Views, digest, encode_log_probabilities, log_softmax
from fer_edge_train.make_batch import BankAnswers, BatchSource, make_batch
from fer_edge_train.recipe_files import load_recipe

if TYPE_CHECKING:
    from tests.conftest import Sample

LABELS = ("angry", "happy", "neutral")
PLAIN = ["augmentation.mixup=0", "augmentation.erase=0"]


def _source(sample: Sample, share: float, mix: float = 0.0) -> BatchSource:
    """Make a source with a bank of four views for every second face."""
    faces = sample.faces[:60]
    logits = np.random.default_rng(1).normal(0, 2, (4, 30, 3)).astype(np.float32)
    unseen = np.arange(30) < 3
    bank = Bank(
        LABELS, Views(seed=5, mix=mix), encode_log_probabilities(log_softmax(logits)), unseen, digest(faces[::2])
    )
    hard = 2 * np.eye(3, dtype=np.float32)[np.arange(60) % 3]  # a weight of 2
    return BatchSource(faces, {"logits": hard, "votes": hard}, BankAnswers(bank, np.arange(0, 60, 2), "logits", share))


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_face_is_shown_in_each_view_in_turn_with_its_answer(sample: Sample, mix: float) -> None:
    source, rows = _source(sample, 1.0, mix), np.array([0, 10, 24, 50])
    answers = source.answers
    assert answers is not None
    shown = []
    for epoch in range(4):
        images, targets = make_batch(source, rows, 48, load_recipe("edge", PLAIN), (epoch, 7))
        for i, row in enumerate(rows // 2):
            view = int(row + epoch) % 4
            shown.append((row, view))
            expected = answers.bank.render(sample.faces[:60:2], row[None], view, 48)[0]
            assert (images[i] == expected).all()
            answer = np.exp(answers.bank.log_probabilities(row[None], view)[0])
            assert targets["logits"][i] == pytest.approx(2 * answer, abs=1e-5)
        assert (targets["votes"] == source.targets["votes"][rows]).all()
    assert len(set(shown)) == 16


def test_answers_are_a_share_of_the_target(sample: Sample) -> None:
    rows = np.array([2, 8])
    none, some, whole = (
        make_batch(_source(sample, share), rows, 48, load_recipe("edge", PLAIN), (1, 0))[1]["logits"]
        for share in (0.0, 0.25, 1.0)
    )
    assert none.max(axis=1) == pytest.approx(2)
    assert some == pytest.approx(0.75 * none + 0.25 * whole, abs=1e-6)


def test_answers_are_mixed_as_the_faces_are(sample: Sample) -> None:
    source, rows = _source(sample, 1.0), np.arange(0, 60, 2)
    recipe = load_recipe("edge", ["augmentation.mixup=0.4", "augmentation.erase=0.5"])
    images, targets = make_batch(source, rows, 48, recipe, (2, 3))
    again, _ = make_batch(source, rows, 48, recipe, (2, 3))
    other, _ = make_batch(source, rows, 48, recipe, (2, 4))
    assert (images == again).all()
    assert (images != other).any()
    plain, answers = make_batch(source, rows, 48, load_recipe("edge", PLAIN), (2, 3))
    assert (images != plain).any()
    assert targets["logits"].sum(axis=1) == pytest.approx(2, abs=1e-4)
    assert np.abs(targets["logits"] - answers["logits"]).max() > 0.05


def test_faces_that_no_teacher_saw_are_those_of_the_bank_and_those_outside_it(sample: Sample) -> None:
    answers = _source(sample, 1.0).answers
    assert answers is not None
    assert answers.unseen(np.array([0, 4, 6, 7])).tolist() == [True, True, False, True]
