"""A disk with Debian for arm64, and the kernel that boots from it.

Everything in it is Debian's own, installed by mmdebstrap; QEMU emulates the maintainer scripts. Added are a unit that
runs the steps, and what keeps an emulated machine from doing needless work.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.system.containers import debian_archive

SUITES: Final = {12: "bookworm", 13: "trixie"}
JOB: Final = "/srv/job"
PORT: Final = "acceptance"  # the serial port on which the guest answers
_PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "linux-image-arm64", "zstd"),
    *("python3", "python3-venv", "mosquitto", "mosquitto-clients"),
)
_HOST_PACKAGES: Final = {
    "mmdebstrap": "mmdebstrap",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-aarch64-static": "qemu-user-static",
    "mke2fs": "e2fsprogs",
    "arch-test": "arch-test",
}
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# The initial RAM disk mounts the root file system, and needs nothing else.
_INITRD_HOOK: Final = """
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
echo MODULES=list > "$1/etc/initramfs-tools/conf.d/acceptance"
printf '%s\\n' virtio_pci virtio_blk ext4 > "$1/usr/share/initramfs-tools/modules.d/acceptance"
"""
_MMDEBSTRAP: Final = (
    # With its own mounts: if it is killed, no /proc or /dev stays mounted in a folder that is then removed.
    *("unshare", "--mount", "--propagation=private"),
    *("mmdebstrap", "--arch=arm64", "--variant=minbase", "--mode=root", f"--include={','.join(_PACKAGES)}"),
    *('--aptopt=Acquire::Languages "none"', "--dpkgopt=path-exclude=/usr/share/doc/*"),
    *("--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"),
    "--dpkgopt=path-exclude=*/udev/hwdb.d/*",  # a database of hardware, which takes minutes to compile
    f"--essential-hook={_INITRD_HOOK}",
)
_UNIT: Final = """\
[Unit]
Description=Steps of the acceptance test
Requires=dev-virtio\\x2dports-{port}.device
After=multi-user.target dev-virtio\\x2dports-{port}.device
[Service]
ExecStart=/usr/bin/python3 -uB -m {module}
Environment=HOME=/root LANG=C.UTF-8 PYTHONPATH={job}
StandardOutput=file:/dev/virtio-ports/{port}
StandardError=journal+console
ExecStopPost=/usr/bin/systemctl poweroff --force
"""
_FILES: Final = {
    "etc/fstab": "/dev/vda / ext4 noatime 0 0\n",
    "etc/hostname": "acceptance\n",
    "etc/hosts": "127.0.0.1 localhost acceptance\n",
    "etc/machine-id": "00000000000000000000000000000001\n",  # otherwise the first boot sets up all units anew
    # Of devices and of what Debian starts, which a busy machine delays; the service under test has limits of its own.
    "etc/systemd/system.conf.d/slow.conf": (
        "[Manager]\nDefaultTimeoutStartSec=3600s\nDefaultTimeoutStopSec=300s\nDefaultDeviceTimeoutSec=3600s\n"
    ),
}
_MASKED: Final = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("e2scrub_reap.service", "getty@tty1.service", "serial-getty@ttyAMA0.service", "ldconfig.service"),
)


@dataclass(frozen=True)
class Image:
    """What QEMU boots.

    Attributes:
        disk: a raw disk with one ext4 file system.
        kernel: its kernel.
        initrd: its initial RAM disk.
    """

    disk: Path
    kernel: Path
    initrd: Path


def debian_tree(release: int, cache: Path) -> Path:
    """Return the root folder of a Debian, which must not be changed. The first call builds it (some minutes).

    Args:
        release: 12 or 13.
        cache: the folder in which trees are kept; 0.8 GB each.

    Raises:
        SystemExit: something is missing on this machine; says what to install.
    """
    _require_programs()
    try:
        archive = debian_archive()
    except pytest.skip.Exception as error:
        raise SystemExit(str(error)) from None
    sources = (SUITES[release], "{tree}", f"deb {archive} {SUITES[release]} main")
    command = (*_MMDEBSTRAP, *sources)
    tree = cache / f"{SUITES[release]}-{hashlib.sha256(repr(command).encode()).hexdigest()[:12]}"
    if not tree.exists():
        _let_arm64_programs_run()
        unfinished = tree.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        _run(*(word.replace("{tree}", str(unfinished)) for word in command))
        unfinished.rename(tree)
    return tree


def make_image(tree: Path, job: Path, module: str, folder: Path) -> Image:
    """Make a disk from a tree, with a unit that runs a job at boot.

    Args:
        tree: a Debian.
        job: a folder with a module and its files, which is copied to the disk.
        module: the module that prints a line of JSON for each step.
        folder: where the image is written: 1 GB.
    """
    root = folder / "root"
    _run("cp", "-a", "--reflink=auto", str(tree), str(root))
    shutil.copytree(job, root / JOB.lstrip("/"))
    unit = _UNIT.format(module=module, job=JOB, port=PORT)
    for name, text in {**_FILES, "etc/systemd/system/acceptance.service": unit}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    units = root / "etc/systemd/system"
    for masked in _MASKED:
        (units / masked).unlink(missing_ok=True)
        (units / masked).symlink_to("/dev/null")
    (units / "multi-user.target.wants/acceptance.service").symlink_to("../acceptance.service")
    image = Image(folder / "disk", folder / "kernel", folder / "initrd")
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    (initrd,) = (root / "boot").glob("initrd.img-*")
    shutil.copy(kernel, image.kernel)
    shutil.copy(initrd, image.initrd)
    _run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", str(root), str(image.disk), "6G")
    shutil.rmtree(root)
    return image


def _require_programs() -> None:
    if os.geteuid() != 0:
        raise SystemExit("only root may build and boot a machine; run: sudo make acceptance-arm64")
    missing = sorted(package for name, package in _HOST_PACKAGES.items() if shutil.which(name, path=_PATH) is None)
    if missing:
        raise SystemExit(f"this needs more of the system; run: sudo apt install {' '.join(missing)}")


def _run(*command: str) -> None:
    # Of QEMU's default processor, pointer authentication would take most of the time.
    environment = {**os.environ, "PATH": _PATH, "QEMU_CPU": "cortex-a72"}
    environment.pop("TMPDIR", None)
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with status {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")


def _let_arm64_programs_run() -> None:
    """Tell this machine's kernel to run programs for arm64 by QEMU, if it does not know; systemd does it at boot."""
    test = ("arch-test", "arm64")
    if subprocess.run(test, capture_output=True, check=False).returncode == 0:
        return
    register = Path("/proc/sys/fs/binfmt_misc/register")
    if not register.exists():
        _run("mount", "-t", "binfmt_misc", "binfmt_misc", str(register.parent))
    register.write_bytes(Path("/usr/lib/binfmt.d/qemu-aarch64.conf").read_bytes())
