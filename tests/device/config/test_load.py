from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError
from fer_edge_device.config import load
from fer_edge_device.config.load import holds_password, load_config
from fer_edge_device.config.render import as_toml, example
from fer_edge_device.config.settings import CameraSettings, Config

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_options_override_variables_and_variables_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", 'node = "file"\nthreads = 2\n[camera]\nsource = "demo"\nstall_timeout_s = 3\n')
    variables = {"FER_EDGE_NODE": "variable", "FER_EDGE_CAMERA_STALL_TIMEOUT_S": "4.5", "PATH": "/bin"}
    config = load_config(path, variables, {"node": "option", "threads": None})
    assert (config.node, config.threads, config.camera.source, config.camera.stall_timeout_s) == (
        "option",
        2,
        "demo",
        4.5,
    )
    assert load_config(path, variables).node == "variable"
    assert load_config(path, {}).node == "file"


def test_the_variable_of_a_text_key_is_never_parsed() -> None:
    config = load_config(None, {"FER_EDGE_CAMERA_SOURCE": "0", "FER_EDGE_MQTT_HA_DISCOVERY": "true"})
    assert (config.camera.source, config.mqtt.ha_discovery) == ("0", True)


def test_reads_the_systems_file_if_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SYSTEM_CONFIG", tmp_path / "settings.toml")
    assert load_config(None, {}) == Config()
    write(tmp_path / "settings.toml", 'node = "hall"')
    assert load_config(None, {}).node == "hall"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nod = 1", r"c\.toml: there is no key nod; did you mean node\?"),
        (
            "[camera]\nstall_timeouts = 1",
            r"c\.toml: there is no key camera\.stall_timeouts; did you mean camera\.stall_timeout_s\?",
        ),
        ("[camera]\nstall_timeout_s = 0", r"c\.toml: camera\.stall_timeout_s must be above 0"),
        ("[log]\nlevel = 'loud'", r"c\.toml: log\.level cannot be 'loud'; choose debug, info, warning or error"),
        ("node = \n", r"c\.toml: not valid TOML, line 1: invalid value; correct it there"),
        ("[faces]\nmin_face = 10", r"c\.toml: faces\.min_face must be at least 12, or 0"),
        ('display_name = "Küche\\n"', r"c\.toml: display_name must be one line of text without control characters"),
        ('[mqtt]\nha_suggested_area = " Küche"', r"mqtt\.ha_suggested_area must be .* without spaces at its ends"),
        (f'display_name = "{"x" * 129}"', r"c\.toml: display_name must .*128"),
        ("camera = 3", r"c\.toml: camera must be a table, not a whole number"),
    ],
)
def test_reports_errors_in_a_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config(write(tmp_path / "c.toml", text), {})


def test_reports_errors_in_variables_and_options_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"^FER_EDGE_CAMERA_STALL_TIMEOUTS: no such key; did you mean FER_EDGE_CAMERA_STALL_TIMEOUT_S\?",
    ):
        load_config(None, {"FER_EDGE_CAMERA_STALL_TIMEOUTS": "1"})
    with pytest.raises(InputError, match=r"^FER_EDGE_THREADS: threads must be a whole number, not text"):
        load_config(None, {"FER_EDGE_THREADS": "many"})
    with pytest.raises(InputError, match=r"^FER_EDGE_CAMERA: no such key"):
        load_config(None, {"FER_EDGE_CAMERA": "0"})
    with pytest.raises(InputError, match=r"^--threads: threads must be at least 1"):
        load_config(None, {}, {"threads": 0})
    with pytest.raises(InputError, match=r"^--web: web.listen must have at most 260 characters"):
        load_config(None, {}, {"web.listen": "8" * 261})
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "none.toml", {})
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a text file"):
        load_config(tmp_path / "bytes.toml", {})


def test_checks_variables_together_and_names_the_wrong_ones(tmp_path: Path) -> None:
    variables = {"FER_EDGE_CAMERA_EXIT_AFTER_S": "4", "FER_EDGE_CAMERA_STALL_TIMEOUT_S": "2", "FER_EDGE_NODE": "hall"}
    config = load_config(None, variables)
    assert (config.camera.exit_after_s, config.camera.stall_timeout_s) == (4, 2)
    assert load_config(None, {}, {"camera.exit_after_s": 4, "camera.stall_timeout_s": 2}).camera == config.camera
    with pytest.raises(
        InputError,
        match=r"^FER_EDGE_CAMERA_EXIT_AFTER_S, FER_EDGE_CAMERA_STALL_TIMEOUT_S: camera.stall_timeout_s must be",
    ):
        load_config(None, variables | {"FER_EDGE_CAMERA_STALL_TIMEOUT_S": "5"})
    with pytest.raises(InputError, match=r"^FER_EDGE_THREADS: threads must be a whole number"):
        load_config(None, variables | {"FER_EDGE_THREADS": "many"})
    with pytest.raises(InputError, match=r"^FER_EDGE_LOG_LEVEL: log.level cannot be 'loud'; choose debug, info"):
        load_config(None, variables | {"FER_EDGE_LOG_LEVEL": "loud"})
    path = write(tmp_path / "c.toml", "[camera]\nstall_timeout_s = 20\n")
    with pytest.raises(InputError, match=r"^FER_EDGE_CAMERA_EXIT_AFTER_S: camera.stall_timeout_s must be"):
        load_config(path, {"FER_EDGE_CAMERA_EXIT_AFTER_S": "4"})


