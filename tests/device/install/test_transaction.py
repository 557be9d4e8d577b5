from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import ServiceError
from fer_edge_device.install.installer import install_steps
from fer_edge_device.install.options import InstallOptions
from fer_edge_device.install.transaction import Step, apply

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.install.program_source import ProgramSource
    from tests.device.machines import Pi


def fail() -> None:
    raise ServiceError("no")


def test_undoes_all_steps_in_reverse_order() -> None:
    calls: list[str] = []

    steps = [
        Step("a", lambda: calls.append("a"), lambda: calls.append("not a")),
        Step("b", lambda: calls.append("b"), fail),
        Step("c", fail, lambda: calls.append("not c")),
    ]
    output: list[str] = []
    with pytest.raises(ServiceError, match="no"):
        apply(steps, output.append)
    assert calls == ["a", "b", "not c", "not a"]
    assert output[-3:] == ["undo: b", "could not undo: b: no", "undo: a"]


def test_undoes_steps_although_the_terminal_is_closed() -> None:
    calls: list[str] = []

    def gone(line: str) -> None:
        raise BrokenPipeError(line)

    steps = [
        Step("a", lambda: calls.append("a"), lambda: calls.append("not a")),
        Step("b", fail, lambda: calls.append("not b")),
    ]
    with pytest.raises(ServiceError):
        apply(steps, gone)
    assert calls == ["a", "not b", "not a"]


def test_undoes_nothing_after_a_step_that_cannot_be_undone() -> None:
    calls: list[str] = []

    steps = [
        Step("a", lambda: calls.append("a"), lambda: calls.append("not a")),
        Step("remove", lambda: calls.append("gone"), None),
        Step("remove more", fail, None),
    ]
    with pytest.raises(ServiceError):
        apply(steps, lambda _: None)
    assert calls == ["a", "gone"]


def test_restores_owner_and_permissions_of_a_file(pi: Pi, wheel: ProgramSource, tmp_path: Path) -> None:
    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    owned = [pi.config(), pi.root / "etc/systemd/system/fer-edge.service"]
    for path in owned:
        path.write_text(f"threads = 2  # {path.name}")
        path.chmod(0o604)
        if os.geteuid() == 0:
            os.chown(path, 12, 34)

    def status_of_files() -> list[tuple[str, int, int, int]]:
        return [(path.read_text(), (at := path.stat()).st_mode, at.st_uid, at.st_gid) for path in owned]

    before = status_of_files()
    other = tmp_path / "other.toml"
    other.write_text("threads = 3\n")
    pi.fails = "start"
    with pytest.raises(ServiceError):
        pi.do(install_steps(pi.host, InstallOptions(config=other, replace=True), wheel))
    assert status_of_files() == before
