"""Read streams over HTTP from cameras that are honest, that spell differently, and that send without end."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np
import pytest

from fer_edge import demo
from fer_edge.errors import InputError, SourceError, SourceLostError
from fer_edge_device.capture.factory import make_source, open_source
from fer_edge_device.capture.http_stream import HttpStream
from fer_edge_device.capture.multipart import MAX_IMAGE, MultipartReader, TooLargeError
from fer_edge_device.components import config_problems
from fer_edge_device.config.settings import CameraSettings, Config
from tests.device.brokers import Certificates, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JPEGS = [cv2.imencode(".jpg", demo.frame(number))[1].tobytes() for number in (0, 10, 20)]
SYSTEM_BUFFERS = 16 << 20  # bytes that the system takes from a server although nobody reads them
HEAD = b"--image\r\nContent-Type: image/jpeg\r\n"
LENGTH = b"Content-Length: %d\r\n"
MULTIPART = "multipart/x-mixed-replace; boundary=image"


class Camera(http.server.ThreadingHTTPServer):
    """Sends a content type, a beginning, and the rest again and again until the client hangs up.

    Attributes:
        sent: bytes that were sent.
        requests: number of requests.
        realm: names what asks for a login; empty: nothing does.
        elsewhere: address to which it sends clients instead; empty: nowhere.
    """

    daemon_threads = True

    def __init__(self, content_type: str, start: bytes, rest: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content_type, self.start, self.rest = content_type, start, rest
        self.realm = self.elsewhere = ""
        self.sent = self.requests = 0


class Answer(http.server.BaseHTTPRequestHandler):
    server: Camera

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.server.realm and not self.knows_password():
            self.send_response(401)
            self.send_header("WWW-Authenticate", f'Digest realm="{self.server.realm}", nonce="n", qop="auth"')
            self.end_headers()
            return
        if self.server.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", self.server.content_type)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.server.start)
            while self.server.rest and self.server.sent < 8 * MAX_IMAGE:
                self.wfile.write(self.server.rest)
                self.server.sent += len(self.server.rest)

    def knows_password(self) -> bool:
        """Check a login as RFC 2617 describes it."""
        fields = dict(re.findall(r'(\w+)="?([^",]*)"?', self.headers.get("Authorization", "")))

        def digest(*parts: str) -> str:
            return hashlib.md5(":".join(parts).encode(), usedforsecurity=False).hexdigest()

        if not fields:
            return False
        secret = digest("me", self.server.realm, "pass:word"), digest("GET", self.path)
        expected = digest(secret[0], "n", fields["nc"], fields["cnonce"], "auth", secret[1])
        return bool(fields["response"] == expected)


@contextlib.contextmanager
def camera(
    content_type: str, start: bytes, rest: bytes = b"", *, certificate: tuple[Path, Path] | None = None
) -> Iterator[tuple[Camera, str]]:
    with Camera(content_type, start, rest) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server, f"{'localhost' if certificate else '127.0.0.1'}:{server.server_address[1]}/video"
        finally:
            server.shutdown()
            thread.join()


def stream_of(address: str, *, ca_file: str = "", verify_certificate: bool = True) -> HttpStream:
    return HttpStream(
        CameraSettings(source=address, ca_file=ca_file, verify_certificate=verify_certificate, stall_timeout_s=20)
    )


def images(stream: HttpStream) -> list[bytes]:
    """Read to the end and return the images as they were sent."""
    found = []
    try:
        while stream.grab():
            found.append(stream._image)
    except SourceLostError as error:
        assert "the stream ended" in str(error)  # noqa: PT017 - it ends somewhere
    return found


PARTS = {
    "with lengths": b"".join(HEAD + LENGTH % len(jpeg) + b"\r\n" + jpeg + b"\r\n" for jpeg in JPEGS),
    "without": b"".join(HEAD + b"\r\n" + jpeg + b"\r\n" for jpeg in JPEGS),
    "with line feeds alone": b"".join(HEAD.replace(b"\r", b"") + b"\n" + jpeg + b"\n" for jpeg in JPEGS),
    "after blank lines": b"\r\n\r\n" + b"".join(HEAD + LENGTH % len(jpeg) + b"\r\n" + jpeg for jpeg in JPEGS),
    "of another boundary": b"".join(b"--other\r\n" + LENGTH % len(jpeg) + b"\r\n" + jpeg for jpeg in JPEGS),
}


@pytest.mark.parametrize("body", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_cuts_a_stream_into_its_images(body: bytes, step: int) -> None:
    reader, found = MultipartReader(), []
    for start in range(0, len(body), step):
        reader.feed(body[start : start + step])
        while image := reader.next_image():
            found.append(image)
    if reader.end():
        found.append(reader.next_image())
    assert [image.rstrip(b"\r\n") for image in found] == JPEGS


def test_gives_each_image_of_a_stream() -> None:
    with camera(MULTIPART, PARTS["with lengths"]) as (_, address):
        stream = stream_of(f"http://{address}")
        stream.open()
        assert stream.grab()
        image = stream.retrieve()
        assert image is not None
        assert np.abs(image.astype(int) - demo.frame(0)).mean() < 3
        assert images(stream) == JPEGS[1:]
        stream.close()


@pytest.mark.parametrize("count", [1, 3])
def test_gives_images_without_parts(count: int) -> None:
    with camera("image/jpeg", b"".join(JPEGS[:count])) as (_, address):
        stream = stream_of(f"http://{address}")
        stream.open()
        assert images(stream) == JPEGS[:count]
        stream.close()


def test_damaged_image_is_left_out() -> None:
    with camera(MULTIPART, HEAD + LENGTH % 4 + b"\r\nnope") as (_, address):
        stream = stream_of(f"http://{address}")
        stream.open()
        assert stream.grab()
        assert stream.retrieve() is None
        stream.close()


@pytest.mark.parametrize(
    ("content_type", "start", "reason"),
    [
        (MULTIPART, HEAD + LENGTH % (2 << 30) + b"\r\n", "announces an image of 2,147,483,648 bytes"),
        (MULTIPART, HEAD + b"\r\n", "sends an image of more than 16,777,216 bytes"),
        (MULTIPART, b"", "sends more than 16,384 bytes between two images"),
        ("image/jpeg", JPEGS[0], "sends an image of more than 16,777,216 bytes"),
    ],
    ids=["2 GB", "endless part", "endless head", "endless image"],
)
def test_reads_a_few_images_worth_of_what_never_ends(content_type: str, start: bytes, reason: str) -> None:
    with camera(content_type, start, b"x" * 65_536) as (server, address):
        stream = stream_of(f"http://{address}")
        stream.open()
        with pytest.raises(SourceLostError, match=f"^http://127.0.0.1:[0-9]+: {reason}"):
            stream.grab()
        stream.close()
        assert server.sent < MAX_IMAGE + SYSTEM_BUFFERS


@pytest.mark.parametrize("start", [b"\r\n" + HEAD + b"\r\n", JPEGS[0]], ids=["parts", "images"])
def test_is_bounded_whatever_the_camera_calls_it(start: bytes) -> None:
    with camera("text/plain", start, b"x" * 65_536) as (server, address):
        stream = stream_of(f"http://{address}")
        stream.open()
        with pytest.raises(SourceLostError, match="sends an image of more than"):
            stream.grab()
        stream.close()
        assert server.sent < MAX_IMAGE + SYSTEM_BUFFERS


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    """Return a video of five frames."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(5):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    return path.read_bytes()


