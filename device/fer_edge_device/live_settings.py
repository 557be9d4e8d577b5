"""Settings that may be changed over MQTT while the runner runs, and their copy on disk."""

from __future__ import annotations

import logging
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fer_edge.errors import FerEdgeError, InputError, first_line
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.toml import Section
from fer_edge.utils.validation import explain
from fer_edge_device.config.settings import EventsSettings, HoldTime, Margin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger(__name__)

_MAX_BYTES: Final = 1000
_WRITE_INTERVAL: Final = 1.0  # minimum seconds between two writes of the file


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in use that can be changed over MQTT; the keys of ``[events]`` with the same names."""

    margin: Margin
    hold_s: HoldTime


class SettingsChange(Section, frozen=True, kw_only=True, omit_defaults=True):
    """New values of settings, one or both; None leaves one as it is."""

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

    A thread writes the file, at most once a second: whoever sends many changes neither wears out an SD card nor delays
    the command behind them, which may be an OFF.
    """

    def __init__(self, outbox: Path, on_saved: Callable[[], None] = lambda: None) -> None:
        """Use the file beside an outbox.

        Args:
            outbox: path of the outbox.
            on_saved: called on the thread when changes are on the disk, or could not be written.
        """
        self._on_saved = on_saved
        self._path = outbox.with_name(f"{outbox.name}.settings.json")
        self._lock = Lock()
        self._saved: dict[str, _SavedValue] | None = None  # None: not read yet
        self._writer: Thread | None = None  # as long as something is to be written
        self._unwritten = False
        self._closing = Event()

    def apply(self, configured: EventsSettings) -> EventsSettings:
        """Return the configured settings with the saved values in place."""
        with self._lock:
            return _merge(configured, self._current(configured))

    def change(self, change: SettingsChange, configured: EventsSettings) -> None:
        """Save new values soon; if they cannot be saved, a warning is logged.

        Args:
            change: the new values.
            configured: the settings of the configuration.
        """
        with self._lock:
            saved = self._current(configured)
            new = {
                name: _SavedValue(value=value, configured=getattr(configured, name))
                for name, value in change.changes().items()
            }
            if any(saved.get(name) != entry for name, entry in new.items()):  # an SD card wears out
                self._saved = saved | new
                self._unwritten = True
                if self._writer is None:
                    # A daemon, because a disk that hangs must not keep the process from exiting.
                    self._writer = Thread(target=self._write, name="settings", daemon=True)
                    self._writer.start()

    def close(self, timeout: float = 2.0) -> None:
        """Write what is not written yet, and write at once from now on.

        Args:
            timeout: maximum seconds to wait for the disk.
        """
        self._closing.set()
        with self._lock:
            writer = self._writer
        if writer is not None:
            writer.join(timeout)

    def _write(self) -> None:
        while True:
            with self._lock:
                if not self._unwritten:
                    self._writer = None
                    return
                self._unwritten = False
                content = msgspec.json.encode(self._saved)
            try:
                with replacing(self._path) as temporary:
                    temporary.chmod(0o600)
                    temporary.write_bytes(content)
            except (FerEdgeError, OSError) as error:
                logger.warning(
                    "%s: cannot save the settings (%s); they hold only until the next start",
                    self._path,
                    first_line(error),
                )
            self._on_saved()
            self._closing.wait(_WRITE_INTERVAL)

    def _current(self, configured: EventsSettings) -> dict[str, _SavedValue]:
        """Return the saved values that the configuration has not overtaken."""
        if self._saved is None:
            self._saved = self._read()
        return {name: entry for name, entry in self._saved.items() if entry.configured == getattr(configured, name)}

    def _read(self) -> dict[str, _SavedValue]:
        try:
            with self._path.open("rb") as file:
                saved = msgspec.json.decode(file.read(_MAX_BYTES), type=dict[str, _SavedValue])
            msgspec.convert({name: entry.value for name, entry in saved.items()}, SettingsChange)
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            logger.warning("%s: cannot be read (%s); using the configuration", self._path, first_line(error))
            return {}
        return saved


def _merge(configured: EventsSettings, saved: dict[str, _SavedValue]) -> EventsSettings:
    values: dict[str, Any] = {name: entry.value for name, entry in saved.items()}
    return msgspec.structs.replace(configured, **values)
