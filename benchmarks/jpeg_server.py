"""Serve Motion JPEG over HTTP at an exact rate, from a process of its own, as a network camera does."""

from __future__ import annotations

import contextlib
import http.server
import multiprocessing
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2

from fer_edge import demo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection


class JpegServer(NamedTuple):
    """A server that runs.

    Attributes:
        address: its HTTP address.
        process: the number of its process.
        sent: at which time of the monotonic clock each image was last sent.
    """

    address: str
    process: int
    sent: Any


def demo_images(count: int = 120) -> list[bytes]:
    """Return the first images of the demo as JPEG files of 640x480."""
    return [cv2.imencode(".jpg", cv2.cvtColor(demo.frame(n), cv2.COLOR_GRAY2BGR))[1].tobytes() for n in range(count)]


def _serve(images: list[bytes], fps: float, port: Connection, sent: Any) -> None:  # noqa: ANN401 - a shared array
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=image")
            self.end_headers()
            due, number = time.monotonic(), 0
            with contextlib.suppress(OSError):
                while True:
                    image = images[number % len(images)]
                    head = f"--image\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
                    sent[number % len(images)] = time.monotonic()
                    self.wfile.write(head.encode() + image + b"\r\n")
                    due, number = due + 1 / fps, number + 1
                    time.sleep(max(0.0, due - time.monotonic()))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        port.send(server.server_address[1])
        server.serve_forever()


@contextmanager
def serving_jpegs(images: list[bytes], fps: float) -> Iterator[JpegServer]:
    """Serve images in turn, without end, to every client."""
    # Not a fork, which would share memory with the process that is measured.
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe()
    sent = spawn.Array("d", len(images), lock=False)
    server = spawn.Process(target=_serve, args=(images, fps, sender, sent), daemon=True)
    server.start()
    try:
        yield JpegServer(f"http://127.0.0.1:{receiver.recv()}/", server.pid or 0, sent)
    finally:
        server.terminate()