def test_a_tilde_in_a_path_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    path = write(tmp_path / "c.toml", 'model = "edge"\nnode = "~"\noutbox.path = "~/a.sqlite"\n')
    config = load_config(path, {"FER_EDGE_MQTT_CA_FILE": "~/ca.pem"}, {"camera.source": "~/video.mp4"})
    assert (config.outbox.path, config.mqtt.ca_file) == ("/home/ada/a.sqlite", "/home/ada/ca.pem")
    assert (config.camera.source, config.model, config.node) == ("/home/ada/video.mp4", "edge", "~")


@pytest.mark.parametrize(
    ("address", "printed"),
    [
        ("http://10.0.0.5:88/cgi?usr=admin&pwd=secret", "http://10.0.0.5:88/cgi?usr=admin&pwd=..."),
        ("rtsp://h/user=admin&password=secret&x", "rtsp://h/user=admin&password=..."),
        ('rtsp://h/user=admin_password=se"cret_channel=1.sdp', "rtsp://h/user=admin_password=..."),
        ("rtsp://h/?loginuse=admin&LoginPas=secret", "rtsp://h/?loginuse=admin&LoginPas=..."),
        ("rtsp://me@example.com:secret@10.0.0.5/s", "rtsp://...@10.0.0.5/s"),
        ("rtsp://:secret@10.0.0.5:554/s", "rtsp://...@10.0.0.5:554/s"),
        ("rtsp://pi:secret/@host/a", "rtsp://...@host/a"),
        ("rtsp://[fe80::1]:554/s", "rtsp://[fe80::1]:554/s"),
        ("rtsp://me@host:554/s", "rtsp://me@host:554/s"),
        ("http://host:8080/?action=stream", "http://host:8080/?action=stream"),
        ("https://host/a?X-Amz-Signature=0123", "https://host/a?X-Amz-Signature=..."),
    ],
)
def test_finds_and_hides_a_password_anywhere_in_an_address(
    cli: Cli, tmp_path: Path, address: str, printed: str
) -> None:
    assert holds_password(address) == (printed != address)
    path = write(tmp_path / "c.toml", as_toml(Config(camera=CameraSettings(source=address))))
    assert f'source = "{printed}"\n' in cli("config", "--config", path).stdout
    assert str(InputError(f"{address}: cannot be opened")) == f"{printed}: cannot be opened"


@pytest.mark.parametrize(
    ("address", "printed"),
    [
        ("rtsps://10.0.0.1:7441/AbCdEfGh12345678", "rtsps://10.0.0.1:7441/..."),
        ("http://ha/api/webhook/front-door", "http://ha/api/webhook/..."),
        ("https://host/token/abc/stream", "https://host/token/.../stream"),
        ("https://host/0123456789abcdef0123/a.mjpeg", "https://host/.../a.mjpeg"),
        ("https://host/photos/IMG_20240101_120000.jpg", "https://host/photos/IMG_20240101_120000.jpg"),
        ("rtsp://camera/Streaming/Channels/101", "rtsp://camera/Streaming/Channels/101"),
        ("s3://bucket/0123456789abcdef0123/a.jpg", "s3://bucket/0123456789abcdef0123/a.jpg"),
    ],
)
def test_hides_parts_of_a_path_that_look_like_a_secret(address: str, printed: str) -> None:
    assert str(InputError(f"{address}: cannot be opened")) == f"{printed}: cannot be opened"
    assert not holds_password(address)


def test_a_port_is_not_a_password() -> None:
    assert not holds_password("http://host:8080/user:1@2")


def test_the_command_prints_checks_and_gives_an_example(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", 'node = "hall"\n')
    assert 'node = "hall"' in cli("config", "--config", path).stdout
    assert cli("config", "--example").stdout == example()
    assert cli("config", "--config", path, "--check").stdout == f"{path}: valid\n"
    for text, message in (
        ('model = "nowhere.tflite"', "no such model file"),
        ('[faces]\ndetector = "yunet"', "needs --detector-model"),
        ('[mqtt]\nurl = "http://x"', "mqtt://"),
        ('node = "a b"', "--node"),
        ("thread = 1", "did you mean threads?"),
    ):
        wrong = cli("config", "--config", write(tmp_path / "wrong.toml", text), "--check", status=2)
        assert message in wrong.stderr
        assert wrong.stderr.count("\n") == 1
