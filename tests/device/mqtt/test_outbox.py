from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError
from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox, outbox_path, since_boot
from tests.device.mqtt.helpers import new_event
from tests.processes import Process

if TYPE_CHECKING:
    from fer_edge_device.mqtt.outbox_events import StoredEvent

USE_OUTBOX = """
import sys, time
from pathlib import Path
from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox, since_boot
from fer_edge_device.mqtt.outbox_events import NewEvent
outbox = Outbox(Path(sys.argv[1]), OutboxSettings())
outbox.put([NewEvent("topic", b"payload", since_boot(), "", 0, True)])
print("open", flush=True)
time.sleep(300)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.sqlite"


def stored(outbox: Outbox, last_id: int = 0, limit: int = 10_000) -> list[StoredEvent]:
    """Return the oldest events after one, fresh or not."""
    return (outbox.backlog(last_id, limit) + outbox.fresh(last_id, limit))[:limit]


def payloads(outbox: Outbox) -> list[str]:
    return [each.payload.decode() for each in stored(outbox)]


def fill(outbox: Outbox, *numbers: int) -> None:
    for number in numbers:
        outbox.put([new_event(str(number).encode(), "topic")])


def set_clock(monkeypatch: pytest.MonkeyPatch, hours: float, *, passes: bool) -> None:
    """Set the clock forward by some hours, or let that time pass."""
    now, since_start = time.time() + hours * 3600, since_boot() + hours * 3600
    monkeypatch.setattr(time, "time", lambda: now)
    if passes:
        monkeypatch.setattr(time, "clock_gettime", lambda _: since_start)


def test_returns_events_in_order_until_they_are_deleted(path: Path) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, *range(5))
    events = stored(outbox, 0, 3)
    assert [(each.topic, each.payload) for each in events] == [("topic", b"0"), ("topic", b"1"), ("topic", b"2")]
    assert payloads(outbox) == ["0", "1", "2", "3", "4"]
    assert [each.payload for each in stored(outbox, events[-1].id, 10)] == [b"3", b"4"]
    outbox.delete([events[1].id, events[0].id, 999])
    assert payloads(outbox) == ["2", "3", "4"]
    assert len(outbox) == 3
    outbox.close()


def test_keeps_events_over_a_restart_and_never_reuses_ids(path: Path) -> None:
    first = Outbox(path, OutboxSettings())
    fill(first, 1, 2)
    last = stored(first, 0, 10)[-1].id
    first.delete([last])
    first.close()
    second = Outbox(path, OutboxSettings())
    fill(second, 3)
    assert payloads(second) == ["1", "3"]
    assert stored(second, 0, 10)[-1].id > last
    second.close()


def test_synchronizes_every_event_to_the_disk(path: Path) -> None:
    outbox = Outbox(path, OutboxSettings())
    assert outbox._file._database is not None
    assert outbox._file._database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert outbox._file._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    outbox.close()


def test_drops_and_counts_the_oldest_events_beyond_the_limit(path: Path) -> None:
    outbox = Outbox(path, OutboxSettings(max_events=3))
    fill(outbox, *range(10))
    assert payloads(outbox) == ["7", "8", "9"]
    assert (len(outbox), outbox.dropped) == (3, 7)
    outbox.close()
    reopened = Outbox(path, OutboxSettings(max_events=2))
    fill(reopened, 10)
    assert payloads(reopened) == ["9", "10"]
    assert (len(reopened), reopened.dropped) == (2, 9)
    reopened.close()


def test_drops_and_counts_events_that_are_too_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(path, OutboxSettings(max_age_h=2))
    fill(outbox, 1, 2)
    set_clock(monkeypatch, 1.5, passes=True)
    fill(outbox, 3)
    assert payloads(outbox) == ["1", "2", "3"]
    set_clock(monkeypatch, 1, passes=True)
    assert payloads(outbox) == ["3"]
    set_clock(monkeypatch, 2.5, passes=True)
    assert payloads(outbox) == []
    assert (len(outbox), outbox.dropped) == (0, 3)
    outbox.close()


def test_counts_a_dropped_event_and_stays_closed(path: Path) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1, 2)
    assert outbox.drop(stored(outbox, 0, 1)[0].id)
    assert (payloads(outbox), len(outbox), outbox.dropped) == (["2"], 1, 1)
    outbox.close()
    reopened = Outbox(path, OutboxSettings())
    outbox.put([new_event(b"3")])
    assert stored(outbox, 0, 10) == []
    assert (payloads(reopened), reopened.dropped) == (["2"], 1)
    reopened.close()


def test_keeps_the_age_of_events_when_the_clock_is_set(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(path, OutboxSettings(max_age_h=2))
    fill(outbox, 1, 2)
    set_clock(monkeypatch, 24 * 365, passes=False)
    assert payloads(outbox) == ["1", "2"]
    set_clock(monkeypatch, 3, passes=True)
    assert payloads(outbox) == []
    outbox.close()


def test_renames_a_damaged_file_with_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database " * 1000)
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    assert payloads(outbox) == ["1"]
    assert "damaged (file is not a database); renamed to outbox.sqlite.damaged" in caplog.text
    assert path.with_name("outbox.sqlite.damaged").read_bytes().startswith(b"no database")
    outbox.close()


def test_renames_a_file_whose_damaged_schema_is_no_text(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite quotes it in its message, and `sqlite3` raises a UnicodeDecodeError instead of its own."""
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    outbox.close()
    content = path.read_bytes()
    assert b"CREATE TABLE" in content
    path.write_bytes(content.replace(b"CREATE TABLE", b"CREATE TABL\xff", 1))
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 2)
    assert payloads(outbox) == ["2"]
    assert "renamed to outbox.sqlite.damaged" in caplog.text
    outbox.close()


