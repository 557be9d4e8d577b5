from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fer_edge.errors import InputError
from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox, outbox_path

USE_IN_A_PROCESS = """
import sys, time
from pathlib import Path
from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), OutboxSettings())
outbox.put("topic", b"payload")
print("open", flush=True)
time.sleep(300)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.sqlite"


def payloads(outbox: Outbox) -> list[str]:
    return [row.payload.decode() for row in outbox.after(0, 10_000)]


def fill(outbox: Outbox, *numbers: int) -> None:
    for number in numbers:
        outbox.put("topic", str(number).encode())


def set_clock(monkeypatch: pytest.MonkeyPatch, hours: float, *, goes_by: bool) -> None:
    """Let hours pass, or set the clock forward by so many."""
    now, since_start = time.time() + hours * 3600, time.monotonic() + hours * 3600
    monkeypatch.setattr(time, "time", lambda: now)
    if goes_by:
        monkeypatch.setattr(time, "monotonic", lambda: since_start)


def test_events_come_out_in_order_and_stay_until_they_are_done(path: Path) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, *range(5))
    rows = outbox.after(0, 3)
    assert [(row.topic, row.payload) for row in rows] == [("topic", b"0"), ("topic", b"1"), ("topic", b"2")]
    assert payloads(outbox) == ["0", "1", "2", "3", "4"]
    assert [row.payload for row in outbox.after(rows[-1].id, 10)] == [b"3", b"4"]
    outbox.done([rows[1].id, rows[0].id, 999])
    assert payloads(outbox) == ["2", "3", "4"]
    assert len(outbox) == 3
    outbox.close()


def test_what_waits_is_there_after_a_restart_and_ids_are_never_used_again(path: Path) -> None:
    first = Outbox(path, OutboxSettings())
    fill(first, 1, 2)
    last = first.after(0, 10)[-1].id
    first.done([last])
    first.close()
    second = Outbox(path, OutboxSettings())
    fill(second, 3)
    assert payloads(second) == ["1", "3"]
    assert second.after(0, 10)[-1].id > last
    second.close()


def test_every_event_is_synchronised_to_the_disk(path: Path) -> None:
    outbox = Outbox(path, OutboxSettings())
    assert outbox._database is not None
    assert outbox._database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert outbox._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    outbox.close()


def test_beyond_the_most_that_are_kept_the_oldest_are_dropped_and_counted(path: Path) -> None:
    outbox = Outbox(path, OutboxSettings(max_events=3))
    fill(outbox, *range(10))
    assert payloads(outbox) == ["7", "8", "9"]
    assert (len(outbox), outbox.dropped) == (3, 7)
    outbox.close()
    again = Outbox(path, OutboxSettings(max_events=2))
    fill(again, 10)
    assert payloads(again) == ["9", "10"]
    assert (len(again), again.dropped) == (2, 9)
    again.close()


def test_events_that_are_too_old_are_dropped_and_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(path, OutboxSettings(max_age_h=2))
    fill(outbox, 1, 2)
    set_clock(monkeypatch, 1.5, goes_by=True)
    fill(outbox, 3)
    assert payloads(outbox) == ["1", "2", "3"]
    set_clock(monkeypatch, 1, goes_by=True)
    assert payloads(outbox) == ["3"]
    set_clock(monkeypatch, 2.5, goes_by=True)
    assert payloads(outbox) == []
    assert (len(outbox), outbox.dropped) == (0, 3)
    outbox.close()


def test_what_is_given_up_is_counted_and_an_outbox_that_is_closed_stays_closed(path: Path) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1, 2)
    assert outbox.drop(outbox.after(0, 1)[0].id)
    assert (payloads(outbox), len(outbox), outbox.dropped) == (["2"], 1, 1)
    outbox.close()
    again = Outbox(path, OutboxSettings())
    outbox.put("topic", b"3")
    assert outbox.after(0, 10) == []
    assert (payloads(again), again.dropped) == (["2"], 1)
    again.close()


def test_a_clock_that_is_set_while_the_network_comes_back_makes_no_event_old(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(path, OutboxSettings(max_age_h=2))
    fill(outbox, 1, 2)
    set_clock(monkeypatch, 24 * 365, goes_by=False)
    assert payloads(outbox) == ["1", "2"]
    set_clock(monkeypatch, 3, goes_by=True)
    assert payloads(outbox) == []
    outbox.close()


def test_a_damaged_file_is_set_aside_with_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database " * 1000)
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    assert payloads(outbox) == ["1"]
    assert "damaged (file is not a database); set aside as outbox.sqlite.damaged" in caplog.text
    assert path.with_name("outbox.sqlite.damaged").read_bytes().startswith(b"no database")
    outbox.close()


def test_a_file_that_is_damaged_inside_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, *range(2000))
    outbox.close()
    with path.open("r+b") as file:
        file.seek(12_288)
        file.write(os.urandom(8192))
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    assert payloads(outbox) == ["1"]
    assert caplog.text.count("set aside as") == 1
    outbox.close()


def test_a_file_that_is_damaged_while_it_is_used_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    assert outbox._database is not None
    outbox._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    outbox._database.execute("PRAGMA cache_size = 0")
    outbox._database.execute("PRAGMA shrink_memory")
    path.write_bytes(b"no database " * 4000)
    fill(outbox, 2)
    assert [(row.id, row.payload) for row in outbox.after(1, 10)] == [(2, b"2")], "ids are not used again"
    assert "set aside as outbox.sqlite.damaged" in caplog.text
    outbox.close()


def test_an_outbox_of_another_release_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Outbox(path, OutboxSettings()).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    assert "made by another release, as version 99" in caplog.text
    outbox.close()


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="a database of another program"):
        Outbox(path, OutboxSettings())
    assert path.read_bytes() == before


def test_two_on_one_outbox_are_refused_until_the_first_is_gone_or_killed(path: Path) -> None:
    first = Outbox(path, OutboxSettings())
    with pytest.raises(InputError, match=r"another fer-edge uses this outbox; give each its own node"):
        Outbox(path, OutboxSettings())
    first.close()
    with subprocess.Popen([sys.executable, "-c", USE_IN_A_PROCESS, path], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match="another fer-edge"):
            Outbox(path, OutboxSettings())
        other.kill()
    outbox = Outbox(path, OutboxSettings())
    assert payloads(outbox) == ["payload"]
    outbox.close()


def test_a_full_disk_costs_the_events_of_that_time_and_one_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    assert outbox._database is not None
    (pages,) = outbox._database.execute("PRAGMA page_count").fetchone()
    outbox._database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk is full"
    big = b"x" * 100_000
    for _ in range(3):
        outbox.put("topic", big)
    assert (len(outbox), outbox.dropped) == (1, 3)
    assert caplog.text.count("events cannot be kept (database or disk is full)") == 1
    outbox._database.execute("PRAGMA max_page_count = 100000")
    outbox.put("topic", big)
    assert "events can be kept again" in caplog.text
    outbox.close()
    again = Outbox(path, OutboxSettings())
    assert (len(again), again.dropped) == (2, 3)
    again.close()


def test_a_disk_that_is_full_from_the_start_is_no_crash(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))
outbox = Outbox(Path(sys.argv[1]), OutboxSettings())
outbox.put("topic", b"1")
outbox.put("topic", b"2")
print(outbox.after(0, 9), len(outbox), outbox.dropped)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
outbox.put("topic", b"3")
print(len(outbox), outbox.dropped)
outbox.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "outbox.sqlite"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[] 0 2", "1 2"]
    assert done.stderr.count("events cannot be kept") == 1
    reopened = Outbox(tmp_path / "outbox.sqlite", OutboxSettings())
    assert (len(reopened), reopened.dropped) == (1, 2)
    reopened.close()


def test_a_clock_that_is_set_while_the_disk_is_full_makes_no_event_old(tmp_path: Path) -> None:
    script = """
import resource, sys, time
from pathlib import Path
from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), OutboxSettings(max_age_h=2))
outbox.put("topic", b"1")
later = time.time() + 365 * 24 * 3600
time.time = lambda: later
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))
outbox.put("topic", b"2")
print(outbox.dropped)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
outbox.put("topic", b"3")
print([row.payload for row in outbox.after(0, 9)], outbox.dropped)
outbox.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "outbox.sqlite"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["1", "[b'1', b'3'] 1"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"no folder for the outbox .*set outbox\.path"):
        Outbox(tmp_path / "file" / "folder" / "outbox.sqlite", OutboxSettings())
    with pytest.raises(InputError, match=r"the outbox cannot be opened \(unable to open database file\)"):
        Outbox(tmp_path, OutboxSettings())


def test_its_place_is_as_configured_or_in_the_state_folder_of_the_service_or_of_the_user(
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


def test_nothing_is_said_while_all_is_well(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    outbox = Outbox(path, OutboxSettings())
    fill(outbox, 1)
    outbox.close()
    assert caplog.text == ""
