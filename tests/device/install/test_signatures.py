"""Install signed and unsigned releases and models on a scratch host; minisign is real."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge_device.install.bundle import build_wheel, make_bundle
from fer_edge_device.install.host import Host
from fer_edge_device.install.installer import install_steps, upgrade_steps
from fer_edge_device.install.options import InstallOptions
from fer_edge_device.install.program_source import ProgramSource, program_source
from fer_edge_device.install.signatures import signature_path
from tests.device.machines import UNITS, newer
from tests.device.signer import Signer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.device.machines import Pi


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "mine")


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def unsigned(path: Path, signer: Signer) -> None:
    del path, signer


def signed_by_another(path: Path, signer: Signer) -> None:
    del signer
    Signer(path.with_name("another")).sign(path)


def changed_since(path: Path, signer: Signer) -> None:
    signer.sign(path)
    change_a_byte(path)


def changed_signature(path: Path, signer: Signer) -> None:
    signer.sign(path)
    comment, _, rest = signature_path(path).read_text().partition("\n")
    signature_path(path).write_text(f"{comment}\n{rest.swapcase()}")


def signature_of_another_file(path: Path, signer: Signer) -> None:
    other = path.with_name("other")
    other.write_bytes(b"other")
    signer.sign(other)
    signature_path(other).rename(signature_path(path))


BAD = pytest.mark.parametrize(
    "spoil", [unsigned, signed_by_another, changed_since, changed_signature, signature_of_another_file]
)


def test_a_host_without_keys_installs_what_is_not_signed(pi: Pi, wheel: ProgramSource) -> None:
    (pi.root / "etc/fer-edge/trusted-keys").mkdir(parents=True)
    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    assert pi.active == {"fer-edge.service"}


@BAD
def test_refuses_a_release_before_anything_is_changed(
    pi: Pi, wheel: ProgramSource, signer: Signer, spoil: Callable[[Path, Signer], None]
) -> None:
    signer.trust(pi.root)
    path = Path(wheel.requirement)
    spoil(path, signer)
    before = pi.files()
    with pytest.raises(InputError, match=r"trusted-keys"):
        install_steps(pi.host, InstallOptions(), program_source(path))
    assert pi.files() == before
    assert {command[0] for command in pi.commands if command[0] != "minisign"} <= {"systemctl"}


@BAD
def test_refuses_a_model_before_anything_is_changed(
    pi: Pi, wheel: ProgramSource, signer: Signer, tmp_path: Path, spoil: Callable[[Path, Signer], None]
) -> None:
    signer.trust(pi.root)
    signer.sign(Path(wheel.requirement))
    model = Path(shutil.copy(DEFAULT_MODEL, tmp_path / "model.tflite"))
    spoil(model, signer)
    before = pi.files()
    with pytest.raises(InputError, match=r"model\.tflite: .*trusted-keys"):
        install_steps(pi.host, InstallOptions(model=model), wheel)
    assert pi.files() == before
    signer.sign(model)
    pi.do(install_steps(pi.host, InstallOptions(model=model), wheel))
    (installed,) = (pi.root / "etc/fer-edge/models").glob("model-*.tflite")
    assert installed.read_bytes() == model.read_bytes()


def test_a_lost_key_is_replaced_by_another(pi: Pi, wheel: ProgramSource, signer: Signer, tmp_path: Path) -> None:
    signer.trust(pi.root)
    signer.sign(Path(wheel.requirement))
    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    later, successor = newer(wheel), Signer(tmp_path / "successor")
    successor.sign(Path(later.requirement))
    with pytest.raises(InputError, match=r"no key in .* has signed it"):
        upgrade_steps(pi.host, later)
    successor.trust(pi.root)
    signer.distrust(pi.root)
    pi.do(upgrade_steps(pi.host, later))
    assert pi.active == {"fer-edge.service"}


def test_a_wheel_that_changed_after_it_was_read_is_refused(pi: Pi, wheel: ProgramSource, signer: Signer) -> None:
    signer.trust(pi.root)
    change_a_byte(Path(wheel.requirement))
    signer.sign(Path(wheel.requirement))
    with pytest.raises(InputError, match="was changed meanwhile"):
        install_steps(pi.host, InstallOptions(), wheel)


@pytest.mark.parametrize("source", [program_source(UNITS.parent), ProgramSource("fer-edge==0.1.0")])
def test_what_cannot_be_signed_is_refused(pi: Pi, signer: Signer, source: ProgramSource) -> None:
    signer.trust(pi.root)
    with pytest.raises(InputError, match="not a signed wheel"):
        install_steps(pi.host, InstallOptions(), source)


def test_says_how_to_install_what_checks_signatures(
    pi: Pi, wheel: ProgramSource, signer: Signer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signer.trust(pi.root)
    signer.sign(Path(wheel.requirement))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sudo apt install minisign"):
        install_steps(pi.host, InstallOptions(), wheel)


def test_the_deploying_machine_checks_what_it_sends(
    signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fer_edge_device.install.bundle.Host", lambda: Host(tmp_path))
    monkeypatch.setattr("fer_edge_device.install.bundle._check_wheel", lambda _: None)
    signer.trust(tmp_path)
    wheel = tmp_path / "fer_edge-1.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    with pytest.raises(InputError, match="trusted-keys"):
        make_bundle(wheel)
    signer.sign(wheel)
    assert set(make_bundle(wheel).files) == {wheel.name, f"{wheel.name}.minisig"}


def test_a_machine_that_requires_signatures_builds_nothing_from_its_clone(
    signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fer_edge_device.install.bundle.Host", lambda: Host(tmp_path))
    signer.trust(tmp_path)
    with pytest.raises(InputError, match=r"trusted-keys has keys, and .* is not signed; give a wheel .* --wheel"):
        build_wheel(tmp_path)
    assert not list(tmp_path.glob("*.whl"))
