from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import MissingExtraError
from fer_edge.extras import extra_requirements, install_command

if TYPE_CHECKING:
    from pathlib import Path


class InstalledBy:
    """A distribution as an installer leaves it."""

    def __init__(self, installer: str) -> None:
        self._installer = installer

    def read_text(self, name: str) -> str | None:
        return f"{self._installer}\n" if name == "INSTALLER" else None


def test_extra_holds_its_packages() -> None:
    assert {each.partition(">")[0] for each in extra_requirements("web")} == {"starlette", "uvicorn"}


@pytest.mark.parametrize("is_editable", [False, True])
def test_names_an_extra_that_the_installed_metadata_lacks(tmp_path: Path, *, is_editable: bool) -> None:
    """As where a clone was updated after ``pip install -e``."""
    installed, clone = tmp_path / "fer_edge-0.1.0.dist-info", tmp_path / "my clone"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.4\nName: fer-edge\nVersion: 0.1.0\n")
    if is_editable:
        origin = {"url": clone.as_uri(), "dir_info": {"editable": True}}
        (installed / "direct_url.json").write_text(json.dumps(origin))
    without_pyrage = "import sys; sys.modules['pyrage'] = None; from fer_edge.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", without_pyrage, "collect", "key", tmp_path / "key"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    command = shlex.split(result.stderr.partition("this needs pyrage, not installed here: ")[2])
    wanted = ["--editable", f"{clone}[collect]"] if is_editable else ["fer-edge[collect]"]
    assert command == [sys.executable, "-m", "pip", "install", *wanted]


def test_command_installs_where_this_program_is() -> None:
    command = shlex.split(str(MissingExtraError("starlette", "web")).partition("not installed here: ")[2])
    assert command[-6:] == [sys.executable, "-m", "pip", "install", *extra_requirements("web")]
    assert install_command(["a b"]).endswith("pip install 'a b'")


def test_command_is_for_the_tool_that_installed_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without_pip:
        without_pip.setattr("fer_edge.extras.importlib.util.find_spec", lambda _: None)
        assert install_command(["x"]) == f"pip --python {sys.executable} install x"
    with monkeypatch.context() as by_uv:
        by_uv.setattr("fer_edge.extras.importlib.metadata.distribution", lambda _: InstalledBy("uv"))
        assert install_command(["x"]) == f"uv pip install --python {sys.executable} x"
    with monkeypatch.context() as by_apt:
        by_apt.setattr("fer_edge.extras.importlib.metadata.distribution", lambda _: InstalledBy("debian"))
        assert install_command(["x>=1"]).endswith("install fer-edge and 'x>=1' in a venv")
    prefix = tmp_path / "fer-edge"
    prefix.mkdir()
    (prefix / "pipx_metadata.json").touch()
    monkeypatch.setattr(sys, "prefix", str(prefix))
    assert install_command(["x"]) == "pipx inject fer-edge x"
