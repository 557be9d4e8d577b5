"""Measure what it costs to read a camera of 30 frames per second when only two of them are processed.

    python benchmarks/camera_reading.py [--fps 30] [--processed-fps 2] [--seconds 30]

Another process serves the demo, 640x480, as Motion JPEG over HTTP. Two readers take turns: a plain loop that decodes
every frame and converts it to grey, and a supervised live source, which decodes only the frames that are read. The
script prints the frames that arrived, the frames that were processed, and the share of one core that each reader took.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time

import cv2

from fer_edge_device.capture.base import NoFrameYet
from fer_edge_device.capture.factory import open_source
from fer_edge_device.config.settings import CameraSettings
from jpeg_server import demo_images, serving_jpegs


def read_in_plain_loop(address: str, processed_fps: float, seconds: float) -> tuple[int, int]:
    """Decode every frame and convert it to grey; return how many arrived and how many were processed."""
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG)  # noqa: TID251 - the baseline
    frames, processed, start = 0, 0, time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        _, image = capture.read()
        cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        frames += 1
        processed += now >= processed / processed_fps
    capture.release()
    return frames, processed


def read_supervised(address: str, processed_fps: float, seconds: float) -> tuple[int, int]:
    """Read the newest frame now and then; return how many arrived and how many were processed."""
    camera = open_source(CameraSettings(source=address))
    numbers: list[int] = []
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        time.sleep(max(0.0, len(numbers) / processed_fps - now))
        with contextlib.suppress(NoFrameYet):
            if frame := camera.read():
                numbers.append(frame.number)
    camera.close()
    return numbers[-1] - numbers[0] + 1, len(numbers)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--processed-fps", type=float, default=2)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    with serving_jpegs(demo_images(), options.fps) as server:
        for name, read in (("plain loop", read_in_plain_loop), ("supervised", read_supervised)) * 2:
            used, start = sum(os.times()[:4]), time.monotonic()  # also of the camera's process, with its start
            frames, processed = read(server.address, options.processed_fps, options.seconds)
            share = 100 * (sum(os.times()[:4]) - used) / (time.monotonic() - start)
            print(f"{name}: {frames} frames, {processed} processed, {share:.2f} % of a core")


if __name__ == "__main__":
    main()
