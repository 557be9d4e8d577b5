"""A machine for arm64 that QEMU emulates."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.system.arm64.image import PORT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.arm64.image import Image


def boot(image: Image, console: Path, timeout_s: float) -> Iterator[dict[str, Any]]:
    """Boot a machine, and yield what its steps report, until it ends or its time is up. The image does not change.

    Args:
        image: what it boots.
        console: a file for the console of its kernel and systemd.
        timeout_s: seconds after which it is killed.
    """
    command = (
        *("nice", "-n", "5", "qemu-system-aarch64", "-nodefaults", "-nographic", "-no-reboot"),
        # A Raspberry Pi 4's processor, without the pointer authentication of later ones, which is slow to emulate.
        *("-machine", "virt", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "2048"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", "root=/dev/vda rw console=ttyAMA0 loglevel=4 audit=0"),
        *("-drive", f"if=none,id=disk,file={image.disk},format=raw,cache=unsafe,snapshot=on"),
        *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=console,path={console}", "-serial", "chardev:console"),
        *("-chardev", "stdio,id=steps,signal=off", "-device", "virtio-serial-pci"),
        *("-device", f"virtserialport,chardev=steps,name={PORT}"),
    )
    with (
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # at its end QEMU would close the port
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(console.parent)},
        ) as machine,
        _killed_after(machine, timeout_s),
    ):
        assert machine.stdout is not None
        for line in machine.stdout:
            yield json.loads(line)


@contextmanager
def _killed_after(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        process.kill()
