"""What the page for images answers, without a browser."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import pytest

import fer_edge
from fer_edge import demo
from fer_edge.utils.limits import UPLOADS
from tests.processes import Process
from tests.videos import make_video

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.conftest import Cli

    Serve = Callable[..., AbstractContextManager[str]]

FACES = Path(demo.__file__).parent / "data" / "demo_faces.png"


def client(address: str, **options: Any) -> httpx.Client:  # noqa: ANN401 - httpx has many
    return httpx.Client(base_url=address, timeout=60, trust_env=False, **options)


def recognize(http: httpx.Client, data: bytes, **query: str) -> list[dict[str, Any]]:
    answer = http.post("/api/recognize", params=query, content=data)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_rows_are_those_of_tag(serve_images: Serve, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "faces.png").write_bytes(FACES.read_bytes())
    cli("tag", "faces.png", "--out", "faces.jsonl", cwd=tmp_path)
    cli("tag", "faces.png", "--out", "faces.csv", cwd=tmp_path)
    with serve_images() as address, client(address) as http:
        models = http.get("/api/models").json()["models"]
        (part,) = recognize(http, FACES.read_bytes(), model="edge", name="folder/faces.png")
    assert part["rows"] == [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text().splitlines()]
    assert models[0]["csv_header"] + part["csv"] == (tmp_path / "faces.csv").read_bytes().decode()
    assert [model["name"] for model in models] == ["edge", "edge-plus"]


def test_crops_need_no_detector(serve_images: Serve) -> None:
    crop = cv2.imencode(".png", cv2.imread(str(FACES), cv2.IMREAD_GRAYSCALE)[:48, :48])[1].tobytes()
    with serve_images() as address, client(address) as http:
        (part,) = recognize(http, crop, face="true", name="crop.png")
    (row,) = part["rows"]
    assert row["box"] == [0, 0, 48, 48]
    assert row["detector_score"] is None


def test_what_is_no_image_is_an_error_of_its_own(serve_images: Serve) -> None:
    huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\0\0\0\0" + bytes(50)
    with serve_images() as address, client(address) as http:
        for data in (b"not an image", huge, FACES.read_bytes()[:200]):
            (part,) = recognize(http, data, name="=broken\n.png")
            assert part["rows"][0]["error"]
            assert "\n" not in part["rows"][0]["error"]
            cells = next(csv.reader(io.StringIO(part["csv"])))
            assert cells[0].startswith("'=broken")
        refused = http.post("/api/annotate", content=b"not an image")
        assert refused.status_code == 422
        assert refused.json()["error"]
        assert http.post("/api/recognize").status_code == 400
        for query in ({"model": "no"}, {"face": "perhaps"}, {"every": "0"}, {"every": "nan"}):
            assert http.post("/api/recognize", params=query, content=b"x").status_code == 400
        assert http.post("/api/recognize", content=bytes((64 << 20) + 1)).status_code == 413
        assert recognize(http, FACES.read_bytes(), name="after.png")[0]["rows"][0]["emotion"]


def test_video_comes_in_parts_with_people(serve_images: Serve, tmp_path: Path) -> None:
    make_video(tmp_path / "film.mp4", range(0, 5000, 100))
    film = (tmp_path / "film.mp4").read_bytes()
    with serve_images() as address, client(address) as http:
        parts = recognize(http, film, name="film.mp4", every="0.5")
        rows = [row for part in parts for row in part["rows"]]
        assert len(parts) > 1
        assert sorted({row["time"] for row in rows}) == pytest.approx([0.5 * step for step in range(10)], abs=0.05)
        assert any(row["track"] for row in rows)
        (broken,) = recognize(http, film[:3000], name="film.mp4")
        assert broken["rows"][-1]["error"]


def test_annotated_image_shows_the_faces(serve_images: Serve, tmp_path: Path) -> None:
    with serve_images() as address, client(address) as http:
        answer = http.post("/api/annotate", content=FACES.read_bytes())
    assert answer.headers["content-type"] == "image/jpeg"
    (tmp_path / "drawn.jpg").write_bytes(answer.content)
    before, after = cv2.imread(str(FACES)), cv2.imread(str(tmp_path / "drawn.jpg"))
    assert after.shape == before.shape
    assert cv2.absdiff(before, after).max() > 100


def test_nothing_is_kept(serve_images: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    make_video(tmp_path / "film.mp4", range(0, 1000, 100))
    with serve_images() as address, client(address) as http:
        recognize(http, FACES.read_bytes(), name="a.png")
        recognize(http, (tmp_path / "film.mp4").read_bytes(), name="film.mp4")
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        recognize(http, FACES.read_bytes(), name="b.png")  # after the video's file was closed
        assert not any("memfd" in link for link in _open_files(tmp_path))
    assert before == {tmp_path / "film.mp4", tmp_path / "out"}


def _open_files(folder: Path) -> list[str]:
    """Return what the server whose working directory is a folder has open."""
    links = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                links += [str(entry.readlink()) for entry in (process / "fd").iterdir()]
        except OSError:
            continue
    assert links
    return links


def test_models_of_one_name_are_told_apart_by_file(serve_images: Serve, tmp_path: Path) -> None:
    (tmp_path / "mine.tflite").write_bytes((Path(fer_edge.__file__).parent / "models/edge.tflite").read_bytes())
    with serve_images("--model", "edge", "--model", "mine.tflite") as address, client(address) as http:
        assert [model["name"] for model in http.get("/api/models").json()["models"]] == ["edge (edge)", "edge (mine)"]


def test_stalled_uploads_do_not_block_others(serve_images: Serve) -> None:
    with serve_images() as address, client(address) as http, ExitStack() as stack:
        place = ("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))
        head = b"POST /api/recognize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nabc"

        def stall() -> None:
            stack.enter_context(socket.create_connection(place)).sendall(head)

        def status() -> int:
            return http.post("/api/recognize", content=FACES.read_bytes()).status_code

        assert status() == 200
        for _ in range(UPLOADS - 1):
            stall()
        assert status() == 200
        deadline = time.monotonic() + 60
        while status() != 503:
            stall()  # one that came while this test's own was there was sent away
            assert time.monotonic() < deadline
        while status() != 200:  # those who send nothing more are sent away, too
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_upload_that_says_it_is_too_large_is_not_read(serve_images: Serve) -> None:
    with serve_images() as address:
        place = ("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))
        with socket.create_connection(place) as connection:
            connection.sendall(
                b"POST /api/recognize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nabc"
            )
            assert b" 413 " in connection.recv(100)


def test_token_is_needed_beyond_this_machine(serve_images: Serve, tmp_path: Path) -> None:
    with serve_images("--listen", "0.0.0.0:0") as address, client(address) as http:
        assert http.post("/api/recognize", content=FACES.read_bytes()).status_code == 401
        assert http.get("/api/models").status_code == 401
        (token,) = (tmp_path / "state/fer-edge").glob("*-web-token")
        http.headers["authorization"] = f"Bearer {token.read_text().strip()}"
        assert http.get("/api/models").status_code == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "missing.tflite"], "missing.tflite"),
        (["--model", "edge", "--model", "edge"], "edge (edge) is given twice"),
        (["--listen", "nowhere"], "[HOST:]PORT"),
        (["--detector", "yunet"], "yunet"),
        (["--config", "missing.toml"], "missing.toml"),
    ],
)
def test_wrong_options_end_in_one_line(options: list[str], message: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("web", "--no-open", *options, cwd=tmp_path, status=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_on_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fer_edge.cli", "web", "--no-open", "--listen", "0"]
    with Process(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        assert server.stderr
        assert re.search(r"the page is at http://127.0.0.1:\d+/; Ctrl\+C ends it", server.stderr.readline())
        server.send_signal(number)
        assert server.wait(60) == 0
        assert server.stderr.read() == ""
