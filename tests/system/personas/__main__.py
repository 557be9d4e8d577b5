"""Type what the README and docs/start say in fresh containers of Debian, as newcomers: ``make personas``.

    python -m tests.system.personas [--debian 13] [--only TEXT ...] [--cache FOLDER]

Needs root. Each text is typed in a container of its own, with the last commit as its repository. The container has
Debian's base, systemd and sudo, and nothing else: no Python, no git, no make. Three things are not as at home:

- The film of the demo takes the place of the camera, and a broker on this machine that of Home Assistant's.
- 700 faces take the place of FER-2013, so the accuracies mean little.
- ``make test``, the training of an hour, ``deploy`` and what needs its hosts are left out; other tests have them.

A table says how long it takes to type a text, at 200 characters a minute, and how long the computer works. The exit
status is 1 if a command fails, or if the typing takes ten minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import pytest

from fer_edge import demo
from tests.conftest import load_sample
from tests.device.brokers import Mosquitto, subscribing
from tests.manual import ROOT, blocks, commands
from tests.system.containers import Container, debian_tree, require_containers, wait_for
from tests.videos import make_video

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITES: Final = {12: "bookworm", 13: "trixie"}
_PACKAGES: Final = "systemd,systemd-sysv,sudo"
_USER: Final = "newcomer"
_CHARACTERS_PER_MINUTE: Final = 200  # 40 words, the speed of a typist without training
_MAX_MINUTES: Final = 10.0
_ADDRESS: Final = "<address of this repository>"
_REPOSITORY: Final = "/srv/fer-edge.git"
_CERTIFICATES: Final = "etc/ssl/certs/ca-certificates.crt"
_CACHE: Final = Path("/var/tmp/fer-edge-personas")  # noqa: S108 - of root, and too large for a home folder
# What only other machines have: hosts to deploy to, a camera module, an hour for a training.
_LEFT_OUT: Final = ("make test", "fer-edge deploy", "mosquitto_sub -h", "python3-picamera2", "runs/cnn3")
_FOREVER: Final = ("fer-edge web", "--web 0.0.0.0:8080")  # until Ctrl+C


@dataclass
class Text:
    """A text that a newcomer types.

    Attributes:
        name: what it is.
        commands: its commands, one after the other.
        files: what is written by hand, by name.
        result: a command that fails if the result is not there.
        discovered: whether Home Assistant learns of the device.
    """

    name: str
    commands: list[str]
    result: str
    files: dict[str, str] = field(default_factory=dict)
    discovered: bool = False

    @property
    def minutes(self) -> float:
        """How long it takes to type it."""
        typed = "\n".join([*self.commands, *self.files.values()])
        return len(typed) / _CHARACTERS_PER_MINUTE


def texts() -> list[Text]:
    """Return the doors of the README and the pages of docs/start."""
    readme = blocks(ROOT / "README.md", "sh")
    get, two, maker, researcher, engineer = (list(commands([block])) for block in readme)
    page = {path.stem: list(commands(blocks(path, "sh"))) for path in (ROOT / "docs/start").glob("*.md")}
    (config,) = blocks(ROOT / "docs/start/maker.md", "toml")
    (script,) = ["".join(blocks(ROOT / "docs/start/researcher.md", "python"))]
    report, model = "test -s faces.html", "test -s model.tflite"
    return [
        Text("README: two commands", get + two, "true"),
        Text("README: maker", get + maker, "true", discovered=True),
        Text("README: researcher", get + researcher, report),
        Text("README: engineer", get + engineer, model),
        Text(
            "start/maker",
            page["maker"],
            "sudo fer-edge service status",
            {"config.toml": config, "password.txt": "secret"},
            discovered=True,
        ),
        Text("start/researcher", page["researcher"], f"{report} && .venv/bin/python count.py", {"count.py": script}),
        Text("start/engineer", page["engineer"], model),
    ]


class Newcomer:
    """A user of a fresh container who types commands."""

    def __init__(self, container: Container, changes: dict[str, str]) -> None:
        """Let a user of the container use sudo.

        Args:
            container: a booted one.
            changes: words that are replaced in what is typed.
        """
        self._container, self._changes = container, changes
        self.folder = f"/home/{_USER}"
        container.run("useradd", "--create-home", "--shell=/bin/bash", _USER)
        (container.root / "etc/sudoers.d/newcomer").write_text(f"{_USER} ALL=(ALL) NOPASSWD: ALL\n")

    def changed(self, text: str) -> str:
        """Return a text with the words replaced."""
        for old, new in self._changes.items():
            text = text.replace(old, new)
        return text

    def give(self, path: Path, name: str) -> None:
        """Copy a file or folder of this machine into the folder in which the user is."""
        target = self._container.root / self.folder.lstrip("/") / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, target)
        self._container.run("chown", "-R", _USER, f"{self.folder}/{name}")

    def type(self, command: str) -> None:
        """Run a command as if it were typed.

        Raises:
            SystemExit: it failed.
        """
        command = self.changed(command)
        if command.startswith("cd "):
            self.folder = f"{self.folder}/{command.removeprefix('cd ')}"
            return
        command = command.replace("--source auto", "--source demo")
        if command.endswith("--node kitchen"):
            command += " --source demo"  # the README's takes the first camera
        if any(each in command for each in _FOREVER) and "token" not in command:
            command = f"timeout --signal=INT --preserve-status 20 {command}"
        line = f"cd {self.folder} && {command}"
        done = self._container.run("runuser", "-l", _USER, "-c", line, check=False)
        if done.returncode:
            raise SystemExit(f"{command}: exit status {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")


def make_files(folder: Path) -> None:
    """Write what the personas bring along: videos, faces and a model."""
    (folder / "videos").mkdir(parents=True)
    make_video(folder / "videos/one.mp4")
    cv2.imwrite(str(folder / "videos/two.jpg"), demo.frame(60))
    sample = load_sample()
    sample.write_csv(folder / "fer2013.csv")
    sample.write_tree(folder / "own")
    save = "import keras; keras.models.load_model('models/edge.keras', compile=False).save(r'{}')"
    subprocess.run([sys.executable, "-c", save.format(folder / "model.h5")], cwd=ROOT, check=True, capture_output=True)


def make_tree(suite: str, cache: Path) -> Path:
    """Return a Debian with the last commit and, if this machine has them, its certificates and registry of packages."""
    base = debian_tree(suite, _PACKAGES)
    tree = cache / suite
    shutil.rmtree(tree, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(tree)], check=True)  # noqa: S607
    clone = ("git", "clone", "-q", "--bare", "--depth=1", f"file://{ROOT}", str(tree / _REPOSITORY.lstrip("/")))
    subprocess.run(clone, check=True)
    subprocess.run(["chown", "-R", "1000", tree / _REPOSITORY.lstrip("/")], check=True)  # noqa: S607
    # The newcomer answers "yes".
    (tree / "etc/apt/apt.conf.d/yes").write_text('APT::Get::Assume-Yes "true";\n')
    pip = ["[global]", "cache-dir = /srv/pip"]
    pip += [f"index-url = {os.environ['PIP_INDEX_URL']}"] if "PIP_INDEX_URL" in os.environ else []
    if (Path("/") / _CERTIFICATES).exists():  # this machine may trust a proxy
        (tree / "srv/certificates.crt").write_bytes((Path("/") / _CERTIFICATES).read_bytes())
        pip += ["cert = /srv/certificates.crt"]
    (pip_cache := cache / "pip").mkdir(exist_ok=True)
    os.chown(pip_cache, 1000, 1000)
    (tree / "etc/pip.conf").write_text("\n".join([*pip, ""]))
    return tree


def play(text: Text, tree: Path, files: Path, folder: Path) -> float:
    """Type a text in a container of its own; return how many seconds that took the computer."""
    cache = tree.with_name("pip")  # what one text has downloaded, the next one need not
    with (
        Mosquitto(folder / "broker") as broker,
        subscribing(broker.port) as subscriber,
        Container(tree, folder, {}, [f"--bind={cache}:/srv/pip"]) as container,
    ):
        changes = {_ADDRESS: _REPOSITORY, "homeassistant.local": f"127.0.0.1:{broker.port}", '"auto"': '"demo"'}
        for name in ("etc/resolv.conf", "etc/hosts"):
            (container.root / name).unlink(missing_ok=True)
            shutil.copy(f"/{name}", container.root / name)
        newcomer = Newcomer(container, changes)
        started = time.monotonic()
        for command in text.commands:
            if any(each in command for each in _LEFT_OUT):
                continue
            _say(f"{time.monotonic() - started:4.0f} s  {command}")
            newcomer.type(command)
            if command.startswith("cd "):
                for path in files.iterdir():
                    newcomer.give(path, path.name)
                for name, content in text.files.items():
                    (folder / name).write_text(newcomer.changed(content))
                    newcomer.give(folder / name, name)
        newcomer.type(text.result)
        if text.discovered:
            wait_for(lambda: any(each.topic.startswith("homeassistant/device/") for each in subscriber.received))
        return time.monotonic() - started


def rows(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the rows of the table, as the texts end."""
    make_files(folder / "files")
    tree = make_tree(SUITES[options.debian], options.cache)
    for number, text in enumerate(texts()):
        if options.only and not any(each in text.name for each in options.only):
            continue
        _say(text.name)
        (home := folder / str(number)).mkdir()
        seconds = play(text, tree, folder / "files", home)
        if text.minutes >= _MAX_MINUTES:
            raise SystemExit(f"{text.name} takes {text.minutes:.0f} minutes to type; less than 10 are promised")
        yield f"| {text.name} | {len(text.commands)} | {text.minutes:.1f} | {seconds / 60:.1f} |"


def main() -> None:
    """Type the texts and print a table."""
    parser = argparse.ArgumentParser(prog="personas", description="Type the README and docs/start in fresh containers.")
    parser.add_argument("--debian", type=int, choices=sorted(SUITES), default=13, help="the release of Debian")
    parser.add_argument("--only", nargs="+", help="only texts that have one of these in their names")
    parser.add_argument("--cache", type=Path, default=_CACHE, help="a folder for the Debian, 0.3 GB")
    options = parser.parse_args()
    try:
        require_containers()
    except pytest.skip.Exception as error:
        raise SystemExit(str(error)) from None
    options.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.cache, prefix="run-") as temporary:
        table = list(rows(options, Path(temporary)))
    print(f"\nDebian {options.debian}\n\n| text | commands | minutes of typing | minutes in all |\n|---|---|---|---|")  # noqa: T201
    print("\n".join(table))  # noqa: T201


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
