"""``fer-edge deploy``: install wheel, model and configuration on hosts, or only a model, over the user's own ssh.

Each host runs ``deploy.sh``, which creates a temporary folder there and removes it, however it ends. `remote_install`
then changes the host.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import FerEdgeError, InputError
from fer_edge_device.install.manifest import MARK, HostBenchmark
from fer_edge_device.install.paths import HOME, METADATA
from fer_edge_device.install.ssh import SSH_FAILED, SshConnection, check_hosts, connect_advice
from fer_edge_device.sd_notify import MODEL_STATUS

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence

    from fer_edge_device.install.bundle import Bundle

_MAX_HOSTS: Final = 8  # at the same time
_MAX_LINES: Final = 12  # of a step's output
_STATUS: Final = "systemctl show fer-edge.service 'fer-edge@*.service' --property=StatusText --value"
# Others than root need D-Bus for it, which a small system lacks.
_ASK: Final = f"ls -d /{HOME}/current/{METADATA}; sudo -n {_STATUS} || {_STATUS}"
_DECODER: Final = msgspec.json.Decoder(HostBenchmark)  # made once: msgspec crashes if two threads meet a type first


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a deployment to one host.

    Attributes:
        host: as the user gave it.
        version: the version that is installed there now; empty if it is unknown.
        models: name and first digits of each model that runs there now.
        failed_step: the step that failed; empty if none did.
        waits: whether nothing was done there, because a host of an earlier wave failed.
        output: the last lines of the step that failed.
        benchmark: the latencies measured there; None if they were not measured.
    """

    host: str
    version: str = ""
    models: tuple[str, ...] = ()
    failed_step: str = ""
    waits: bool = False
    output: tuple[str, ...] = ()
    benchmark: HostBenchmark | None = None


def deploy(
    hosts: Sequence[str],
    bundle: Bundle,
    *,
    on_progress: Callable[[str, str], None],
    waves: Sequence[int] = (),
    ssh_config: Path | None = None,
) -> list[Outcome]:
    """Install a bundle on hosts, several at the same time.

    With waves, the hosts of a wave begin when all of the earlier ones are ready. After a failure, no other wave begins.

    Args:
        hosts: each ``user@host`` or a name from ssh's configuration.
        bundle: the files to install.
        on_progress: called with a host and the step that begins there, from several threads.
        waves: number of hosts of each wave, 1 or more; the last number holds for all further waves. None means one
            wave of all.
        ssh_config: a configuration file for ssh; None means the user's.

    Returns:
        The outcome of each host, in the given order.

    Raises:
        InputError: ssh is missing, or a host name is invalid; nothing was changed anywhere.
    """
    check_hosts(hosts)
    # Short paths, because the path of a socket has at most 108 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="fer-edge-") as sockets,
        tempfile.TemporaryDirectory(prefix="fer-edge-") as folder,
        ThreadPoolExecutor(_MAX_HOSTS) as pool,
    ):
        bundle.write(Path(folder))
        connections = [SshConnection(host, Path(sockets), ssh_config) for host in dict.fromkeys(hosts)]
        outcomes: list[Outcome] = []
        try:
            for wave in _split(connections, waves):
                errors = list(pool.map(SshConnection.connect, wave))
                unknown = [error for error in errors if "Could not resolve hostname" in error]
                if len(unknown) == len(wave) and not outcomes:  # one of several may just be switched off
                    raise InputError("; ".join(unknown))
                deployments = [_Deployment(each, bundle, Path(folder), on_progress) for each in wave]
                outcomes += pool.map(_Deployment.run, deployments, errors)
                if any(outcome.failed_step for outcome in outcomes):
                    break
            waiting = connections[len(outcomes) :]
            found = pool.map(_ask, waiting)
            return outcomes + [Outcome(each.host, *one, waits=True) for each, one in zip(waiting, found, strict=True)]
        finally:
            # Also after Ctrl-C, while threads still wait for their hosts.
            for connection in connections:
                connection.close()
            pool.shutdown(cancel_futures=True)


