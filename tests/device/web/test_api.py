from __future__ import annotations

import hashlib
import json
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import msgspec
import numpy as np
import pytest

from fer_edge import demo
from fer_edge.detection.factory import make_detector
from fer_edge.errors import InputError
from fer_edge_device.messages import MessageFactory, State, VisibleFace
from fer_edge_device.web.access import RateLimit
from fer_edge_device.web.address import parse_listen_address
from fer_edge_device.web.framing import framing_hints
from fer_edge_device.web.live_view import LiveView
from fer_edge_device.web.picture import encode_picture
from fer_edge_device.web.token import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.conftest import Cli

    Serve = Callable[..., AbstractContextManager[str]]

BOX = (0.4, 0.3, 0.2, 0.3)


def client(address: str, **options: Any) -> httpx.Client:  # noqa: ANN401 - httpx has many
    return httpx.Client(base_url=address, timeout=20, trust_env=False, **options)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def updates(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    kind = ""
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def decode(image: bytes | None) -> Any:  # noqa: ANN401 - an array
    assert image
    return cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE).astype(int)


def test_updates_state_and_image_are_served(serve_page: Serve) -> None:
    with serve_page() as address, client(address) as http:
        with http.stream("GET", "api/events") as response:
            seen: dict[str, Any] = {}
            for kind, value in updates(response):
                seen[kind] = value
                if seen.keys() >= {"state", "event", "frame"} and seen["frame"]["faces"]:
                    break
            image = http.get("api/image")
        assert seen["state"]["node"] == "test"
        assert seen["event"]["event_type"] == "new"
        assert set(seen["frame"]["faces"][0]) == set(VisibleFace.__struct_fields__)
        assert decode(image.content).shape == (seen["frame"]["height"], seen["frame"]["width"])
        state = http.get("api/state").json()
        msgspec.convert(state["state"], State)
        assert state["camera"] == "online"
        assert http.get("healthz").json() == {"healthy": True}
        metrics = http.get("metrics").text
        assert metrics.endswith("# EOF\n")
        assert 'fer_edge_events_total{event_type="new"}' in metrics
        assert "the page is at" in http.get("api/log").json()["lines"][0]


def test_described_routes_answer_as_described(serve_page: Serve) -> None:
    with serve_page() as address, client(address) as http:
        described = http.get("api/openapi.json").json()["paths"]
        for path, methods in described.items():
            for method in methods:
                if path != "/api/events":
                    answer = http.request(method, path)
                    assert answer.status_code != 405
                    assert str(answer.status_code) in methods[method]["responses"]


def test_off_shows_nothing_and_stays(serve_page: Serve, tmp_path: Path) -> None:
    with serve_page() as address, client(address) as http:
        wait_for(lambda: http.get("api/image").status_code == 200)
        assert http.post("api/enabled", json={"enabled": False}).json() == {"enabled": False, "saved": True}
        wait_for(lambda: http.get("api/state").json()["camera"] == "disabled")
        assert http.get("api/image").status_code == 404
        assert http.get("api/image?after=0").status_code == 404
    assert (tmp_path / "outbox.sqlite.off").exists()
    with serve_page() as address, client(address) as http:
        assert http.get("api/state").json()["enabled"] is False
        assert http.post("api/enabled", json={"enabled": True}).json()["saved"]
        wait_for(lambda: http.get("api/image").status_code == 200)


def test_other_pages_get_nothing(serve_page: Serve) -> None:
    with serve_page() as address, client(address) as http:
        assert http.get("api/state", headers={"Host": "evil.example"}).status_code == 421
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert http.post("api/enabled", json={"enabled": False}, headers=headers).status_code == 403
        form = http.post("api/enabled", content=b'{"enabled": false}', headers={"Content-Type": "text/plain"})
        assert form.status_code == 400
        wait_for(lambda: http.get("api/state").json()["enabled"])
        answer = http.get("")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "access-control-allow-origin" not in answer.headers


