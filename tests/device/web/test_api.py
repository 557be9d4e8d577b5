from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
import select
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import cv2
import httpx
import msgspec
import numpy as np
import pytest
from starlette.requests import Request

from fer_edge import demo
from fer_edge.detection.factory import make_detector
from fer_edge.errors import InputError, MissingExtraError
from fer_edge.utils.limits import PAGE_CONNECTIONS, PAGE_CONNECTIONS_OF_ADDRESS
from fer_edge_device.config.settings import Config, WebSettings
from fer_edge_device.messages import MessageFactory, State, VisibleFace
from fer_edge_device.web.access import Access, RateLimit
from fer_edge_device.web.address import bind, page_url, parse_listen_address
from fer_edge_device.web.controls import Controls
from fer_edge_device.web.framing import framing_hints
from fer_edge_device.web.live_view import LiveView
from fer_edge_device.web.metrics import render_metrics
from fer_edge_device.web.picture import encode_picture
from fer_edge_device.web.server_thread import ServerThread
from fer_edge_device.web.start import serve_live_page
from fer_edge_device.web.token import Token, read_token
from tests.device.mqtt.helpers import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.conftest import Cli

    Serve = Callable[..., AbstractContextManager[str]]

BOX = (0.4, 0.3, 0.2, 0.3)
CONTROLS = Controls(
    node="test",
    switch=lambda _: True,
    restart=lambda: None,
    restart_camera=None,
    is_connected=lambda: None,
    history=None,
)


def client(address: str, **options: Any) -> httpx.Client:  # noqa: ANN401 - httpx has many
    return httpx.Client(base_url=address, timeout=60, trust_env=False, **options)


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


def test_each_event_is_told_once_to_a_viewer_who_comes_beside_it() -> None:
    view, messages = LiveView(), MessageFactory("test")
    served = closing(serve_live_page(Config(web=WebSettings(listen="127.0.0.1:0")), view, CONTROLS))
    with served as page, client(page.url) as http:
        http.get("healthz")  # now the page is there
        tell, view.on_change = view.on_change, lambda: None
        view.observe(messages.enabled(True), messages.event(event(1)))  # noqa: FBT003
        with http.stream("GET", "api/events") as response:
            stream = updates(response)
            assert next(stream)[0] == "state"
            tell()
            told = (value["number"] for kind, value in stream if kind == "event")
            assert next(told) == 1
            view.on_change = tell
            view.observe(messages.event(event(2)))
            assert next(told) == 2


def test_metrics_are_there_before_the_first_message() -> None:
    assert "fer_edge_enabled 0\n" in render_metrics(LiveView().snapshot())


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


def test_camera_is_opened_again(serve_page: Serve) -> None:
    with serve_page() as address, client(address) as http:
        with http.stream("GET", "/api/events") as response:
            stream = updates(response)
            next(value for kind, value in stream if kind == "frame")
            before = camera_processes(address)
            assert http.post("/api/camera/restart", json={}).status_code == 202
            wait_for(lambda: (now := camera_processes(address)) and now != before)
            next(value for kind, value in stream if kind == "frame")
        assert http.get("/api/state").json()["has_camera"]
        assert any("the camera is opened again" in line for line in http.get("/api/log").json()["lines"])
        http.post("/api/enabled", json={"enabled": False})
        wait_for(lambda: not camera_processes(address))
        http.post("/api/camera/restart", json={})
        time.sleep(1)
        assert not camera_processes(address), "off means off"


def camera_processes(address: str) -> set[str]:
    """Return the child processes of the runner that serves a page."""
    port = f"{int(address.rpartition(':')[2].rstrip('/')):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (socket_number,) = {line[9] for line in lines if line[1].endswith(f":{port}") and line[3] == "0A"}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"socket:[{socket_number}]" in {str(entry.readlink()) for entry in (process / "fd").iterdir()}:
                return set((process / "task" / process.name / "children").read_text().split())
    raise AssertionError("nobody serves the page")


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
        assert http.post("login", data={"token": token}).headers["location"] == "login?wait"
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