def _split(connections: list[SshConnection], waves: Sequence[int]) -> Iterator[list[SshConnection]]:
    """Yield the connections of each wave."""
    sizes = chain(waves, repeat(waves[-1] if waves else len(connections)))
    left = connections
    while left:
        size = next(sizes)
        yield left[:size]
        left = left[size:]


def _ask(connection: SshConnection) -> tuple[str, tuple[str, ...]]:
    """Ask a host for the version that is installed, empty if it is unknown, and the models that its cameras run."""
    process = connection.start(_ASK)
    output, _ = process.communicate()
    connection.wait(process)
    version = re.search(r"/fer_edge-([\w.+!]+)\.dist-info$", output, re.MULTILINE)
    models = re.findall(rf"^(?:.*; )?{MODEL_STATUS}(.+)$", output, re.MULTILINE)
    return version[1] if version else "", tuple(dict.fromkeys(models))


class _Deployment:
    """A run of ``deploy.sh`` on one host."""

    def __init__(
        self, connection: SshConnection, bundle: Bundle, folder: Path, on_progress: Callable[[str, str], None]
    ) -> None:
        self._connection, self._bundle, self._folder, self._on_progress = connection, bundle, folder, on_progress
        self._output: deque[str] = deque(maxlen=_MAX_LINES)
        self._step = "connect"

    def run(self, connect_error: str) -> Outcome:
        """Install the bundle, unless connecting failed. A failure becomes part of the outcome."""
        host = self._connection.host
        if connect_error:
            advice = connect_advice(connect_error, host)
            return Outcome(host, failed_step="connect", output=(connect_error, advice))
        try:
            return self._install()
        except (FerEdgeError, OSError) as error:  # stopped, or this machine cannot start another process
            return Outcome(host, failed_step=self._step, output=(str(error),))

    def _install(self) -> Outcome:
        script = files("fer_edge_device.install").joinpath("deploy.sh").read_text(encoding="utf-8")
        process = self._connection.start(shlex.join(["sh", "-c", script, "deploy.sh"]))
        marks: dict[str, str] = {}
        try:
            self._follow(process, marks)
        except FerEdgeError as error:
            self._output.append(str(error))
        except BrokenPipeError:
            self._output.append("the connection ended while files were copied")
        finally:
            # The script ends when its input does, wherever it is.
            with contextlib.suppress(BrokenPipeError):
                process.communicate()
            status = self._connection.wait(process)
        if status == SSH_FAILED:
            self._output.append("the connection was lost")
        succeeded = "done" in marks
        version, models = _ask(self._connection)
        return Outcome(
            self._connection.host,
            version=version,
            models=models,
            failed_step="" if succeeded else self._step,
            output=() if succeeded else tuple(self._output),
            benchmark=_DECODER.decode(marks["done"]) if succeeded else None,
        )

    def _follow(self, process: subprocess.Popen[str], marks: dict[str, str]) -> None:
        """Read the script's output to its end, and collect its marks."""
        if process.stdin is None or process.stdout is None:  # impossible: both are pipes
            return
        for line in process.stdout:
            if not line.startswith(MARK):
                self._output.append(line.rstrip())
                continue
            mark, _, rest = line.removeprefix(MARK).strip().partition(" ")
            marks[mark] = rest
            if mark == "step":
                self._begin(rest)
            elif mark == "undo":
                self._on_progress(self._connection.host, rest)
            elif mark == "folder":
                self._begin("copy")
                self._connection.copy(self._folder.iterdir(), rest)
                process.stdin.write(f"{self._bundle.manifest.wheel or ''}\n")
                process.stdin.flush()

    def _begin(self, step: str) -> None:
        self._output.clear()
        self._step = step
        self._on_progress(self._connection.host, step)
