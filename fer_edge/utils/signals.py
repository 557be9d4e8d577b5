"""Signals that end a program, at moments when it can end."""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP only at the end of the block.

    Threads other than the main one are never interrupted, so nothing has to be done in them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in _ENDING
        if callable(signal.getsignal(number))  # Python does not interrupt the program for any other
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for one in received:
            signal.raise_signal(one)


@contextmanager
def catch_end() -> Iterator[Callable[[], int]]:
    """Catch SIGINT and SIGTERM, in whichever thread they arrive; main thread only.

    A signal that is ignored stays ignored: a shell starts background jobs with SIGINT ignored.

    Yields:
        A function that waits until one of them has arrived, and returns its number.
    """
    received: list[int] = []
    wanted = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not signal.SIG_IGN]
    ours, theirs = socket.socketpair()

    def wait() -> int:
        while not received:
            ours.recv(1)  # each signal is a byte, so that this thread wakes up and calls the handler
        return received[0]

    with ours, theirs:
        theirs.setblocking(False)  # noqa: FBT003 - takes no keyword
        previous = signal.set_wakeup_fd(theirs.fileno())
        handlers = {each: signal.signal(each, lambda number, _: received.append(number)) for each in wanted}
        try:
            yield wait
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)
            signal.set_wakeup_fd(previous)