def test_token_that_others_can_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "token"
    path.write_text("correct horse battery")
    for mode, warnings in ((0o644, 1), (0o640, 0)):
        caplog.clear()
        path.chmod(mode)
        assert read_token(WebSettings(token_file=str(path)), path)[0] == "correct horse battery"
        assert len(caplog.messages) == warnings


def test_addresses_of_one_ipv6_network_share_a_limit() -> None:
    access = Access(Token("correct horse battery", "x"), [])

    def tries(address: str) -> bool:
        scope = {"type": "http", "headers": [], "client": (address, 1)}
        access.log_in(Request(scope), "wrong")
        return access.must_wait(Request(scope))

    assert [tries(f"2001:db8::{number}") for number in range(1, 6)] == [False] * 4 + [True]
    assert not tries("2001:db8:0:1::1")
    assert not tries("fe80::1%eth0")


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


def test_switch_does_not_wait_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_edge_device.web.live_app._IMAGE_S", 600)
    view, messages, waiting = LiveView(), MessageFactory("test"), 0

    def ask_for_frame() -> None:
        nonlocal waiting
        waiting += 1

    def switch(wanted: bool) -> bool:  # noqa: FBT001 - as the runner's
        view.observe(messages.enabled(wanted))
        return True

    monkeypatch.setattr(view, "ask_for_frame", ask_for_frame)
    view.observe(messages.enabled(True))  # noqa: FBT003
    controls = dataclasses.replace(CONTROLS, switch=switch)
    served = closing(serve_live_page(Config(web=WebSettings(listen="127.0.0.1:0")), view, controls))
    with served as page, client(page.url) as http, ThreadPoolExecutor(60) as pool:
        http.get("healthz")  # now the page is there
        images = [pool.submit(http.get, "api/image") for _ in range(60)]
        wait_for(lambda: waiting >= 60)
        assert not any(image.done() for image in images)
        assert http.post("api/enabled", json={"enabled": False}).json()["saved"]
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
            with socket.create_connection(("127.0.0.1", port), 60) as connection:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
        connections = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(300)]
        poll = select.poll()
        for connection in connections:
            poll.register(connection, select.POLLIN)
        # Too many are closed at once, and the others because they ask for nothing.
        wait_for(lambda: len(poll.poll(0)) == len(connections))
        for connection in connections:
            connection.close()
        wait_for(lambda: http.get("healthz").status_code == 200)


def test_one_address_cannot_take_all_connections() -> None:
    with bind(parse_listen_address("0", "x"), "x") as listener, ExitStack() as opened:

        def accept(host: str) -> socket.socket:
            place = listener.getsockname()
            opened.enter_context(socket.create_connection(place, 60, source_address=(host, 0)))
            accepted, _ = listener.accept()
            return opened.enter_context(accepted)

        flood = [accept("127.0.0.2") for _ in range(PAGE_CONNECTIONS_OF_ADDRESS)]
        with pytest.raises(ConnectionAbortedError):
            accept("127.0.0.2")
        accept("127.0.0.3")
        flood[0].close()
        accept("127.0.0.2")
        for _ in range(PAGE_CONNECTIONS - PAGE_CONNECTIONS_OF_ADDRESS - 1):
            accept("127.0.0.3")
        with pytest.raises(ConnectionAbortedError):
            accept("127.0.0.4")


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
    config, token, text = tmp_path / "c.toml", tmp_path / "token", tmp_path / "text"
    token.write_text("short")
    token.chmod(0o600)
    text.write_text("no certificate")
    for settings, expected in (
        (f'cert_file = "{tmp_path}/none.pem"', "none.pem cannot be used (No such file"),
        (f'cert_file = "{text}"', "or it is not in PEM form"),
        (f'key_file = "{text}"', "set web.cert_file"),
        (f'hosts = "x.example"\ntoken_file = "{token}"', "at least 12 characters"),
    ):
        config.write_text(f'[web]\nlisten = "0"\n{settings}\n')
        stderr = cli("run", "--source", "demo", "--config", config, status=2).stderr
        assert expected in stderr
        assert stderr.count("\n") == 1


