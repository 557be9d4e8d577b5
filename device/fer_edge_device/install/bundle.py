"""The files that ``fer-edge deploy`` installs on hosts, checked before anything is changed there."""

from __future__ import annotations

import email.parser
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

import fer_edge
from fer_edge.errors import DataError, FerEdgeError, InputError
from fer_edge.model_zoo import find_model
from fer_edge.modelcard.archive import check_flatbuffer, model_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge.utils.bounded_file import read_bytes, read_text
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.limits import CARD_BYTES, MODEL_BYTES, TEXT_BYTES
from fer_edge.utils.zip_reader import open_zip
from fer_edge_device.config.edit import edit_config
from fer_edge_device.config.load import load_config
from fer_edge_device.install.host import Host
from fer_edge_device.install.manifest import MANIFEST, Manifest
from fer_edge_device.install.models import installed_name, installed_value
from fer_edge_device.install.paths import TRUSTED_KEYS
from fer_edge_device.install.program_source import own_program_source
from fer_edge_device.install.signatures import check_signature, requires_signatures, signature_path

_CONFIG: Final = "config.toml"
_PASSWORD: Final = "password"  # noqa: S105 - a file's name


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is copied to a host.

    Attributes:
        manifest: what to do with the files.
        files: paths on this machine, by their names on the host.
        config: the text of the configuration; None leaves the host its own.
    """

    manifest: Manifest
    files: dict[str, Path]
    config: str | None = None

    def write(self, folder: Path) -> None:
        """Write everything into a folder; the files become links."""
        for name, path in self.files.items():
            (folder / name).symlink_to(path.resolve())
        if self.config is not None:
            (folder / _CONFIG).write_text(self.config, encoding="utf-8")
        (folder / MANIFEST).write_bytes(msgspec.json.encode(self.manifest))


def make_bundle(
    wheel: Path | None, *, model: Path | None = None, config: Path | None = None, model_back: bool = False
) -> Bundle:
    """Collect and check what hosts get.

    Args:
        wheel: the wheel of fer-edge; None leaves the program of each host, and only the model changes.
        model: a ``.tflite`` file with a model card, or the name of a shipped model.
        config: a configuration. If its ``mqtt.password_file`` is a file on this machine, that becomes the service's
            password; every other path in it is a path on the host.
        model_back: whether the cameras get the model that they had before; then there are no files.

    Raises:
        InputError: a file is missing or damaged, or this machine requires a signature that it does not have.
    """
    files: dict[str, Path] = {}
    if wheel is not None:
        _check_wheel(wheel)
        files = {wheel.name: wheel, **_signature(wheel, wheel.name)}
    model_value = model_file = text = password = None
    if model is not None:
        found = find_model(model)
        check_flatbuffer(found, read_card(found, ClassifierCard), model_bytes(found))
        model_value = str(model)
        if found == model:
            model_file = installed_name(model, read_bytes(model, MODEL_BYTES, InputError))
            model_value = installed_value(model_file)
            files |= {model_file: model, **_signature(model, model_file)}
    if config is not None:
        password = _password_file(config)
        if password:
            files[_PASSWORD] = password
        text = read_text(config)
        text = edit_config(text, str(config), model=model_value, remove_password_file=password is not None)
    manifest = Manifest(
        wheel=wheel.name if wheel is not None else None,
        model=model_value,
        model_file=model_file,
        config=_CONFIG if text is not None else None,
        password=_PASSWORD if password else None,
        model_back=model_back,
    )
    return Bundle(manifest, files, text)


def _signature(path: Path, name: str) -> dict[str, Path]:
    """Check the signature of a file if this machine requires it; return the signature, if there is one, for the host.

    Raises:
        InputError: this machine requires a signature that the file does not have.
    """
    check_signature(Host(), path, path.read_bytes())
    signature = signature_path(path)
    return {signature_path(Path(name)).name: signature} if signature.is_file() else {}


def _password_file(config: Path) -> Path | None:
    """Return the password file of a configuration, or None if it is a path on the host."""
    value = load_config(config, {}).mqtt.password_file
    path = config.parent / value
    if not value or (Path(value).is_absolute() and not path.exists()):
        return None
    try:
        password = read_bytes(path, TEXT_BYTES, InputError)
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise InputError(f"{path}, the password_file of {config}: {reason}") from error
    if not password.strip():
        raise InputError(f"{path}: contains no password")
    return path


def _check_wheel(wheel: Path) -> None:
    try:
        with open_zip(wheel) as archive:
            member = next(one for one in archive.members if re.fullmatch(r"[^/]+\.dist-info/METADATA", one.name))
            metadata = email.parser.BytesParser().parsebytes(member.read(CARD_BYTES))
    except (DataError, UnpackError, StopIteration) as error:
        raise InputError(f"{wheel}: not a readable wheel; without --wheel, one is built from the clone") from error
    if wheel.suffix != ".whl" or metadata["Name"] != "fer-edge":
        raise InputError(f"{wheel}: not a wheel of fer-edge but of {metadata['Name']}")


def build_wheel(folder: Path) -> Path:
    """Build a wheel from the clone that this program runs from, or was installed from.

    Args:
        folder: where the wheel is written.

    Raises:
        InputError: there is no such clone, or this machine requires a signature.
        FerEdgeError: the build failed.
    """
    clone = Path(fer_edge.__file__).parents[1]
    if not (clone / "pyproject.toml").is_file():
        clone = Path(own_program_source().requirement)
    if clone.is_file():
        return clone
    if not (clone / "pyproject.toml").is_file():
        raise InputError("this fer-edge was not installed from a clone, so no wheel can be built; give --wheel")
    if requires_signatures(host := Host()):
        raise InputError(
            f"{host.root / TRUSTED_KEYS} has keys, and what is built from {clone} is not signed; give a wheel that is,"
            " with --wheel"
        )
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(clone)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own clone
    built = list(folder.glob("*.whl"))
    if done.returncode or not built:
        reason = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise FerEdgeError(f"{clone}: building a wheel failed ({reason}); build one yourself and give --wheel")
    return built[0]
