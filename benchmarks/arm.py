"""Count the instructions of one frame on the processors of three Raspberry Pis, without a Raspberry Pi.

    python benchmarks/arm.py [--yunet face_detection_yunet_2023mar.onnx] [--cpu a53] [--profile 10]

QEMU emulates the processors of the Zero 2 W (Cortex-A53), the Pi 4 (A72) and the Pi 5 (A76). The program runs with
Debian's Python 3.11 and the arm64 wheels of LiteRT, NumPy and OpenCV, as on Raspberry Pi OS Bookworm, on one thread.
LiteRT chooses its kernels as on the real processor. A plugin of QEMU counts every instruction that is executed.

**These are numbers of instructions, not times.** A processor needs a different time for each of them, and waits for
memory, which no emulator shows. So compare rows of one column: beside the project's own work stand YuNet, run by
OpenCV, and the classifier's multiply-adds in a naive loop. The count of a call is the difference between n and 2n
calls, so that starting does not count.

It needs no root, but some packages of Debian: qemu-user, gcc, gcc-aarch64-linux-gnu, mmdebstrap and uidmap. QEMU must
be 8 or older and have plugins, as in Debian 12; Debian 13 builds it without.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

import frame
from arm_counts import Counts, Symbols, read_counts
from arm_guest import FPS, WARM_UP_FRAMES, Result
from fer_edge.model_zoo import DEFAULT_MODEL, find_model
from fer_edge.tflite.inspect import inspect_model

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
PROGRAMS: Final = {
    "qemu-aarch64": "qemu-user",
    "gcc": "gcc",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "mmdebstrap": "mmdebstrap",
    "newuidmap": "uidmap",
}
PYTHON: Final = "3.11"
WHEELS: Final = ("ai-edge-litert", "numpy<2", "opencv-python-headless<4.12", "msgspec", "ml-dtypes<0.6")
PLATFORMS: Final = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")
SECONDS: Final = 4  # of each video that are counted


@dataclass(frozen=True)
class Processor:
    """A processor, as ``/proc/cpuinfo`` describes it; LiteRT's kernels depend on it.

    Attributes:
        board: the Raspberry Pi that has it.
        part: its part number.
        features: what it can do.
    """

    board: str
    part: str
    features: str


_ARMV8: Final = "fp asimd evtstrm crc32 cpuid"
PROCESSORS: Final = {
    "a53": Processor("Zero 2 W", "0xd03", _ARMV8),
    "a72": Processor("Pi 4", "0xd08", _ARMV8),
    "a76": Processor(
        "Pi 5", "0xd0b", f"{_ARMV8} aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
    ),
}
WORK: Final = {
    "detect": "search the whole frame",
    "coarse": "search it for large faces only",
    "roi": "search around a known face",
    "classify": "crop and classify a face",
    "yunet": "YuNet searches the whole frame",
    "naive": "the classifier's multiply-adds in a naive loop",
    "1 face, still": "a frame of `run`: a face that keeps still",
    "1 face, moving": "a frame of `run`: a face that moves",
    "3 faces, moving": "a frame of `run`: three faces that move",
}
RATIOS: Final = (
    ("searching the whole frame over YuNet", "detect", "yunet"),
    ("searching around a face over the whole frame", "roi", "detect"),
    ("the classifier over the naive loop", "classify", "naive"),
)


def main() -> None:
    """Prepare, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="append", choices=PROCESSORS, help="processor; repeatable; default: all three")
    parser.add_argument("--yunet", type=Path, help="YuNet's ONNX file")
    parser.add_argument(
        "--profile", type=int, default=0, metavar="N", help="print the N dearest functions of each piece"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "arm", help="folder for Debian, wheels and results"
    )
    options = parser.parse_args()
    if missing := sorted(package for program, package in PROGRAMS.items() if not shutil.which(program)):
        sys.exit(f"needs more of the system: sudo apt install {' '.join(missing)}")
    if not has_plugins():
        sys.exit("this QEMU cannot load the plugin that counts: take qemu-user of Debian 12, which is QEMU 7.2")
    if options.yunet and not options.yunet.is_file():
        sys.exit(f"{options.yunet}: no such file; download face_detection_yunet_2023mar.onnx from the OpenCV Zoo")
    prepare(options.work, options.yunet)
    cpus = options.cpu or list(PROCESSORS)
    counted = {}
    for cpu in cpus:
        counted[cpu], symbols = emulate(cpu, options.work)
        for name, counts in counted[cpu].items() if options.profile else ():
            print(f"\n{cpu}: {WORK[name]}, {counts.total / 1e6:.2f} million")
            for function, count in symbols.largest(counts, options.profile):
                print(f"  {count / 1e6:8.2f} {count / counts.total:6.1%}  {function}")
    print_tables(counted)