def test_plays_a_video_over_http(video: bytes) -> None:
    with camera("video/x-msvideo", video) as (_, address):
        stream = stream_of(f"http://{address}")
        stream.open()
        assert stream.grab()
        image = stream.retrieve()
        assert image is not None
        assert image.shape == (48, 64)
        stream.close()


def test_logs_in_with_digest() -> None:
    with camera(MULTIPART, PARTS["without"]) as (server, address):
        server.realm = "yard"
        stream = stream_of(f"http://me:pass%3Aword@{address}")
        stream.open()
        assert stream.grab()
        stream.close()
        with pytest.raises(SourceError, match="are address and password right"):
            stream_of(f"http://me:guess@{address}").open()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture
def https_camera(certificates: Certificates) -> Iterator[tuple[Camera, str]]:
    """Return a camera whose certificate is for localhost, and an address with a password."""
    with camera(MULTIPART, PARTS["with lengths"], certificate=certificates.issue("localhost")) as (server, address):
        yield server, f"https://me:secret@{address}"


def test_refuses_a_camera_whose_certificate_is_not_valid_before_anything_is_sent(
    https_camera: tuple[Camera, str], certificates: Certificates
) -> None:
    server, address = https_camera
    with pytest.raises(SourceError) as failed:
        stream_of(address).open()
    assert re.fullmatch(
        r"https://localhost:\d+: its certificate is not valid \(.*\); if it is your own, set camera\.ca_file to the"
        r" certificate of its issuer; or set camera\.verify_certificate to false",
        str(failed.value),
    )
    with pytest.raises(SourceError, match="use the name that the certificate was issued for"):
        stream_of(address.replace("localhost", "127.0.0.1"), ca_file=str(certificates.authority)).open()
    assert server.requests == 0


