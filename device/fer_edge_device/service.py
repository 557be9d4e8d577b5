"""Telling systemd how the service is: the sd_notify protocol, one datagram a notice."""

from __future__ import annotations

import contextlib
import os
import socket


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