def test_renames_a_file_with_damaged_pages(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, *range(2000))
    outbox.close()
    with path.open("r+b") as file:
        file.seek(12_288)
        file.write(os.urandom(8192))
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    assert payloads(outbox) == ["1"]
    assert caplog.text.count("renamed to") == 1
    outbox.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE events SET time = 'x'",
        "UPDATE events SET payload = 5",
        "UPDATE dropped SET count = 'x'",
        "DELETE FROM dropped",
        "INSERT INTO tracks VALUES ('t', 1, 1, 'topic', 5)",
        "INSERT INTO boot VALUES ('x', 'y')",
    ],
)
def test_renames_a_file_with_values_of_other_types(path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    outbox.close()
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute(damage).rowcount
    outbox = Outbox(path, OutboxSettings())
    outbox.begin_run(goes_on=False)
    fill(outbox, 2)
    assert payloads(outbox) == ["2"]
    assert "renamed to outbox.sqlite.damaged" in caplog.text
    outbox.close()


def test_renames_a_file_that_is_damaged_while_open(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    assert outbox._file._database is not None
    outbox._file._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    outbox._file._database.execute("PRAGMA cache_size = 0")
    outbox._file._database.execute("PRAGMA shrink_memory")
    path.write_bytes(b"no database " * 4000)
    fill(outbox, 2)
    assert [(each.id, each.payload) for each in stored(outbox, 1, 10)] == [(2, b"2")], "ids are not reused"
    assert "renamed to outbox.sqlite.damaged" in caplog.text
    outbox.close()


def test_renames_an_outbox_of_another_release(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Outbox(path, OutboxSettings()).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    assert "its format is version 99, of another release" in caplog.text
    outbox.close()


def test_leaves_the_database_of_another_program_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="a database of another program"):
        Outbox(path, OutboxSettings())
    assert path.read_bytes() == before


def test_refuses_an_outbox_that_another_process_uses(path: Path) -> None:
    first = Outbox(path, OutboxSettings())
    with pytest.raises(InputError, match=r"another fer-edge process uses this outbox; give each its own node"):
        Outbox(path, OutboxSettings())
    first.close()
    with Process[bytes]([sys.executable, "-c", USE_OUTBOX, path], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match="another fer-edge"):
            Outbox(path, OutboxSettings())
        other.kill()
    outbox = Outbox(path, OutboxSettings())
    assert payloads(outbox) == ["payload"]
    outbox.close()


def test_drops_events_while_the_disk_is_full_and_warns_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    assert outbox._file._database is not None
    (pages,) = outbox._file._database.execute("PRAGMA page_count").fetchone()
    outbox._file._database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk is full"
    big = b"x" * 100_000
    for _ in range(3):
        outbox.put([new_event(big)])
    assert (len(outbox), outbox.dropped) == (1, 3)
    assert caplog.text.count("events cannot be stored (database or disk is full)") == 1
    outbox._file._database.execute("PRAGMA max_page_count = 100000")
    outbox.put([new_event(big)])
    assert "events can be stored again" in caplog.text
    outbox.close()
    reopened = Outbox(path, OutboxSettings())
    assert (len(reopened), reopened.dropped) == (2, 3)
    reopened.close()


def test_survives_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox, since_boot
from fer_edge_device.mqtt.outbox_events import NewEvent
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))
outbox = Outbox(Path(sys.argv[1]), OutboxSettings())
put = lambda payload: outbox.put([NewEvent("topic", payload, since_boot(), "", 0, True)])
put(b"1")
put(b"2")
print(outbox.fresh(0, 9), len(outbox), outbox.dropped)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
put(b"3")
print(len(outbox), outbox.dropped)
outbox.close()
"""
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "outbox.sqlite"], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["[] 0 2", "1 2"]
    assert result.stderr.count("events cannot be stored") == 1
    reopened = Outbox(tmp_path / "outbox.sqlite", OutboxSettings())
    assert (len(reopened), reopened.dropped) == (1, 2)
    reopened.close()


def test_keeps_the_age_of_events_while_the_disk_is_full(tmp_path: Path) -> None:
    script = """
import resource, sys, time
from pathlib import Path
from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox, since_boot
from fer_edge_device.mqtt.outbox_events import NewEvent
outbox = Outbox(Path(sys.argv[1]), OutboxSettings(max_age_h=2))
put = lambda payload: outbox.put([NewEvent("topic", payload, since_boot(), "", 0, True)])
put(b"1")
later = time.time() + 365 * 24 * 3600
time.time = lambda: later
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))
put(b"2")
print(outbox.dropped)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
put(b"3")
print([each.payload for each in outbox.fresh(0, 9)], outbox.dropped)
outbox.close()
"""
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "outbox.sqlite"], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["1", "[b'1', b'3'] 1"]


def test_reports_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot create the folder of the outbox .*set outbox\.path"):
        Outbox(tmp_path / "file" / "folder" / "outbox.sqlite", OutboxSettings())
    with pytest.raises(InputError, match=r"the outbox cannot be opened \(unable to open database file\)"):
        Outbox(tmp_path, OutboxSettings())


def test_chooses_the_path_of_the_outbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/fer-edge:/var/lib/other")
    assert outbox_path(OutboxSettings(path="/data/events.sqlite"), "hall") == Path("/data/events.sqlite")
    assert outbox_path(OutboxSettings(), "hall") == Path("/var/lib/fer-edge/outbox.sqlite")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert outbox_path(OutboxSettings(), "hall") == Path("/home/ada/.local/state/fer-edge/hall.sqlite")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert outbox_path(OutboxSettings(), "hall") == Path("/state/fer-edge/hall.sqlite")


def test_logs_nothing_without_a_problem(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    outbox.close()
    assert caplog.text == ""
