from __future__ import annotations

import subprocess
import sys

import pytest

from fer_edge.errors import InputError
from fer_edge_device.config.edit import edit_config
from fer_edge_device.config.render import example


def test_changes_the_model_and_keeps_the_rest() -> None:
    text = 'node = "a" # model = "x"\n model="old"  # mine\n\n[ mqtt ]\npassword_file = "secret"\nurl = ""\n'
    assert edit_config(text, "x", model="new", remove_password_file=True) == (
        'node = "a" # model = "x"\n model="new"  # mine\n\n[ mqtt ]\nurl = ""\n'
    )
    assert edit_config("# mine\n[camera]\n", "x", model="né\\w") == 'model = "né\\\\w"\n# mine\n[camera]\n'
    assert edit_config("\ufeff[camera]\n", "x", model="a") == 'model = "a"\n[camera]\n'
    assert edit_config(example(), "x", model="new") == f'model = "new"\n{example()}'


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("mqtt.password_file = 'x'\n", ""),
        ("mqtt.\"password_file\" = 'x'\n# end\n", "# end\n"),
        ('mqtt.url = "mqtt://a@b"\nnode = "a"\nmqtt.password_file = "x"\n', 'mqtt.url = "mqtt://a@b"\nnode = "a"\n'),
        ('[mqtt] # of the broker\npassword_file = "x" # secret\n\n# c\n[log]', "[mqtt] # of the broker\n\n# c\n[log]"),
        ("[mqtt]\r\npassword_file = 'x'\r\nkeepalive_s = 9\r\n", "[mqtt]\r\nkeepalive_s = 9\r\n"),
        ('[log]\nlevel = "info"\n', '[log]\nlevel = "info"\n'),
        ("mqtt = {password_file = 'x'}\n", "mqtt = {}\n"),
    ],
)
def test_removes_the_password_file_however_it_is_written(text: str, edited: str) -> None:
    assert edit_config(text, "x", remove_password_file=True) == edited


def test_changes_a_key_in_quotes() -> None:
    assert edit_config("\"model\" = 'old'\n", "x", model="new") == '"model" = "new"\n'


def test_reports_an_invalid_configuration() -> None:
    with pytest.raises(InputError, match=r"^c\.toml: .*did you mean node\?"):
        edit_config("nodes = 1\n", "c.toml", model="new")


def test_changes_nothing_by_default() -> None:
    assert edit_config("# all\n", "x") == "# all\n"


def test_runner_does_not_import_tomlkit() -> None:
    code = "import sys, fer_edge_device.app, fer_edge_device.mqtt.sink; print('tomlkit' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
