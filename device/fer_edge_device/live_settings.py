"""Settings that may be changed over MQTT while the runner runs, and their copy on disk."""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fer_edge.errors import FerEdgeError, InputError, first_line
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.toml import Section
from fer_edge.utils.validation import explain
from fer_edge_device.config.settings import EventsSettings, HoldTime, Margin

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

_MAX_BYTES: Final = 1000


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in use; those of `EventsSettings` with the same names."""

    margin: float
    hold_s: float


class SettingsChange(Section, frozen=True, kw_only=True, omit_defaults=True):
    """New values of settings; None leaves one as it is."""

    margin: Margin | None = None
    hold_s: HoldTime | None = None

    def changes(self) -> dict[str, float]:
        """Return the new values by name."""
        values: dict[str, float] = msgspec.to_builtins(self)
        return values


def parse_change(payload: bytes) -> SettingsChange:
    """Read a change in JSON, such as ``{"margin": 0.2}``.

    Raises:
        InputError: it is something else, or a value is out of bounds.
    """
    if len(payload) > _MAX_BYTES:
        raise InputError('the settings are too long; send JSON such as {"margin": 0.2}')
    try:
        change = msgspec.json.decode(payload, type=SettingsChange)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _no_change(explain(error, SettingsChange).message) from error
    if not change.changes():
        raise _no_change("it names none")
    return change


def _no_change(problem: str) -> InputError:
    return InputError(f'no setting was changed: {problem}; send JSON such as {{"margin": 0.2}}')


class _SavedValue(msgspec.Struct, frozen=True, kw_only=True):
    """A value that was set over MQTT.

    Attributes:
        value: the value.
        configured: the value in the configuration at that time.
    """

    value: float
    configured: float


class SavedSettings:
    """The values that were set over MQTT, kept beside the outbox, so that they survive a restart.

    The latest change wins: a value counts until the configuration has another one than at the time it was set.
    """

    def __init__(self, outbox: Path) -> None:
        """Use the file beside an outbox.

        Args:
            outbox: path of the outbox.
        """
        self._path = outbox.with_name(f"{outbox.name}.settings.json")
        self._lock = Lock()

    def apply(self, configured: EventsSettings) -> EventsSettings:
        """Return the configured settings with the saved values in place."""
        with self._lock:
            return _merge(configured, self._read(configured))

    def change(self, change: SettingsChange, configured: EventsSettings) -> EventsSettings:
        """Save new values, and return the settings to use; if they cannot be saved, log a warning.

        Args:
            change: the new values.
            configured: the settings of the configuration.
        """
        with self._lock:
            saved = self._read(configured)
            new = {
                name: _SavedValue(value=value, configured=getattr(configured, name))
                for name, value in change.changes().items()
            }
            if all(saved.get(name) == entry for name, entry in new.items()):  # an SD card wears out
                return _merge(configured, saved)
            saved |= new
            try:
                with replacing(self._path) as temporary:
                    temporary.chmod(0o600)
                    temporary.write_bytes(msgspec.json.encode(saved))
            except (FerEdgeError, OSError) as error:
                logger.warning(
                    "%s: cannot save the settings (%s); they hold only until the next start",
                    self._path,
                    first_line(error),
                )
            return _merge(configured, saved)

    def _read(self, configured: EventsSettings) -> dict[str, _SavedValue]:
        """Return the saved values that the configuration has not overtaken."""
        try:
            with self._path.open("rb") as file:
                saved = msgspec.json.decode(file.read(_MAX_BYTES), type=dict[str, _SavedValue])
            msgspec.convert({name: entry.value for name, entry in saved.items()}, SettingsChange)
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            logger.warning("%s: cannot be read (%s); using the configuration", self._path, first_line(error))
            return {}
        return {name: entry for name, entry in saved.items() if entry.configured == getattr(configured, name)}


def _merge(configured: EventsSettings, saved: dict[str, _SavedValue]) -> EventsSettings:
    values: dict[str, Any] = {name: entry.value for name, entry in saved.items()}
    return msgspec.structs.replace(configured, **values)
