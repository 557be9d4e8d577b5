from __future__ import annotations

import io
import os
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import pytest

from fer_edge.classification.labels import FER2013, FERPLUS, FERPLUS_COLUMNS
from fer_edge.datasets.dataset import fuse
from fer_edge.datasets.ferplus import add_votes, label_by_majority
from fer_edge.datasets.label_map import LabelMap, load_label_map
from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError

if TYPE_CHECKING:
    from fer_edge.datasets.dataset import Dataset
    from tests.conftest import Sample

ONE_ROW = "0," + " ".join(["7"] * 2304)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_csv_gives_every_pixel_and_usage(sample: Sample, fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    assert data.labels == FER2013
    assert (data.faces == sample.faces).all()
    assert data.classes.tolist() == [int(row["emotion"]) for row in sample.rows]
    assert data.usages.tolist() == [row["Usage"] for row in sample.rows]


def test_headers_may_have_spaces_and_any_order(tmp_path: Path) -> None:
    path = write(tmp_path / "icml.csv", f"emotion, Usage, pixels\n3,PublicTest,{ONE_ROW[2:]}\n")
    data = load_dataset(path)
    assert (data.classes.tolist(), data.usages.tolist()) == ([3], ["PublicTest"])


def test_without_a_usage_column_all_is_training(tmp_path: Path) -> None:
    assert load_dataset(write(tmp_path / "train.csv", f"emotion,pixels\n{ONE_ROW}\n")).usages.tolist() == ["Training"]


def test_tree_and_zips_of_both_forms_hold_the_same_as_the_csv(sample: Sample, tmp_path: Path) -> None:
    part = slice(0, 700, 25)
    expected = load_dataset(sample.write_csv(tmp_path / "some.csv", part))
    tree = sample.write_tree(tmp_path / "tree", part)
    members = {str(p.relative_to(tree)): p.read_bytes() for p in sorted(tree.rglob("*.png"))}
    forms = [
        tree,
        zipped(tmp_path / "tree.zip", members),
        zipped(tmp_path / "inside.zip", {f"archive/{name}": data for name, data in members.items()}),
        zipped(tmp_path / "csv.zip", {"fer2013.csv": (tmp_path / "some.csv").read_bytes()}, zipfile.ZIP_DEFLATED),
    ]

    def content(data: Dataset) -> list[tuple[bytes, int, bool]]:
        usages = [usage == "Training" for usage in data.usages]
        return sorted(
            (face.tobytes(), int(label), usage)
            for face, label, usage in zip(data.faces, data.classes, usages, strict=True)
        )

    for form in forms:
        assert content(load_dataset(form)) == content(expected), form


def test_folders_of_other_names_become_labels_and_images_of_any_size_are_read(tmp_path: Path) -> None:
    for label, size in (("awake", (120, 80)), ("asleep", (31, 47))):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "1.jpg"), np.full((*size, 3), 90, np.uint8))
    data = load_dataset(tmp_path)
    assert data.labels == ("asleep", "awake")
    assert data.faces.shape == (2, 48, 48)
    assert data.usages.tolist() == ["Training", "Training"]


def test_unreadable_image_in_a_folder_is_named_and_skipped(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 50))
    (tree / "train" / "happy" / "broken.png").write_bytes(b"not an image")
    data = load_dataset(tree)
    assert len(data) == 14
    assert len(data.skipped) == 1
    assert "broken.png" in data.skipped[0]


def test_every_common_name_of_a_test_folder_keeps_its_images_out_of_training(sample: Sample, tmp_path: Path) -> None:
    for number, part in enumerate(("training", "testing", "dev", "FER2013Valid", "PrivateTest")):
        for label, face in zip(("happy", "sad"), sample.faces[number * 2 :], strict=False):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "1.png"), face)
    usages = load_dataset(tmp_path).usages.tolist()
    assert sorted(set(usages)) == ["PrivateTest", "PublicTest", "Training", "test", "validation"]
    assert usages.count("Training") == 2


def test_folders_that_are_no_known_part_are_refused_instead_of_trained_on(sample: Sample, tmp_path: Path) -> None:
    for part in ("train", "holdout"):
        for label in ("happy", "sad"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "1.png"), sample.faces[0])
    with pytest.raises(DataError, match="no known part: 'holdout'"):
        load_dataset(tmp_path)


