"""Steps that install the configuration and the broker's password."""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.limits import TEXT_BYTES
from fer_edge.utils.toml import parse_toml, to_struct
from fer_edge_device.config.edit import edit_config
from fer_edge_device.config.load import holds_password, load_config
from fer_edge_device.config.render import example
from fer_edge_device.config.settings import PATHS, Config
from fer_edge_device.install.models import ModelChange, record_steps
from fer_edge_device.install.paths import PASSWORD, SHIPPED_CONFIG, STATE_FOLDER, config_path
from fer_edge_device.install.systemd_units import unit_name
from fer_edge_device.install.transaction import Step, file_step, folder_step, restorer, write_file

if TYPE_CHECKING:
    from fer_edge_device.install.host import Host
    from fer_edge_device.install.options import InstallOptions

_NOT_PATHS: Final = {"model": r"[^/.]+", "camera.source": r"auto|demo|picamera2(:[0-9]+)?|[0-9]+|[\w+.-]+://.*"}
_HIDDEN_FOLDERS: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - hidden by the unit


def config_steps(host: Host, options: InstallOptions) -> list[Step]:
    """Return the steps that install the configuration; none if it is already there.

    Raises:
        InputError: an option is wrong, or contradicts the configuration that is there.
    """
    _check_options(options)
    path = config_path(host, options.instance)
    current = path.read_bytes() if path.is_file() else None
    shipped = host.root / SHIPPED_CONFIG
    if shipped.is_file() and current == shipped.read_bytes():  # nobody has changed it yet
        if options.config is None and options.camera is None and options.mqtt is None:
            return []
        current = None
    if current is not None and not (options.replace and options.config):
        _check_matches(path, options)
        return []
    if options.config is None:
        given = {"camera.source": options.camera, "mqtt.url": options.mqtt}
        text, source_name = example({key: value for key, value in given.items() if value is not None}), "options"
    else:
        text, source_name = _given_text(options.config, options), str(options.config)
    wanted = to_struct(parse_toml(text, source_name), Config, source_name)
    _check_paths(wanted, options.instance)
    if text.encode() == current:
        return []

    def write() -> None:
        # Readable for the group that may open cameras: the address of a camera may contain its password.
        write_file(path, text.encode(), 0o640)
        host.run("chgrp", "video", str(path))

    return [
        *folder_step(path.parent),
        *_model_record_steps(host, path, wanted.model),
        Step(f"write {path}", write, restorer(path)),
    ]


def _model_record_steps(host: Host, path: Path, model: str) -> list[Step]:
    """Return the steps that record the model before, if a configuration with another one is replaced."""
    try:
        before = load_config(path, {}).model if path.is_file() else model
    except InputError:  # what is replaced may be damaged
        return []
    return [] if before == model else record_steps(host, {path.stem: ModelChange(before, model)})


def password_steps(host: Host, options: InstallOptions) -> list[Step]:
    """Return the steps that install the broker's password.

    Raises:
        InputError: the file cannot be read, or is empty.
    """
    if options.password_file is None:
        return []
    password = read_bytes(options.password_file, TEXT_BYTES, InputError)
    if not password.strip():
        raise InputError(f"{options.password_file}: contains no password")
    path = host.root / PASSWORD
    return [*folder_step(path.parent, 0o700), *file_step(path, password, 0o600)]


def _check_options(options: InstallOptions) -> None:
    if options.config is not None and (options.camera is not None or options.mqtt is not None):
        raise InputError("--config cannot be combined with --camera or --mqtt; write these into the file")
    if options.mqtt is not None and holds_password(options.mqtt):
        raise InputError("--mqtt: every user can see a password on the command line; use --password-file")
    if options.camera is not None and holds_password(options.camera):
        raise InputError(
            "--camera: every user can see a password on the command line; write the address into a file as"
            " camera.source, and give that file with --config"
        )


def _given_text(path: Path, options: InstallOptions) -> str:
    """Return the text of the given configuration, without its password file if --password-file replaces it."""
    own_password_file = load_config(path, {}).mqtt.password_file  # also reports what is wrong with the file
    text = path.read_text("utf-8")
    if own_password_file and options.password_file:
        return edit_config(text, str(path), remove_password_file=True)
    return text


def _check_matches(path: Path, options: InstallOptions) -> None:
    """Check that the configuration that is there contains what the options ask for; it is never overwritten."""
    current = load_config(path, {})
    _check_paths(current, options.instance)
    given = None if options.config is None else _given_text(options.config, options)
    has_password_file = current.mqtt.password_file != ""
    for option, key, differs in (
        ("--config", "content", given is not None and given != path.read_text("utf-8")),
        ("--password-file", "mqtt.password_file", options.password_file is not None and has_password_file),
        ("--camera", "camera.source", options.camera is not None and options.camera != current.camera.source),
        ("--mqtt", "mqtt.url", options.mqtt is not None and options.mqtt != current.mqtt.url),
    ):
        if differs:
            raise InputError(
                f"{path} exists and has another {key} than {option} gives. It is never overwritten: change it there,"
                " then run: sudo systemctl reload-or-restart 'fer-edge*'"
            )


def _check_paths(config: Config, instance: str | None) -> None:
    """Check the paths: the service runs in /, sees no home folders, and writes only to its state folder."""
    state = Path("/", STATE_FOLDER, unit_name(instance).removesuffix(".service"))
    for key, path in (("outbox.path", config.outbox.path), ("collect.path", config.collect.path)):
        if path and not Path(path).is_relative_to(state):
            raise InputError(f"{key} {path!r}: the service can write only to {state}; remove the key")
    for key in PATHS:
        value: str = attrgetter(key)(config)
        if re.fullmatch(_NOT_PATHS.get(key, ""), value):
            continue
        if not value.startswith("/"):
            advice = "give the file with --password-file" if key == "mqtt.password_file" else "give the full path"
            raise InputError(f"{key} {value!r}: the service runs in / and does not find it; {advice}")
        if any(Path(value).is_relative_to(folder) for folder in _HIDDEN_FOLDERS):
            raise InputError(f"{value}: the service cannot see this folder; put the file under /srv, for example")
