"""Run a tool in its own virtual environment; `run.py` starts this script and sends it lines of JSON.

    python -I worker.py TOOL FACE IMAGE

It loads the tool, processes the two images and prints {"ready": ...} or {"failed": "why"}. For each line of its input,
{"job": "face" or "image", "paths": [...]}, it prints {"ms": [...], "faces": n, "peak_mb": x}.
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
    """The functions of a tool; each reads an image file, processes it and returns the number of faces.

    Attributes:
        face: processes a face crop.
        image: processes an image with faces in it; None if the tool has no face detector.
    """

    face: Callable[[str], int]
    image: Callable[[str], int] | None


def fer_edge() -> Tool:
    """Return this project, with its defaults."""
    load = importlib.import_module("fer_edge").load
    crops, images = load(detector=None), load()
    return Tool(lambda path: len(crops(path)), lambda path: len(images(path)))


def fer(**settings: bool) -> Tool:
    """Return Justin Shenk's fer; its wheel contains its weights, and facenet-pytorch's those of MTCNN."""
    cv2, detector = importlib.import_module("cv2"), importlib.import_module("fer.fer").FER(**settings)

    def face(path: str) -> int:
        image = cv2.imread(path)
        rows, columns = image.shape[:2]
        return len(detector.detect_emotions(image, face_rectangles=[(0, 0, columns, rows)]))

    return Tool(face, lambda path: len(detector.detect_emotions(cv2.imread(path))))


def deepface() -> Tool:
    """Return Sefik Serengil's deepface with OpenCV's detector, its default; it downloads weights when first used."""
    analyze = importlib.import_module("deepface").DeepFace.analyze

    def analyse(path: str, detector: str) -> int:
        return len(analyze(path, actions=("emotion",), detector_backend=detector, enforce_detection=False, silent=True))

    return Tool(lambda path: analyse(path, "skip"), lambda path: analyse(path, "opencv"))


def hsemotion() -> Tool:
    """Return Andrey Savchenko's hsemotion-onnx, which only classifies crops; it downloads weights when first used."""
    cv2 = importlib.import_module("cv2")
    importlib.import_module("urllib.request")  # which it uses without importing it
    recognizer = importlib.import_module("hsemotion_onnx.facial_emotions").HSEmotionRecognizer()

    def face(path: str) -> int:
        recognizer.predict_emotions(cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB), logits=False)
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
    """Load the tool, process the two images, then answer each line."""
    name, face, image = sys.argv[1:]
    # Tools print to standard output; redirect that, and keep the original for answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        tool = TOOLS[name]()
        tool.face(face)
        if tool.image:
            tool.image(image)
    except BaseException as error:  # noqa: BLE001 - whatever a tool raises, or exits with, is the answer
        reason = (str(error).strip().splitlines() or [""])[0]
        print(json.dumps({"failed": f"{type(error).__name__}: {reason}"}), file=answers)
        return
    print(json.dumps({"ready": True, "finds_faces": tool.image is not None, "peak_mb": peak_mb()}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(work(getattr(tool, request["job"]), request["paths"])), file=answers)


def work(job: Callable[[str], int], paths: list[str]) -> dict[str, object]:
    """Process images one after another; return the milliseconds of each."""
    taken, faces = [], 0
    for path in paths:
        start = time.perf_counter()
        faces += job(path)
        taken.append((time.perf_counter() - start) * 1e3)
    return {"ms": taken, "faces": faces, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Return the peak resident memory of this process, in megabytes."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0


if __name__ == "__main__":
    main()
