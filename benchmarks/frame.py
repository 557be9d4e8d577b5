"""Compare the cost of a frame in the runner's pipeline with that of simpler ways.

    python benchmarks/frame.py [--faces 1 2 4 8] [--seconds 20] [--rounds 3] [--no-haar]

The videos have 640x480 pixels at 10 frames per second. They show one to eight of the demo's faces, which change their
expression and either keep still or move by an eighth of their side per frame. The last video is the demo with its true
labels. There are three ways:

- The plain loop runs the detector and the classifier on every frame.
- "Detect always" is the pipeline with a search of the whole of every frame.
- The pipeline is what `fer-edge run` does: it follows faces between detections where that is cheaper.

The ways take turns in one process, with one thread in each library, and the round that took the least is printed. CPU
load is the processor time of the process over the duration of the video; drawing the videos is not included. If OpenCV
has Haar, the plain loop is measured with it, too.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge import demo
from fer_edge.classification.classifier import TFLiteClassifier, classify_faces
from fer_edge.detection.factory import make_detector
from fer_edge.geometry import Box, intersection_over_union
from fer_edge.utils.system import machine_name, resident_mb
from fer_edge_device.capture.base import Frame
from fer_edge_device.config.settings import EventsSettings, FacesSettings
from fer_edge_device.pipeline.pipeline import Pipeline
from haar import HAS_HAAR, HaarDetector

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fer_edge.detection.base import FaceDetector, TrackingDetector
    from fer_edge_device.messages import Event

FPS: Final = 10
# With up to four faces, and with more of them.
FOUR: Final = ((150, 130), (470, 140), (160, 350), (480, 340))
EIGHT: Final = ((85, 130), (240, 140), (395, 125), (550, 135), (90, 350), (245, 345), (400, 355), (555, 350))
EXPRESSIONS: Final = ("happy", "neutral", "angry", "surprise", "sad", "disgust", "fear")

Video = list["npt.NDArray[np.uint8]"]


@dataclass
class Outcome:
    """Cost and results of processing a video.

    Attributes:
        cpu_s: processor time, in seconds.
        milliseconds: time of each run of a stage, by stage.
        events: reported events.
        boxes: boxes of the faces in each frame.
    """

    cpu_s: float = 0.0
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    boxes: list[list[Box]] = field(default_factory=list)


def make_video(faces: int, seconds: int, *, moving: bool) -> Video:
    """Draw people who change their expression every three seconds.

    Args:
        faces: number of people, 1 to 8.
        seconds: length of the video.
        moving: whether they move in circles, by an eighth of their side per frame; otherwise only the camera's noise
            changes.
    """
    centres, side, radius = (FOUR, 125.0, 45.0) if faces <= len(FOUR) else (EIGHT, 105.0, 30.0)
    noise = np.random.default_rng(3)
    video = []
    for number in range(seconds * FPS):
        image = demo.wall()
        for person, (x, y) in enumerate(centres[:faces]):
            turn = number * side / 8 / radius if moving else 0.0
            size = side * (1 + 0.12 * math.sin(turn / 9 + person))
            centre = x + radius * math.sin(turn), y + radius * math.cos(turn)
            emotion = EXPRESSIONS[(number // 30 + 2 * person) % len(EXPRESSIONS)]
            demo.paste(image, demo.face(emotion), Box(centre[0] - size / 2, centre[1] - size / 2, size, size))
        video.append(np.clip(image + noise.normal(0, 2, image.shape), 0, 255).astype(np.uint8))
    return video


def run_plain_loop(video: Video, detector: FaceDetector, classifier: TFLiteClassifier) -> Outcome:
    """Run only the detector and the classifier on every frame."""
    outcome = Outcome(milliseconds={"detect": [], "classify": []})
    start_cpu = time.process_time()
    for gray in video:
        start = time.perf_counter()
        faces = detector.detect(gray)
        found = time.perf_counter()
        classify_faces(gray, faces, detector.crop_spec, classifier)
        outcome.milliseconds["detect"].append((found - start) * 1e3)
        outcome.milliseconds["classify"].append((time.perf_counter() - found) * 1e3)
        outcome.boxes.append([face.box for face in faces])
    outcome.cpu_s = time.process_time() - start_cpu
    return outcome


def run_pipeline(
    video: Video, detector: TrackingDetector, classifier: TFLiteClassifier, faces: FacesSettings
) -> Outcome:
    """Run the pipeline of `fer-edge run`."""
    pipeline = Pipeline(
        detector,
        classifier,
        session="bench",
        model="bench",
        faces=faces,
        events=EventsSettings(),
        fps=FPS,
        idle_fps=2,
    )
    outcome = Outcome()
    start_cpu = time.process_time()
    for number, gray in enumerate(video):
        events, _ = pipeline.step(Frame(gray, round(number / FPS, 3), number))
        outcome.events += events
        outcome.boxes.append([track.box for track in pipeline.in_view])
    outcome.cpu_s = time.process_time() - start_cpu
    outcome.events += pipeline.finish()[0]
    outcome.milliseconds = {stage: list(taken) for stage, taken in pipeline.milliseconds.items()}
    return outcome


def print_cost(name: str, outcome: Outcome, frames: int) -> None:
    """Print a line with the cost of a frame and of its stages."""
    share = outcome.cpu_s / (frames / FPS)
    stages = ", ".join(
        f"{stage} {statistics.median(taken):.2f} ms x {len(taken)}"
        for stage, taken in outcome.milliseconds.items()
        if taken
    )
    print(f"  {name:<20} {share:>6.1%} of a core at {FPS} fps, {outcome.cpu_s / frames * 1e3:.2f} ms a frame; {stages}")


def overlap(followed: Outcome, every: Outcome) -> tuple[float, float]:
    """Return the mean and lowest intersection over union of each box with the detector's box in that frame."""
    best = [
        max(intersection_over_union(box, other) for other in found)
        for boxes, found in zip(followed.boxes, every.boxes, strict=True)
        if len(found) >= len(boxes) > 0  # otherwise the detector missed a face
        for box in boxes
    ]
    return statistics.mean(best), min(best)


