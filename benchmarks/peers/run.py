"""Compare fer-edge with other tools that find and classify faces, on the same images and the same machine.

    python benchmarks/peers/run.py [--venvs FOLDER] [--only fer,deepface] [--rounds 5] [--starts 3] [--out FILE.json]

Each tool gets a virtual environment of its own and runs with its defaults. The environments take up to 8 GB, because
facenet-pytorch and deepface bring PyTorch and TensorFlow. Measured are:

- one face crop;
- one image of 640x480 with three faces;
- a folder of 500 such images, one after another in one process;
- the time from the start of a new process to its first answers, with imports and loading;
- the peak resident memory and the installed size.

Times are medians; the tools take turns, with their files in the system's cache. Ratios are to fer-edge.

The images are frames of the embedded demo. The number of faces that each tool finds in the folder is printed beside the
true number, because a detector that finds few faces is quick. The accuracy of the answers is not measured here. A tool
that cannot be installed, or whose weights cannot be downloaded, is listed with the reason.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import msgspec
import numpy as np

from fer_edge import demo
from fer_edge.bench.text import align_columns
from fer_edge.errors import FerEdgeError
from fer_edge.utils.atomic_file import ensure_writable, replacing
from fer_edge.utils.system import machine_name

ROOT: Final = Path(__file__).parents[2]
CHUNKS: Final = 5
FACES: Final = 20  # a round
IMAGES: Final = 5
ANSWER_TIMEOUT_S: Final = 900
OURS: Final = "fer-edge"


class Peer(NamedTuple):
    """The virtual environment of a tool, and what pip installs into it."""

    venv: str
    requirements: tuple[str, ...]


_FER: Final = Peer("fer", ("fer==25.10.3", "setuptools<81"))  # it needs pkg_resources without saying so
PEERS: Final = {
    OURS: Peer(OURS, (str(ROOT),)),
    "fer": _FER,
    "fer-mtcnn": _FER,
    "deepface": Peer("deepface", ("deepface==0.0.103", "tf-keras")),
    "hsemotion-onnx": Peer("hsemotion-onnx", ("hsemotion-onnx==0.3.1",)),
}


class ToolError(Exception):
    """Raised when a tool cannot be installed or does not answer."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a tool; None for what it cannot do.

    Attributes:
        first_s: seconds from the start of a process to its first answers.
        face_ms: milliseconds for a face crop.
        image_ms: milliseconds for an image with faces.
        folder_s: seconds for all images of the folder.
        found: number of faces found in the folder.
        peak_mb: peak resident memory.
        installed_mb: size of the installation on disk.
    """

    first_s: float
    face_ms: float
    image_ms: float | None
    folder_s: float | None
    found: int | None
    peak_mb: float
    installed_mb: float


@dataclass
class Images:
    """The images that all tools process, and the number of faces in the folder."""

    face: Path
    image: Path
    folder: list[Path]
    faces: int


@dataclass
class Competitor:
    """A running tool, and its measurements so far."""

    worker: Worker
    installed_mb: float
    first_s: list[float]
    face_ms: list[float] = field(default_factory=list)
    image_ms: list[float] = field(default_factory=list)
    folder_ms: list[float] = field(default_factory=list)
    found: int = 0
    peak_mb: float = 0.0

    def ask(self, job: str, paths: list[Path]) -> tuple[list[float], int]:
        """Process images; return the milliseconds of each, and the number of faces."""
        answer = self.worker.ask({"job": job, "paths": [str(path) for path in paths]})
        self.peak_mb = answer["peak_mb"]
        return answer["ms"], answer["faces"]

    def result(self) -> Result:
        """Return the medians and sums of the measurements."""
        finds = self.worker.finds_faces
        return Result(
            first_s=round(statistics.median(self.first_s), 2),
            face_ms=round(statistics.median(self.face_ms), 3),
            image_ms=round(statistics.median(self.image_ms), 2) if finds else None,
            folder_s=round(sum(self.folder_ms) / 1e3, 2) if finds else None,
            found=self.found if finds else None,
            peak_mb=round(self.peak_mb, 1),
            installed_mb=round(self.installed_mb, 1),
        )


class Worker:
    """A process in a tool's virtual environment."""

    def __init__(self, venv: Path, tool: str, images: Images) -> None:
        """Start the process and wait for its first answers; `seconds` holds how long they took."""
        command = [venv / "bin/python", "-I", Path(__file__).with_name("worker.py"), tool]
        start = time.perf_counter()
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [*map(str, command), str(images.face), str(images.image)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        answer = self._answer()
        self.seconds = time.perf_counter() - start
        self.finds_faces = bool(answer.get("finds_faces"))

    def ask(self, request: dict[str, object]) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            ToolError: the tool failed or did not answer in time.
        """
        if self._process.stdin is None:
            raise ToolError("ended")
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        timer = threading.Timer(ANSWER_TIMEOUT_S, self._process.kill)
        timer.start()
        line = self._process.stdout.readline() if self._process.stdout else ""
        timer.cancel()
        answer: dict[str, Any] = (
            json.loads(line) if line else {"failed": f"no answer within {ANSWER_TIMEOUT_S} s, or killed"}
        )
        if "failed" in answer:
            self.end()
            raise ToolError(answer["failed"])
        return answer


def make_images(folder: Path, count: int) -> Images:
    """Write a crop and a folder of images from the demo video; when it repeats, images are mirrored and dimmed."""
    (folder / "many").mkdir()
    paths, faces = [], 0
    for number in range(count):
        image = cv2.cvtColor(demo.frame(number), cv2.COLOR_GRAY2BGR)
        turn = number // demo.FRAMES
        light = np.asarray(image * (1 - 0.08 * turn), np.uint8)
        paths.append(folder / "many" / f"{number:03}.jpg")
        cv2.imwrite(str(paths[-1]), light[:, ::-1] if turn % 2 else light)
        faces += len(demo.truth(number))
    crop = cv2.resize(demo.face("happy").astype(np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(folder / "face.png"), cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR))
    return Images(folder / "face.png", paths[60 % count], paths, faces)


def install(peer: Peer, venvs: Path, *, reinstall: bool) -> Path:
    """Return the virtual environment of a tool; create it if it does not exist.

    Args:
        peer: the tool.
        venvs: folder of all virtual environments.
        reinstall: whether to install the requirements again, because they may have changed.
    """
    venv, requirements = venvs / peer.venv, "\n".join(peer.requirements)
    ready = venv / "ready"
    if not ready.is_file() or ready.read_text(encoding="utf-8") != requirements:
        print(f"installing {peer.venv} ...", file=sys.stderr)
        shutil.rmtree(venv, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(venv)])
        pip(venv, *peer.requirements)
        ready.write_text(requirements, encoding="utf-8")
    elif reinstall:
        pip(venv, "--force-reinstall", "--no-deps", *peer.requirements)
    return venv


def pip(venv: Path, *words: str) -> None:
    """Run pip install in a virtual environment."""
    run([str(venv / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *words])


def run(command: list[str]) -> None:
    """Run a command; if it fails, its last line becomes the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - python or pip
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise ToolError((errors or lines or ["it failed"])[-1])


def installed_mb(venv: Path) -> float:
    """Return the size of a virtual environment on disk, in megabytes."""
    found = {(stat.st_dev, stat.st_ino): stat.st_blocks for path in venv.rglob("*") if (stat := path.lstat())}
    return sum(found.values()) * 512 / 1e6


def enter(names: list[str], venvs: Path, images: Images, starts: int) -> tuple[dict[str, Competitor], dict[str, str]]:
    """Install the tools and start them in turns; return those that answer, and the errors of the others."""
    places: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            places[name] = install(PEERS[name], venvs, reinstall=name == OURS)
        except ToolError as error:
            failed[name] = f"cannot be installed: {error}"
    competitors: dict[str, Competitor] = {}
    for again in range(starts + 1):  # the first one brings the files into memory
        for tool, venv in places.items():
            if tool in failed:
                continue
            print(f"starting {tool} ...", file=sys.stderr)
            try:
                worker = Worker(venv, tool, images)
            except ToolError as error:
                failed[tool] = f"does not answer; perhaps its weights cannot be downloaded: {error}"
                continue
            if again == 0:
                worker.end()
            elif tool in competitors:
                competitors[tool].first_s.append(worker.seconds)
                worker.end()
            else:
                competitors[tool] = Competitor(worker, installed_mb(venv), [worker.seconds])
    return competitors, failed


def race(competitors: dict[str, Competitor], failed: dict[str, str], images: Images, rounds: int) -> None:
    """Measure all tools in turns; a tool that fails moves from the competitors to the failed ones."""

    def measure_images(competitor: Competitor) -> None:
        competitor.face_ms += competitor.ask("face", [images.face] * FACES)[0]
        if competitor.worker.finds_faces:
            competitor.image_ms += competitor.ask("image", [images.image] * IMAGES)[0]

    def measure_folder(competitor: Competitor, chunk: int) -> None:
        if competitor.worker.finds_faces:
            taken, found = competitor.ask("image", images.folder[chunk::CHUNKS])
            competitor.folder_ms += taken
            competitor.found += found

    turns = [(f"round {turn + 1} of {rounds}", measure_images) for turn in range(rounds)]
    turns += [
        (f"part {chunk + 1} of {CHUNKS} of the folder", functools.partial(measure_folder, chunk=chunk))
        for chunk in range(CHUNKS)
    ]
    for description, turn in turns:
        print(f"{description} ...", file=sys.stderr)
        for tool, competitor in [*competitors.items()]:
            try:
                turn(competitor)
            except (ToolError, OSError) as error:
                failed[tool] = f"failed in {description}: {error}"
                competitors.pop(tool).worker.end()


def make_table(results: dict[str, Result], failed: dict[str, str], images: Images) -> str:
    """Return a table of the results with ratios to fer-edge, and a line for each tool that failed."""
    names = ("first_s", "face_ms", "image_ms", "folder_s", "peak_mb", "installed_mb")
    head = (
        "",
        "first, s",
        "face, ms",
        "640x480, ms",
        f"{len(images.folder)} of them, s",
        "peak MB",
        "disk MB",
        f"faces of {images.faces}",
    )
    rows = []
    for tool, result in results.items():
        cells = []
        for name in names:
            value, ours = getattr(result, name), getattr(results[OURS], name)
            cells.append("-" if value is None else f"{value:g}" if tool == OURS else f"{value:g} (x{value / ours:.2f})")
        rows.append((tool, *cells, "-" if result.found is None else str(result.found)))
    return "\n".join([*align_columns(head, rows), *(f"{tool}: {reason}" for tool, reason in failed.items())])


def main() -> int:
    """Install the tools, measure them and print the results; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--venvs", type=Path, default=cache / "fer-edge-peers")
    parser.add_argument("--only", default=",".join(name for name in PEERS if name != OURS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--folder", type=int, default=500)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    names = [OURS, *(name for name in options.only.split(",") if name)]
    if unknown := set(names) - set(PEERS):
        parser.error(f"--only {','.join(sorted(unknown))}: there are {', '.join(PEERS)}")
    if min(options.rounds, options.starts, options.folder) < 1:
        parser.error("--rounds, --starts and --folder: give 1 or more")
    try:
        if options.out:
            ensure_writable(options.out)
    except FerEdgeError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as folder:
        images = make_images(Path(folder), options.folder)
        competitors, failed = enter(names, options.venvs.absolute(), images, options.starts)
        try:
            if OURS in competitors:
                race(competitors, failed, images, options.rounds)
        finally:
            for competitor in competitors.values():
                competitor.worker.end()
    if OURS not in competitors:
        print(f"fer-edge: {failed[OURS]}", file=sys.stderr)
        return 1
    results = {tool: competitor.result() for tool, competitor in competitors.items()}
    load = os.getloadavg()[0]
    print(
        f"{machine_name()}, {len(os.sched_getaffinity(0))} processors, load {load:.1f} at the end; ratios to fer-edge"
    )
    print(make_table(results, failed, images))
    if options.out:
        content = {"machine": machine_name(), "results": results, "failed": failed, "faces": images.faces}
        with replacing(options.out) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
