"""A network camera that shows the demo's faces without end: Motion JPEG on port 8000, for the steps in a container."""

from __future__ import annotations

import itertools
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

from fer_edge import demo


class Stream(BaseHTTPRequestHandler):
    """Answers every request with ten images a second."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=image")
        self.end_headers()
        for number in itertools.count():
            image = cv2.imencode(".jpg", demo.frame(number % demo.FRAMES))[1].tobytes()
            head = f"--image\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
            self.wfile.write(head.encode() + image + b"\r\n")
            time.sleep(0.1)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8000), Stream).serve_forever()