def test_labels_are_those_that_occur_in_the_order_of_fer2013(sample: Sample, tmp_path: Path) -> None:
    for label in ("neutral", "happy"):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "1.png"), sample.faces[0])
    assert load_dataset(tmp_path).labels == ("happy", "neutral")


def test_usage_without_a_name_is_what_to_test_on(fer2013_csv: Path, sample: Sample, tmp_path: Path) -> None:
    data = load_dataset(fer2013_csv)
    assert set(data.select_usage().usages) == {"PublicTest"}
    assert set(data.select_usage("train").usages) == {"Training"}
    only = load_dataset(sample.write_csv(tmp_path / "only.csv", slice(0, 5)))
    assert len(only.select_usage()) == 5
    with pytest.raises(DataError, match="no rows of usage PrivateTest; it has PublicTest, Training"):
        data.select_usage("PrivateTest")


def votes_of(fer2013_csv: Path) -> Path:
    return fer2013_csv.with_name("fer2013new.csv")


def test_votes_are_ordered_as_the_labels(fer2013_csv: Path, sample: Sample) -> None:
    data = load_dataset(fer2013_csv)
    assert data.votes_for(FER2013) is None
    votes = add_votes(data, votes_of(fer2013_csv)).votes_for(FER2013)
    assert votes is not None
    assert votes.shape == (700, 7)
    for row, label in ((0, "angry"), (120, "fear"), (699, "neutral")):
        column = {"angry": "anger"}.get(label, label)
        assert votes[row, FER2013.index(label)] == int(sample.rows[row][column])


def test_votes_of_other_rows_are_refused(fer2013_csv: Path, sample: Sample, tmp_path: Path) -> None:
    data = load_dataset(fer2013_csv)
    short = sample.write_votes(tmp_path / "short.csv", slice(0, 699))
    with pytest.raises(DataError, match=r"its 699 rows are not the 700 rows"):
        add_votes(data, short)
    ragged = tmp_path / "ragged.csv"
    ragged.write_text(short.read_text() + "PublicTest,fer1.png,1,2\n")
    with pytest.raises(DataError, match="line 701: not as many columns"):
        add_votes(data, ragged)
    with pytest.raises(DataError, match="no column Usage"):
        add_votes(data, write(tmp_path / "other.csv", "a,b\n1,2\n"))


def test_majority_of_ferplus_follows_its_papers_protocol(fer2013_csv: Path) -> None:
    data = add_votes(load_dataset(fer2013_csv), votes_of(fer2013_csv))
    votes = np.zeros((6, 10), np.float32)
    votes[0, [FERPLUS_COLUMNS.index("sad"), 0]] = 6, 4
    votes[1, [1, 0, 2, 3]] = 5, 2, 2, 1  # with the lone vote gone, five of nine
    votes[2, [1, 0]] = 5, 5  # half is no majority
    votes[3, [8, 0]] = 6, 4  # most saw an expression that FER+ has no name for
    votes[4, 9] = 10  # no face
    # nobody was asked about the sixth
    some = data.select(np.arange(700) < 6)
    found = label_by_majority(replace(some, votes=votes, classes=np.full(6, FER2013.index("fear"))))
    assert found.labels == FERPLUS
    assert [found.labels[i] for i in found.classes] == ["sad", "happy", "fear"]
    with pytest.raises(DataError, match="give --votes"):
        label_by_majority(load_dataset(fer2013_csv))


def test_majority_mostly_agrees_with_fer2013_and_keeps_faces_beside_their_votes(fer2013_csv: Path) -> None:
    data = add_votes(load_dataset(fer2013_csv), votes_of(fer2013_csv))
    found = label_by_majority(data)
    assert 500 < len(found) < 700
    assert found.votes is not None
    assert (found.votes.argmax(axis=1) == found.classes).all()
    happy = data.select(data.classes == FER2013.index("happy"))
    assert (np.array(FERPLUS)[label_by_majority(happy).classes] == "happy").mean() > 0.8


