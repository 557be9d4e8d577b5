"""A real Home Assistant that a test can start, and ask by REST and WebSocket.

``HASS_COMMAND`` is the command that starts it: ``hass`` of a virtual environment with the package ``homeassistant``, or
a longer one, such as ``chroot /srv/forky /ha/bin/hass`` where ``/tmp`` is the same on both sides.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import socket
import subprocess
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMAND: Final = os.environ.get("HASS_COMMAND", "")
_STARTS_WITHIN: Final = 300.0  # seconds; it installs packages at the first start
_TIMEOUT: Final = 60.0
_CONFIGURATION: Final = """
http:
  server_host: 127.0.0.1
  server_port: {port}
api:
config:
onboarding:
automation: !include automations.yaml
logger:
  default: warning
"""


class HomeAssistant:
    """A Home Assistant with an owner, without any integration at first."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._url = f"http://127.0.0.1:{free.getsockname()[1]}"
            port = free.getsockname()[1]
        (folder / "configuration.yaml").write_text(_CONFIGURATION.format(port=port))
        (folder / "automations.yaml").write_text("[]\n")
        self._token = ""

    def __enter__(self) -> Self:
        with (self._folder / "output.log").open("wb") as log:
            command = [*shlex.split(COMMAND), "--config", str(self._folder)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._until(lambda: self._get("/api/onboarding"), "it answers", _STARTS_WITHIN)
        client = f"{self._url}/"
        owner = {"client_id": client, "name": "Test", "username": "test", "password": "open sesame", "language": "en"}
        code = self.post("/api/onboarding/users", owner)["auth_code"]
        grant = {"client_id": client, "grant_type": "authorization_code", "code": code}
        body = urllib.parse.urlencode(grant).encode()
        self._token = self._request("POST", "/auth/token", body, "application/x-www-form-urlencoded")["access_token"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        """What it has logged: warnings and errors."""
        return (self._folder / "output.log").read_text()

    def connect_to_broker(self, port: int) -> None:
        """Set up its MQTT integration."""
        flow = self.post("/api/config/config_entries/flow", {"handler": "mqtt"})
        answer: dict[str, Any] = {"broker": "127.0.0.1", "port": port}
        if any(field["name"] == "other_settings" for field in flow["data_schema"]):  # since 2026
            answer["other_settings"] = {"set_client_cert": False, "set_ca_cert": "off"}
        done = self.post(f"/api/config/config_entries/flow/{flow['flow_id']}", answer)
        assert done["type"] == "create_entry", done

    def states(self) -> dict[str, dict[str, Any]]:
        """Return each entity's state."""
        return {state["entity_id"]: state for state in self._get("/api/states")}

    def wait_for_state(self, entity: str, accepts: Callable[[str], bool]) -> dict[str, Any]:
        def state() -> dict[str, Any] | None:
            found = self.states().get(entity)
            return found if found is not None and accepts(found["state"]) else None

        result: dict[str, Any] = self._until(state, f"{entity} changes", _TIMEOUT)
        return result

    def call(self, service: str, **data: object) -> None:
        """Call a service such as ``number.set_value``."""
        self.post(f"/api/services/{service.replace('.', '/')}", data)

    def add_automations(self, texts: dict[str, str]) -> None:
        """Add automations by their names: the YAML without id and alias."""
        with (self._folder / "automations.yaml").open("w") as file:
            for name, text in texts.items():
                file.write(f"- id: {name}\n  alias: {name}\n{textwrap.indent(text, '  ')}\n")
        self.call("automation.reload")
        for name in texts:
            self.wait_for_state(f"automation.{name}", lambda state: state == "on")

    def add_blueprint(self, path: Path) -> str:
        """Install a blueprint of an automation, and return its name."""
        folder = self._folder / "blueprints" / "automation" / "fer-edge"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
        return f"fer-edge/{path.name}"

    def ask(self, kind: str, **fields: object) -> Any:  # noqa: ANN401 - any JSON
        """Send a command over its WebSocket, and return the result."""
        return asyncio.run(self._ask({"id": 1, "type": kind, **fields}))

    def post(self, path: str, data: object) -> Any:  # noqa: ANN401 - any JSON
        return self._request("POST", path, json.dumps(data).encode(), "application/json")

    async def _ask(self, command: dict[str, object]) -> Any:  # noqa: ANN401
        address = f"{self._url}/api/websocket"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as connection:
            await connection.receive_json()
            await connection.send_json({"type": "auth", "access_token": self._token})
            await connection.receive_json()
            await connection.send_json(command)
            answer = await connection.receive_json(timeout=_TIMEOUT)
            assert answer["success"], answer
            return answer["result"]

    def _get(self, path: str) -> Any:  # noqa: ANN401
        return self._request("GET", path, None, "application/json")

    def _request(self, method: str, path: str, body: bytes | None, kind: str) -> Any:  # noqa: ANN401
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        request = urllib.request.Request(f"{self._url}{path}", body, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def _until(self, condition: Callable[[], Any], description: str, timeout: float) -> Any:  # noqa: ANN401
        deadline = time.monotonic() + timeout
        while True:
            try:
                if result := condition():
                    return result
            except urllib.error.URLError:  # not yet
                assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, f"{description}: not within {timeout:.0f} s\n{self.log}"
            time.sleep(0.1)
