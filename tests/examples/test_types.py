"""The package's types serve its users: what they write is checked, and what they get wrong is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
# Types are revealed, because a package without types would make everything Any and give no errors.
RIGHT = """
from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import cv2
import numpy as np
import numpy.typing as npt

import fer_edge

fer = fer_edge.load("edge")
array = np.zeros((480, 640), np.uint8)
paths: list[Path] = []
arrays: list[npt.NDArray[np.uint8]] = []
assert_type(fer_edge.__version__, str)
assert_type(fer, fer_edge.Recognizer)
assert_type(fer("a.jpg"), fer_edge.Recognition)
assert_type(fer(Path("a.jpg")), fer_edge.Recognition)
assert_type(fer(array), fer_edge.Recognition)
assert_type(fer(paths), list[fer_edge.Recognition])
assert_type(fer.recognize(arrays), list[fer_edge.Recognition])
assert_type(fer(Path().glob("*.jpg")), list[fer_edge.Recognition])
assert_type(fer("a.jpg")[0], fer_edge.Expression)
assert_type(fer("a.jpg")[0].scores, dict[str, float])
assert_type(fer.detect(array), list[fer_edge.Face])
image = cv2.imread("a.jpg")
assert image is not None
assert_type(fer(image), fer_edge.Recognition)
assert_type(fer([image, image]), list[fer_edge.Recognition])
assert_type(fer(image[..., ::-1], channels="rgb")[0].emotion, str)
fer_edge.annotate(image, fer(image), save="out.jpg")
fer.classify(image)
for event in fer_edge.watch(source=0):
    assert_type(event, fer_edge.Event)
"""
WRONG = """import fer_edge
fer_edge.lod("edge")
fer_edge.load(detector="haar")
fer_edge.load()(3)
fer_edge.watch(threads="2")
fer_edge.annotate("a.jpg", ["happy"])
"""


def test_strict_type_check_accepts_examples_and_finds_mistakes(tmp_path: Path) -> None:
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, tmp_path)
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=cache", "."]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line for line in result.stdout.splitlines() if ": error: " in line]
    assert [error.partition(": error")[0] for error in errors] == [f"wrong.py:{line}" for line in range(2, 7)]
