from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError
from fer_edge_device.config.settings import EventsSettings
from fer_edge_device.live_settings import SavedSettings, SettingsChange, parse_change

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURED = EventsSettings(margin=0.1, hold_s=0.3, min_hits=5)


def test_saved_values_replace_the_configured_ones(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path / "new" / "outbox.sqlite")
    assert saved.apply(CONFIGURED) == CONFIGURED
    saved.change(SettingsChange(margin=0.0), CONFIGURED)
    saved.close()
    changed = saved.apply(CONFIGURED)
    assert changed == EventsSettings(margin=0.0, hold_s=0.3, min_hits=5)
    assert SavedSettings(tmp_path / "new" / "outbox.sqlite").apply(CONFIGURED) == changed
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["outbox.sqlite.settings.json"]
    assert (tmp_path / "new" / "outbox.sqlite.settings.json").stat().st_mode & 0o777 == 0o600


def test_writes_only_what_changes(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite.settings.json"
    saved = SavedSettings(tmp_path / "outbox.sqlite")
    saved.change(SettingsChange(margin=0.2), CONFIGURED)
    saved.close()
    before = path.stat()
    saved.change(SettingsChange(margin=0.2), CONFIGURED)
    saved.change(SettingsChange(), CONFIGURED)
    saved.close()
    assert path.stat().st_ino == before.st_ino
    saved.change(SettingsChange(margin=0.3), CONFIGURED)
    saved.close()
    assert path.stat().st_ino != before.st_ino


def test_many_changes_are_few_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write takes 50 ms on an SD card, and an OFF may be waiting behind a hundred changes."""
    writes = []
    synchronize = os.fsync

    def record(file: int) -> None:
        writes.append(file)
        synchronize(file)

    monkeypatch.setattr(os, "fsync", record)
    saved = SavedSettings(tmp_path / "outbox.sqlite")
    for number in range(1000):
        saved.change(SettingsChange(margin=number / 1000), CONFIGURED)
    saved.change(SettingsChange(hold_s=2.0), CONFIGURED)
    saved.close()
    assert 1 <= len(writes) < 100
    assert SavedSettings(tmp_path / "outbox.sqlite").apply(CONFIGURED) == EventsSettings(
        margin=0.999, hold_s=2.0, min_hits=5
    )


def test_later_change_of_the_configuration_wins(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path / "outbox.sqlite")
    saved.change(SettingsChange(margin=0.2, hold_s=1.0), CONFIGURED)
    edited = EventsSettings(margin=0.15, hold_s=0.3)
    assert saved.apply(edited) == EventsSettings(margin=0.15, hold_s=1.0)
    saved.change(SettingsChange(hold_s=2.0), edited)
    assert saved.apply(CONFIGURED).margin == 0.1, "the overtaken value must not come back"


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[1]", b'{"margin": {"value": 7, "configured": 0.1}}', b"{" * 10**6]
)
def test_damaged_file_is_ignored_with_a_warning(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "outbox.sqlite.settings.json").write_bytes(content)
    saved = SavedSettings(tmp_path / "outbox.sqlite")
    assert saved.apply(CONFIGURED) == CONFIGURED
    assert "outbox.sqlite.settings.json: cannot be read (" in caplog.text
    saved.change(SettingsChange(margin=0.2), CONFIGURED)
    assert saved.apply(CONFIGURED).margin == 0.2
    saved.close()
    assert SavedSettings(tmp_path / "outbox.sqlite").apply(CONFIGURED).margin == 0.2


def test_change_holds_until_the_next_start_if_the_disk_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    saved = SavedSettings(tmp_path / "file" / "outbox.sqlite")
    saved.change(SettingsChange(margin=0.2), CONFIGURED)
    saved.close()
    assert saved.apply(CONFIGURED).margin == 0.2
    assert "cannot save the settings (" in caplog.text


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"0.2", "a table"),
        (b"{", "it ends too early"),
        (b"\xff\xfe", "no setting was changed"),
        (b'{"margin": 1.01}', "margin must be at most 1"),
        (b'{"hold_s": -1}', "hold_s must be at least 0"),
        (b'{"hold_s": "1"}', "hold_s must be a number"),
        (b'{"hold": 1}', "there is no key hold; did you mean hold_s?"),
        (b'{"margin": 1e999}', "no setting was changed"),
        (b" " * 10_000, "too long"),
        (b"[" * 900, "no setting was changed"),
        (b"{}", "no setting was changed: it names none; send JSON such as"),
        (b'{"margin": null}', "no setting was changed: it names none; send JSON such as"),
    ],
)
def test_refuses_wrong_change(payload: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse_change(payload)
