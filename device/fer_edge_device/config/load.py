"""Load the configuration from a TOML file, ``FER_EDGE_*`` variables and command-line options."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fer_edge.errors import InputError, hide_named_passwords
from fer_edge.utils.bounded_file import read_text
from fer_edge.utils.toml import Section, find_problems, override, parse_toml, parse_value, to_struct
from fer_edge_device.config.settings import PATHS, Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from msgspec.structs import FieldInfo

SYSTEM_CONFIG: Final = Path("/etc/fer-edge/config.toml")
_PREFIX: Final = "FER_EDGE_"
_NOT_KEYS: Final = frozenset(
    {"FER_EDGE_NATIVE_LOG", "FER_EDGE_FER2013", "FER_EDGE_TAG_PASSWORD", "FER_EDGE_TAG_PASSWORD_FILE"}
)  # read by other parts, and by tests

_OPTIONS: Final = {"mqtt.url": "--mqtt", "web.listen": "--web"}  # which are not named after their keys


def load_config(
    path: Path | None = None, environment: Mapping[str, str] = os.environ, options: Mapping[str, object] | None = None
) -> Config:
    """Load the configuration.

    Variables override the file, and options override variables. In paths, ``~`` is the user's home.

    Args:
        path: the file; None reads `SYSTEM_CONFIG` if it exists.
        environment: variables such as ``FER_EDGE_CAMERA_STALL_TIMEOUT_S``: section and key in capitals.
        options: values by dotted key, such as ``camera.source``. None means that the option was not given.

    Raises:
        InputError: the file cannot be read, or a key or value is wrong. The message says where it was given.
    """
    values: dict[str, Any] = {}
    source_name = "configuration"
    if path is not None or SYSTEM_CONFIG.exists():
        path = path or SYSTEM_CONFIG
        source_name = str(path)
        values = parse_toml(_read(path), source_name)
        to_struct(values, Config, source_name)  # so that an error names the file, not a variable
    override(values, _variables(environment), Config)
    given = {option_name(key): (key, value) for key, value in (options or {}).items() if value is not None}
    override(values, given, Config)
    for key in PATHS:
        section, _, last = key.rpartition(".")
        table = values.get(section, {}) if section else values
        if last in table:
            table[last] = os.path.expanduser(table[last])  # noqa: PTH111 - pathlib would change addresses
    return to_struct(values, Config, source_name)


def file_problems(path: Path) -> list[str]:
    """Return everything that is wrong with the keys and values of a configuration file, a line each.

    Raises:
        InputError: the file cannot be read, or is not TOML.
    """
    return [f"{path}: {problem.message}" for problem in find_problems(parse_toml(_read(path), str(path)), Config)]


def option_name(key: str) -> str:
    """Return the option of `fer-edge run` that sets a key, if there is one."""
    return _OPTIONS.get(key) or f"--{key.replace('log.', 'log_').rpartition('.')[2].replace('_', '-')}"


def holds_password(address: str) -> bool:
    """Return whether an address contains a password, which a command line would show to every user."""
    address = re.sub(r"^([\w+.-]+://[^/?#]*):\d+(?=/)", r"\1", address)  # the port
    return hide_named_passwords(address) != address


def _read(path: Path) -> str:
    if path.is_file() and not os.access(path, os.R_OK):
        raise InputError(f"{path}: you may not read this configuration; use sudo, or join the group video")
    if str(path) == os.devnull:  # stands for no configuration, also not the system's
        return ""
    try:
        return read_text(path)
    except InputError as error:
        raise InputError(str(error).replace("cannot be read", "the configuration cannot be read")) from error


def _variables(environment: Mapping[str, str]) -> dict[str, tuple[str, object]]:
    """Return key and value of each variable of ours, by the variable's name."""
    keys = {key.replace(".", "_").upper(): (key, field) for key, field in _fields(Config)}
    variables: dict[str, tuple[str, object]] = {}
    for name, value in sorted(environment.items()):
        if not name.startswith(_PREFIX) or name in _NOT_KEYS:
            continue
        if name.removeprefix(_PREFIX) not in keys:
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), keys, 1)
            raise InputError(f"{name}: no such key{f'; did you mean {_PREFIX}{near[0]}?' if near else ''}")
        key, field = keys[name.removeprefix(_PREFIX)]
        is_text = isinstance(field.default, str)
        variables[name] = key, value if is_text else parse_value(value)
    return variables


def _fields(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield each key with its dotted name."""
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            yield from _fields(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field
