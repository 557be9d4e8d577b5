"""Check that memory, open files and threads do not grow while the demo plays again and again at full speed.

    python benchmarks/soak.py [--frames 1000000] [--from 10000] [--min-face 120]

Prints resident memory, open files and threads after the first frames and at the end. The exit status is 1 if memory
grew by 2 MB or more, or if the number of files or threads changed. Times continue from one playback to the next. The
video is drawn once, and only faces of at least 120 pixels are detected (the demo has no smaller ones), so that a
million frames take an hour instead of a day.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge import demo
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.detection.factory import make_detector
from fer_edge.utils.system import resident_mb
from fer_edge_device.capture.base import Frame
from fer_edge_device.config.settings import EventsSettings, FacesSettings
from fer_edge_device.messages import Info, MessageFactory
from fer_edge_device.pipeline.pipeline import Pipeline
from fer_edge_device.runner import NodeIdentity, Runner

if TYPE_CHECKING:
    from fer_edge_device.messages import Message

GROWTH_MB: Final = 2.0


class Usage(NamedTuple):
    """Resources of the process: resident memory in MB, open files and threads."""

    resident_mb: float
    files: int
    threads: int

    def __str__(self) -> str:
        """Return the figures as text."""
        return f"{self.resident_mb:.1f} MB resident, {self.files} open files, {self.threads} threads"


def usage() -> Usage:
    """Return the present usage of this process."""
    return Usage(resident_mb() or 0.0, *(len(list(Path("/proc/self", of).iterdir())) for of in ("fd", "task")))


class LoopedDemo:
    """The demo in a loop, with times that continue; records the usage of the process after the first frames."""

    live: Final = False
    status: Final = "online"

    def __init__(self, frames: int, warm_up_frames: int) -> None:
        """Draw the video.

        Args:
            frames: number of frames to give.
            warm_up_frames: number of frames after which to record the usage.
        """
        self._video = [demo.frame(number) for number in range(demo.FRAMES)]
        self._frames, self._warm_up_frames = frames, warm_up_frames
        self._number = -1
        self._start = time.monotonic()
        self.first: Usage | None = None

    def open(self) -> None:
        """Do nothing: there is no device."""

    def read(self, not_before: float = 0.0) -> Frame | None:  # noqa: ARG002 - for live sources
        """Return the next frame; None after the last."""
        self._number += 1
        if self._number == self._warm_up_frames:
            self.first = usage()
        if self._number and self._number % 50_000 == 0:
            seconds = time.monotonic() - self._start
            print(f"{self._number:>8} frames, {seconds:.0f} s: {usage()}", flush=True)
        if self._number >= self._frames:
            return None
        return Frame(self._video[self._number % demo.FRAMES], round(self._number / demo.FPS, 3), self._number)

    def close(self) -> None:
        """Do nothing: nothing is open."""


class CountingSink:
    """A sink that counts its messages."""

    queued: Final = 0
    dropped: Final = 0

    def __init__(self) -> None:
        """Start at zero."""
        self.messages = 0

    def publish(self, *messages: Message) -> None:
        """Count messages."""
        self.messages += len(messages)

    def close(self, timeout: float = 0.0) -> None:
        """Do nothing: nothing is open."""


def main() -> int:
    """Run the frames and compare the usage."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=1_000_000, help="number of frames")
    parser.add_argument(
        "--from", type=int, default=10_000, dest="warm_up_frames", help="frames before the first measurement"
    )
    parser.add_argument("--min-face", type=int, default=120, help="side of the smallest face to detect, in pixels")
    options = parser.parse_args()
    if not 0 < options.warm_up_frames < options.frames:
        parser.error("--from must lie between 0 and --frames")
    classifier = TFLiteClassifier()
    pipeline = Pipeline(
        make_detector(min_face=options.min_face),
        classifier,
        session="soak",
        model="soak",
        faces=FacesSettings(),
        events=EventsSettings(),
        fps=demo.FPS,
        idle_fps=2.0,
    )
    info = Info(version="soak", model="soak", model_sha256=classifier.sha256, labels=classifier.card.labels)
    camera, sink = LoopedDemo(options.frames, options.warm_up_frames), CountingSink()
    summary = Runner(camera, pipeline, NodeIdentity(MessageFactory("soak"), info), [sink]).run()
    first, last = camera.first, usage()
    assert first is not None  # noqa: S101 - it was recorded on the way
    print(f"after {options.warm_up_frames} frames: {first}")
    print(f"after {summary.frames} frames: {last}")
    print(
        f"{last.resident_mb - first.resident_mb:+.2f} MB; {summary.events.total()} events and {sink.messages} messages"
        f" in {summary.seconds:.0f} s ({summary.frames / summary.seconds:.0f} frames per second)"
    )
    grew = last.resident_mb - first.resident_mb >= GROWTH_MB
    return int(grew or last[1:] != first[1:] or summary.frames != options.frames)


if __name__ == "__main__":
    sys.exit(main())
