"""Small servers that stand for network cameras: Motion JPEG over HTTP, and over RTSP (RFC 2326 and 2435)."""

from __future__ import annotations

import base64
import contextlib
import http.server
import random
import socketserver
import struct
import threading
import time
from typing import TYPE_CHECKING, Final, Literal

import cv2

from fer_edge import demo

if TYPE_CHECKING:
    from collections.abc import Iterator

FPS: Final = 30
USER, PASSWORD = "me", "pass-word"

Mood = Literal["plays", "hangs", "is gone"]


class NetworkCamera(socketserver.ThreadingTCPServer):
    """A server on a free port that plays the demo, hangs or disconnects its clients."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._lock = threading.Lock()
        self.mood: Mood = "plays"
        self.max_frames: int | None = None
        self.calls = 0
        self.viewers = 0  # connections that get frames now: while there are any, the camera is open
        self.transports: list[str] = []
        self.images = [
            cv2.imencode(".jpg", cv2.cvtColor(demo.frame(number), cv2.COLOR_GRAY2BGR))[1].tobytes()
            for number in range(0, 60, 4)
        ]

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @contextlib.contextmanager
    def viewing(self) -> Iterator[None]:
        with self._lock:
            self.viewers += 1
        try:
            yield
        finally:
            with self._lock:
                self.viewers -= 1

    def frames(self) -> Iterator[bytes]:
        """Yield images in real time until the mood changes to ``is gone``."""
        due = time.monotonic()
        number = 0
        while self.mood != "is gone" and number != self.max_frames:
            if self.mood == "plays":
                yield self.images[number % len(self.images)]
                number += 1
            due += 1 / FPS
            time.sleep(max(0.0, due - time.monotonic()))


class Http(http.server.BaseHTTPRequestHandler):
    """Motion JPEG as network cameras send it to a browser; ``/locked`` requires a login."""

    server: NetworkCamera

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.calls += 1
        login = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.path == "/locked" and self.headers["Authorization"] != login:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        if self.server.mood == "is gone":
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=image")
        self.end_headers()
        with self.server.viewing(), contextlib.suppress(OSError):
            for image in self.server.frames():
                head = f"--image\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
                self.wfile.write(head.encode() + image + b"\r\n")


class Rtsp(socketserver.StreamRequestHandler):
    """Motion JPEG over RTSP, interleaved in its TCP connection."""

    server: NetworkCamera

    def handle(self) -> None:
        self.server.calls += 1
        with contextlib.suppress(OSError):
            while self.server.mood != "is gone" and (line := self.rfile.readline().decode()):
                headers = {}
                while header := self.rfile.readline().decode().strip():
                    name, _, value = header.partition(": ")
                    headers[name.lower()] = value
                self._answer(line.split()[0], headers)

    def _answer(self, method: str, headers: dict[str, str]) -> None:
        status, extra, body = "200 OK", "Session: 1\r\n", ""
        if method == "OPTIONS":
            extra = "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            extra = "Content-Type: application/sdp\r\n"
            body = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:video\r\n"
        elif method == "SETUP":
            self.server.transports.append(headers["transport"])
            extra += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        self.wfile.write(
            f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        if method == "PLAY":
            sequence = random.randrange(1000)  # noqa: S311 - no secret
            for number, image in enumerate(self.server.frames()):
                for packet in _packets(image, number, sequence):
                    self.wfile.write(b"$\0" + struct.pack("!H", len(packet)) + packet)
                    sequence += 1


def _packets(jpeg: bytes, number: int, sequence: int) -> list[bytes]:
    """Split an image into RTP packets (RFC 2435), with its own quantization tables, Q = 255."""
    tables, scan, width, height, kind = b"", b"", 0, 0, 0
    at = 2
    while not scan:
        marker, length = struct.unpack("!xBH", jpeg[at : at + 4])
        segment = jpeg[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xDB:
            tables += b"".join(segment[start + 1 : start + 65] for start in range(0, len(segment), 65))
        elif marker == 0xC0:
            height, width = struct.unpack("!HH", segment[1:5])
            kind = 1 if segment[7] == 0x22 else 0  # 4:2:0 or 4:2:2
        elif marker == 0xDA:
            scan = jpeg[at:-2]
    packets: list[bytes] = []
    for offset in range(0, len(scan), 1300):
        part = scan[offset : offset + 1300]
        last = offset + 1300 >= len(scan)
        rtp = struct.pack("!BBHII", 0x80, 26 | last << 7, (sequence + len(packets)) & 0xFFFF, number * 90_000 // FPS, 1)
        head = struct.pack("!II", offset, kind << 24 | 255 << 16 | width // 8 << 8 | height // 8)
        packets.append(rtp + head + (struct.pack("!HH", 0, len(tables)) + tables if not offset else b"") + part)
    return packets


@contextlib.contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[NetworkCamera]:
    with NetworkCamera(handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.mood = "is gone"
            server.shutdown()
            thread.join()
