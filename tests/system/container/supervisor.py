"""Stand for the Supervisor of Home Assistant, which knows the broker, and for a network camera that shows the demo."""

from __future__ import annotations

import http.server
import itertools
import json
import time

import cv2

from fer_edge import demo

TOKEN = "of the test"  # noqa: S105 - of no Supervisor but this
BROKER = {"host": "core-mosquitto", "port": 1883, "ssl": False, "username": "fer-edge", "password": "secret"}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/stream":
            self._show_the_demo()
        elif self.path == "/services/mqtt" and self.headers["Authorization"] == f"Bearer {TOKEN}":
            self._answer("application/json")
            self.wfile.write(json.dumps({"result": "ok", "data": BROKER}).encode())
        else:
            self.send_error(403)

    def _show_the_demo(self) -> None:
        self._answer("multipart/x-mixed-replace; boundary=next")
        for number in itertools.cycle(range(0, 60, 4)):
            image = cv2.imencode(".jpg", demo.frame(number))[1].tobytes()
            self.wfile.write(b"--next\r\nContent-Type: image/jpeg\r\n\r\n" + image + b"\r\n")
            time.sleep(0.1)

    def _answer(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
