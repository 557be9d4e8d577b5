"""Build the Debian package of fer-edge: ``make deb``.

    python distribution/debian/build.py [--debian 12 13] [--arch amd64 arm64] [--wheel WHEEL] [--out dist]

Each package holds the program with all that it needs in an environment of its own, ``/usr/lib/fer-edge/program``. uv
takes wheels for the package's Python and processor from the package index, so that any machine can build every package.
Needs uv, cyclonedx-py and dpkg-deb; not root.
"""

from __future__ import annotations

import argparse
import email.utils
import fnmatch
import getpass
import gzip
import hashlib
import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_ROOT: Final = _HERE.parents[1]
_HOME: Final = "usr/lib/fer-edge/program"
_SCRIPTS: Final = ("preinst", "postinst", "prerm", "postrm")
_CONFFILE: Final = "etc/fer-edge/config.toml"
_PYTHON: Final = {12: "3.11", 13: "3.13"}
# The C library of Debian 12; Debian 13 has a later one, which runs the same wheels.
_PLATFORM: Final = {"amd64": "x86_64-manylinux_2_36", "arm64": "aarch64-manylinux_2_36"}
# What LiteRT needs only beside its interpreter, and rich only for Markdown and the colours of source text. Each file
# costs a small Pi time when the package is installed.
_UNUSED: Final = ("markdown-it-py", "ml-dtypes", "protobuf", "pygments", "tqdm")
# What is for compilers and type checkers, and LiteRT's parts for graphics processors, accelerators and their compilers.
_UNUSED_FILES: Final = (
    *("*.a", "*.h", "*.lib", "*.pxd", "*.pyi"),
    *("numpy/_pyinstaller/*", "numpy/f2py/*"),
    *("ai_edge_litert/libLiteRt*.so", "ai_edge_litert/tools/*", "ai_edge_litert/vendors/*"),
)
# With NumPy 2, the picamera2 of Debian 12's apt does not work.
_CONSTRAINTS: Final = {12: ["numpy<2"], 13: []}
_VENV: Final = """\
home = /usr/bin
include-system-site-packages = true
version = {python}
"""  # with the system's packages, because picamera2 comes from apt
_CONTROL: Final = """\
Package: fer-edge
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size}
Depends: python3 (>= {python}), python3 (<< {next_python}), libc6 (>= 2.36), libgcc-s1, libstdc++6 (>= 12), zlib1g
Suggests: minisign, mosquitto, python3-picamera2
Section: video
Priority: optional
Description: facial-expression recognition with a camera
 fer-edge finds faces in the images of a camera, recognizes their expressions,
 and sends them as MQTT messages, for example to Home Assistant. No image
 leaves the device, unless you have it collect faces for review.
 .
 The service is installed, but neither enabled nor started: no camera opens
 before you ask for it.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A system that a package is for.

    Attributes:
        debian: the release of Debian.
        architecture: Debian's name of the processor.
    """

    debian: int
    architecture: str

    @property
    def python(self) -> str:
        """The Python of the release."""
        return _PYTHON[self.debian]

    def version(self, program: str) -> str:
        """Return the package's version; that for a later release is higher, so that it replaces an earlier one's."""
        return f"{program}+deb{self.debian}"


