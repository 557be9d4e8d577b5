"""What ``fer-edge deploy`` brings to hosts, looked through before anything is done to them."""

from __future__ import annotations

import email.parser
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

import fer_edge
from fer_edge.errors import FerEdgeError, InputError
from fer_edge.model_zoo import find_model
from fer_edge.modelcard.archive import check_flatbuffer, model_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_device.config.edit import fitted
from fer_edge_device.config.load import load_config
from fer_edge_device.install.installer import model_path
from fer_edge_device.install.remote_install import ORDER, Order
from fer_edge_device.install.systemd_units import Machine
from fer_edge_device.install.venvs import own_origin

_CONFIG: Final = "config.toml"
_PASSWORD: Final = "password"  # noqa: S105 - a file's name


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a host gets.

    Attributes:
        order: what is to be done with the files.
        files: by their names there, files of this machine.
        config: text of the configuration; None to leave the host its own.
    """

    order: Order
    files: dict[str, Path]
    config: str | None = None

    def lay_out(self, folder: Path) -> None:
        """Put all of it into a folder, the files as links."""
        for name, path in self.files.items():
            (folder / name).symlink_to(path.resolve())
        if self.config is not None:
            (folder / _CONFIG).write_text(self.config, encoding="utf-8")
        (folder / ORDER).write_bytes(msgspec.json.encode(self.order))


def pack(wheel: Path, *, model: Path | None = None, config: Path | None = None) -> Parcel:
    """Put together what hosts get, and look whether it is fit.

    Args:
        wheel: of fer-edge.
        model: a ``.tflite`` with a card, or the name of one that is shipped.
        config: a configuration.  Its ``mqtt.password_file``, where it is a file here, becomes the password that the
            service is given; every other path in it is the host's.

    Raises:
        InputError: one of them is missing or damaged.
    """
    _check_wheel(wheel)
    files = {wheel.name: wheel}
    named = model_file = text = password = None
    if model is not None:
        found = find_model(model)
        check_flatbuffer(found, read_card(found, ClassifierCard), model_bytes(found))
        named = str(model)
        if found == model:
            model_file = f"{re.sub(r'[^A-Za-z0-9_.-]', '-', model.stem)}.tflite"
            named = str(model_path(Machine(), Path(model_file)))
            files[model_file] = model
    if config is not None:
        password = _password_file(config)
        if password:
            files[_PASSWORD] = password
        text = fitted(_text(config), str(config), model=named, without_password_file=password is not None)
    order = Order(
        wheel=wheel.name,
        model=named,
        model_file=model_file,
        config=_CONFIG if text is not None else None,
        password=_PASSWORD if password else None,
    )
    return Parcel(order, files, text)


def _text(config: Path) -> str:
    load_config(config, {})  # tells what is wrong with it
    return config.read_text(encoding="utf-8")


def _password_file(config: Path) -> Path | None:
    named = load_config(config, {}).mqtt.password_file
    path = config.parent / named
    if not named or (Path(named).is_absolute() and not path.exists()):  # the host's own
        return None
    try:
        if not path.read_bytes().strip():
            raise InputError(f"{path}: there is no password in it")
    except OSError as error:
        raise InputError(f"{path}, the password_file of {config}: cannot be read ({error.strerror})") from error
    return path


def _check_wheel(wheel: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            metadata = email.parser.BytesParser().parsebytes(archive.read(name))
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise InputError(f"{wheel}: not a wheel that can be read; leave --wheel out in a clone of fer-edge") from error
    if wheel.suffix != ".whl" or metadata["Name"] != "fer-edge":
        raise InputError(f"{wheel}: not a wheel of fer-edge but of {metadata['Name']}")


def build_wheel(folder: Path) -> Path:
    """Build a wheel of the clone that this runs from, or was installed from.

    Args:
        folder: where to put it.

    Raises:
        InputError: there is no such clone.
        FerEdgeError: it cannot be built.
    """
    clone = Path(fer_edge.__file__).parents[1]
    if not (clone / "pyproject.toml").is_file():
        clone = Path(own_origin().requirement)
    if clone.is_file():
        return clone
    if not (clone / "pyproject.toml").is_file():
        raise InputError("this fer-edge comes from no clone, of which a wheel could be built: give --wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(clone)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own clone
    built = list(folder.glob("*.whl"))
    if done.returncode or not built:
        last = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise FerEdgeError(f"{clone}: no wheel can be built of it ({last}); build one and give --wheel")
    return built[0]
