from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge_device.privacy_switch import PrivacySwitch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_off_is_kept_until_on_whatever_becomes_of_the_outbox(tmp_path: Path) -> None:
    outbox = tmp_path / "state" / "outbox.sqlite"
    assert PrivacySwitch(outbox).on
    PrivacySwitch(outbox).keep(on=False)
    assert not PrivacySwitch(outbox).on
    assert [file.name for file in outbox.parent.iterdir()] == ["outbox.sqlite.off"]
    PrivacySwitch(outbox).keep(on=False)
    PrivacySwitch(outbox).keep(on=True)
    assert PrivacySwitch(outbox).on
    assert not list(outbox.parent.iterdir())


def test_a_disk_that_cannot_say_leaves_a_node_off(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert not PrivacySwitch(tmp_path / "loop" / "outbox.sqlite").on


def test_what_the_disk_will_not_have_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    PrivacySwitch(tmp_path / "file" / "outbox.sqlite").keep(on=False)
    assert "outbox.sqlite.off: the switch cannot be kept (" in caplog.text
