"""The comparison of detectors on marked faces, with three images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2

from fer_edge import demo
from tests.fer_edge.detection import onnx_squares

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "marked_faces.py"
FRAME = 20


def test_counts_what_each_detector_finds_in_marked_images(tmp_path: Path) -> None:
    frame = demo.frame(FRAME)
    (left, top, width, height), *others = (face.box for face in demo.truth(FRAME))
    # One face is marked, the others are ignored, and one more is marked where none is.
    rows = [f"face.png,{left},{top},{width},{height},face,profile,hand+glasses,", "face.png,0,0,40,40,face,frontal,,"]
    rows += [f"face.png,{','.join(map(str, box))},ignore,,," for box in others]
    for part, name, image in (("val", "face", frame), ("val", "animal", 0 * frame), ("train", "empty", 0 * frame)):
        (tmp_path / part).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / part / f"{name}.png"), image)
        with (tmp_path / part / "labels.csv").open("a") as labels:
            labels.write(("file,x,y,w,h\n" if labels.tell() == 0 else "") + f"{name}.png,,,,\n")
    (tmp_path / "marks.csv").write_text(
        "\n".join(["file,x,y,w,h,kind,pose,covered,note", *rows, "animal.png,,,,,,,,", "empty.png,,,,,,,,"])
    )
    types = "face.png,a,group\nanimal.png,b,distractor\nempty.png,c,empty\n"
    (tmp_path / "split.csv").write_text("file,group,type\n" + types)
    squares = tmp_path / "squares.onnx"
    onnx_squares.write_network(squares, 0.92)
    options = ["--marks", str(tmp_path), "--yunet", str(squares), "--resamples", "5"]
    command = [sys.executable, str(SCRIPT), str(tmp_path), *options]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    seen = result.stdout.split("Images seen in training")[0].splitlines()
    tables = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in seen if "|" in line
    }
    assert "2 in 2 groups, 2 faces" in result.stdout
    assert tables["average precision"][1].startswith("0.5")
    assert tables["profile"][0] == tables["frontal"][0] == "1"
    assert tables["behind glasses"] == tables["behind a hand, mask or object"] == tables["profile"]
    # At the number of false positives of the other network, which finds none of these faces.
    assert tables["profile"][2] == "1"
    assert tables["frontal"][4] == "1"
    assert tables["false positives in the 1 images of animals and other distractors"][:2] == ["0", "0"]