def test_tar_in_every_compression_holds_the_same_as_the_csv(sample: Sample, tmp_path: Path) -> None:
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
        found = load_dataset(tmp_path / f"a.{ending}")
        assert (found.faces == expected.faces).all()
        assert (found.usages == expected.usages).all()
        with tarfile.open(tmp_path / f"b.{ending}", mode) as archive:
            archive.add(tree, ".")
        found = load_dataset(tmp_path / f"b.{ending}")
        assert sorted(found.classes) == sorted(expected.classes)
        assert {face.tobytes() for face in found.faces} == {face.tobytes() for face in expected.faces}


def test_tar_that_is_unsafe_or_damaged_is_refused(sample: Sample, tmp_path: Path) -> None:
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
    whole = (tmp_path / "whole.tar.gz").read_bytes()
    for name, data in {"cut.tar.gz": whole[: len(whole) // 2], "none.tar.gz": b"not an archive"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="not a tar archive, or one cut short"):
            load_dataset(tmp_path / name)


def test_images_of_folders_lie_on_disk_and_may_have_another_side(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 10))
    data = load_dataset(tree, 96)
    assert isinstance(data.faces, np.memmap)
    assert data.faces.shape == (70, 96, 96)
    part = data.select_usage("Training")
    assert isinstance(part.faces, np.memmap)
    assert (part.faces == data.faces[data.usages == "Training"]).all()
    assert load_dataset(sample.write_csv(tmp_path / "some.csv", slice(0, 9)), 32).faces.shape == (9, 32, 32)


def test_maps_rename_leave_out_and_order_labels_and_sets_are_fused(sample: Sample, tmp_path: Path) -> None:
    for number, label in enumerate(("1", "puzzled", "noise")):
        (tmp_path / "raf-db" / "train" / label).mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(tmp_path / "raf-db" / "train" / label / f"{i}.png"), sample.faces[number * 3 + i])
    rules = write(
        tmp_path / "map.toml",
        'order = ["happy", "surprise", "confused"]\n'
        '[all]\npuzzled = "confused"\nnoise = ""\n[raf-db]\n1 = "surprise"\n',
    )
    table = sample.write_csv(tmp_path / "fer2013.csv")
    mapped = load_label_map(rules)
    fused = fuse(mapped.apply({path.name: load_dataset(path) for path in (table, tmp_path / "raf-db")}))
    assert fused.labels == ("happy", "surprise", "confused")
    assert np.bincount(fused.classes).tolist() == [100, 103, 3]
    assert fused.left_out == (
        "500 of labels angry, disgust, fear, sad, neutral, by the map",
        "3 of labels noise, by the map",
    )
    assert (fused.faces[-6:-3] == sample.faces[:3]).all()  # "1" comes before "puzzled"
    plain = fuse([load_dataset(table), load_dataset(tmp_path / "raf-db")])
    assert plain.labels == (*FER2013, "1", "noise", "puzzled")
    assert len(plain) == 709
    with_some_votes = fuse([add_votes(load_dataset(table), sample.write_votes(tmp_path / "v.csv")), plain])
    assert with_some_votes.votes is not None
    assert with_some_votes.votes.shape == (1409, 10)
    assert not with_some_votes.votes[700:].any()


def test_a_map_merges_votes_and_names_what_it_cannot_do(fer2013_csv: Path) -> None:
    data = add_votes(load_dataset(fer2013_csv), votes_of(fer2013_csv))
    merged = LabelMap((), {"all": {"disgust": "angry"}}).apply({"fer2013.csv": data})[0]
    assert merged.labels == ("angry", "fear", "happy", "sad", "surprise", "neutral")
    before, after = data.votes_for(("angry", "disgust")), merged.votes_for(("angry",))
    assert before is not None
    assert after is not None
    assert (after[:, 0] == before.sum(axis=1)).all()
    for tables, complaint in (
        ({"raf": {"1": "sad"}}, r"table \[raf\] is for no dataset; they are called fer2013, fer2013.csv"),
        ({"fer2013": {"mad": "angry"}}, "renames mad of fer2013.csv, which has no such label"),
        ({"all": dict.fromkeys(FER2013, "")}, "leaves no face of fer2013.csv"),
    ):
        with pytest.raises(DataError, match=complaint):
            LabelMap((), tables).apply({"fer2013.csv": data})


