"""A Debian with the real libcamera and picamera2, and a virtual camera whose driver obeys the tests.

Everything in it is real but the driver (`driver.c`) and these parts of picamera2, which need hardware:

- it asks for raw modes, which the virtual camera has none of, and gets those of its viewfinder, as with a USB camera;
- the two planes of a frame lie in one buffer, but the virtual camera wants to be told of both;
- the module ``kms`` of Raspberry Pi OS, for a preview on a screen, is an empty one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.system.containers import CACHE, debian_archive

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER_VARIABLE: Final = "FER_EDGE_PICAMERA2_CHROOT"
_HERE: Final = Path(__file__).parent
_PROJECT: Final = _HERE.parents[2] / "pyproject.toml"
_SUITE: Final = "trixie"
_PACKAGES: Final = (
    "python3-libcamera,python3-venv,python3-dev,gcc,libc6-dev,ca-certificates,python3-prctl,python3-piexif,"
    "python3-jsonschema,python3-numpy,python3-pil,python3-av,python3-tqdm"
)
_PICAMERA2: Final = "picamera2==0.3.38"
_CERTIFICATES: Final = "etc/ssl/certs/ca-certificates.crt"
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
_CAMERA: Final = """%YAML 1.1
---
"Virtual0":
  supported_formats:
  - {width: 640, height: 480, frame_rates: [30, 30]}
  frames: {path: "/srv/virtual-camera/"}
  location: "CameraLocationExternal"
  model: "Virtual Face Camera"
...
"""
_KMS: Final = """
class PixelFormats:
    def __getattr__(self, name):
        return name

PixelFormats = PixelFormats()
"""
_TWO_PLANES: Final = """
def _two_planes(luma, config):
    colour = libcamera.FrameBuffer.Plane()
    colour.fd, colour.offset = luma.fd, config.stride * config.size.height
    luma.length, colour.length = colour.offset, config.frame_size - colour.offset
    return [luma, colour]
"""
# Folders are mounted in a namespace of the process, so that nothing is left mounted. Arguments: the root folder, pairs
# of a folder of this machine and its path in the root folder, "--" and the command.
_ENTER: Final = """
root=$1; shift
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev/shm"
while [ "$1" != -- ]; do mkdir -p "$root$2"; mount --bind "$1" "$root$2"; shift 2; done
shift
exec chroot "$root" "$@"
"""


def require_chroot() -> Path:
    """Return the root folder of the chroot; skip the test, with the reason, if it cannot be had.

    It is made in the folder that the environment variable names. Without the variable it is only reused.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named).absolute() if named else CACHE / "picamera2"
    if os.geteuid() != 0:
        pytest.skip("only root may enter a chroot")
    namespace = ("unshare", "--mount", "true")
    if subprocess.run(namespace, capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no namespaces, like a container without privileges")
    stamp = folder / "etc/fer-edge-test"
    if stamp.is_file() and stamp.read_text() == _version():
        return folder
    if not named:
        pytest.skip("there is no chroot with this version of picamera2 (make test-picamera2 makes it)")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed (sudo apt install mmdebstrap)")
    if folder.exists() and not stamp.is_file() and any(folder.iterdir()):
        pytest.fail(f"{FOLDER_VARIABLE}={folder} is not a chroot of this test, and not empty")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        _make(unfinished)
        (unfinished / "etc/fer-edge-test").write_text(_version())
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def chroot_command(root: Path, mounts: Mapping[str, Path], *command: str) -> list[str]:
    """Return the command that replaces itself with a program in the chroot.

    Args:
        root: root folder of the chroot.
        mounts: folders of this machine, by their paths in the chroot.
        command: the program and its arguments.
    """
    pairs = [str(word) for target, path in mounts.items() for word in (path, target)]
    enter = ("unshare", "--mount", "--propagation=private", "sh", "-euc", _ENTER, "enter", str(root))
    environment = [f"{name}={value}" for name, value in _ENVIRONMENT.items()]
    return [*enter, *pairs, "--", "env", "-i", *environment, *command]


def _dependencies() -> list[str]:
    wanted: list[str] = tomllib.loads(_PROJECT.read_text())["project"]["dependencies"]
    return [_PICAMERA2, *wanted]


def _version() -> str:
    contents = [_SUITE, _PACKAGES, *_dependencies(), (_HERE / "driver.c").read_text(), Path(__file__).read_text()]
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def _make(folder: Path) -> None:
    """Make the chroot (one to three minutes); skip the test if the machine has no network."""
    _download(
        # With its own mounts: if it is killed, no /proc or /dev stays mounted in a folder that is then removed.
        *("unshare", "--mount", "--propagation=private"),
        *("mmdebstrap", "--variant=minbase", "--mode=root", f"--include={_PACKAGES}"),
        *('--aptopt=Acquire::Languages "none"', "--dpkgopt=path-exclude=/usr/share/doc/*"),
        *(_SUITE, str(folder), f"deb {debian_archive()} {_SUITE} main"),
    )
    for name in ("etc/resolv.conf", "etc/hosts", _CERTIFICATES):  # this machine may trust a proxy
        shutil.copy(f"/{name}", folder / name)
    pip = [f"{name}={value}" for name, value in os.environ.items() if name in {"PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT"}]
    install = ("/venv/bin/pip", "install", "-q", f"--cert=/{_CERTIFICATES}", *_dependencies())
    _run(*chroot_command(folder, {}, "python3", "-m", "venv", "--system-site-packages", "/venv"))
    _download(*chroot_command(folder, {}, "env", *pip, *install))
    shutil.copy(_HERE / "driver.c", folder / "srv")
    compiler = ("gcc", "-O1", "-fno-builtin", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")
    _run(*chroot_command(folder, {}, *compiler, "-o", "/srv/driver.so", "/srv/driver.c"))
    camera = folder / "usr/share/libcamera/pipeline/virtual/virtual.yaml"
    camera.parent.mkdir(parents=True)
    camera.write_text(_CAMERA)
    (folder / "dev/dma_heap").mkdir()
    for heap in ("vidbuf_cached", "system"):  # of picamera2, and of libcamera
        (folder / "dev/dma_heap" / heap).touch()
    (site,) = folder.glob("venv/lib/python3.*/site-packages")
    (site / "kms.py").write_text(_KMS)
    _replace(site / "picamera2/picamera2.py", "generate_configuration([libcamera.StreamRole.Raw])", "[VIEWFINDER]")
    allocator = site / "picamera2/allocators/dmaallocator.py"
    _replace(allocator, "libcamera.FrameBuffer(plane)", "_two_planes(plane[0], stream_config)")
    allocator.write_text(allocator.read_text() + _TWO_PLANES)


def _replace(path: Path, call: str, argument: str) -> None:
    """Replace the argument of a call."""
    text = path.read_text()
    assert call in text, f"{path} has no {call}"
    path.write_text(text.replace(call, f"{call.partition('(')[0]}({argument})"))


def _run(*command: str) -> None:
    result = _finished(command)
    assert result.returncode == 0, f"{command}: {result.stderr}"


def _download(*command: str) -> None:
    """Run a command that needs the network; skip the test if it fails."""
    result = _finished(command)
    if result.returncode:
        reason = next((line for line in result.stderr.splitlines() if line.startswith("E")), "no message")
        pytest.skip(f"the chroot cannot be made, perhaps without network: {reason}")


def _finished(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "TMPDIR"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
