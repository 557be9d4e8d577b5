"""Start fer-edge in a Home Assistant add-on: turn the add-on's options into variables, and leave root.

The broker is the one of the options, or that of the Mosquitto add-on, which the Supervisor knows.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

_DATA: Final = Path("/data")
_USER: Final = "fer-edge"
_VARIABLES: Final = {"node": "NODE", "source": "CAMERA_SOURCE", "picture": "WEB_PICTURE", "mqtt_url": "MQTT_URL"}
_INGRESS: Final = "172.30.32.2"  # the Supervisor's address, the same everywhere


def variables(options: dict[str, Any], broker: dict[str, Any], password_file: Path) -> dict[str, str]:
    """Return the variables for the options of an add-on.

    Args:
        options: what the user has set.
        broker: what the Supervisor knows of its broker; empty if there is none.
        password_file: where the broker's password lies, if it has one.
    """
    found = {f"FER_EDGE_{name}": str(options[key]) for key, name in _VARIABLES.items() if options.get(key)}
    if broker and not options.get("mqtt_url"):
        scheme = "mqtts" if broker.get("ssl") else "mqtt"
        user = f"{quote(str(broker['username']), safe='')}@" if broker.get("username") else ""
        found["FER_EDGE_MQTT_URL"] = f"{scheme}://{user}{broker['host']}:{broker['port']}"
    if "FER_EDGE_MQTT_URL" in found:
        found["FER_EDGE_MQTT_HA_DISCOVERY"] = "true"
        if options.get("mqtt_password") or (broker.get("password") and not options.get("mqtt_url")):
            found["FER_EDGE_MQTT_PASSWORD_FILE"] = str(password_file)
    return {
        **found,
        "FER_EDGE_WEB_LISTEN": "0.0.0.0:8080",
        "FER_EDGE_WEB_TRUSTED_PROXY": _INGRESS,
        "STATE_DIRECTORY": str(password_file.parent),
    }


def find_broker(address: str = "http://supervisor/services/mqtt") -> dict[str, Any]:
    """Ask the Supervisor for its broker; return nothing if it has none."""
    token = os.environ.get("SUPERVISOR_TOKEN", "")
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - http
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - likewise
            found: dict[str, Any] = json.load(answer)["data"]
    except (urllib.error.URLError, KeyError, ValueError) as error:
        print(f"no broker of the Supervisor ({error}); set mqtt_url", file=sys.stderr, flush=True)
        return {}
    return found


def main() -> None:
    """Become the user of the image, and fer-edge."""
    options = json.loads((_DATA / "options.json").read_text())
    broker = {} if options.get("mqtt_url") else find_broker()
    user = pwd.getpwnam(_USER)
    state = _DATA / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    os.chown(state, user.pw_uid, user.pw_gid)
    os.setgroups([user.pw_gid])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    password_file = state / "mqtt-password"
    password = options.get("mqtt_password") or broker.get("password") or ""
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    os.environ.pop("SUPERVISOR_TOKEN", None)
    os.environ.update(variables(options, broker, password_file))
    os.execv("/usr/local/bin/fer-edge", ["fer-edge", "run"])  # noqa: S606 - our own program


if __name__ == "__main__":
    main()
