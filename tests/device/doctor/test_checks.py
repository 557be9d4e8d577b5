from __future__ import annotations

import datetime as dt
import grp
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np
import pytest

from fer_edge.errors import FerEdgeError
from fer_edge.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes, refiner_bytes, with_refiner, write_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard, DetectorCard
from fer_edge.utils.system import describe_throttling, this_program, throttled_flags
from fer_edge_device.config.settings import CameraSettings, Config, FacesSettings, MqttSettings, OutboxSettings
from fer_edge_device.doctor import checks
from fer_edge_device.doctor.checks import CHECKS, Check, Finding, examine
from fer_edge_device.install.systemd_units import Machine, UnitState

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli

VIDEO = grp.struct_group(("video", "x", 44, ["ada"]))
LOOKED = """
from fer_edge_device.config.settings import Config
from fer_edge_device.doctor.checks import CHECKS, examine
for finding in examine(Config(), {"python": CHECKS["python"]}):
    print(finding.level, finding.name)
"""
SERVICE = UnitState(
    name="fer-edge.service",
    loaded=True,
    active="active",
    sub="running",
    enabled=True,
    since="today",
    restarts=0,
    status="watching",
    result="success",
    pid=1,
    groups=("video",),
)


def hangs(config: Config) -> Finding:
    del config
    time.sleep(600)
    return Finding("ok", "never")


def crashes(config: Config) -> Finding:
    del config
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(600)
    return Finding("ok", "never")


def raises(config: Config) -> Finding:
    raise ZeroDivisionError(config.node)


def refuses(config: Config) -> Finding:
    raise FerEdgeError(f"{config.node}: no such thing; make one")


def works(config: Config) -> Finding:
    return Finding("ok", config.node)


def watching(source: str | Path) -> Config:
    return Config(camera=CameraSettings(source=str(source)))


def found(name: str, config: Config) -> Finding:
    """What a check finds, in this process."""
    return checks._looked(CHECKS[name].look, config)


def test_what_hangs_crashes_or_fails_is_a_line_and_the_others_go_on() -> None:
    checks = {
        "first": Check(works),
        "hung": Check(hangs, limit=0.2, when_hung="unplug it"),
        "second": Check(works),
        "crashed": Check(crashes),
        "failed": Check(raises),
        "refused": Check(refuses),
        "last": Check(works),
    }
    first, hung, second, crashed, failed, refused, last = examine(Config(node="me"), checks)
    assert first == Finding("ok", "me", name="first")
    assert hung == Finding("failure", "gave no answer within 0.2 s", "unplug it", "hung")
    assert (second.what, last.what) == ("me", "me")
    assert "SIGSEGV" in crashed.what
    assert "ZeroDivisionError: me" in failed.what
    assert refused.what == "me: no such thing; make one"
    assert {one.level for one in (crashed, failed, refused)} == {"failure"}


