"""Notices to systemd: the sd_notify protocol, one datagram per notice."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Final

RELOAD_FAILED: Final = "configuration not reloaded"  # begins the status after a reload that changed nothing
MODEL_STATUS: Final = "model "  # and its name end the status of a runner


def notify(state: str) -> None:
    """Send a notice such as ``READY=1``, if systemd has asked for notices (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    # The receiver may be gone, for example if the variable was inherited. That must not end the run.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.sendto(state.encode(), address)


def status(text: str) -> None:
    """Set the status line of ``systemctl status``."""
    notify(f"STATUS={' '.join(text.split())}")


def reloading() -> None:
    """Announce that the configuration is being reloaded; ``READY=1`` must follow, even if the reload fails."""
    # Services of Type=notify-reload must send the time; others ignore it.
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