def prepare(work: Path, yunet: Path | None) -> None:
    """Make everything that the emulated program needs, unless it is there already."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "debian").exists():
        say("unpacking Debian's Python for arm64")
        archive, folder = work / "debian.tar", work / "debian.new"
        run("mmdebstrap", "--variant=extract", "--skip=check/qemu", "--arch=arm64", "--include=python3,libstdc++6",
            "bookworm", archive)  # fmt: skip
        folder.mkdir(exist_ok=True)
        # By way of an archive, so that the files belong to the caller.
        run("tar", "-C", folder, "--exclude=./dev", "--no-same-owner", "-xf", archive)
        archive.unlink()
        (work / "debian.new").rename(work / "debian")
    if not (work / "site").exists():
        say("fetching wheels for arm64")
        platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
        run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", *platforms,
            f"--python-version={PYTHON}", "--target", work / "site.new", *WHEELS)  # fmt: skip
        (work / "site.new").rename(work / "site")
    run("gcc", "-shared", "-fPIC", "-O2", "-fvisibility=hidden",
        HERE / "arm_plugin.c", "-o", work / "plugin.so")  # fmt: skip
    run("aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-nostdlib", "-O2", "-fno-tree-vectorize",
        HERE / "arm_naive.c", "-o", work / "naive.so")  # fmt: skip
    frames = WARM_UP_FRAMES + SECONDS * FPS
    videos = {
        name: np.stack(frame.make_video(faces, frames // FPS, moving=moving))
        for name, faces, moving in (
            ("1 face, still", 1, False),
            ("1 face, moving", 1, True),
            ("3 faces, moving", 3, True),
        )
    }
    np.savez(work / "videos.npz", allow_pickle=False, **videos)
    np.save(work / "frame.npy", videos["1 face, still"][0])
    (work / "yunet.onnx").unlink(missing_ok=True)
    if yunet:
        shutil.copyfile(yunet, work / "yunet.onnx")


def has_plugins() -> bool:
    """Return whether the installed QEMU loads plugins of the version of ours."""
    found = re.search(r"version (\d+)", run("qemu-aarch64", "--version"))
    return found is not None and int(found[1]) < 9 and "QEMU_PLUGIN" in run("qemu-aarch64", "--help")


def emulate(cpu: str, work: Path) -> tuple[dict[str, Counts], Symbols]:
    """Run the program on a processor, and return the counts of each piece of work."""
    processor = PROCESSORS[cpu]
    say(f"running on a Cortex-{cpu.upper()} ({processor.board}): some minutes")
    # qemu-aarch64 looks for every file in this folder first.
    proc = work / "debian" / "proc"
    proc.mkdir(exist_ok=True)
    core = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {processor.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: {processor.part}\nCPU revision\t: 3\n"
    )
    (proc / "cpuinfo").write_text("".join(f"processor\t: {i}\n{core}\n" for i in range(4)), "ascii")
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONHOME": str(work / "debian" / "usr"),
        "PYTHONPATH": ":".join(map(str, (ROOT, ROOT / "device", work / "site"))),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command: list[str | Path] = ["qemu-aarch64", "-L", work / "debian", "-cpu", f"cortex-{cpu}", "-plugin",
               f"{work / 'plugin.so'},out={work / 'counts.txt'}", work / "debian" / "usr" / "bin" / f"python{PYTHON}",
               HERE / "arm_guest.py", work]  # fmt: skip
    done = subprocess.run(command, env=environment, check=False)  # noqa: S603 - our own program
    if done.returncode:
        sys.exit(f"the emulated program ended with status {done.returncode}")
    result = msgspec.json.decode((work / "guest.json").read_bytes(), type=Result)
    marks = read_counts(work / "counts.txt")
    counted = {}
    for piece in result.pieces:
        once, *twice = (marks[number] for number in piece.marks[1:])
        counted[piece.name] = (twice[0].minus(once) if twice else once).per(piece.times)
    return counted, Symbols(result.maps)


def print_tables(counted: dict[str, dict[str, Counts]]) -> None:
    """Print millions of instructions, ratios and shares as Markdown."""
    macs = inspect_model(find_model(DEFAULT_MODEL)).multiply_adds
    names = list(next(iter(counted.values())))

    def total(cpu: str, name: str) -> float:
        return counted[cpu][name].total * (macs if name == "naive" else 1)

    def share(cpu: str, kind: str) -> str:
        counts = counted[cpu]["1 face, moving"]
        return f"{getattr(counts, kind) / counts.total:.0%}"

    commit = run("git", "-C", ROOT, "rev-parse", "--short", "HEAD").strip()
    print(f"\n{dt.datetime.now(dt.UTC):%Y-%m-%d}, commit {commit}; 640x480,"
          " in millions of instructions\n")  # fmt: skip
    print("| | " + " | ".join(f"{PROCESSORS[cpu].board} (A{cpu[1:]})" for cpu in counted) + " |")
    print("|---|" + "---|" * len(counted))
    for name in names:
        print_row(WORK[name], [f"{total(cpu, name) / 1e6:.1f}" for cpu in counted])
    for title, name, other in RATIOS:
        if name in names and other in names:
            print_row(title, [f"{total(cpu, name) / total(cpu, other):.2f}" for cpu in counted])
    for title, kind in (("vectors and floats", "vector"), ("int8 dot products", "dot"), ("loads and stores", "memory")):
        print_row(f"share of {title}, one moving face", [share(cpu, kind) for cpu in counted])


def print_row(title: str, cells: list[str]) -> None:
    """Print a row of a Markdown table."""
    print(f"| {title} | " + " | ".join(cells) + " |")


def run(*command: str | Path) -> str:
    """Run a command, and return its standard output, or exit with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr.strip()}")
    return done.stdout


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
