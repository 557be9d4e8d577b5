"""Measure how many frames per second a runner processes, from cameras of several rates.

    python benchmarks/pace.py [--fps 10] [--camera-fps 10 15 25 30] [--seconds 30]

Another process serves the demo, 640x480, as Motion JPEG over HTTP. A real `fer-edge run` watches it with
`camera.fps`. The script prints the `fps` of the runner's last `stats` message, and the frames that were skipped and
dropped. It exits with status 1 if a camera that is fast enough gives a rate that is more than 5 % from the one asked
for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any, Final

from jpeg_server import demo_images, serving_jpegs

TOLERANCE: Final = 0.05
CONFIG: Final = """
node = "pace"
[camera]
source = "{address}"
fps = {fps}
idle_fps = {fps}
[events]
stats_interval_s = {seconds}
"""


def measure(address: str, fps: float, seconds: float) -> dict[str, Any]:
    """Return the second `stats` message of a runner: the first includes the start."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        config.write_text(CONFIG.format(address=address, fps=fps, seconds=seconds))
        command = [sys.executable, "-m", "fer_edge.cli", "run", "--config", str(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as runner:  # noqa: S603
            messages = map(json.loads, runner.stdout or ())
            stats = (message["payload"] for message in messages if message["topic"].endswith("/stats"))
            second: dict[str, Any] = list(islice(stats, 2))[1]
            runner.terminate()
    return second


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fps", type=float, default=10)
    parser.add_argument("--camera-fps", type=float, nargs="+", default=[10, 15, 25, 30])
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    exact = True
    for camera_fps in options.camera_fps:
        with serving_jpegs(demo_images(), camera_fps) as server:
            stats = measure(server.address, options.fps, options.seconds)
        print(
            f"camera {camera_fps:g} fps: {stats['fps']:.2f} processed per second;"
            f" {stats['skipped']} skipped, {stats['dropped']} dropped",
            flush=True,
        )
        asked = min(options.fps, camera_fps)
        exact &= abs(stats["fps"] - asked) <= TOLERANCE * asked
    return int(not exact)


if __name__ == "__main__":
    sys.exit(main())
