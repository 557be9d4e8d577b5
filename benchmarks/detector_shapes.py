"""Measure the time of detectors of other shapes before training: int8 models with random weights, beside YuNet.

    python benchmarks/detector_shapes.py faces/ --yunet face_detection_yunet_2023mar.onnx \
        --shape "network.blocks=[3, 3, 2]" --shape "network.stem=24; network.blocks=[2, 3, 2]"

``faces/`` is a folder with images of faces; a few of them are used for quantization. The first shape is the recipe's.
All detectors take turns in one process, on one thread; times are processor time.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from faces import time_detectors
from fer_edge.datasets.faces import load_faces
from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.yunet import YuNetDetector
from fer_edge.geometry import CropSpec
from fer_edge.modelcard.archive import write_card
from fer_edge.modelcard.schema import DetectorCard
from fer_edge.utils.native_stderr import hide_native_stderr
from fer_edge_convert.conversion import convert
from fer_edge_convert.first_stage import FirstStage
from fer_edge_convert.quantization import Scheme
from fer_edge_convert.sources import open_detector
from fer_edge_train.faces.detector_batches import PIXELS
from fer_edge_train.faces.detector_network import build_detector, to_inference_detector
from fer_edge_train.faces.detector_recipe import STRIDES
from fer_edge_train.recipe_files import load_detector_recipe

if TYPE_CHECKING:
    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.detection.base import FaceDetector

IMAGES: Final = 16
ANY_DROP: Final = 100.0  # percentage points: random weights have no accuracy to lose
CARD: Final = DetectorCard(
    name="shape",
    input=PIXELS,
    strides=STRIDES,
    threshold=0.5,
    smallest_face=20,
    crop_spec=CropSpec(scale=1.0, shift=0.0),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with val/, or the validation part itself")
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet's ONNX file")
    parser.add_argument("--shape", action="append", default=[""], help="changes of the recipe, separated by semicolons")
    parser.add_argument("--runs", type=int, default=200, help="number of timed frames of each size for each detector")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    data = load_faces(options.data, "val")
    few = data.subset([i for i, image in enumerate(data.images) if len(image.boxes)][:IMAGES])
    detectors: dict[str, FaceDetector] = {"yunet": YuNetDetector(options.yunet)}
    with tempfile.TemporaryDirectory() as folder:
        for shape in options.shape:
            name, one = shape or "the recipe's", make_detector(shape, few, Path(folder))
            detectors[name] = one
            print(f"{name}: {one.path.stat().st_size / 1e3:.0f} kB")
    for size in ((320, 240), (640, 480)):
        frames = [np.asarray(cv2.resize(few.gray(i), size), np.uint8) for i in range(len(few))]
        p50 = time_detectors(detectors, frames, options.runs)
        for name, taken in p50.items():
            print(f"{size[0]}x{size[1]}, {name}: {taken:.2f} ms ({taken / p50['yunet']:.3f} of yunet)")


def make_detector(shape: str, data: FaceDataset, folder: Path) -> NetworkDetector:
    """Create an untrained detector of a shape."""
    settings = [part.strip() for part in shape.split(";") if part.strip()]
    source, out = folder / "shape.keras", folder / "shape.tflite"
    to_inference_detector(build_detector(load_detector_recipe("faces", settings).network)).save(source)
    write_card(source, CARD)
    with hide_native_stderr():  # TensorFlow's log
        convert(FirstStage(open_detector(source), test=data), Scheme.INT8, out, max_drop=ANY_DROP)
    return NetworkDetector(out)


if __name__ == "__main__":
    main()