def main() -> int:
    """Build the packages and beside each a list of what it contains, print their paths, and return the exit status."""
    parser = argparse.ArgumentParser(prog="build.py", description="Build the Debian packages of fer-edge.")
    parser.add_argument("--debian", type=int, nargs="+", choices=sorted(_PYTHON), default=sorted(_PYTHON))
    parser.add_argument("--arch", nargs="+", choices=sorted(_PLATFORM), default=sorted(_PLATFORM))
    parser.add_argument("--wheel", type=Path, help="a wheel of fer-edge; by default it is built from this clone")
    parser.add_argument("--out", type=Path, default=_ROOT / "dist", help="a folder for the packages")
    options = parser.parse_args()
    if shutil.which("dpkg-deb") is None:
        print("dpkg-deb is missing here: sudo apt install dpkg", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = options.wheel or _build_wheel(Path(temporary))
        for target in (Target(debian, architecture) for debian in options.debian for architecture in options.arch):
            print(build(target, wheel, options.out), flush=True)
    return 0


def build(target: Target, wheel: Path, out: Path) -> Path:
    """Build a package.

    Args:
        target: the system it is for.
        wheel: the wheel of fer-edge.
        out: where it is written.

    Raises:
        SystemExit: a program that this needs failed.
    """
    version = target.version(wheel.name.split("-")[1])
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        packages = root / _HOME / f"lib/python{target.python}/site-packages"
        _install_wheels(target, wheel, packages)
        _write_sbom(packages, out / f"fer-edge_{version}_{target.architecture}.cdx.json")
        _write_environment(target, root / _HOME)
        _write_system_files(root, packages, version)
        control = _control(target, version, root)
        debian = root / "DEBIAN"
        debian.mkdir()
        (debian / "control").write_text(control)
        (debian / "conffiles").write_text(f"/{_CONFFILE}\n")
        (debian / "md5sums").write_text(_md5sums(root))
        for name in _SCRIPTS:
            _copy(_HERE / name, debian / name, 0o755)
        package = out / f"fer-edge_{version}_{target.architecture}.deb"
        time = _run("git", "-C", str(_ROOT), "log", "-1", "--format=%ct").strip()
        # A small Pi unpacks zstd several times as fast as xz.
        compression = ("-Zzstd", "-z9")
        _run("dpkg-deb", "--root-owner-group", *compression, "-b", str(root), str(package), SOURCE_DATE_EPOCH=time)
    return package


def _build_wheel(folder: Path) -> Path:
    _run(_tool("uv"), "build", "-q", "--no-config", "--wheel", "-o", str(folder), str(_ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


def _install_wheels(target: Target, wheel: Path, folder: Path) -> None:
    """Install a wheel and what the service needs, without what is only about the installation or this machine."""
    where = (f"--python-platform={_PLATFORM[target.architecture]}", f"--python-version={target.python}")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as excluded:
        excluded.writelines(f"{name}\n" for name in _UNUSED)
        excluded.flush()
        _run(
            *(_tool("uv"), "pip", "install", "-q", "--no-config", "--only-binary=:all:", "--link-mode=copy"),
            *(f"--target={folder}", f"--excludes={excluded.name}", *where),
            *(f"{wheel.resolve()}[device]", *_CONSTRAINTS[target.debian]),
        )
    shutil.rmtree(folder / "bin")  # commands whose first line names this machine's Python
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if any(fnmatch.fnmatch(str(path.relative_to(folder)), pattern) for pattern in _UNUSED_FILES):
            path.unlink()
    # The cache of another Python is of no use.
    for path in [path for path in folder.rglob("*") if path.name in {"tests", "__pycache__"} and path.is_dir()]:
        shutil.rmtree(path)
    (folder / ".lock").unlink(missing_ok=True)
    for name in ("RECORD", "REQUESTED", "direct_url.json", "uv_cache.json"):
        for path in folder.glob(f"*.dist-info/{name}"):
            path.unlink()
    for path in folder.glob("*.dist-info/INSTALLER"):
        path.write_text("debian\n")
    for path in folder.rglob("*"):
        if path.is_file():
            is_program = path.stat().st_mode & 0o111 and path.read_bytes()[:2] == b"#!"
            path.chmod(0o755 if is_program else 0o644)


def _write_sbom(packages: Path, path: Path) -> None:
    """List what a package brings from the package index: a software bill of materials in CycloneDX's format."""
    found = importlib.metadata.distributions(path=[str(packages)])
    pinned = sorted(f"{each.name}=={each.version}\n" for each in found if each.name != "fer-edge")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listing:
        listing.writelines(pinned)
        listing.flush()
        options = ("--output-reproducible", "--of=JSON", f"--pyproject={_ROOT / 'pyproject.toml'}", f"-o={path}")
        _run(_tool("cyclonedx-py"), "requirements", *options, listing.name)


def _write_environment(target: Target, home: Path) -> None:
    (home / "bin").mkdir()
    (home / "pyvenv.cfg").write_text(_VENV.format(python=target.python))
    for name in ("python", "python3"):
        (home / "bin" / name).symlink_to(f"../../../../bin/python{target.python}")  # relative, as Debian's policy asks
    _copy(_HERE / "fer-edge", home / "bin/fer-edge", 0o755)


def _write_system_files(root: Path, packages: Path, version: str) -> None:
    """Write everything outside the program's environment."""
    _copy(_HERE / "config.toml", root / _CONFFILE)
    _copy(_HERE / "config.toml", root / "usr/share/fer-edge/config.toml")
    for unit in (packages / "fer_edge_device/units").glob("*.service"):
        _copy(unit, root / "usr/lib/systemd/system" / unit.name)
    (root / "usr/bin").mkdir()
    (root / "usr/bin/fer-edge").symlink_to("/opt/fer-edge/current/bin/fer-edge")
    documents = root / "usr/share/doc/fer-edge"
    _copy(_HERE / "copyright", documents / "copyright")
    time = int(_run("git", "-C", str(_ROOT), "log", "-1", "--format=%ct"))
    entry = (
        f"fer-edge ({version}) unstable; urgency=medium\n\n"
        f"  * Release {version.partition('+')[0]}: see CHANGELOG.md.gz.\n\n"
        f" -- {_maintainer()}  {email.utils.formatdate(time)}\n"
    )
    for name, text in (("changelog", entry), ("CHANGELOG.md", (_ROOT / "CHANGELOG.md").read_text())):
        (documents / f"{name}.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    _copy(_HERE / "lintian-overrides", root / "usr/share/lintian/overrides/fer-edge")


def _control(target: Target, version: str, root: Path) -> str:
    major, minor = target.python.split(".")
    return _CONTROL.format(
        version=version,
        architecture=target.architecture,
        maintainer=_maintainer(),
        size=sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir()) // 1024,
        python=target.python,
        next_python=f"{major}.{int(minor) + 1}",
    )


def _maintainer() -> str:
    """Return who builds the package: by Debian's variables, or by git."""
    defaults = {"DEBFULLNAME": "user.name", "DEBEMAIL": "user.email"}
    name, address = (
        os.environ.get(variable) or _run("git", "-C", str(_ROOT), "config", "--default", "", key).strip()
        for variable, key in defaults.items()
    )
    return email.utils.formataddr((name or getpass.getuser(), address or f"{getpass.getuser()}@{socket.getfqdn()}"))


def _md5sums(root: Path) -> str:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    names = (path.relative_to(root) for path in files)
    return "".join(
        f"{hashlib.md5((root / name).read_bytes(), usedforsecurity=False).hexdigest()}  {name}\n"
        for name in names
        if name.parts[0] not in {"DEBIAN", "etc"}
    )


def _copy(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _tool(name: str) -> str:
    """Return a program that lies beside the Python that runs this, or anywhere."""
    own = Path(sys.executable).with_name(name)
    return str(own) if own.exists() else name


def _run(*command: str, **environment: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - git, uv and dpkg-deb
            command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
        )
    except FileNotFoundError as error:
        raise SystemExit(f"{command[0]} is not installed: use make deb") from error
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with status {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
