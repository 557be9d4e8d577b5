"""Optional packages: what an extra contains, and the command that installs it into the running environment."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

_DISTRIBUTION: Final = "fer-edge"
_OF_EXTRA: Final = re.compile(r"(?P<package>[^;]+);.*\bextra == ['\"](?P<extra>[\w.-]+)['\"]")


def extra_requirements(extra: str) -> list[str]:
    """Return what to install for an extra: its requirements, such as ``starlette>=0.40``.

    An editable installation may be older than its clone, whose new extras it does not know. Then it is the clone that
    is to be installed again, with the extra.
    """
    found = map(_OF_EXTRA.match, importlib.metadata.requires(_DISTRIBUTION) or ())
    named = [each["package"].strip() for each in found if each and each["extra"] == extra]
    if named:
        return named
    clone = _find_clone()
    return ["--editable", f"{clone}[{extra}]"] if clone else [f"{_DISTRIBUTION}[{extra}]"]


def _find_clone() -> str:
    """Return the folder of an editable installation; empty if this is none."""
    text = importlib.metadata.distribution(_DISTRIBUTION).read_text("direct_url.json")
    origin = json.loads(text or "{}")
    is_editable = origin.get("dir_info", {}).get("editable", False)
    return unquote(urlsplit(origin["url"]).path) if is_editable else ""


def install_command(requirements: Iterable[str]) -> str:
    """Return the command that installs packages where this program is installed, by the tool that installed it.

    The packages are named, not the extra: a package index need not have this program, or not this release.

    Args:
        requirements: names of packages, and their versions as in ``starlette>=0.40``; see `extra_requirements`.
    """
    prefix, python = Path(sys.prefix), sys.executable
    if (prefix / "pipx_metadata.json").exists():
        return shlex.join(["pipx", "inject", prefix.name, *requirements])
    installer = (importlib.metadata.distribution(_DISTRIBUTION).read_text("INSTALLER") or "").strip()
    if installer == "debian":
        return f"the Debian package is for the service; install fer-edge and {shlex.join(requirements)} in a venv"
    if installer == "uv":
        return shlex.join(["uv", "pip", "install", "--python", python, *requirements])
    if importlib.util.find_spec("pip") is None:  # another environment's pip installed it here
        return shlex.join(["pip", "--python", python, "install", *requirements])
    command = [python, "-m", "pip", "install"]
    if Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists() and sys.prefix == sys.base_prefix:
        command.append("--break-system-packages")  # as was done for this program
    elif sys.prefix != sys.base_prefix and not os.access(sysconfig.get_path("purelib"), os.W_OK):
        command.insert(0, "sudo")
    return shlex.join([*command, *requirements])