def test_addresses() -> None:
    assert parse_listen_address("8080", "x") == ("127.0.0.1", 8080)
    assert parse_listen_address("[::]:80", "x") == ("::", 80)
    assert parse_listen_address("[::1]:80", "x").is_loopback
    assert not parse_listen_address("0.0.0.0:80", "x").is_loopback
    assert parse_listen_address("[::1]:80", "x").url(tls=True) == "https://[::1]:80/"


def test_page_url_is_for_other_machines() -> None:
    for listen in ("", "8080", "[::1]:8080", "0.0.0.0:0"):
        assert not page_url(WebSettings(listen=listen))
    name = socket.gethostname()
    assert page_url(WebSettings(listen="0.0.0.0:8080")) == f"http://{name if '.' in name else f'{name}.local'}:8080/"
    assert page_url(WebSettings(listen="192.0.2.7:80", cert_file="x")) == "https://192.0.2.7:80/"
    assert page_url(WebSettings(listen="8080", hosts="faces.example.org, b")) == "https://faces.example.org/"


def test_behind_a_proxy_each_browser_has_its_own_limit(serve_page: Serve, tmp_path: Path) -> None:
    with serve_page('hosts = "faces.example.org"') as address:
        token = (tmp_path / "state/fer-edge/test-web-token").read_text().strip()

        def log_in(text: str, browser: str, scheme: str = "https") -> httpx.Response:
            forwarded = {"x-forwarded-for": f"198.51.100.1, {browser}", "x-forwarded-proto": scheme}
            with client(address, headers={"host": "faces.example.org", **forwarded}) as http:
                return http.post("/login", data={"token": text})

        for _ in range(6):
            log_in("wrong token, wrong token", "203.0.113.5")
        assert "set-cookie" not in log_in(token, "203.0.113.5").headers
        cookie = log_in(token, "203.0.113.6").headers["set-cookie"]
        assert "Secure" in cookie
        assert "Secure" not in log_in(token, "203.0.113.6", "http").headers["set-cookie"]


def test_problems_of_a_log_in_are_said(serve_page: Serve) -> None:
    with serve_page(listen="0.0.0.0:0") as address, client(address, follow_redirects=True) as http:
        assert "is wrong" in http.post("/login", data={"token": "wrong token, wrong token"}).text
        for _ in range(5):
            last = http.post("/login", data={"token": "wrong token, wrong token"})
        assert "wait 30 seconds" in last.text
        assert http.get("/api/state", headers={"authorization": "Bearer x"}).status_code == 429


def test_what_clients_do_wrong_is_not_logged(serve_page: Serve) -> None:
    with serve_page() as address:
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        for path in (b"/login", b"/api/enabled"):
            with socket.create_connection((host, int(port))) as aborted:
                kind = b"Content-Type: application/json"
                aborted.sendall(
                    b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b\r\nContent-Length: 99\r\n\r\nabc" % (path, kind)
                )
        with client(address, headers={"content-type": "application/json"}) as http:
            assert http.post("/api/enabled", content=b"[" * 3000).status_code == 400
            assert http.get("/nothing").json()["error"]
            assert len(http.get("/api/log").json()["lines"]) == 1, "the address of the page"


def test_answers_on_an_open_connection_are_not_delayed(serve_page: Serve) -> None:
    with serve_page() as address, socket.create_connection(("127.0.0.1", int(address.rstrip("/").split(":")[2]))):
        pass
    listener = bind(parse_listen_address("0", "x"), "x")
    with listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        assert accepted.proto == socket.IPPROTO_TCP, "asyncio then switches off Nagle's algorithm"
        accepted.close()


