from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge.classification.labels import FER2013
from fer_edge.datasets.dataset import fuse
from fer_edge.datasets.ferplus import add_votes
from fer_edge.datasets.label_map import LabelMap, load_label_map
from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError, InputError

from .files import write

if TYPE_CHECKING:
    from tests.conftest import Sample


def votes_of(fer2013_csv: Path) -> Path:
    return fer2013_csv.with_name("fer2013new.csv")


def test_maps_labels_and_fuses_datasets(sample: Sample, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("name", "folders", "labels"),
    [
        ("raf-db", "1 2 3 4 5 6 7", ["surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"]),
        ("RAF-DB", "1 7", ["surprise", "neutral"]),
        ("affectnet", "0 1 2 7 8 10", ["neutral", "happy", "sad", "contempt", None, None]),
        ("expw", "0 1 6", ["angry", "disgust", "neutral"]),
    ],
)
def test_shipped_maps_name_the_numbers_of_public_datasets(
    sample: Sample, tmp_path: Path, name: str, folders: str, labels: list[str | None]
) -> None:
    for number, folder in enumerate(folders.split()):
        (tmp_path / "set" / "train" / folder).mkdir(parents=True)
        for i in range(number + 1):
            cv2.imwrite(str(tmp_path / "set" / "train" / folder / f"{i}.png"), sample.faces[i])
    table = sample.write_csv(tmp_path / "fer2013.csv", slice(0, 700, 10))
    read = {path.name: load_dataset(path) for path in (table, tmp_path / "set")}
    fer2013, public = load_label_map(Path(name)).apply(read)
    assert fer2013.labels == FER2013
    counts = np.bincount(public.classes, minlength=len(public.labels))
    found = {label: count for label, count in zip(public.labels, counts, strict=True) if count}
    assert found == {label: number for number, label in enumerate(labels, 1) if label}


def test_reads_a_map_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text('[all]\nangry = "sad"\n', encoding="utf-8-sig")
    assert load_label_map(tmp_path / "map.toml").tables == {"all": {"angry": "sad"}}


def test_map_merges_votes_and_rejects_unknown_names(fer2013_csv: Path) -> None:
    data = add_votes(load_dataset(fer2013_csv), votes_of(fer2013_csv))
    merged = LabelMap((), {"all": {"disgust": "angry"}}).apply({"fer2013.csv": data})[0]
    assert merged.labels == ("angry", "fear", "happy", "sad", "surprise", "neutral")
    before, after = data.votes_for(("angry", "disgust")), merged.votes_for(("angry",))
    assert before is not None
    assert after is not None
    assert (after[:, 0] == before.sum(axis=1)).all()
    for tables, message in (
        ({"raf": {"1": "sad"}}, r"table \[raf\] is for no dataset; they are called fer2013, fer2013.csv"),
        ({"fer2013": {"mad": "angry"}}, "renames mad of fer2013.csv, which has no such label"),
        ({"all": dict.fromkeys(FER2013, "")}, "leaves no face of fer2013.csv"),
    ):
        with pytest.raises(DataError, match=message):
            LabelMap((), tables).apply({"fer2013.csv": data})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "not a label map") for text in ("order = 1\n", "x = 1\n", "[all]\nsad = 3\n", "order = [1]\n")),
        ("[all\n", r"map\.toml: not valid TOML, line 1: .*; correct it there$"),
        ('order = ["a", "a"]\n', "order: a is there twice"),
        ('order = ["happy", "happiness"]\n', "order: happy is there twice, maybe under two names for it"),
        ('[all]\nhappy = "a"\nhappiness = "b"\n', r"\[all\]: happy is there twice"),
    ],
)
def test_rejects_damaged_map(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_label_map(write(tmp_path / "map.toml", text))


def test_rejects_unreadable_map(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes('[all]\nmüde = "sad"\n'.encode("latin-1"))
    for name, reason in (
        ("latin.toml", "it is not text in UTF-8"),
        ("missing.toml", "No such file or directory"),
        ("", "Is a directory"),
    ):
        with pytest.raises(DataError, match=rf"the label map cannot be read \({reason}\)$"):
            load_label_map(tmp_path / name)
