from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError

from .files import zipped

if TYPE_CHECKING:
    from tests.conftest import Sample


def test_tars_give_the_same_dataset_as_the_csv(sample: Sample, tmp_path: Path) -> None:
    part = slice(0, 700, 25)
    table = sample.write_csv(tmp_path / "fer2013.csv", part)
    expected = load_dataset(table)
    tree = sample.write_tree(tmp_path / "tree", part)
    (tmp_path / "README").write_text("of the challenge")
    modes: dict[str, Literal["w", "w:gz", "w:xz"]] = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.xz": "w:xz"}
    for ending, mode in modes.items():
        with tarfile.open(tmp_path / f"a.{ending}", mode) as archive:
            archive.add(tmp_path / "README", "fer2013/README")
            archive.add(table, "fer2013/fer2013.csv")
        dataset = load_dataset(tmp_path / f"a.{ending}")
        assert (dataset.faces == expected.faces).all()
        assert (dataset.usages == expected.usages).all()
        with tarfile.open(tmp_path / f"b.{ending}", mode) as archive:
            archive.add(tree, ".")
        dataset = load_dataset(tmp_path / f"b.{ending}")
        assert sorted(dataset.classes) == sorted(expected.classes)
        assert {face.tobytes() for face in dataset.faces} == {face.tobytes() for face in expected.faces}


def test_rejects_unsafe_or_damaged_tar(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("../happy/1.png"))
    with pytest.raises(DataError, match="points outside the archive"):
        load_dataset(path)
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("happy/1.png")
        info.size = 300 << 20
        with Path("/dev/zero").open("rb") as zeros:
            archive.addfile(info, zeros)
    with pytest.raises(DataError, match="would unpack to"):
        load_dataset(path)
    table = sample.write_csv(tmp_path / "fer2013.csv", slice(0, 50))
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as archive:
        archive.add(table, "fer2013.csv")
    content = (tmp_path / "whole.tar.gz").read_bytes()
    for name, data in {"cut.tar.gz": content[: len(content) // 2], "none.tar.gz": b"not an archive"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="not a tar archive, or one cut short"):
            load_dataset(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["../happy/1.png", "/train/happy/1.png", "train\\..\\..\\happy\\1.png", "C:/happy/1.png"]
)
def test_rejects_zip_that_points_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="points outside the archive"):
        load_dataset(zipped(tmp_path / "evil.zip", {name: b"x"}))


def test_rejects_zip_with_nameless_member(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="points outside the archive"):
        load_dataset(zipped(tmp_path / "evil.zip", {".": b"x"}))


def test_reads_zip_with_backslashes(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 50))
    members = {str(p.relative_to(tree)).replace("/", "\\"): p.read_bytes() for p in tree.rglob("*.png")}
    assert len(load_dataset(zipped(tmp_path / "windows.zip", members))) == 14


def test_ignores_other_tables_and_images_in_zip(sample: Sample, tmp_path: Path) -> None:
    csv = sample.write_csv(tmp_path / "some.csv", slice(0, 5)).read_bytes()
    members = {"example_submission.csv": b"id,emotion\n1,2\n", "cover.png": b"x", "icml_face_data.csv": csv}
    assert len(load_dataset(zipped(tmp_path / "kaggle.zip", members))) == 5


def test_reads_the_best_table_of_an_archive(sample: Sample, tmp_path: Path) -> None:
    whole = sample.write_csv(tmp_path / "icml_face_data.csv", slice(0, 700, 25))
    header, *lines = whole.read_text().splitlines()
    columns = header.split(",")
    usage_at = next(number for number, column in enumerate(columns) if column.strip().lower() == "usage")
    without = [",".join(line.split(",")[:usage_at]) for line in (header, *lines, *lines)]
    (tmp_path / "train.csv").write_text("\n".join(without))
    sample.write_csv(tmp_path / "small.csv", slice(0, 100, 25))
    names = ("train.csv", "small.csv", "icml_face_data.csv")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.write(tmp_path / name, name)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for name in names:
            tar.add(tmp_path / name, name)
    for ending in ("zip", "tar.gz"):
        dataset = load_dataset(tmp_path / f"a.{ending}")
        assert dataset.name.endswith("icml_face_data.csv")
        assert len(dataset) == 28
        assert set(dataset.usages) > {"PublicTest"}


def test_counts_what_is_left_out_of_an_archive(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 50))
    for ending in ("zip", "tar"):
        shutil.make_archive(str(tmp_path / "a"), ending, tree)
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("__MACOSX/train/happy/._1.png", b"x")
        archive.writestr("README.txt", b"x")
    assert load_dataset(tmp_path / "a.zip").left_out == (
        "1 hidden or system file or folder",
        "1 file of another kind (.txt 1)",
    )
    assert load_dataset(tmp_path / "a.tar").left_out == ()


def test_rejects_zip_bomb(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "bomb.zip", {"train/happy/1.png": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    with pytest.raises(DataError, match="would unpack from"):
        load_dataset(bomb)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_rejects_truncated_or_damaged_zip(sample: Sample, tmp_path: Path, compression: int) -> None:
    csv = sample.write_csv(tmp_path / "some.csv", slice(0, 20)).read_bytes()
    content = zipped(tmp_path / "whole.zip", {"fer2013.csv": csv}, compression).read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a zip archive, or one cut short"):
        load_dataset(tmp_path / "cut.zip")
    middle = len(content) // 2
    (tmp_path / "flipped.zip").write_bytes(content[:middle] + bytes(200) + content[middle + 200 :])
    with pytest.raises(DataError, match=r"flipped\.zip: damaged"):
        load_dataset(tmp_path / "flipped.zip")