def test_token_opens_the_page_from_elsewhere(serve_page: Serve, tmp_path: Path, cli: Cli) -> None:
    with serve_page(listen="0.0.0.0:0") as address, client(address) as http:
        token = (tmp_path / "state/fer-edge/test-web-token").read_text().strip()
        assert cli("web", "token", "--config", tmp_path / "config.toml").stdout.strip() == token
        for path in ("api/state", "api/image", "api/events", "metrics", "api/log", "static/page.js"):
            assert http.get(path).status_code == 401
        assert http.get("").headers["location"] == "login"
        wait_for(lambda: http.get("healthz").status_code == 200)
        assert http.get("api/state", headers={"Authorization": f"Bearer {token}x"}).status_code == 401
        assert http.get("api/state", headers={"Authorization": f"Bearer {token}"}).json()["node"] == "test"
        assert http.post("login", data={"token": "wrong"}).headers["location"] == "login?wrong"
        answer = http.post("login", data={"token": token})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert http.get("api/state").status_code == 200
        http.post("logout")
        assert http.get("api/state").status_code == 401
        for _ in range(6):
            http.post("login", data={"token": "wrong"})
        assert http.post("login", data={"token": token}).headers["location"] == "login?wrong"
        assert token not in (tmp_path / "out").read_text()
    assert (tmp_path / "state/fer-edge/test-web-token").stat().st_mode & 0o777 == 0o600


def test_hash_of_a_token_is_enough() -> None:
    digest = hashlib.sha256(b"correct horse battery").hexdigest()
    for text in ("correct horse battery", f"sha256:{digest}"):
        assert Token(text, "x").matches("correct horse battery")
        assert not Token(text, "x").matches(digest)
    for wrong in ("short", "sha256:12", "sha256:xyz"):
        with pytest.raises(InputError, match="at least 12 characters"):
            Token(wrong, "x")


def test_wrong_requests_are_refused(serve_page: Serve) -> None:
    with serve_page() as address, client(address) as http:
        assert http.post("api/enabled", json={"enabled": False}, headers={"Origin": "http://["}).status_code == 403
        assert http.post("login", data=dict.fromkeys("abcdef", "x")).status_code == 303
        for path in (f"static/{'a' * 4000}.css", "static/..%2fapp.py", "login/", "nothing", "static/none.css"):
            answer = http.get(path)
            assert answer.status_code == 404
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert http.get("api/history?hours=000001" + "9" * 500).status_code == 400
        assert http.put("api/enabled").status_code == 405
        assert http.get("login/", headers={"Host": "evil.example"}).status_code == 421


def test_switch_does_not_wait_for_images(serve_page: Serve) -> None:
    with serve_page() as address, client(address) as http:
        wait_for(lambda: http.get("api/image").status_code == 200)
        with ThreadPoolExecutor(60) as pool:
            images = [pool.submit(http.get, f"api/image?after={10**9}") for _ in range(60)]
            time.sleep(0.5)
            start = time.monotonic()
            http.post("api/enabled", json={"enabled": False})
            assert time.monotonic() - start < 4, "images are waited for five seconds"
            assert {image.result().status_code for image in images} == {404}


def test_image_is_never_old(monkeypatch: pytest.MonkeyPatch) -> None:
    view, now = LiveView(), [100.0]
    monkeypatch.setattr("fer_edge_device.web.live_view.clock.monotonic", lambda: now[0])
    view.observe(MessageFactory("test").enabled(True))  # noqa: FBT003
    assert not view.wants_frame()
    view.ask_for_frame()
    assert view.wants_frame()
    view.show(demo.frame(0), [])
    assert not view.wants_frame(), "the last one was shown just now"
    assert view.frame
    now[0] += 10
    assert view.frame is None
    view.show(demo.frame(0), [])
    view.observe(MessageFactory("test").enabled(False))  # noqa: FBT003
    assert view.frame is None
    view.show(demo.frame(0), [])
    assert view.frame is None


def test_garbage_and_slow_clients_end(serve_page: Serve) -> None:
    with serve_page() as address, client(address) as http:
        port = httpx.URL(address).port or 0
        for garbage in (b"\x00\xff\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET /" + b"a" * 100_000, b"\x16\x03\x01" * 50):
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
        connections = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(300)]
        poll = select.poll()
        for connection in connections:
            poll.register(connection, select.POLLIN)
        # Too many are closed at once, and the others because they ask for nothing.
        wait_for(lambda: len(poll.poll(0)) == len(connections))
        for connection in connections:
            connection.close()
        wait_for(lambda: http.get("healthz").status_code == 200)


