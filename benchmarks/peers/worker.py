"""A tool at work in its own virtual environment, told by lines of JSON what to do; `run.py` starts it.

    python -I worker.py TOOL FACE IMAGE

It loads the tool, does the two images and says {"ready": ...} or {"failed": "why"}.  For each line that it gets,
{"job": "face" or "image", "paths": [...]}, it says {"ms": [...], "faces": n, "peak_mb": x}.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Tool(NamedTuple):
    """What a tool does with an image's file, reading included; each gives the number of faces it looked at.

    Attributes:
        face: an image that is a face crop already.
        image: an image with faces somewhere in it; None where the tool finds none by itself.
    """

    face: Callable[[str], int]
    image: Callable[[str], int] | None


def fer_edge() -> Tool:
    """This project, as `fer-edge predict` does it."""
    load = importlib.import_module("fer_edge").load
    crops, images = load(detector=None), load()
    return Tool(lambda path: len(crops(path)), lambda path: len(images(path)))


def fer(**settings: bool) -> Tool:
    """Justin Shenk's fer; its weights are in its wheel, and those of MTCNN in facenet-pytorch's."""
    cv2, detector = importlib.import_module("cv2"), importlib.import_module("fer.fer").FER(**settings)

    def face(path: str) -> int:
        image = cv2.imread(path)
        rows, columns = image.shape[:2]
        return len(detector.detect_emotions(image, face_rectangles=[(0, 0, columns, rows)]))

    return Tool(face, lambda path: len(detector.detect_emotions(cv2.imread(path))))


def deepface() -> Tool:
    """Sefik Serengil's deepface with OpenCV's detector, its default; it downloads its weights at the first use."""
    analyze = importlib.import_module("deepface").DeepFace.analyze

    def look(path: str, detector: str) -> int:
        return len(analyze(path, actions=("emotion",), detector_backend=detector, enforce_detection=False, silent=True))

    return Tool(lambda path: look(path, "skip"), lambda path: look(path, "opencv"))


def hsemotion() -> Tool:
    """Andrey Savchenko's hsemotion-onnx, which classifies crops alone; it downloads its weights at the first use."""
    cv2 = importlib.import_module("cv2")
    importlib.import_module("urllib.request")  # which it uses without importing it
    recogniser = importlib.import_module("hsemotion_onnx.facial_emotions").HSEmotionRecognizer()

    def face(path: str) -> int:
        recogniser.predict_emotions(cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB), logits=False)
        return 1

    return Tool(face, None)


TOOLS: Final[dict[str, Callable[[], Tool]]] = {
    "fer-edge": fer_edge,
    "fer": fer,
    "fer-mtcnn": lambda: fer(mtcnn=True),
    "deepface": deepface,
    "hsemotion-onnx": hsemotion,
}


def main() -> None:
    """Load, answer once, and then as often as asked."""
    name, face, image = sys.argv[1:]
    # The tools print whatever they like; what is left of standard output is for answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        tool = TOOLS[name]()
        tool.face(face)
        if tool.image:
            tool.image(image)
    except BaseException as error:  # noqa: BLE001 - whatever a tool raises, or exits with, is the answer
        said = (str(error).strip().splitlines() or [""])[0]
        print(json.dumps({"failed": f"{type(error).__name__}: {said}"}), file=answers)
        return
    print(json.dumps({"ready": True, "finds_faces": tool.image is not None, "peak_mb": peak_mb()}), file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(work(getattr(tool, asked["job"]), asked["paths"])), file=answers)


def work(job: Callable[[str], int], paths: list[str]) -> dict[str, object]:
    """Do images one after another, and say what each took."""
    taken, faces = [], 0
    for path in paths:
        start = time.perf_counter()
        faces += job(path)
        taken.append((time.perf_counter() - start) * 1e3)
    return {"ms": taken, "faces": faces, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Most memory that this process had resident."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0


if __name__ == "__main__":
    main()
