"""What the page for reviewing faces answers, without a browser."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import pytest

from fer_edge.review.decisions import DecisionLog
from tests.fer_edge.review.folders import review, write_faces
from tests.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.conftest import Sample

    Serve = Callable[..., AbstractContextManager[str]]

ANN = ("--reviewer", "ann")


def client(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, timeout=120, trust_env=False)


@pytest.fixture
def faces(tmp_path: Path, sample: Sample) -> Path:
    """Return a folder with 30 faces and a near-duplicate of the first."""
    write_faces(tmp_path / "faces", sample, range(0, 60, 2))
    again = (sample.faces[0] * 0.8 + 7).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "faces/again.png"), again)
    return tmp_path / "faces"


def cards(http: httpx.Client, **query: Any) -> dict[str, Any]:  # noqa: ANN401 - as httpx's
    answer = http.get("/api/cards", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def label(http: httpx.Client, face: str, answer: str | None, *, grouped: bool = True) -> dict[str, Any]:
    reply = http.post("/api/label", json={"face": face, "label": answer, "grouped": grouped})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def test_pages_are_bounded_and_in_order(serve_review: Serve, faces: Path) -> None:
    with serve_review(faces, *ANN) as address, client(address) as http:
        first = cards(http, count=10)
        assert (len(first["cards"]), first["total"], first["before"]) == (10, 30, 0)
        second = cards(http, count=10, start=first["cards"][-1]["position"] + 1)
        assert second["before"] == 10
        back = cards(http, count=10, start=second["cards"][0]["position"], before="true")
        assert back["cards"] == first["cards"]
        everything = cards(http, count=100)["cards"]
        assert len({card["face"] for card in everything}) == 30
        by_emotion: dict[str, list[float]] = {}
        for card in everything:
            by_emotion.setdefault(card["emotion"], []).append(card["scores"][card["emotion"]])
        assert all(scores == sorted(scores) for scores in by_emotion.values())
        scores = [card["scores"][card["emotion"]] for card in cards(http, order="uncertainty")["cards"]]
        assert scores == sorted(scores)
        emotion = everything[0]["emotion"]
        assert {card["emotion"] for card in cards(http, emotion=emotion)["cards"]} == {emotion}
        blind = cards(http, order="random")["cards"]
        assert not any(card["emotion"] or card["scores"] or card["reason"] for card in blind)
        assert cards(http, grouped="false", count=100)["total"] == 31
        for wrong in ({"count": 101}, {"count": 0}, {"start": -1}, {"start": "x"}, {"order": "x"}, {"show": "x"}):
            assert http.get("/api/cards", params=wrong).status_code == 400


def test_one_decision_serves_near_duplicates_and_is_undone(serve_review: Serve, faces: Path) -> None:
    with serve_review(faces, *ANN) as address, client(address) as http:
        (group,) = [card for card in cards(http)["cards"] if card["count"] > 1]
        assert len(group["members"]) == 2
        reply = label(http, group["members"][0], "happy")
        assert reply["faces"] == 2
        assert (reply["progress"]["done"], reply["progress"]["cards"]) == (1, 30)
        assert cards(http, show="done")["cards"][0]["label"] == "happy"
        label(http, group["members"][1], "sad", grouped=False)
        assert cards(http, show="done")["cards"][0]["label"] == "mixed"
    with serve_review(faces, *ANN) as address, client(address) as http:  # undo also works after a restart
        undo = {"order": "emotion", "grouped": True}
        undone = http.post("/api/undo", json=undo).json()["undone"]
        assert (undone["face"], undone["label"]) == (group["members"][1], "happy")
        assert undone["position"] == group["position"]
        assert http.post("/api/undo", json=undo).json()["progress"]["done"] == 0
        assert http.post("/api/undo", json=undo).json()["undone"] is None


def test_answers_are_on_disk_when_they_are_acknowledged(serve_review: Serve, faces: Path) -> None:
    with serve_review(faces, *ANN) as address, client(address) as http, ThreadPoolExecutor(8) as people:
        hashes = [card["face"] for card in cards(http)["cards"]]
        list(people.map(lambda face: label(http, face, "fear"), hashes))
        lines = [json.loads(line) for line in (faces / "reviews/ann.jsonl").read_text().splitlines()]
        assert {face for line in lines for face in line["labels"]} >= set(hashes)
        assert cards(http)["total"] == 0


def test_command_for_the_export_is_quoted(serve_review: Serve, faces: Path) -> None:
    folder = faces.rename(faces.with_name("my faces"))
    with serve_review(folder, *ANN) as address, client(address) as http:
        assert shlex.split(http.get("/api/review").json()["export"]) == [
            *("fer-edge", "review", str(folder), "--export", "DATASET")
        ]


def test_kill_loses_no_answer_that_was_acknowledged(faces: Path) -> None:
    command = [sys.executable, "-m", "fer_edge.cli", "review", str(faces), *ANN, "--no-open", "--port", "0"]
    with Process(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        lines = iter(server.stderr.readline, "")
        (found,) = next(hits for line in lines if (hits := re.findall(r"the page is at (\S+/)", line)))
        acknowledged = []
        with client(found) as http, ThreadPoolExecutor(4) as people:
            hashes = [card["face"] for card in cards(http)["cards"]]

            def answer(face: str) -> None:
                with suppress(httpx.HTTPError):
                    label(http, face, "fear")
                    acknowledged.append(face)
                    if len(acknowledged) == 8:
                        server.kill()

            list(people.map(answer, hashes))
    assert 8 <= len(acknowledged) < len(hashes)
    with DecisionLog(faces / "reviews", "ann") as log:
        assert set(acknowledged) <= set(log.decisions.answers)


def test_reviewers_are_compared_by_the_logs_in_the_folder(serve_review: Serve, faces: Path) -> None:
    with serve_review(faces, *ANN) as address, client(address) as http:
        hashes = [card["face"] for card in cards(http)["cards"]]
        for face in hashes[:10]:
            label(http, face, "happy")
        assert http.get("/api/agreement").json()["pairs"] == []
        review(faces, "bob", {face: "happy" if row < 6 else "contempt" for row, face in enumerate(hashes[:8])})
        found = http.get("/api/agreement").json()
        assert {each["name"] for each in found["reviewers"]} == {"ann", "bob"}
        (pair,) = found["pairs"]
        assert (pair["faces"], pair["same"]) == (8, 6)
        assert pair["kappa"] == pytest.approx(0)
        assert found["alpha"] is not None
        disputed = cards(http, show="disputed")["cards"]
        assert {card["face"] for card in disputed} == set(hashes[6:8])
        assert all(card["others"] == {"bob": "contempt"} for card in disputed)
        assert all(not card["others"] for card in cards(http, show="all")["cards"])


def test_images_are_small_and_only_those_of_the_folder(serve_review: Serve, faces: Path, sample: Sample) -> None:
    cv2.imwrite(str(faces / "large.jpg"), cv2.resize(sample.faces[1], (1500, 1000)))
    with serve_review(faces, *ANN) as address, client(address) as http:
        everything = cards(http, grouped="false", count=100)["cards"]
        shapes = {}
        for card in everything:
            answer = http.get(f"/api/images/{card['face']}")
            assert answer.headers["content-type"] == "image/png"
            image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
            assert image is not None
            shapes[card["name"]] = image.shape
        assert shapes["large.jpg"] == (213, 320)
        assert shapes["again.png"] == (48, 48)
        for name in ("0" * 64, "..%2f..%2fetc%2fpasswd", "0000.png"):
            assert http.get(f"/api/images/{name}").status_code == 404
        (faces / "again.png").write_bytes(b"another")
        (changed,) = [card["face"] for card in everything if card["name"] == "again.png"]
        assert http.get(f"/api/images/{changed}").status_code == 404


def test_wrong_requests_change_nothing(serve_review: Serve, faces: Path) -> None:
    with serve_review(faces, *ANN) as address, client(address) as http:
        face = cards(http)["cards"][0]["face"]
        good = {"face": face, "label": "happy", "grouped": True}
        faults: tuple[object, ...] = (
            good | {"label": "../x"},
            good | {"face": "0" * 64},
            good | {"grouped": "yes"},
            [],
            {},
        )
        for wrong in faults:
            assert http.post("/api/label", json=wrong).status_code == 400
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert http.post("/api/label", json=good, headers=headers).status_code == 403
        form = http.post("/api/label", content=json.dumps(good), headers={"Content-Type": "text/plain"})
        assert form.status_code == 400
        assert http.get("/api/cards", headers={"Host": "evil.example"}).status_code == 421
        assert http.post("/api/undo", json={"order": "x", "grouped": True}).status_code == 400
        assert (faces / "reviews/ann.jsonl").read_bytes() == b""
        assert "default-src 'none'" in http.get("").headers["Content-Security-Policy"]
