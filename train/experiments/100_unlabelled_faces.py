"""Cut faces without labels from images, as `fer-edge run` cuts them (experiment 100).

    python 100_unlabelled_faces.py faces --out unlabelled.npz

A face is taken if both YuNet's label and the shipped detector find it, and if it is large enough. The images that are
reserved for tests of the detector are left out, although these faces only teach the classifier.
"""

# ruff: noqa: INP001, T201 - a script that prints

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from fer_edge.classification.crop import crop_detected_face
from fer_edge.datasets.faces import load_faces, without_test_images
from fer_edge.detection.metrics import pairwise_iou
from fer_edge.detection.network import NetworkDetector
from fer_edge.model_zoo import DEFAULT_DETECTOR

SIDE: Final = 48  # pixels of a cut-out face
SMALLEST: Final = 28  # pixels of the longer side of a box
CERTAIN: Final = 0.8  # lowest score of a label
SAME: Final = 0.5  # overlap of a label and a detected box that are the same face
SPLIT: Final = Path(__file__).parents[2] / "benchmarks" / "face_marks" / "split.csv"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    (data,) = without_test_images([load_faces(options.data, "train")], SPLIT)
    detector = NetworkDetector(DEFAULT_DETECTOR, min_face=SMALLEST)
    crops = []
    for i, image in enumerate(data.images):
        wanted = image.boxes[(image.boxes[:, 2:].max(axis=1, initial=0) >= SMALLEST) & (image.scores >= CERTAIN)]
        if not len(wanted):
            continue
        gray = data.gray(i)
        found = detector.detect(gray)
        overlap = pairwise_iou(np.array([face.box for face in found], np.float32).reshape(-1, 4), wanted).max(axis=1)
        same = (face for face, share in zip(found, overlap.tolist(), strict=True) if share >= SAME)
        crops += [crop_detected_face(gray, face, SIDE, SIDE, detector.crop_spec) for face in same]
    faces = np.unique(np.stack(crops), axis=0)
    np.savez_compressed(options.out, faces=faces)
    print(f"{len(faces)} faces of {len(data)} images")


if __name__ == "__main__":
    main()