def test_page_with_history_has_hours(serve_page: Serve, tmp_path: Path) -> None:
    text = f'[history]\nenabled = true\npath = "{tmp_path}/h.sqlite"\n'
    with serve_page(text) as address, client(address) as http:
        assert http.get("api/state").json()["has_history"] is True
        assert "periods" in http.get("api/history?hours=2").json()
        assert http.get("api/history?hours=x").status_code == 400


def test_wrong_settings_give_one_line(cli: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        used = other.getsockname()[1]
        for listen, expected in (
            ("x", "write [HOST:]PORT"),
            ("1:2:3:99999", "write [HOST:]PORT"),
            (f"127.0.0.1:{used}", "choose another port"),
            ("192.0.2.1:8080", "cannot listen there"),
        ):
            stderr = cli("run", "--source", "demo", "--web", listen, status=2).stderr
            assert expected in stderr
            assert stderr.count("\n") == 1
    config = tmp_path / "c.toml"
    config.write_text(f'[web]\nlisten = "0"\ncert_file = "{tmp_path}/none.pem"\n')
    assert "none.pem cannot be used" in cli("run", "--source", "demo", "--config", config, status=2).stderr


def test_addresses() -> None:
    assert parse_listen_address("8080", "x") == ("127.0.0.1", 8080)
    assert parse_listen_address("[::]:80", "x") == ("::", 80)
    assert parse_listen_address("[::1]:80", "x").is_loopback
    assert not parse_listen_address("0.0.0.0:80", "x").is_loopback
    assert parse_listen_address("[::1]:80", "x").url(tls=True) == "https://[::1]:80/"


def test_rate_limit_forgets_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("fer_edge_device.web.access.time.monotonic", lambda: now[0])
    limit = RateLimit(2, 1.0)
    assert [limit.allows("a") for _ in range(3)] == [True, True, False]
    assert limit.allows("b")
    now[0] = 1.5
    assert limit.allows("a")


def test_faces_cannot_be_recognized_in_a_pixelated_picture() -> None:
    gray = demo.frame(60)
    rows, columns = gray.shape
    box = make_detector().detect(gray)[0].box
    part = slice(int(box.y), int(box.y + box.height)), slice(int(box.x), int(box.x + box.width))
    relative = box.x / columns, box.y / rows, box.width / columns, box.height / rows
    for boxes in ([relative], []):  # also a face that the detector has missed is coarse
        shown = decode(encode_picture(gray, boxes, "pixelated"))
        edges = np.abs(np.diff(shown[part], axis=1)).mean(axis=0) > 8
        assert edges.sum() <= 2 * 6, "a few edges between cells, of one or two pixels in a JPEG"
        assert np.abs(shown[part] - gray[part].astype(int)).mean() > 5


def test_silhouette_and_off_show_less() -> None:
    gray = demo.frame(60)
    silhouette = decode(encode_picture(gray, [BOX], "silhouette"))
    rows, columns = gray.shape
    assert silhouette[int(0.45 * rows), int(0.5 * columns)] == pytest.approx(40, abs=6)
    assert encode_picture(gray, [BOX], "off") is None
    assert np.abs(decode(encode_picture(gray, [BOX], "full")) - gray).mean() < 5


def test_hints_tell_what_is_wrong() -> None:
    def face(box: tuple[float, float, float, float], roll: float | None = 0.0) -> VisibleFace:
        return VisibleFace(id="a-1", box=box, emotion=None, scores={}, duration_s=0.0, roll=roll)

    gray = np.full((480, 640), 120, np.uint8)
    assert framing_hints(gray, [face(BOX)]) == []
    assert framing_hints(gray // 8, [face((0.5, 0.5, 0.05, 0.05))]) == ["dark", "far"]
    assert framing_hints(gray * 2, [face((0.8, 0.5, 0.2, 0.2), 40.0)]) == ["bright", "tilted", "cut"]
