"""Measure how long it takes from ``apt install ./fer-edge_*.deb`` to a service that has processed a frame.

    sudo python -m benchmarks.debian_package dist/fer-edge_0.1.0+deb13_amd64.deb

A fresh Debian of the package's release is booted in a container without a network. The package is installed there, and
the service is started on the demo, which is a video; its start ends with the first frame. Then the package is removed,
and dpkg alone unpacks and configures it, which says what of the time of apt is whose. For each step, the script prints
the time on the wall, and the processor time, which other programs on the machine hardly change.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.system.arm64.image import SUITES
from tests.system.containers import UNIT, Container, debian_tree

# Processes that nobody waits for are counted too, because the program runs in a control group of its own.
_COUNTED: Final = """
group=$(mktemp -d /sys/fs/cgroup/step.XXXXXX)
echo "$$" >"$group/cgroup.procs"
"$@"
cat "$group/cpu.stat"
"""


class Cost(NamedTuple):
    """What a step took.

    Attributes:
        wall_s: the time on the wall.
        processor_s: the processor time of all its processes.
    """

    wall_s: float
    processor_s: float


def main() -> None:
    """Install the package, start the service, and print what each step took."""
    parser = argparse.ArgumentParser(prog="debian_package.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("package", type=Path, help="a package of make deb, for this machine's processor")
    package = parser.parse_args().package.resolve()
    release = re.search(r"\+deb(\d+)_", package.name)
    if release is None or not package.is_file():
        parser.error(f"{package}: not a package of make deb")
    deb = f"/srv/debs/{package.name}"
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,  # /tmp may be memory
        Container(debian_tree(SUITES[int(release[1])]), Path(folder), {"/srv/debs": package.parent}) as container,
    ):
        installed = measure(container, "apt-get", "-y", "-q", "install", deb)
        asked = measure(container, "fer-edge", "service", "install", "--camera=demo")
        service = container.run("systemctl", "show", "--property=CPUUsageNSec", "--value", UNIT).stdout
        started = Cost(asked.wall_s, asked.processor_s + int(service) / 1e9)
        container.run("apt-get", "-y", "-q", "purge", "fer-edge")
        unpacked = measure(container, "dpkg", "--unpack", deb)
        configured = measure(container, "dpkg", "--configure", "fer-edge")
        files = container.run("dpkg", "-L", "fer-edge").stdout.splitlines()
        space = int(container.run("du", "-sm", "/usr/lib/fer-edge").stdout.split()[0])
    print("| step | wall, s | processor, s |\n|---|---|---|")
    for name, cost in (
        ("apt install", installed),
        ("- of which dpkg unpacks", unpacked),
        ("- of which dpkg configures: Python compiles", configured),
        ("service install, with the first frame", started),
        ("all", Cost(installed.wall_s + started.wall_s, installed.processor_s + started.processor_s)),
    ):
        print(f"| {name} | {cost.wall_s:.1f} | {cost.processor_s:.1f} |")
    print(f"{package.stat().st_size / 1e6:.0f} MB; {len(files)} files and folders; {space} MB on the disk, compiled")


def measure(container: Container, *command: str) -> Cost:
    """Run a program in a container, and return what it and all that it started took."""
    start = time.monotonic()
    script = ("sh", "-euc", _COUNTED, "counted", *command)
    output = container.run(*script, DEBIAN_FRONTEND="noninteractive").stdout
    wall = time.monotonic() - start
    return Cost(wall, int(output.rpartition("usage_usec ")[2].split()[0]) / 1e6)


if __name__ == "__main__":
    main()
