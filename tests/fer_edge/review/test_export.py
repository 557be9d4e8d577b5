"""Exports: what is in the dataset, what stays, and what a crash leaves."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import InputError
from fer_edge.review.choices import CANNOT_TELL, NOT_A_FACE
from fer_edge.review.export import export_dataset
from fer_edge.review.face_folder import read_face_folder
from tests.fer_edge.review.folders import emotion_of, review, write_faces

if TYPE_CHECKING:
    from fer_edge.review.export import Export
    from tests.conftest import Cli, Sample


@pytest.fixture
def faces(tmp_path: Path, sample: Sample) -> Path:
    """Return a folder of 70 faces that ann has labelled as FER-2013 does."""
    hashes = write_faces(tmp_path / "faces", sample, range(0, 700, 10))
    review(tmp_path / "faces", "ann", {sha256: emotion_of(sample, name) for sha256, name in hashes.items()})
    return tmp_path / "faces"


def export(faces: Path, target: Path, **options: Any) -> Export:  # noqa: ANN401 - as export_dataset's
    return export_dataset(read_face_folder(faces), target, **options)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sides(dataset: Path) -> dict[str, str]:
    return {path.name: path.relative_to(dataset).parts[0] for path in dataset.rglob("*.png")}


def test_dataset_holds_the_images_as_they_are_and_who_labelled_them(faces: Path, tmp_path: Path) -> None:
    done = export(faces, tmp_path / "own")
    assert (done.is_new, done.manifest.version, done.unreviewed, done.faults) == (True, 1, 0, ())
    manifest = json.loads((tmp_path / "own/manifest.json").read_text())
    found = files(tmp_path / "own")
    assert set(found) == {face["file"] for face in manifest["faces"]} | {"manifest.json"}
    for face in manifest["faces"]:
        assert hashlib.sha256(found[face["file"]]).hexdigest() == face["sha256"] == face["source_sha256"]
        assert found[face["file"]] == (faces / face["source"]).read_bytes()
        assert face["file"].split("/")[:2] == [face["split"], face["label"]]
        assert [(one["reviewer"], one["label"]) for one in face["reviews"]] == [("ann", face["label"])]
    assert len(manifest["faces"]) == 70
    assert 0.1 < sum(face["split"] == "test" for face in manifest["faces"]) / 70 < 0.3


def test_same_decisions_make_no_new_version(faces: Path, tmp_path: Path) -> None:
    export(faces, tmp_path / "own")
    before = files(tmp_path / "own")
    assert not export(faces, tmp_path / "own").is_new
    assert files(tmp_path / "own") == before


def test_faces_stay_on_their_side_when_more_come_or_labels_change(faces: Path, tmp_path: Path, sample: Sample) -> None:
    export(faces, tmp_path / "own")
    before = sides(tmp_path / "own")
    more = write_faces(faces, sample, range(1, 700, 4))
    labels: dict[str, str | None] = {sha256: emotion_of(sample, name) for sha256, name in more.items()}
    (changed, *_) = read_face_folder(faces).faces
    review(faces, "ann", labels | {changed.sha256: "surprise"})
    done = export(faces, tmp_path / "own")
    assert done.manifest.version == 2
    after = sides(tmp_path / "own")
    assert {name: after[name] for name in before} == before
    assert len(after) > 230
    (face,) = [face for face in done.manifest.faces if face.source_sha256 == changed.sha256]
    assert face.label == "surprise"


def test_near_duplicates_and_groups_stay_on_one_side(tmp_path: Path, sample: Sample) -> None:
    faces = tmp_path / "faces"
    hashes = write_faces(faces, sample, range(0, 80, 2))
    for row in range(0, 80, 2):
        darker = (sample.faces[row] * 0.8 + 7).astype(np.uint8)
        cv2.imwrite(str(faces / f"{row:04d}-again.png"), darker)
    rows = "".join(f"{row:04d}.png,person {row // 8}\n" for row in range(0, 80, 2))
    (faces / "faces.csv").write_text(f"file,group\n{rows}")
    read = read_face_folder(faces)
    review(faces, "ann", {face.sha256: emotion_of(sample, face.name) for face in read.faces})
    done = export(faces, tmp_path / "own")
    person: dict[str, set[str]] = {}
    for each in done.manifest.faces:
        person.setdefault(str(int(each.source[:4]) // 8), set()).add(each.split)
    assert all(len(found) == 1 for found in person.values())
    assert set.union(*person.values()) == {"train", "test"}
    assert len(done.manifest.faces) == 2 * len(hashes)


def test_majority_decides_and_ties_are_left_out_and_listed(tmp_path: Path, sample: Sample) -> None:
    faces = tmp_path / "faces"
    one, two, three, four, five, six = write_faces(faces, sample, range(0, 12, 2))
    review(faces, "ann", {one: "happy", two: "happy", three: CANNOT_TELL, four: "sad", five: NOT_A_FACE})
    review(faces, "bob", {one: "happy", two: "sad", three: CANNOT_TELL, four: "sad", five: NOT_A_FACE})
    review(faces, "cy", {one: "sad", three: "happy", four: "fear"})
    done = export(faces, tmp_path / "own")
    assert {face.source_sha256: face.label for face in done.manifest.faces} == {one: "happy", four: "sad"}
    assert {face.source_sha256: face.reason for face in done.manifest.left_out} == {
        two: "no majority",
        three: CANNOT_TELL,
        five: NOT_A_FACE,
    }
    assert done.unreviewed == 1
    assert six.encode() not in done.manifest.encode()
    assert len(done.manifest.agreement.pairs) == 3
    assert done.manifest.agreement.faces == 5


def test_face_that_was_left_out_comes_back_to_its_side(faces: Path, tmp_path: Path) -> None:
    export(faces, tmp_path / "own")
    tested = [face for face in export(faces, tmp_path / "own").manifest.faces if face.split == "test"]
    review(faces, "ann", {face.source_sha256: CANNOT_TELL for face in tested})
    assert export(faces, tmp_path / "own").manifest.version == 2
    review(faces, "ann", {face.source_sha256: face.label for face in tested})
    done = export(faces, tmp_path / "own")
    back = {face.file for face in done.manifest.faces}
    assert {face.file for face in tested} <= back


def test_faces_whose_images_are_gone_stay_until_they_are_pruned(faces: Path, tmp_path: Path) -> None:
    before = export(faces, tmp_path / "own").manifest
    (faces / "0000.png").unlink()
    done = export(faces, tmp_path / "own")
    assert (done.kept, done.is_new) == (1, False)
    done = export(faces, tmp_path / "own", prune=True)
    assert (done.kept, done.is_new) == (0, True)
    assert len(done.manifest.faces) == len(before.faces) - 1
    assert len(sides(tmp_path / "own")) == len(before.faces) - 1


def test_another_format_becomes_png_once(faces: Path, tmp_path: Path, sample: Sample) -> None:
    colour = cv2.cvtColor(sample.faces[3], cv2.COLOR_GRAY2BGR)
    cv2.imwrite(str(faces / "photo.jpg"), cv2.resize(colour, (160, 160)))
    read = read_face_folder(faces)
    (photo,) = [face for face in read.faces if face.name == "photo.jpg"]
    review(faces, "ann", {photo.sha256: "happy"})
    done = export(faces, tmp_path / "own")
    (face,) = [face for face in done.manifest.faces if face.source_sha256 == photo.sha256]
    image = cv2.imread(str(tmp_path / "own" / face.file), cv2.IMREAD_UNCHANGED)
    assert image is not None
    assert image.shape == (160, 160)
    assert face.sha256 != face.source_sha256


def test_nothing_of_others_is_overwritten_or_removed(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="no export has written it"):
        export(faces, tmp_path / "own")
    (tmp_path / "own/thesis.txt").unlink()
    done = export(faces, tmp_path / "own")
    image = tmp_path / "own" / done.manifest.faces[0].file
    content = image.read_bytes()
    image.unlink()  # a hard link would change the folder of faces, if there was one
    image.write_bytes(b"another")
    with pytest.raises(InputError, match="another image"):
        export(faces, tmp_path / "own")
    image.write_bytes(content)
    (tmp_path / "own/train/happy").mkdir(parents=True, exist_ok=True)
    (tmp_path / "own/train/happy/mine.png").write_bytes(content)
    with pytest.raises(InputError, match="no export has written it"):
        export(faces, tmp_path / "own")
    for target in (faces, faces / "own", tmp_path, tmp_path / "missing/own"):
        with pytest.raises(InputError):
            export(faces, target)
    assert (faces / "0000.png").exists()


def test_manifest_of_a_stranger_reaches_no_file_elsewhere(faces: Path, tmp_path: Path) -> None:
    export(faces, tmp_path / "own")
    (tmp_path / "secret.png").write_bytes(b"secret")
    path = tmp_path / "own/manifest.json"
    manifest = json.loads(path.read_text())
    for change in ({"file": "../secret.png"}, {"label": "../.."}, {"split": ".."}, {"source_sha256": "/x"}):
        changed = dict(manifest, faces=[manifest["faces"][0] | change])
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match="reviewed dataset"):
            export(faces, tmp_path / "own")
    path.write_text("{}")
    with pytest.raises(InputError, match="not the manifest"):
        export(faces, tmp_path / "own")


def test_crash_at_any_step_leaves_the_old_version_or_the_new_one(
    faces: Path, tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(faces, tmp_path / "own")
    old = files(tmp_path / "own")
    more = write_faces(faces, sample, range(1, 40, 2))
    review(faces, "ann", {sha256: emotion_of(sample, name) for sha256, name in more.items()})

    class Killed(BaseException):
        pass

    rename, steps = Path.rename, 0

    def rename_some(self: Path, target: Path) -> Path:
        nonlocal steps
        steps -= 1
        if steps < 0:
            raise Killed
        return rename(self, target)

    for allowed in (0, 1):
        shutil.copytree(tmp_path / "own", tmp_path / f"own{allowed}")
        steps = allowed
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename_some)
            # What runs in a process that lives on is undone by `_recover`; one that is killed does not get there.
            patch.setattr("fer_edge.review.export._recover", lambda _: None)
            with pytest.raises(Killed):
                export(faces, tmp_path / f"own{allowed}")
        assert (tmp_path / f"own{allowed}").exists() == (allowed == 0)
        done = export(faces, tmp_path / f"own{allowed}")
        assert done.manifest.version == 2
        assert set(old) - {"manifest.json"} <= set(files(tmp_path / f"own{allowed}"))
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_dataset_is_what_evaluate_and_train_read(faces: Path, tmp_path: Path, cli: Cli) -> None:
    cli("review", faces, "--export", tmp_path / "own")
    dataset = load_dataset(tmp_path / "own")
    assert len(dataset) == 70
    assert set(dataset.usages.tolist()) == {"Training", "test"}
    assert dataset.left_out == ()
    assert dataset.labels == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    result = json.loads(cli("evaluate", "edge", tmp_path / "own", "--json").stdout)
    assert result["faces"] == int((dataset.usages == "test").sum())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("train")
def test_model_learns_from_the_dataset(faces: Path, tmp_path: Path, eager_cli: Cli) -> None:
    export(faces, tmp_path / "own")
    changes = ("network.stem=16", "network.widths=[16, 32, 64]", "network.blocks=[1, 1, 1]", "schedule.sizes=[]")
    small = [word for change in (*changes, "optimizer.batch_size=16") for word in ("--set", change)]
    result = eager_cli("train", tmp_path / "own", "--out", tmp_path / "run", "--epochs", "1", *small)
    assert "70 faces, 0 images skipped" in result.stderr
    report = json.loads((tmp_path / "run/report/report.json").read_text())
    assert report["counts"]["tested on"] == len([*(tmp_path / "own/test").rglob("*.png")])


def test_command_says_what_it_did(faces: Path, tmp_path: Path, cli: Cli) -> None:
    first = cli("review", faces, "--export", tmp_path / "own").stdout
    assert "version 1: " in first
    assert "nothing has changed" in cli("review", faces, "--export", tmp_path / "own").stdout
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, message in (
        ((faces / "0000.png",), "no such folder"),
        ((empty,), "no images"),
        ((faces, "--reviewer", "../ann"), "--reviewer"),
        ((faces, "--export", faces / "own"), "in one another"),
        ((faces, "--model", "missing.tflite"), "missing.tflite"),
    ):
        result = cli("review", "--no-open", *arguments, status=2)
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert cli("review", faces, "--export", tmp_path / "own", "--test-share", "2", status=2)