def correct_share(events: list[Event]) -> tuple[float, int]:
    """Compare the events of the demo with its true labels.

    Returns:
        Share of the time since a person was reported with the correct emotion, and the number of tracks.
    """
    actor_of: dict[str, int] = {}
    emotion: dict[int, str] = {}
    correct = total = 0
    for number in range(demo.FRAMES):
        for event in (event for event in events if round(event.time * demo.FPS) == number):
            if event.event_type == "new":
                x, y = event.box[0] * demo.WIDTH, event.box[1] * demo.HEIGHT
                nearest = min(demo.truth(number), key=lambda face: math.dist((x, y), face.box[:2]))
                actor_of[event.id] = nearest.actor
            emotion[actor_of[event.id]] = event.emotion
        for face in demo.truth(number):
            if face.actor in emotion:
                total += 1
                correct += emotion[face.actor] == face.emotion
    return correct / total, len(actor_of)


def least(way: Callable[[], Outcome], rounds: list[Outcome]) -> Outcome:
    """Run a way once more, and return the round that took the least processor time."""
    rounds.append(way())
    return min(rounds, key=lambda outcome: outcome.cpu_s)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    settings = FacesSettings()
    parser.add_argument("--faces", type=int, nargs="+", choices=range(1, 9), default=[1, 2, 4, 8], metavar="1..8")
    parser.add_argument("--seconds", type=int, default=20, help="length of the drawn videos")
    parser.add_argument("--no-haar", dest="haar", action="store_false", help="leave out the slow loop with Haar")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured")
    parser.add_argument("--detect-every", type=float, default=settings.detect_interval_s)
    parser.add_argument("--classify-every", type=float, default=settings.classify_interval_s)
    options = parser.parse_args()
    shipped = FacesSettings(detect_interval_s=options.detect_every, classify_interval_s=options.classify_every)
    each_frame = FacesSettings(detect_interval_s=0, classify_interval_s=0)
    detect_always = FacesSettings(detect_interval_s=0, classify_interval_s=options.classify_every)
    cv2.setNumThreads(1)
    detector, classifier = make_detector(), TFLiteClassifier()
    print(
        f"{machine_name()}; detection every {options.detect_every} s, classification every {options.classify_every} s"
    )
    videos = {
        f"{faces} {'faces' if faces > 1 else 'face'}, {'moving' if moving else 'still'}": make_video(
            faces, options.seconds, moving=moving
        )
        for faces in options.faces
        for moving in (False, True)
    }
    videos["the demo"] = [demo.frame(number) for number in range(demo.FRAMES)]
    run_plain_loop(videos["the demo"][:10], detector, classifier)  # to warm up
    for name, video in videos.items():
        ways: dict[str, Callable[[], Outcome]] = {
            "plain loop": partial(run_plain_loop, video, detector, classifier),
            "detect always": partial(run_pipeline, video, detector, classifier, detect_always),
            "pipeline": partial(run_pipeline, video, detector, classifier, shipped),
        }
        if HAS_HAAR and options.haar:
            ways["plain loop with Haar"] = partial(run_plain_loop, video, HaarDetector(), classifier)
        measured: dict[str, list[Outcome]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            best = {way: least(run, measured[way]) for way, run in ways.items()}
        print(f"{name}, {len(video) / FPS:.0f} s")
        for way, outcome in best.items():
            print_cost(way, outcome, len(video))
        followed = best["pipeline"]
        mean, lowest = overlap(followed, best["plain loop"])
        tracks = len({event.id for event in followed.events})
        others = ", ".join(
            f"{outcome.cpu_s / followed.cpu_s:.2f} ({way})" for way, outcome in best.items() if way != "pipeline"
        )
        print(
            f"  relative to the pipeline: {others}; {tracks} tracks; boxes overlap the detector's by {mean:.2f}, at"
            f" least {lowest:.2f} (intersection over union)"
        )
    for name, faces in (("each frame", each_frame), ("following", shipped)):
        share, tracks = correct_share(run_pipeline(videos["the demo"], detector, classifier, faces).events)
        print(f"the demo, {name}: {share:.1%} of the time the correct emotion, {tracks} tracks of 3 people")
    drawn = sum(gray.nbytes for gray in itertools.chain.from_iterable(videos.values())) / 1e6
    print(f"resident memory {resident_mb():.0f} MB, of which the drawn videos are {drawn:.0f} MB")


if __name__ == "__main__":
    main()