def test_what_lies_beside_the_data_is_passed_over_and_flat_parts_are_refused(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 50))
    for name in ("train/.ipynb_checkpoints/1.png", "train/happy/._1.png", "__MACOSX/happy/1.png"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"x")
    data = load_dataset(tree)
    assert (len(data), data.skipped) == (14, ())
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


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        *((text, "not a label map") for text in ("order = 1\n", "x = 1\n", "[all]\nsad = 3\n", "order = [1]\n")),
        ("[all\n", "cannot be read as TOML"),
        ('order = ["a", "a"]\n', "order: a is there twice"),
        ('order = ["happy", "happiness"]\n', "order: happy is there twice, maybe under two names for it"),
        ('[all]\nhappy = "a"\nhappiness = "b"\n', r"\[all\]: happy is there twice"),
    ],
)
def test_damaged_map_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        load_label_map(write(tmp_path / "map.toml", text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no column emotion or pixels"),
        ("emotion,pixels,Usage\n", "no rows"),
        (f"label,pixels\n{ONE_ROW}\n", "no column emotion in its first line"),
        (f"emotion,pixels\n{ONE_ROW[:-2]}\n", "line 2: 2303 pixels, not 2304"),
        (f"emotion,pixels\n{ONE_ROW}\n{ONE_ROW} 7\n", "line 3: 2305 pixels, not 2304"),
        (f"emotion,pixels\n{ONE_ROW[:-1]}300\n", "pixels outside 0 to 255"),
        (f"emotion,pixels\n{ONE_ROW[:-1]}x\n", "pixels that are not whole numbers"),
        (f"emotion,pixels\n9{ONE_ROW[1:]}\n", "emotion is '9', not a number from 0 to 6"),
        (f"emotion,pixels,Usage\n{ONE_ROW}\n", "2 of 3 columns"),
    ],
)
def test_damaged_csv_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        load_dataset(write(tmp_path / "fer2013.csv", text))


def test_missing_binary_and_empty_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load_dataset(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="no images in class folders"):
        load_dataset(tmp_path)
    (tmp_path / "model.bin").write_bytes(os.urandom(999))
    with pytest.raises(DataError, match=r"not a text file|no column"):
        load_dataset(tmp_path / "model.bin")


def test_folder_without_classes_is_refused(sample: Sample, tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), sample.faces[number])
    with pytest.raises(DataError, match="no images in class folders"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    "name", ["../happy/1.png", "/train/happy/1.png", "train\\..\\..\\happy\\1.png", "C:/happy/1.png"]
)
def test_zip_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="points outside the archive"):
        load_dataset(zipped(tmp_path / "evil.zip", {name: b"x"}))


def test_zip_with_a_nameless_member_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="points outside the archive"):
        load_dataset(zipped(tmp_path / "evil.zip", {".": b"x"}))


def test_zip_written_with_backslashes_is_read(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 50))
    members = {str(p.relative_to(tree)).replace("/", "\\"): p.read_bytes() for p in tree.rglob("*.png")}
    assert len(load_dataset(zipped(tmp_path / "windows.zip", members))) == 14


def test_zip_with_other_tables_and_a_stray_image_gives_the_faces(sample: Sample, tmp_path: Path) -> None:
    csv = sample.write_csv(tmp_path / "some.csv", slice(0, 5)).read_bytes()
    members = {"example_submission.csv": b"id,emotion\n1,2\n", "cover.png": b"x", "icml_face_data.csv": csv}
    assert len(load_dataset(zipped(tmp_path / "kaggle.zip", members))) == 5


def test_decompression_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "bomb.zip", {"train/happy/1.png": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    with pytest.raises(DataError, match="would unpack from"):
        load_dataset(bomb)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_cut_short_or_damaged_is_refused(sample: Sample, tmp_path: Path, compression: int) -> None:
    csv = sample.write_csv(tmp_path / "some.csv", slice(0, 20)).read_bytes()
    whole = zipped(tmp_path / "whole.zip", {"fer2013.csv": csv}, compression).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a zip archive, or one cut short"):
        load_dataset(tmp_path / "cut.zip")
    middle = len(whole) // 2
    (tmp_path / "flipped.zip").write_bytes(whole[:middle] + bytes(200) + whole[middle + 200 :])
    with pytest.raises(DataError, match="damaged"):
        load_dataset(tmp_path / "flipped.zip")
