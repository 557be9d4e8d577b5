"""Telling systemd how the service is: the sd_notify protocol, one datagram a notice."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(state: str) -> None:
    """Send a notice such as ``READY=1`` where systemd asked for them, else do nothing (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    # Whoever asked may have gone, as when a variable was inherited; that must not end the run.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.sendto(state.encode(), address)


def status(text: str) -> None:
    """Say in one line what the service is doing, for ``systemctl status``."""
    notify(f"STATUS={' '.join(text.split())}")


def reloading() -> None:
    """Say that the configuration is being read anew; a notice ``READY=1`` ends it, whatever came of it."""
    # The time is what services of Type=notify-reload must send; the others ignore it.
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
