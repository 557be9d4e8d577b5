from __future__ import annotations

import csv
import json
import sqlite3
import stat
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest
from pyarrow import parquet

from fer_edge.errors import FerEdgeError, InputError
from fer_edge_device.config.settings import HistorySettings
from fer_edge_device.history.database import (
    HistoryDatabase,
    delete_history,
    find_history,
    read_events,
    read_minutes,
    reading,
)
from fer_edge_device.history.periods import combine, parse_time
from fer_edge_device.history.recorder import HistoryRecorder
from fer_edge_device.history.report import make_history_page
from fer_edge_device.history.rows import PastEvent, Period
from fer_edge_device.messages import Event, MessageFactory, State

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli

EVER = float("inf")
DAY = 86_400
MESSAGES = MessageFactory("test")
SETTINGS = HistorySettings(enabled=True)


def minute(start: float, **changes: Any) -> Period:  # noqa: ANN401 - attributes
    return Period(int(start // 60) * 60, **{"observed_s": 60.0, "face_s": 60.0, "max_faces": 1, **changes})


def past_event(time: float, event_type: str = "new") -> PastEvent:
    scores = {"angry": 0.9, "happy": 0.1}
    return PastEvent(
        *(time, event_type, "a-1", "angry", 0.9, None, 1.0, 0.1, 0.2, 0.3, 0.4, "edge-12345678"),
        reliable=True,
        scores=scores,
    )


def write(path: Path, minutes: list[Period], events: list[PastEvent], **settings: float) -> None:
    with closing(HistoryDatabase(path, msgspec.structs.replace(SETTINGS, **settings))) as database:
        database.write(minutes, events)


def minutes_in(path: Path) -> list[Period]:
    with reading(path) as database:
        return [*read_minutes(database, 0, EVER)]


def events_in(path: Path) -> list[PastEvent]:
    with reading(path) as database:
        return [*read_events(database, 0, EVER)]


def state(faces: int) -> State:
    return State(time=time.time(), faces=faces, emotion=None, scores={}, counts={"angry": faces} if faces else {})


def event(event_type: Literal["new", "end"] = "new") -> Event:
    return Event(
        event_type=event_type,
        id="a-1",
        time=round(time.time(), 3),
        emotion="angry",
        score=0.9,
        scores={"angry": 0.9, "happy": 0.1},
        previous=None,
        box=(0.1, 0.2, 0.3, 0.4),
        duration_s=0.0,
        model="edge-12345678",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "history.sqlite"


def test_run_keeps_events_and_minutes(cli: Cli, tmp_path: Path) -> None:
    config, out = tmp_path / "config.toml", tmp_path / "events.csv"
    config.write_text(f'[history]\nenabled = true\npath = "{tmp_path}/h.sqlite"\n[camera]\nsource = "demo"\n')
    messages = [json.loads(line) for line in cli("run", "--config", config, "--full-speed").stdout.splitlines()]
    events = [message["payload"] for message in messages if message["topic"].endswith("/event")]
    cli("history", "--config", config, "--events", "--out", out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ("event_type", "id", "emotion")
    assert [[row[column] for column in columns] for row in rows] == [[e[column] for column in columns] for e in events]
    assert float(rows[0]["score_happy"]) == pytest.approx(events[0]["scores"]["happy"], abs=0.001)
    kept = minutes_in(tmp_path / "h.sqlite")
    assert sum(each.new_faces for each in kept) == 3
    assert max(each.max_faces for each in kept) == 3
    assert 0 < sum(each.observed_s for each in kept) < 60
    assert "happy" in cli("history", "--config", config).stdout


def test_nothing_is_kept_unless_asked(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[history]\npath = "{tmp_path}/h.sqlite"\n[camera]\nsource = "demo"\n')
    cli("run", "--config", config, "--full-speed", "--seconds", "1", cwd=tmp_path)
    assert not list(tmp_path.rglob("*.sqlite*"))
    assert "history.enabled = true" in cli("history", "--config", config, status=2).stderr


def test_counts_the_time_of_each_emotion_while_the_camera_is_watched(path: Path) -> None:
    recorder = HistoryRecorder(path, SETTINGS, live=True)
    recorder.observe(MESSAGES.state(state(0)), MESSAGES.enabled(True), MESSAGES.camera("online"))  # noqa: FBT003
    recorder.observe(MESSAGES.event(event()), MESSAGES.state(state(2)))
    time.sleep(0.3)
    recorder.observe(MESSAGES.state(state(0)))
    recorder.observe(MESSAGES.enabled(False), MESSAGES.camera("disabled"))  # noqa: FBT003
    recorder.observe(MESSAGES.state(state(3)))
    time.sleep(0.3)
    recorder.close()
    kept = Period(0)
    for each in minutes_in(path):
        kept.add(each)
    assert kept.face_s > 0.5
    assert kept.face_s <= 2 * kept.observed_s + 0.2
    assert kept.emotion_s == {"angry": kept.face_s}
    assert (kept.max_faces, kept.new_faces) == (2, 1)
    assert [each.event_type for each in events_in(path)] == ["new"]


def test_file_is_private(path: Path) -> None:
    write(path, [minute(time.time())], [past_event(time.time())])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_next_run_in_the_same_minute_adds_to_it(path: Path) -> None:
    now = time.time()
    for seconds in (10.0, 20.0):
        write(path, [minute(now, observed_s=seconds, face_s=seconds, emotion_s={"sad": seconds})], [])
    [kept] = minutes_in(path)
    assert (kept.observed_s, kept.emotion_s) == (30.0, {"sad": 30.0})


def test_old_rows_are_deleted(path: Path) -> None:
    now = time.time()
    old, young = now - 3 * DAY, now - DAY / 2
    write(path, [minute(old), minute(young)], [past_event(old), past_event(young)], max_days=1)
    assert minutes_in(path) == [minute(young)]
    assert events_in(path) == [past_event(young)]


def test_large_history_loses_its_oldest_rows(path: Path) -> None:
    now = time.time()
    write(path, [], [past_event(now - 20_000 + number) for number in range(20_000)], max_mb=1)
    kept = events_in(path)
    assert 2_000 < len(kept) < 20_000
    assert kept[-1].time == now - 1
    write(path, [minute(now)], [], max_mb=1)
    assert path.stat().st_size < 1.1e6


def test_a_week_takes_few_megabytes(path: Path) -> None:
    now = time.time()
    emotions = dict.fromkeys(("angry", "happy", "neutral", "sad", "surprise"), 12.3)
    write(
        path,
        [minute(now - 60 * number, emotion_s=emotions) for number in range(7 * 24 * 60)],
        [past_event(now - 20 * number) for number in range(7 * DAY // 20)],
    )
    assert path.stat().st_size < 8e6


def test_deletion_is_complete(path: Path) -> None:
    recorder = HistoryRecorder(path, SETTINGS, live=True)
    seen = MESSAGES.enabled(True), MESSAGES.camera("online"), MESSAGES.state(state(1)), MESSAGES.event(event())  # noqa: FBT003
    recorder.observe(*seen)
    write(path, [minute(time.time() - 600)], [past_event(time.time() - 600)])
    path.with_name("history.sqlite.damaged").write_bytes(b"angry")
    assert delete_history(path, EVER) == (1, 1)
    recorder.close()
    assert minutes_in(path) == []
    assert events_in(path) == []
    assert [file.name for file in path.parent.iterdir() if b"angry" in file.read_bytes()] == []


def test_deletion_that_a_reader_holds_up_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, [], [past_event(time.time())])
    monkeypatch.setattr("fer_edge_device.history.database._WAIT_S", 0.1)
    with reading(path) as database:
        database.execute("BEGIN")
        database.execute("SELECT * FROM events").fetchone()
        with pytest.raises(FerEdgeError, match="parts are still on the disk; try again"):
            delete_history(path, EVER)
    assert delete_history(path, EVER) == (0, 0)
    assert [file.name for file in path.parent.iterdir() if b"angry" in file.read_bytes()] == []


def test_a_runner_goes_on_recording_after_a_deletion(path: Path) -> None:
    recorder = HistoryRecorder(path, SETTINGS, live=True)
    delete_history(path, EVER)
    recorder.observe(MESSAGES.event(event("end")))
    recorder.close()
    assert [each.event_type for each in events_in(path)] == ["end"]


def test_deletes_what_is_older_than_a_date(cli: Cli, path: Path) -> None:
    now = time.time()
    write(path, [minute(now - 3 * DAY), minute(now)], [past_event(now - 3 * DAY), past_event(now)])
    assert "deleted 1 minute and 1 event" in cli("history", "delete", "--before", "2d", "--file", path).stdout
    assert len(minutes_in(path)) == len(events_in(path)) == 1


def test_a_smaller_deletion_brings_nothing_back(cli: Cli, path: Path) -> None:
    now = time.time()
    write(path, [minute(now - 3600)], [past_event(now - 3600)])
    cli("history", "delete", "--all", "--file", path)
    cli("history", "delete", "--before", "30d", "--file", path)
    write(path, [minute(now - 120)], [past_event(now - 120)])  # what a runner had not yet written
    assert minutes_in(path) == []
    assert events_in(path) == []


def test_formats_hold_the_same(cli: Cli, path: Path, tmp_path: Path) -> None:
    now = time.time()
    write(path, [minute(now - 7200, emotion_s={"sad": 45.0, "=x": 15.0}), minute(now, face_s=0.0, max_faces=0)], [])
    for suffix in ("csv", "jsonl", "parquet"):
        cli("history", "--file", path, "--by", "minute", "--out", tmp_path / f"m.{suffix}")
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [(row["seconds_sad"], row["seconds_=x"], row["mean_faces"]) for row in rows] == [(45, 15, 1), (0, 0, 0)]
    assert parquet.read_table(tmp_path / "m.parquet").to_pylist() == rows
    with (tmp_path / "m.csv").open(newline="") as file:
        assert [row["seconds_sad"] for row in csv.DictReader(file)] == ["45.0", "0.0"]


def test_hours_and_days_add_up(path: Path) -> None:
    midnight = parse_time("2026-11-20", "--since")
    write(path, [minute(midnight + 60 * number) for number in range(2 * 24 * 60)], [], max_days=3650)
    hours, days = [*combine(minutes_in(path), "hour")], [*combine(minutes_in(path), "day")]
    assert [hour.observed_s for hour in hours] == [3600.0] * 48
    assert [day.observed_s for day in days] == [float(DAY)] * 2
    assert days[0].start == midnight


def test_report_shows_days_and_emotions(cli: Cli, path: Path, tmp_path: Path) -> None:
    write(path, [minute(time.time(), emotion_s={"sad": 45.0, "<b>": 15.0})], [])
    page = tmp_path / "history.html"
    cli("history", "report", "--file", path, "--out", page)
    assert "<b>" not in page.read_text()
    assert "75%" in page.read_text()
    assert "#0072b2" in page.read_text()
    assert "Nothing was recorded" in make_history_page([], "x")


def test_damaged_history_is_kept_aside(path: Path) -> None:
    now = time.time()
    write(path, [], [past_event(now - number) for number in range(2_000)])
    data = bytearray(path.read_bytes())
    data[4096:40_000] = b"\xff" * (40_000 - 4096)
    path.write_bytes(data)
    write(path, [minute(now)], [])
    assert len(minutes_in(path)) == 1
    assert path.with_name("history.sqlite.damaged").exists()


@pytest.mark.parametrize(
    "damage", ["UPDATE events SET time = 'x'", "UPDATE deleted SET before = 'x'", "DELETE FROM deleted"]
)
def test_history_with_values_of_other_types_is_kept_aside(path: Path, damage: str) -> None:
    now = time.time()
    write(path, [], [past_event(now)])
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute(damage).rowcount
    write(path, [minute(now)], [])
    assert len(minutes_in(path)) == 1
    assert path.with_name("history.sqlite.damaged").exists()


def test_refuses_other_files(cli: Cli, tmp_path: Path) -> None:
    other, text, broken = tmp_path / "other.sqlite", tmp_path / "text.sqlite", tmp_path / "broken.sqlite"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE minutes (start)")
    text.write_text("no database" * 100)
    write(broken, [], [])
    with closing(sqlite3.connect(broken)) as database, database:
        database.execute("INSERT INTO minutes VALUES (1000000000, 'much', 0, 0, 0, '{')")
    wrong = {
        other: "a database of another program",
        text: "not a history",
        broken: "damaged row",
        tmp_path / "none.sqlite": "no history",
        tmp_path: "no history",
    }
    for file, expected in wrong.items():
        for command in (("history",), ("history", "report", "--out", tmp_path / "x.html")):
            stderr = cli(*command, "--since", "2001-01-01", "--file", file, status=2).stderr
            assert expected in stderr
            assert stderr.count("\n") == 1
    with pytest.raises(InputError, match="another program"):
        HistoryDatabase(other, SETTINGS)
    with pytest.raises(InputError, match=r"set history\.path"):
        HistoryDatabase(text / "below.sqlite", SETTINGS)


def test_rejects_wrong_options_in_one_line(cli: Cli, path: Path) -> None:
    write(path, [minute(time.time())], [])
    wrong = {
        ("--since", "soon"): "write 2026-11-20",
        ("--since", "1d", "--until", "2d"): "is not before",
        ("--events",): "--out events.csv",
        ("--out", "x.txt"): ".csv",
        ("delete",): "--all, or --before 30d",
        ("delete", "--all", "--before", "1d"): "--all, or --before 30d",
    }
    for options, expected in wrong.items():
        stderr = cli("history", *options, status=2).stderr
        assert expected in stderr
        assert stderr.count("\n") == 1


def test_says_that_another_process_uses_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, [minute(time.time())], [])
    monkeypatch.setattr("fer_edge_device.history.database._WAIT_S", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FerEdgeError, match="another process uses it"):
            delete_history(path, EVER)


def test_finds_the_history_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_edge_device.state_folder.SYSTEM_CONFIG", tmp_path / "config.toml")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, unit in (("config", "fer-edge"), ("kitchen", "fer-edge@kitchen")):
        config = tmp_path / f"{name}.toml"
        assert find_history(HistorySettings(), "n", config) == tmp_path / "state/fer-edge/n-history.sqlite"
        config.touch()
        assert str(find_history(HistorySettings(), "n", config)) == f"/var/lib/{unit}/history.sqlite"
    own = HistorySettings(path=str(tmp_path / "own.sqlite"))
    assert find_history(own, "n", tmp_path / "config.toml") == tmp_path / "own.sqlite"


def test_history_of_the_version_before_is_read_and_brought_up_to_date(path: Path) -> None:
    now = time.time()
    write(path, [minute(now - DAY)], [past_event(now - 60)])
    with closing(sqlite3.connect(path)) as database:
        database.executescript("ALTER TABLE events DROP COLUMN reliable; PRAGMA user_version = 1")
    assert [event.reliable for event in events_in(path)] == [True]
    unreliable = msgspec.structs.replace(past_event(now - 30), reliable=False)
    write(path, [], [unreliable])
    assert [event.reliable for event in events_in(path)] == [True, False]
    assert events_in(path)[1] == unreliable
    assert len(minutes_in(path)) == 1