def test_trusts_the_certificates_of_the_configuration(
    https_camera: tuple[Camera, str], certificates: Certificates
) -> None:
    stream = stream_of(https_camera[1], ca_file=str(certificates.authority))
    stream.open()
    assert images(stream) == JPEGS
    stream.close()


def test_verifies_the_camera_to_which_another_address_leads(
    https_camera: tuple[Camera, str], certificates: Certificates
) -> None:
    with camera(MULTIPART, b"") as (server, address):
        server.elsewhere = https_camera[1].replace("me:secret@", "")
        with pytest.raises(SourceError, match="its certificate is not valid"):
            stream_of(f"http://{address}").open()
        stream = stream_of(f"http://{address}", ca_file=str(certificates.authority))
        stream.open()
        assert images(stream) == JPEGS
        stream.close()


def test_verification_can_be_switched_off(https_camera: tuple[Camera, str]) -> None:
    for host in ("localhost", "127.0.0.1"):
        address = https_camera[1].replace("localhost", host)
        stream = stream_of(address, verify_certificate=False)
        stream.open()
        assert images(stream) == JPEGS
        stream.close()


def test_source_verifies_as_the_configuration_says(certificates: Certificates) -> None:
    with camera(
        MULTIPART, PARTS["with lengths"], PARTS["with lengths"], certificate=certificates.issue("localhost")
    ) as (
        _,
        address,
    ):
        settings = CameraSettings(source=f"https://{address}", stall_timeout_s=1, exit_after_s=2)
        with pytest.raises(SourceError, match="its certificate is not valid"):
            open_source(settings)
        for change in ({"ca_file": str(certificates.authority)}, {"verify_certificate": False}):
            open_source(msgspec.structs.replace(settings, **change)).close()  # after its first frame


def test_trusts_the_certificate_that_a_camera_made_for_itself(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    name = ("-subj", "/CN=camera", "-addext", "subjectAltName=DNS:localhost")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *name, "-keyout", key, "-out", certificate],  # noqa: S607
        check=True,
        capture_output=True,
    )
    with camera(MULTIPART, PARTS["with lengths"], certificate=(certificate, key)) as (_, address):
        stream = stream_of(f"https://{address}", ca_file=str(certificate))
        stream.open()
        assert images(stream) == JPEGS
        stream.close()


@pytest.mark.parametrize("verify", [True, False])
def test_plays_a_video_over_https(video: bytes, certificates: Certificates, *, verify: bool) -> None:
    authority = str(certificates.authority)
    with camera("video/x-msvideo", video, certificate=certificates.issue("localhost")) as (server, address):
        stream = stream_of(f"https://{address}", ca_file=authority, verify_certificate=verify)
        stream.open()
        assert stream.grab()
        image = stream.retrieve()
        assert image is not None
        assert image.shape == (48, 64)
        stream.close()
        # FFmpeg does not verify, so it must not connect by itself.
        assert (server.requests == 1) is verify


def test_stream_that_is_closed_early_disconnects(certificates: Certificates, video: bytes) -> None:
    with camera("video/x-msvideo", video, b"x" * 65_536, certificate=certificates.issue("localhost")) as (_, address):
        threads = threading.active_count()
        stream = stream_of(f"https://{address}", ca_file=str(certificates.authority))
        stream.open()
        assert stream.grab()
        assert threading.active_count() > threads
        stream.close()
        wait_for(lambda: threading.active_count() <= threads, "the relay and the connection to end")


def test_playlist_over_https_is_refused(certificates: Certificates) -> None:
    with camera("audio/mpegurl", b"#EXTM3U\n", certificate=certificates.issue("localhost")) as (_, address):
        stream = stream_of(f"https://{address}", ca_file=str(certificates.authority))
        with pytest.raises(SourceError, match=r"is a playlist, .*set camera\.verify_certificate to false"):
            stream.open()


def test_certificates_that_cannot_be_used_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(InputError, match=r"ca\.pem: camera\.ca_file cannot be used \(No such file"):
        make_source(CameraSettings(source="https://camera.local/", ca_file=str(file)))
    file.touch()
    (problem,) = config_problems(Config(camera=CameraSettings(ca_file=str(file))))
    assert "camera.ca_file cannot be used" in problem


def test_a_server_that_is_none_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"http://127\.0\.0\.1:9: cannot be opened"):
        stream_of("http://127.0.0.1:9/").open()
    reader = MultipartReader()
    reader.feed(b"x" * 20_000)
    with pytest.raises(TooLargeError):
        reader.next_image()