def test_a_trusted_proxy_needs_no_token(serve_page: Serve) -> None:
    named = {"host": "home.example:8123", "x-forwarded-for": "203.0.113.5, 172.30.32.1"}
    with (
        serve_page('trusted_proxy = "127.0.0.1"', "0.0.0.0:0") as address,
        client(address, headers={**named, "origin": "https://home.example"}) as http,
    ):
        page = http.get("/")
        assert (page.status_code, page.headers["content-security-policy"][-22:]) == (200, "frame-ancestors 'self'")
        # Under the path of an ingress, no file and no request may begin with a slash.
        assert not re.search(r"""(src|href|action)="/""", page.text)
        body = {"enabled": False}
        assert http.post("/api/enabled", json=body).status_code == 403  # another page of the browser
        assert http.post("/api/enabled", headers={"x-forwarded-host": "home.example"}, json=body).status_code == 200
    with serve_page('trusted_proxy = "172.30.32.2"', "0.0.0.0:0") as address, client(address) as http:
        assert http.get("/api/state").status_code == 401
        assert http.get("/api/state", headers={"x-forwarded-for": "172.30.32.2"}).status_code == 401
    assert page_url(WebSettings(listen="0.0.0.0:8099", trusted_proxy="172.30.32.2")) == ""
    with pytest.raises(InputError, match=r"web\.trusted_proxy: '1\.2' does not appear to be"):
        serve_live_page(Config(web=WebSettings(listen="8080", trusted_proxy="1.2")), LiveView(), None)  # type: ignore[arg-type]


def test_without_a_proxy_nobody_may_name_another_address(serve_page: Serve, tmp_path: Path) -> None:
    with serve_page(listen="0.0.0.0:0") as address:
        for number in range(6):
            with client(address, headers={"x-forwarded-for": f"203.0.113.{number}"}) as http:
                http.post("/login", data={"token": "wrong token, wrong token"})
        token = (tmp_path / "state/fer-edge/test-web-token").read_text().strip()
        with client(address) as http:
            assert "set-cookie" not in http.post("/login", data={"token": token}).headers


def test_log_out_ends_the_session_and_its_stream(serve_page: Serve, tmp_path: Path) -> None:
    with serve_page(listen="0.0.0.0:0") as address, client(address) as http:
        http.post("/login", data={"token": (tmp_path / "state/fer-edge/test-web-token").read_text().strip()})
        ((name, cookie),) = http.cookies.items()
        assert http.get("/api/state").json()["has_login"]
        with http.stream("GET", "/api/events") as response:
            stream = updates(response)
            next(stream)
            with client(address, cookies={name: cookie}) as other:
                assert other.post("/logout").headers["location"] == "login"
            for _ in stream:  # it ends, for the camera goes on
                pass
        assert http.get("/api/state").status_code == 401


def test_closed_page_listens_no_more_and_leaves_the_log() -> None:
    handlers = [*logging.getLogger().handlers]
    page = serve_live_page(Config(web=WebSettings(listen="127.0.0.1:0")), LiveView(), CONTROLS)
    with client(page.url) as http:
        assert http.get("healthz").status_code == 503
    page.close()
    with client(page.url) as http, pytest.raises(httpx.ConnectError):
        http.get("healthz")
    assert logging.getLogger().handlers == handlers


def test_first_message_does_not_wait_for_the_libraries_of_the_page() -> None:
    slow = "{'asyncio', 'uvicorn', 'starlette', 'ssl'}"
    code = f"import sys, fer_edge_device.web.start as s; s._check_extra(); print(sys.modules.keys() & {slow})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "set()\n"


def test_page_that_cannot_be_served_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> NoReturn:
        raise LookupError("a broken\nlibrary")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        ServerThread(fail, listener).close()
    assert caplog.messages == ["the page cannot be served: LookupError: a broken"]


def test_missing_library_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r"this needs uvicorn, not installed here: .* install"):
        serve_live_page(Config(web=WebSettings(listen="127.0.0.1:0")), LiveView(), CONTROLS)


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
