"""Notices to systemd: the sd_notify protocol, one datagram per notice."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Final

RELOAD_FAILED: Final = "configuration not reloaded"  # begins the status after a reload that changed nothing
MODEL_STATUS: Final = "model "  # and its name end the status of a runner
_TIMEOUT: Final = 1.0  # seconds


def notify(state: str, *, timeout: float = _TIMEOUT) -> None:
    """Send a notice such as ``READY=1``, if systemd has asked for notices (sd_notify(3)).

    Args:
        state: the notice.
        timeout: seconds to wait for a receiver that has not read its earlier notices; then this one is lost.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    # The receiver may be gone, for example if the variable was inherited, or may no longer read. Neither must end or
    # stop the run.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.settimeout(timeout)
        sender.sendto(state.encode(), address)


def watchdog() -> None:
    """Tell the watchdog that the run goes on; one of many such notices may be lost."""
    notify("WATCHDOG=1", timeout=0)


def status(text: str) -> None:
    """Set the status line of ``systemctl status``."""
    notify(f"STATUS={' '.join(text.split())}")


def reloading() -> None:
    """Announce that the configuration is being reloaded; ``READY=1`` must follow, even if the reload fails."""
    # Services of Type=notify-reload must send the time; others ignore it.
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
