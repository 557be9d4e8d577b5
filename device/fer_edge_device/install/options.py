"""Options of the service that a user can choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class InstallOptions:
    """The options of an installation.

    Attributes:
        config: a configuration file to install, without its ``mqtt.password_file`` if `password_file` is set.
        camera: the source of frames, for a new configuration.
        mqtt: the address of the broker, for a new configuration.
        password_file: a file with the broker's password.
        instance: the name of the camera, if the host has several.
        model: a model file to install; the configuration names it.
        replace: whether to replace a program and a configuration that are already installed.
    """

    config: Path | None = None
    camera: str | None = None
    mqtt: str | None = None
    password_file: Path | None = None
    instance: str | None = None
    model: Path | None = None
    replace: bool = False
