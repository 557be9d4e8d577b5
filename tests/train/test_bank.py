from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.errors import DataError
from fer_edge_train.bank import (
    IDENTITY,
    MIRRORED,
    STEP,
    Bank,
    Views,
    combine,
    digest,
    encode_log_probabilities,
    log_softmax,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from tests.conftest import Sample

LABELS = ("angry", "happy", "neutral")


def _answers(views: int, faces: int, seed: int = 1) -> npt.NDArray[np.float32]:
    logits = 2 * np.random.default_rng(seed).standard_normal((views, faces, len(LABELS)))
    return log_softmax(logits.astype(np.float32))


def _bank(faces: npt.NDArray[np.uint8], views: int = 4, seed: int = 1) -> Bank:
    unseen = np.arange(len(faces)) % 7 == 0
    codes = encode_log_probabilities(_answers(views, len(faces), seed))
    return Bank(LABELS, Views(seed=5), codes, unseen, digest(faces), {f"teacher {seed}": "from a test"})


def test_the_first_two_views_are_the_face_and_its_mirror_image(sample: Sample) -> None:
    rows = np.array([3, 30, 300])
    assert (Views().render(sample.faces[rows], rows, IDENTITY, 48) == sample.faces[rows]).all()
    assert (Views().render(sample.faces[rows], rows, MIRRORED, 48) == sample.faces[rows][:, :, ::-1]).all()


def test_a_view_follows_from_row_number_and_seed_alone(sample: Sample) -> None:
    rows = np.arange(40)
    made = Views(seed=5).render(sample.faces[rows], rows, 2, 48)
    assert (Views(seed=5).render(sample.faces[rows[::-1]], rows[::-1], 2, 48)[::-1] == made).all()
    assert (Views(seed=5).render(sample.faces[rows[7:9]], rows[7:9], 2, 48) == made[7:9]).all()
    assert (Views(seed=5).render(sample.faces[rows], rows, 3, 48) != made).mean() > 0.5
    assert (Views(seed=6).render(sample.faces[rows], rows, 2, 48) != made).mean() > 0.5


def test_each_face_may_have_a_view_of_its_own(sample: Sample) -> None:
    rows, views = np.array([5, 6, 7, 8]), np.array([3, 1, 0, 2])
    made = Views(seed=5).render(sample.faces[rows], rows, views, 40)
    bank = _bank(sample.faces)
    answers = bank.log_probabilities(rows, views)
    for i, (row, view) in enumerate(zip(rows, views, strict=True)):
        assert (Views(seed=5).render(sample.faces[[row]], rows[[i]], int(view), 40)[0] == made[i]).all()
        assert (bank.log_probabilities(rows[[i]], int(view))[0] == answers[i]).all()


def test_view_is_the_same_at_every_size(sample: Sample) -> None:
    rows = np.arange(60)
    small, large = (Views(seed=5).render(sample.faces[rows], rows, 2, size).astype(np.float64) for size in (48, 96))
    halved = large.reshape(60, 48, 2, 48, 2).mean(axis=(2, 4))
    assert np.abs(halved - small).mean() < 5
    assert np.corrcoef(halved.ravel(), small.ravel())[0, 1] > 0.98


def test_unwarped_views_are_flipped_and_relit_at_most(sample: Sample) -> None:
    rows = np.arange(200)
    made = Views(seed=5, identity_probability=0.5, contrast=0.0, brightness=0.0).render(sample.faces[rows], rows, 2, 48)
    faces = sample.faces[rows]
    kept = (made == faces).all(axis=(1, 2)) | (made == faces[:, :, ::-1]).all(axis=(1, 2))
    assert 70 < kept.sum() < 130


def test_views_may_be_mixed_with_the_same_view_of_another_face(sample: Sample) -> None:
    faces = sample.faces[:200]
    plain, mixed = (replace(_bank(faces), views=Views(seed=5, mix=share)) for share in (0.0, 0.7))
    rows = np.arange(200)
    for view in (IDENTITY, MIRRORED):
        assert (mixed.render(faces, rows, view, 48) == plain.render(faces, rows, view, 48)).all()
    made, unmixed = (bank.render(faces, rows, 2, 48).astype(float) for bank in (mixed, plain))
    others, shares = mixed.views.mixture(2, mixed.unseen)
    assert (shares[mixed.unseen] == 1).all()
    assert not mixed.unseen[others[shares < 1]].any(), "what is held out is in no image of another face"
    assert 0.6 < (shares[~mixed.unseen] < 1).mean() < 0.8
    assert shares.min() >= 0.5
    expected = unmixed * shares[:, None, None] + unmixed[others] * (1 - shares[:, None, None])
    assert np.abs(made - expected).max() <= 0.51
    assert (mixed.render(faces, rows[60:70], 2, 48) == made[60:70]).all()
    assert (mixed.render(faces, rows, 3, 48) != made).mean() > 0.5
    other = replace(mixed, views=Views(seed=6, mix=0.7))
    assert (other.views.mixture(2, other.unseen)[0] != others).any()
    assert (other.render(faces, rows, 2, 48) == replace(plain, views=other.views).render(faces, rows, 2, 48)).all()


def test_mixed_views_take_faces_from_where_they_are_in_a_dataset(sample: Sample) -> None:
    at = np.arange(1, 200, 3)
    bank = replace(_bank(sample.faces[at]), views=Views(seed=5, mix=1.0))
    rows, views = np.array([0, 9, 33]), np.array([2, 3, 2])
    alone = bank.render(sample.faces[at], rows, views, 40)
    assert (bank.render(sample.faces, rows, views, 40, at) == alone).all()


def test_faces_that_a_student_holds_out_stay_unmixed_though_teachers_saw_them(sample: Sample, tmp_path: Path) -> None:
    held_out = np.arange(len(sample.faces)) % 5 == 0
    none = np.zeros(len(sample.faces), bool)
    bank = replace(_bank(sample.faces), views=Views(seed=5, mix=1.0), unseen=none, unmixed=held_out)
    bank.save(tmp_path / "bank.npz")
    read = Bank.load(tmp_path / "bank.npz", sample.faces)
    assert not read.unseen.any()
    assert (read.mixable == ~held_out).all()
    others, shares = read.views.mixture(2, ~read.mixable)
    assert ((shares == 1) == held_out).all()
    assert not held_out[others[~held_out]].any()
    rows = np.flatnonzero(held_out)
    alone = read.views.render(sample.faces[rows], rows, 2, 48)
    assert (read.render(sample.faces, rows, 2, 48) == alone).all()
    assert (combine([bank, read]).mixable == read.mixable).all()
    with pytest.raises(DataError, match="mix other faces"):
        combine([bank, replace(read, unmixed=none)])


def test_saves_and_loads_a_bank(sample: Sample, tmp_path: Path) -> None:
    bank = _bank(sample.faces)
    bank.save(tmp_path / "bank.npz")
    read = Bank.load(tmp_path / "bank.npz", sample.faces)
    assert len(read) == 4
    assert (read.codes == bank.codes).all()
    assert (read.unseen == bank.unseen).all()
    assert (read.labels, read.views, read.faces, read.teachers) == (bank.labels, bank.views, bank.faces, bank.teachers)


def test_answers_are_kept_to_half_a_step(sample: Sample) -> None:
    bank, rows = _bank(sample.faces), np.arange(len(sample.faces))
    wanted = _answers(4, len(sample.faces))
    for view in range(4):
        found = bank.log_probabilities(rows, view)
        assert np.exp(found).sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert np.abs(found - np.maximum(wanted[view], -255 * STEP)).max() < STEP
    assert (encode_log_probabilities(np.array([0.0, -1e9], np.float32)) == [0, 255]).all()


def test_banks_are_combined_by_their_geometric_mean(sample: Sample) -> None:
    one, two = _bank(sample.faces, 4, 1), _bank(sample.faces, 3, 2)
    rows = np.arange(len(sample.faces))
    both = combine([one, two], [3, 1])
    assert len(both) == 3
    assert set(both.teachers) == {"teacher 1", "teacher 2"}
    mean = 0.75 * one.log_probabilities(rows, 2) + 0.25 * two.log_probabilities(rows, 2)
    assert np.abs(both.log_probabilities(rows, 2) - log_softmax(mean)).max() < STEP
    with pytest.raises(DataError, match="different faces, labels or views"):
        combine([one, replace(two, views=Views(seed=6))])


def test_bank_answers_for_some_of_its_labels_in_any_order(sample: Sample) -> None:
    bank, rows = _bank(sample.faces), np.arange(40)
    two = bank.with_labels(("neutral", "angry")).log_probabilities(rows, 2)
    assert np.exp(two).sum(axis=1) == pytest.approx(1, abs=1e-5)
    all_three = bank.log_probabilities(rows, 2)
    assert two[:, 0] - two[:, 1] == pytest.approx(all_three[:, 2] - all_three[:, 0], abs=1e-5)
    with pytest.raises(DataError, match=r"no answers for sad, fear; it knows angry, happy, neutral$"):
        bank.with_labels(("angry", "sad", "fear"))


def test_bank_may_be_for_some_of_the_faces(sample: Sample, tmp_path: Path) -> None:
    rows = np.arange(0, len(sample.faces), 3)
    _bank(sample.faces[rows]).save(tmp_path / "bank.npz")
    assert Bank.load(tmp_path / "bank.npz", sample.faces, rows).codes.shape[1] == len(rows)
    with pytest.raises(DataError, match="for other faces"):
        Bank.load(tmp_path / "bank.npz", sample.faces, rows[::-1])


@pytest.mark.parametrize("change", [{"zoom": -1}, {"shift": float("nan")}, {"flip": "often"}, {"seed": -1}])
def test_rejects_bank_with_impossible_views(sample: Sample, tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "bank.npz"
    _bank(sample.faces).save(path)
    with np.load(path) as stored:
        arrays = dict(stored)
    about = json.loads(str(arrays["about"]))
    about["views"] |= change
    np.savez(path, **arrays | {"about": np.array(json.dumps(about))})
    with pytest.raises(DataError, match="damaged, or not a bank of answers"):
        Bank.load(path, sample.faces)


def test_rejects_bank_for_other_faces_or_of_another_format(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "bank.npz"
    _bank(sample.faces).save(path)
    with pytest.raises(DataError, match="for other faces"):
        Bank.load(path, sample.faces[:-1])
    with pytest.raises(DataError, match="for other faces"):
        Bank.load(path, sample.faces[::-1])
    with pytest.raises(DataError, match="cannot be read"):
        Bank.load(tmp_path / "none.npz", sample.faces)
    path.write_bytes(b"not a bank")
    with pytest.raises(DataError, match=r"damaged, or not a bank of answers; make it again$"):
        Bank.load(path, sample.faces)
    about = {"format": 2, "views": asdict(Views()), "teachers": {}}
    np.savez(path, about=np.array(json.dumps(about)))
    with pytest.raises(DataError, match="this version reads format 1"):
        Bank.load(path, sample.faces)
