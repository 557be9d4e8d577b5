from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge_device.privacy_switch import PrivacySwitch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_off_lasts_until_on_even_without_the_outbox(tmp_path: Path) -> None:
    outbox = tmp_path / "state" / "outbox.sqlite"
    assert PrivacySwitch(outbox).on
    assert PrivacySwitch(outbox).save(on=False)
    assert not PrivacySwitch(outbox).on
    assert [file.name for file in outbox.parent.iterdir()] == ["outbox.sqlite.off"]
    assert (outbox.parent / "outbox.sqlite.off").stat().st_mode & 0o777 == 0o600
    PrivacySwitch(outbox).save(on=False)
    PrivacySwitch(outbox).save(on=True)
    assert PrivacySwitch(outbox).on
    assert not list(outbox.parent.iterdir())


def test_failing_disk_counts_as_off(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert not PrivacySwitch(tmp_path / "loop" / "outbox.sqlite").on


def test_warns_if_the_switch_cannot_be_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert not PrivacySwitch(tmp_path / "file" / "outbox.sqlite").save(on=False)
    assert "outbox.sqlite.off: cannot save the privacy switch (" in caplog.text
