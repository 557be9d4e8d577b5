"""Run the parts that a Raspberry Pi of 512 MB runs, each within a limit of memory.

    sudo .venv-dev/bin/python -m benchmarks.memory [run run-1080p tag tag-large install]

Each case runs in a control group (cgroup, version 1 or 2) of its own: `run` with 250 MB, `tag` with four workers and
`service install` with 400 MB. Memory that the kernel can take back, such as cached files, counts towards the limit, but
not towards the peaks that are printed. "Killed" is how often the kernel ended a process for want of memory. Version 2
was tried with Linux 6.1 in user mode.

``install`` boots a Debian container and installs the service in it, as the tests do; the whole container is within the
limit. Its Debian packages and wheels are fetched first. The exit status is 1 if a case fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge import demo
from tests.system.containers import debian_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUPS: Final = Path("/sys/fs/cgroup")
FER_EDGE: Final = (sys.executable, "-m", "fer_edge.cli")
PIP: Final = (sys.executable, "-m", "pip", "-qq")
ROOT: Final = Path(__file__).resolve().parents[1]
WORKERS: Final = 4  # a Zero 2 W has four cores
RUN_MB: Final = 250
OTHER_MB: Final = 400
CASES: Final = ("run", "run-1080p", "tag", "tag-large", "install")


@dataclass
class Outcome:
    """The outcome of a case.

    Attributes:
        status: exit status of its program.
        peak_mb: highest memory that the kernel cannot take back, in megabytes.
        kills: number of processes that were killed for want of memory.
        seconds: how long it took.
        output: last line that it printed.
    """

    status: int
    peak_mb: float
    kills: int
    seconds: float
    output: str


class Limit:
    """A control group with a limit of memory."""

    def __init__(self, folder: Path, *, unified: bool) -> None:
        """Use a group that exists.

        Args:
            folder: the group's folder.
            unified: whether it is of version 2.
        """
        self._folder, self._unified = folder, unified

    def run(self, *command: str | Path) -> Outcome:
        """Run a program in the group, and watch its memory."""
        start = time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            enter = ("sh", "-c", 'echo $$ > "$0" && exec "$@"', self._folder / "cgroup.procs")
            process = subprocess.Popen([*enter, *command], stdout=output, stderr=output, cwd=ROOT)  # noqa: S603
            peak = 0
            while process.poll() is None:
                peak = max(peak, self._used())
                time.sleep(0.05)
            output.seek(0)
            lines = output.read().splitlines() or [""]
        return Outcome(process.returncode, peak / 1e6, self._kills(), time.monotonic() - start, lines[-1])

    def _used(self) -> int:
        values = self._values("memory.stat")
        names = ("anon", "shmem", "kernel") if self._unified else ("total_rss", "total_shmem")
        return sum(values.get(name, 0) for name in names)

    def _kills(self) -> int:
        return self._values("memory.events" if self._unified else "memory.oom_control")["oom_kill"]

    def _values(self, file: str) -> dict[str, int]:
        lines = (self._folder / file).read_text("ascii").splitlines()
        return {name: int(value) for name, value in map(str.split, lines)}


@contextmanager
def limited(megabytes: int) -> Iterator[Limit]:
    """Make a control group with a limit, and remove it afterwards."""
    unified = "memory" in _words(CGROUPS / "cgroup.controllers")
    folder = (CGROUPS if unified else CGROUPS / "memory") / f"fer-edge-memory-{os.getpid()}"
    if not folder.parent.is_dir():
        sys.exit("this kernel cannot limit memory; on a Raspberry Pi, add cgroup_enable=memory to its command line")
    if unified and "memory" not in _words(CGROUPS / "cgroup.subtree_control"):
        (CGROUPS / "cgroup.subtree_control").write_text("+memory", "ascii")
    folder.mkdir()
    try:
        limit = "memory.max" if unified else "memory.limit_in_bytes"
        (folder / limit).write_text(str(megabytes * 1_000_000), "ascii")
        if unified:
            (folder / "memory.swap.max").write_text("0", "ascii")
        yield Limit(folder, unified=unified)
    finally:
        _remove(folder)


def _remove(group: Path) -> None:
    """Remove a group as soon as the last process in it has ended."""
    deadline = time.monotonic() + 10
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _words(path: Path) -> list[str]:
    return path.read_text("ascii").split() if path.exists() else []


def write_images(folder: Path, *, large: bool) -> None:
    """Write images: large ones are progressive JPEGs of 48 megapixels, which need 300 MB to be decoded."""
    folder.mkdir()
    for number in range(64 if large else 200):
        path = folder / f"{number:03d}.jpg"
        if large and number > 0:
            os.link(folder / "000.jpg", path)
        elif large:
            image = cv2.resize(demo.frame(20), (8000, 6000), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
        else:
            size = (4000, 3000) if number % 2 else (640, 480)
            image = cv2.resize(demo.frame(number), size, interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))


def write_video(path: Path) -> None:
    """Write twelve seconds of the demo at 1920x1080."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), demo.FPS, (1920, 1080))
    for number in range(demo.FRAMES):
        frame = np.asarray(cv2.resize(demo.frame(number), (1920, 1080)), np.uint8)
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()


