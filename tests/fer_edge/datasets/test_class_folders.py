from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Sample


def test_other_folder_names_become_labels(tmp_path: Path) -> None:
    for label, size in (("awake", (120, 80)), ("asleep", (31, 47))):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "1.jpg"), np.full((*size, 3), 90, np.uint8))
    data = load_dataset(tmp_path)
    assert data.labels == ("asleep", "awake")
    assert data.faces.shape == (2, 48, 48)
    assert data.usages.tolist() == ["Training", "Training"]


def test_skips_and_names_unreadable_images(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 50))
    (tree / "train" / "happy" / "broken.png").write_bytes(b"not an image")
    data = load_dataset(tree)
    assert len(data) == 14
    assert len(data.skipped) == 1
    assert "broken.png" in data.skipped[0]


def test_recognizes_common_names_of_usages(sample: Sample, tmp_path: Path) -> None:
    for number, part in enumerate(("training", "testing", "dev", "FER2013Valid", "PrivateTest")):
        for label, face in zip(("happy", "sad"), sample.faces[number * 2 :], strict=False):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "1.png"), face)
    usages = load_dataset(tmp_path).usages.tolist()
    assert sorted(set(usages)) == ["PrivateTest", "PublicTest", "Training", "test", "validation"]
    assert usages.count("Training") == 2


def test_rejects_unknown_usage_folders(sample: Sample, tmp_path: Path) -> None:
    for part in ("train", "holdout"):
        for label in ("happy", "sad"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "1.png"), sample.faces[0])
    with pytest.raises(DataError, match="no known part: 'holdout'"):
        load_dataset(tmp_path)


def test_labels_have_the_order_of_fer2013(sample: Sample, tmp_path: Path) -> None:
    for label in ("neutral", "happy"):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "1.png"), sample.faces[0])
    assert load_dataset(tmp_path).labels == ("happy", "neutral")


def test_stores_images_on_disk_at_the_given_size(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 10))
    data = load_dataset(tree, 96)
    assert isinstance(data.faces, np.memmap)
    assert data.faces.shape == (70, 96, 96)
    part = data.select_usage("Training")
    assert isinstance(part.faces, np.memmap)
    assert (part.faces == data.faces[data.usages == "Training"]).all()
    assert load_dataset(sample.write_csv(tmp_path / "some.csv", slice(0, 9)), 32).faces.shape == (9, 32, 32)


def test_ignores_stray_files_and_rejects_folders_without_classes(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 50))
    for name in (
        *("train/.ipynb_checkpoints/1.png", "train/happy/._1.png", "__MACOSX/happy/1.png"),
        *("train/happy/@eaDir/1.png", "train/notes.txt"),
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"x")
    data = load_dataset(tree)
    assert (len(data), data.skipped) == (14, ())
    assert data.left_out == ("4 hidden or system files and folders", "1 file of another kind (.txt 1)")
    csv = sample.write_csv(tmp_path / "some.csv", slice(0, 5)).read_bytes()
    with tarfile.open(tmp_path / "mac.tar", "w") as archive:
        for name, content in (("._fer2013.csv", b"\xff\xfe"), ("other.csv", b"caf\xe9"), ("fer2013.csv", csv)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert len(load_dataset(tmp_path / "mac.tar")) == 5
    for part in ("train", "test"):
        (tmp_path / "flat" / part).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "flat" / part / "1.png"), sample.faces[0])
    with pytest.raises(DataError, match="images lie in test/ itself"):
        load_dataset(tmp_path / "flat")


def test_rejects_folder_without_classes(sample: Sample, tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), sample.faces[number])
    with pytest.raises(DataError, match="no images in class folders"):
        load_dataset(tmp_path)
