"""Files of soft labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError
from fer_edge_train.soft_labels import SoftLabels, load_soft_labels

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset


@pytest.fixture
def data(fer2013_csv: Path) -> Dataset:
    return load_dataset(fer2013_csv, 48)


def test_keeps_scores(data: Dataset, tmp_path: Path) -> None:
    scores = np.full((len(data), len(data.labels)), 1 / len(data.labels), np.float32)
    saved = SoftLabels(data.labels, scores, data.digest(), "0")
    saved.save(tmp_path / "soft.npz")
    loaded = load_soft_labels(tmp_path / "soft.npz", data)
    assert (loaded.labels, loaded.faces, loaded.digest) == (saved.labels, saved.faces, saved.digest)
    np.testing.assert_allclose(loaded.scores, scores, atol=1e-3)
    with pytest.raises(DataError, match="soft labels for other faces or labels"):
        load_soft_labels(tmp_path / "soft.npz", data.select(np.arange(len(data)) > 0))


def test_rejects_damaged_file(data: Dataset, tmp_path: Path) -> None:
    damaged, other = tmp_path / "damaged.npz", tmp_path / "other.npz"
    damaged.write_bytes(b"not soft labels")
    np.savez(other, labels=np.array(["happy"]))
    for path in (damaged, other):
        with pytest.raises(DataError, match=r"damaged, or not a file of soft labels; make it again with --teacher$"):
            load_soft_labels(path, data)
    with pytest.raises(DataError, match=r"none\.npz: cannot be read \(No such file or directory\)$"):
        load_soft_labels(tmp_path / "none.npz", data)
