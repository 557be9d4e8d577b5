"""The classifiers of a host: their files, and which one each camera had before.

The name of a file contains the first digits of its hash, so that no model ever replaces the file of another.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import InputError, ServiceError
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.limits import CARD_BYTES, MODEL_BYTES
from fer_edge_device.config.load import load_config
from fer_edge_device.install.paths import CONFIG_FOLDER, MODEL_FOLDER
from fer_edge_device.install.signatures import check_signature
from fer_edge_device.install.transaction import Step, file_step, folder_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fer_edge_device.install.host import Host

DIGITS: Final = 8  # of a hash, in names of files and in messages
_RECORD: Final = "earlier.json"


class ModelChange(msgspec.Struct, frozen=True):
    """The last change of a camera's model.

    Attributes:
        before: the configuration's ``model`` before the change.
        after: that after it.
    """

    before: str
    after: str


_CHANGES: Final = msgspec.json.Decoder(dict[str, ModelChange])


def installed_name(model: Path, content: bytes) -> str:
    """Return the name under which a model file is installed."""
    digits = hashlib.sha256(content).hexdigest()[:DIGITS]
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", model.stem).removesuffix(f"-{digits}")
    return f"{stem}-{digits}.tflite"


def installed_value(name: str) -> str:
    """Return the configuration's ``model`` for an installed file."""
    return f"/{MODEL_FOLDER}/{name}"


def file_on(host: Host, value: str) -> str:
    """Return the file of a configuration's ``model``, or the name of a shipped model."""
    return str(host.root / value.removeprefix("/")) if value.startswith("/") else value


def model_steps(host: Host, model: Path | None) -> list[Step]:
    """Return the steps that install a model file, which nothing uses yet.

    Raises:
        InputError: the file cannot be read, or this host requires a signature that it does not have.
    """
    if model is None:
        return []
    content = read_bytes(model, MODEL_BYTES, InputError)
    check_signature(host, model, content)
    path = host.root / MODEL_FOLDER / installed_name(model, content)
    return [*folder_step(host.root / CONFIG_FOLDER), *folder_step(path.parent), *file_step(path, content)]


def self_test_step(host: Host, venv: Path, value: str) -> Step:
    """Return the step that checks a model with the program of a venv: it must give the outputs on its card."""

    def do() -> None:
        try:
            # A process of its own: the installer itself has neither NumPy nor a runtime.
            host.run(str(venv / "bin/python"), "-IBm", "fer_edge_device.install.self_test", file_on(host, value))
        except ServiceError as error:
            raise ServiceError(str(error).removeprefix("python: ")) from error

    return Step(f"test the model {value}", do, lambda: None)


def last_changes(host: Host) -> dict[str, ModelChange]:
    """Return the last change of each camera's model, by the names of their configurations."""
    path = host.root / MODEL_FOLDER / _RECORD
    if not path.is_file():
        return {}
    try:
        return _CHANGES.decode(read_bytes(path, CARD_BYTES, InputError))
    except msgspec.MsgspecError as error:
        raise InputError(f"{path}: damaged ({error}); remove it") from error


def record_steps(host: Host, changes: Mapping[str, ModelChange]) -> list[Step]:
    """Return the steps that record changes of models; they come before the changes."""
    path = host.root / MODEL_FOLDER / _RECORD
    recorded = {**last_changes(host), **changes}
    return [*folder_step(path.parent), *file_step(path, msgspec.json.encode(recorded, order="sorted"))]


def cleaning_step(host: Host) -> Step:
    """Return the step that removes installed files which no camera uses or used before; it comes last."""

    def do() -> None:
        used = {name for change in last_changes(host).values() for name in (change.before, change.after)}
        used |= {load_config(path, {}).model for path in (host.root / CONFIG_FOLDER).glob("*.toml")}
        for path in _installed_files(host):
            if installed_value(path.name) not in used:
                path.unlink()

    def do_if_known() -> None:
        with suppress(InputError):  # a damaged configuration: it cannot be known what its camera uses
            do()

    return Step("remove models that no camera uses", do_if_known, None)


def _installed_files(host: Host) -> Iterator[Path]:
    """Yield the files that were installed here, without those that somebody has put beside them."""
    for path in sorted((host.root / MODEL_FOLDER).glob("*.tflite")):
        if path.is_file() and path.name == installed_name(path, path.read_bytes()):
            yield path
