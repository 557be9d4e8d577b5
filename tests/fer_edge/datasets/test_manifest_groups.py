from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Sample


def test_reads_groups_of_a_reviewed_folder(sample: Sample, tmp_path: Path) -> None:
    sample.write_tree(tmp_path, slice(0, 40))
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    with pytest.raises(DataError, match=r"a folder with no manifest.json of a review, so it has no column group"):
        load_dataset(tmp_path, columns=["group"])
    manifest = tmp_path / "manifest.json"
    faces = [{"file": name, "sha256": "", "group": f"day {i % 3}"} for i, name in enumerate(names[:-1])]
    manifest.write_text(json.dumps({"schema": 1, "version": 7, "faces": faces}))
    data = load_dataset(tmp_path, columns=["group"])
    assert data.columns["group"].tolist() == [f"day {i % 3}" for i in range(len(names) - 1)] + [""]
    assert data.left_out == ()
    assert not load_dataset(tmp_path).columns
    with pytest.raises(DataError, match="with the column group alone, so it has no column age"):
        load_dataset(tmp_path, columns=["age"])
    manifest.write_text('{"faces": [{"group": "day 1"}]}')
    assert len(load_dataset(tmp_path)) == len(names)
    with pytest.raises(DataError, match=r"manifest.json: not the manifest of a review \(.*file.*\); export"):
        load_dataset(tmp_path, columns=["group"])
