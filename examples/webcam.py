"""Watch a camera and print what happens: who appears, whose expression changes, who leaves.

python examples/webcam.py                    the first camera that is found
python examples/webcam.py --source 1         the second USB camera
python examples/webcam.py --source demo      no camera: the video that comes with fer-edge
"""

import argparse
import contextlib
import sys
import time

import fer_edge


def main() -> None:
    """Read the command line and watch until Ctrl-C, or until enough was seen."""
    parser = argparse.ArgumentParser(description="Print the expressions of the faces before a camera.")
    parser.add_argument("--source", default="auto", help="auto, demo, a camera's number, an address or a video file")
    parser.add_argument("--events", type=int, metavar="N", help="stop after so many events")
    options = parser.parse_args()

    # Closing the events closes the camera, also after an error or Ctrl-C. Nothing is stored or sent.
    with contextlib.closing(fer_edge.watch(options.source)) as events:
        for number, event in enumerate(events, start=1):
            print(describe(event), flush=True)
            if number == options.events:
                break


def describe(event: fer_edge.Event) -> str:
    """Return an event in words."""
    # A camera's time is that of the clock, in seconds since 1970; a video's begins with 0.
    is_clock = event.time > 1e9
    when = time.strftime("%H:%M:%S", time.localtime(event.time)) if is_clock else f"{event.time:6.1f} s"
    face = f"{when}  face {event.id.rpartition('-')[2]}"
    if event.event_type == "new":
        return f"{face} appears: {event.emotion} {event.score:.0%}"
    if event.event_type == "update":
        return f"{face} changes from {event.previous} to {event.emotion} {event.score:.0%}"
    return f"{face} leaves after {event.duration_s:.0f} s"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
    except fer_edge.FerEdgeError as error:  # no camera, for one
        sys.exit(f"webcam.py: {error}")