@pytest.mark.parametrize("bar", ["chmod 0 .", 'rmdir "$PWD"'], ids=["closed", "gone"])
def test_checks_run_from_a_folder_that_may_not_be_entered_or_has_gone(tmp_path: Path, bar: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    # Without its capabilities, what is forbidden is so for root, too.
    alike = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if alike and subprocess.run([*alike, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this root has no capabilities to give up")
    looked = subprocess.run(
        # -P: without the working folder in sys.path, as the installed command has it.
        [*alike, "sh", "-c", f'{bar} && exec "$@"', "sh", sys.executable, "-P", "-c", LOOKED],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (looked.returncode, looked.stdout, looked.stderr) == (0, "ok python\n", "")


def test_a_camera_that_hangs_is_a_failure_and_hangs_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections and says nothing
        config = watching(f"http://127.0.0.1:{server.getsockname()[1]}/video")
        (hung,) = examine(config, {"camera": replace(CHECKS["camera"], limit=3.0)})
    assert (hung.level, hung.what) == ("failure", "gave no answer within 3 s")
    assert "network" in hung.advice


def test_a_source_that_gives_frames_is_fine_and_one_that_is_not_there_a_failure(tmp_path: Path) -> None:
    there, absent = found("camera", watching("demo")), found("camera", watching("/dev/video987"))
    assert there.level == "ok"
    assert "640x480" in there.what
    assert absent.level == "failure"
    assert "/dev/video987: cannot be opened" in absent.what
    (tmp_path / "dark").mkdir()
    cv2.imwrite(str(tmp_path / "dark" / "1.png"), np.zeros((48, 64), np.uint8))
    dark = found("camera", watching(tmp_path / "dark"))
    assert dark.level == "warning"
    assert "lens" in dark.advice


def test_a_camera_that_the_service_has_is_left_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    link.symlink_to("/dev/null")
    source = f"/dev/..{link}"
    monkeypatch.setattr(checks, "units", lambda: [replace(SERVICE, pid=os.getpid())])
    with open("/dev/null", "rb"):  # noqa: PTH123 - of this process, which stands for the service's
        had = checks.check_camera(watching(source))
    assert (had.level, had.what.partition(";")[0]) == ("ok", "fer-edge.service is running and has it")
    absent = found("camera", watching("/dev/video987"))
    assert (absent.level, "/dev/video987: cannot be opened" in absent.what) == ("failure", True)

    monkeypatch.setattr(checks, "_devices_of", lambda _: None)  # as for another user's process
    unseen = checks.check_camera(watching(source))
    assert unseen == Finding("warning", "fer-edge.service is running, and may have it", "sudo shows whether it does")
    assert found("camera", watching("/dev/video987")).level == "failure"


def test_who_holds_a_camera_is_named(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    with device.open() as file, subprocess.Popen(["sleep", "600"], stdin=file) as other:  # noqa: S607
        assert checks._holders(str(device)) == [f"sleep (process {other.pid})"]
        other.kill()
    assert checks._holders(str(device)) == []


def test_the_model_is_compared_with_its_card(tmp_path: Path) -> None:
    shipped = found("model", Config())
    assert shipped.level == "ok"
    assert "of those on its card" in shipped.what
    card = read_card(DEFAULT_MODEL, ClassifierCard)
    assert card.self_test is not None
    wrong = msgspec.structs.replace(card.self_test, outputs=card.self_test.outputs[::-1])
    for name, self_test, level in (("wrong", wrong, "failure"), ("none", None, "warning")):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(model_bytes(DEFAULT_MODEL))
        write_card(path, msgspec.structs.replace(card, self_test=self_test))
        assert found("model", Config(model=str(path))).level == level
    absent = found("model", Config(model="/nowhere/x.tflite"))
    assert (absent.level, absent.what) == ("failure", "/nowhere/x.tflite: no such model file")


def test_the_detector_is_compared_with_its_card_and_must_find_a_face(tmp_path: Path) -> None:
    shipped = found("detector", Config())
    assert shipped.level == "ok"
    assert "finds the demo's face; outputs are within " in shipped.what
    card = read_card(DEFAULT_DETECTOR, DetectorCard)
    assert card.self_test is not None
    negative = tuple(tuple(-1 - value for value in row) for row in card.self_test.outputs)
    wrong = msgspec.structs.replace(card, self_test=msgspec.structs.replace(card.self_test, outputs=negative))
    untested = msgspec.structs.replace(card, self_test=None)
    blind = msgspec.structs.replace(card, threshold=1.0)
    for name, changed, level, what in (
        ("wrong", wrong, "failure", "on this machine differs by up to"),
        ("untested", untested, "warning", "its card has no self-test"),
        ("blind", blind, "failure", "finds no face where there is one"),
    ):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(with_refiner(model_bytes(DEFAULT_DETECTOR), changed, refiner_bytes(DEFAULT_DETECTOR)))
        looked = found("detector", Config(faces=FacesSettings(detector_model=str(path))))
        assert looked.level == level
        assert what in looked.what


def test_the_rest_is_fine_on_a_machine_where_the_tests_run() -> None:
    all_found = {name: found(name, watching("demo")) for name in ("python", "runtime", "libraries", "detector")}
    assert {name: one.level for name, one in all_found.items()} == dict.fromkeys(all_found, "ok")
    assert all_found["libraries"].what == f"NumPy {np.__version__}, OpenCV {cv2.__version__}"


@pytest.mark.parametrize(
    ("numpy", "opencv", "runtime", "level", "word"),
    [
        ("2.2.6", "4.11.0", "ai-edge-litert 2.3.0", None, ""),
        ("1.24.4", "4.11.0", "ai-edge-litert 2.3.0", None, ""),
        ("1.26.4", "4.11.0", "tflite-runtime 2.14.0", None, ""),
        ("2.2.6", "4.11.0", "tflite-runtime 2.14.0", "failure", '"numpy<2"'),
        ("1.24.4", "4.12.0", "ai-edge-litert 2.3.0", "failure", '"opencv-python-headless<4.12"'),
        ("1.24.4", "5.0.0", "ai-edge-litert 2.3.0", "failure", '"opencv-python-headless<4.12"'),
        ("2.2.6", "5.0.0", "ai-edge-litert 2.3.0", None, ""),
        ("1.24.2", "4.6.0", "ai-edge-litert 2.3.0", "warning", ">=4.9"),
    ],
)
def test_pairs_that_do_not_go_together_are_told(
    numpy: str, opencv: str, runtime: str, level: str | None, word: str
) -> None:
    found = checks.pair_trouble(numpy, opencv, runtime)
    assert (found.level if found else None) == level
    assert word in (found.advice if found else "")


def test_what_is_missing_for_the_camera_module_is_named(tmp_path: Path) -> None:
    missing = ModuleNotFoundError("No module named 'libcamera._libcamera'", name="libcamera._libcamera")
    assert "sudo apt install python3-libcamera " in checks.why_no_picamera2(missing, tmp_path, "/usr")[1]
    pykms = ModuleNotFoundError("No module named 'pykms'", name="pykms")
    assert "python3-kms++" in checks.why_no_picamera2(pykms, tmp_path, "/usr")[1]
    (tmp_path / "libcamera").mkdir()
    assert "pyvenv.cfg" in checks.why_no_picamera2(missing, tmp_path, "/usr")[1]
    assert "/usr/bin/python3 -m venv" in checks.why_no_picamera2(missing, tmp_path, "/opt/python")[1]
    binary = ValueError("numpy.dtype size changed, may indicate binary incompatibility")
    assert '"numpy<2"' in checks.why_no_picamera2(binary, tmp_path, "/usr")[1]


def test_picamera2_is_a_failure_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)  # cannot be imported
    assert checks.check_picamera2(watching("picamera2")).level == "failure"
    assert checks.check_picamera2(watching("rtsp://camera/1")).level == "ok"
    monkeypatch.setattr(checks, "machine_name", lambda: "Raspberry Pi 4 Model B Rev 1.4")
    assert checks.check_picamera2(watching("auto")).level == "warning"
    monkeypatch.setattr(checks, "machine_name", lambda: "A processor")
    assert checks.check_picamera2(watching("auto")).level == "ok"
    monkeypatch.setitem(sys.modules, "picamera2", types.ModuleType("picamera2"))
    assert checks.check_picamera2(watching("picamera2")).level == "ok"


def test_the_group_of_the_user_and_of_the_service() -> None:
    outside = replace(SERVICE, groups=())
    assert checks.group_finding(VIDEO, "ada", [1000, 44], []).level == "ok"
    assert "log out" in checks.group_finding(VIDEO, "ada", [1000], []).advice
    assert "usermod -aG video bob" in checks.group_finding(VIDEO, "bob", [1001], []).advice
    assert checks.group_finding(VIDEO, "bob", [1001], [SERVICE]).level == "ok"
    assert "SupplementaryGroups=video" in checks.group_finding(VIDEO, "bob", [1001], [outside]).advice


def test_a_broker_is_asked_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_broker(settings: MqttSettings, node: str, timeout: float) -> str:
        assert timeout > 0
        if settings.url.endswith("wrong"):
            raise FerEdgeError("wrong: the broker refused the password; look into password_file")
        return f"{settings.url} takes {node}"

    monkeypatch.setitem(sys.modules, "fer_edge_device.mqtt.sink", types.SimpleNamespace(check_broker=check_broker))
    assert checks.check_broker(Config()).what.startswith("none is configured")
    config = Config(node="hall", mqtt=MqttSettings(url="mqtt://broker"))
    assert checks.check_broker(config) == Finding("ok", "mqtt://broker takes hall")
    refused = checks._looked(checks.check_broker, Config(mqtt=MqttSettings(url="mqtt://wrong")))
    assert (refused.level, refused.what) == (
        "failure",
        "wrong: the broker refused the password; look into password_file",
    )


def test_the_clock() -> None:
    now = dt.datetime(2027, 5, 1, tzinfo=dt.UTC)
    assert checks.clock_finding(now, synchronised=True).level == "ok"
    assert checks.clock_finding(now, synchronised=None).level == "ok"
    assert checks.clock_finding(now, synchronised=False).level == "warning"
    assert checks.clock_finding(now.replace(year=1970), synchronised=False).level == "failure"
    assert checks.check_clock(Config()).level in {"ok", "warning"}


def test_temperature_and_what_the_firmware_flags() -> None:
    assert checks.heat_finding(None, None).level == "ok"
    assert checks.heat_finding(48.3, 0) == Finding("ok", "48 degrees C, not slowed down")
    assert checks.heat_finding(84.0, None).level == "warning"
    assert "heat sink" in checks.heat_finding(84.0, 0x60002).advice
    assert describe_throttling(0x50005) == ("low voltage now", "throttling now")
    weak = checks.heat_finding(50.0, 0x10000)
    assert weak.what == "50 degrees C, low voltage since its start"
    assert "power supply" in weak.advice


@pytest.mark.parametrize("soc", ["soc", "soc@107c000000"])
def test_the_firmwares_flags_are_found_whatever_the_kernel_calls_its_folder(tmp_path: Path, soc: str) -> None:
    assert throttled_flags(tmp_path) is None
    folder = tmp_path / soc / f"{soc}:firmware"
    folder.mkdir(parents=True)
    assert throttled_flags(tmp_path) is None
    (folder / "get_throttled").write_text("50005\n")
    assert throttled_flags(tmp_path) == 0x50005


def test_the_outboxs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(path: Path | str) -> Finding:
        settings = OutboxSettings(path=str(path), max_events=1000)
        return checks.check_outbox(Config(mqtt=MqttSettings(url="mqtt://broker"), outbox=settings))

    assert checks.check_outbox(Config()).what == "not needed without a broker"
    assert look(tmp_path / "deep" / "down" / "outbox.sqlite").what.startswith(f"{tmp_path}: ")
    assert list(tmp_path.iterdir()) == []
    assert look("/proc/outbox.sqlite").level == "failure"
    for free, level in ((10e6, "failure"), (1e9, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: types.SimpleNamespace(free=free))
        assert look(tmp_path / "outbox.sqlite").level == level
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert checks.outbox_folder(Config(), installed=False) == tmp_path / "fer-edge"
    assert str(checks.outbox_folder(Config(), installed=True)) == "/var/lib/fer-edge"


def test_systemctl_is_asked_for_all_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows what it is asked for, and leaves out the rest without a word."""
    program = tmp_path / "systemctl"
    program.write_text(
        """#!/bin/sh
        for property in Id=fer-edge.service LoadState=loaded ActiveState=active SubState=running Result=watchdog \\
            NRestarts=2 MainPID=812 Group=video SupplementaryGroups=render StatusText=watching \\
            StateChangeTimestamp=today
        do
            case ",${4#--property=}," in *",${property%%=*},"*) echo "$property" ;; esac
        done
        printf '\\nId=fer-edge@hall.service\\nLoadState=not-found\\nActiveState=inactive\\n'
        """
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (unit,) = checks.units()
    assert unit == replace(SERVICE, enabled=False, restarts=2, result="watchdog", pid=812, groups=("video", "render"))
    program.write_text("#!/bin/sh\nexit 1\n")  # as where systemd does not run
    assert checks.units() == []


def test_the_state_of_the_service() -> None:
    def level(*services: UnitState) -> str:
        return checks.service_finding(list(services)).level

    assert level() == level(SERVICE) == "ok"
    assert level(replace(SERVICE, restarts=40)) == "warning"
    assert level(replace(SERVICE, enabled=False)) == "warning"
    assert level(replace(SERVICE, active="inactive")) == "warning"
    failed = checks.service_finding([SERVICE, replace(SERVICE, active="activating", result="watchdog", restarts=7)])
    assert failed.level == "failure"
    assert "activating, last time by watchdog; started again 7 times" in failed.what
    instance = replace(SERVICE, name="fer-edge@hall.service")
    assert level(replace(SERVICE, active="inactive", enabled=False), instance) == "ok"


def test_a_service_whose_program_does_not_run_is_a_failure_though_it_still_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checks, "units", lambda: [SERVICE])
    monkeypatch.setattr(checks, "Machine", lambda: Machine(tmp_path))
    assert checks.check_service(Config()).level == "ok"
    (tmp_path / "opt/fer-edge/current/bin").mkdir(parents=True)
    broken = checks.check_service(Config())
    assert broken.level == "failure"
    assert "opt/fer-edge/current does not run" in broken.what
    assert broken.advice == f"to make it anew: sudo {this_program()} service upgrade"


def test_the_command_exits_with_1_when_something_is_wrong(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[camera]\nsource = "demo"\n')
    lines = cli("doctor", "--config", config).stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["ok"] * 3
    assert f"{len(CHECKS)} checks: 0 failures, " in lines[-1]
    config.write_text('model = "nothing.tflite"\n[camera]\nsource = "demo"\n')
    found = json.loads(cli("doctor", "--config", config, "--json", status=1).stdout)
    assert [one["name"] for one in found] == list(CHECKS)
    assert [one["what"] for one in found if one["level"] == "failure"] == ["nothing.tflite: no such model file"]
    config.write_text("nodes = 1\n")
    assert "did you mean node?" in cli("doctor", "--config", config, status=2).stderr