def prepare_install(folder: Path) -> None:
    """Fetch everything that `benchmarks.memory_install` needs."""
    debian_tree()
    _pip("wheel", "--no-deps", "-w", folder / "own", ROOT)
    (wheel,) = (folder / "own").glob("*.whl")
    _pip("download", "--only-binary=:all:", "-d", folder / "wheels", f"{wheel}[device]")
    target = ("--no-compile", "--upgrade", "--target", folder / "site")
    _pip("install", *target, "--no-deps", wheel)
    _pip("install", *target, "--no-index", f"--find-links={folder / 'wheels'}", "typer", "msgspec", "tomlkit")


def _pip(*arguments: str | Path) -> None:
    subprocess.run([*PIP, *arguments], check=True)  # noqa: S603 - our own command


def run_case(case: str, folder: Path) -> tuple[int, Outcome]:
    """Prepare a case without a limit, and run it with one.

    Returns:
        The limit in megabytes, and the outcome.
    """
    seconds = ("--seconds", str(demo.FRAMES // demo.FPS))
    command: list[str | Path]
    if case.startswith("run"):
        source = "demo"
        if case == "run-1080p":
            source = str(folder / "video.avi")
            write_video(Path(source))
        command = [*FER_EDGE, "run", "--source", source, "--node", "memory", "--realtime", *seconds]
    elif case.startswith("tag"):
        write_images(folder / "images", large=case == "tag-large")
        lost = folder / "lost.csv"
        command = [*FER_EDGE, "tag", folder / "images", "--out", folder / "table.jsonl", f"--workers={WORKERS}"]
        # Only the heading: no image was lost.
        command = ["sh", "-c", '"$@" && test "$(wc -l < "$0")" = 1', lost, *command, "--errors", lost]
    else:
        prepare_install(folder)
        command = [sys.executable, "-m", "benchmarks.memory_install", folder]
    megabytes = RUN_MB if case.startswith("run") else OTHER_MB
    with limited(megabytes) as limit:
        return megabytes, limit.run(*command)


def main() -> None:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; all by default")
    cases = parser.parse_args().cases or CASES
    if unknown := set(cases) - set(CASES):
        parser.error(f"{', '.join(sorted(unknown))}: no such case")
    if os.geteuid() != 0:
        sys.exit("only root may limit memory: run it with sudo")
    print("| case | limit | peak | killed | seconds | exit status | last line |\n|---|---|---|---|---|---|---|")
    failed = False
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            megabytes, outcome = run_case(case, Path(folder))
        failed |= outcome.status != 0 or ", 0 errors" not in outcome.output + ", 0 errors" * (
            not case.startswith("tag")
        )
        print(
            f"| `{case}` | {megabytes} MB | {outcome.peak_mb:.0f} MB | {outcome.kills} | {outcome.seconds:.0f} |"
            f" {outcome.status} | {outcome.output} |",
            flush=True,
        )
    sys.exit(failed)


if __name__ == "__main__":
    main()
