"""Run ``fer-edge`` in forks of a process that has already imported slow modules.

``python -m tests.fork_server SOCKET MODULE...`` imports the modules, listens at the socket and prints a line. Each
connection gets a fork, which reads one request a line and runs it in a fork of its own that is otherwise like
``python -m fer_edge.cli``, or like another program. It answers with that fork's process ID and, at its end, its exit
status. The process ends with its standard input; the forks end with their connections.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final, Self

import msgspec

from fer_edge.cli import app
from fer_edge.utils.opencv_defaults import set_opencv_defaults
from tests.locks import locked

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "fer_edge.cli"
LIGHT = (
    *("ai_edge_litert.interpreter", "cv2", "msgspec", "numpy"),
    *("fer_edge.datasets.readers", "fer_edge.reports.html", "fer_edge.tagging.run", "fer_edge_device.app"),
)
WITH_TENSORFLOW = (
    *("fer_edge_train.progress", "fer_edge_train.report", "fer_edge_train.training", "fer_edge_train.adaptation"),
    *("fer_edge_convert.conversion", "fer_edge_convert.classifier_stage", "fer_edge_convert.detector_stage"),
    *("fer_edge_convert.formats.isolated", "fer_edge_convert.formats.keras_files", "tensorflow", "tf_keras", *LIGHT),
)
_statuses: Final[list[int]] = []  # of the command that has ended in this fork


class ForkServer:
    """A process that forks for each command; all workers share it, and the first command of any starts it.

    Args:
        modules: the modules that it imports.
        address: its socket, the same for all workers.
        folder: the folder for what the commands print, another one for each worker.
    """

    def __init__(self, modules: tuple[str, ...], address: Path, folder: Path) -> None:
        self._modules, self._address = modules, address
        self._lock = address.with_suffix(".lock")  # held by the worker that connects
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[str] | None = None  # of the worker that has started it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            with locked(self._lock):  # from now on, another worker starts its own
                self._process.communicate()  # closes its input, which ends it

    def start(
        self,
        *args: str | Path,
        program: str = PROGRAM,
        cwd: Path | None = None,
        eager: bool = False,
        kill_before_writing: Path | None = None,
    ) -> Command:
        """Start a command, without TensorFlow's graphs if eager. The command before must have ended.

        With ``kill_before_writing`` it is killed when it is about to give its finished output this name.
        """
        if self._connection is None:
            self._connection = self._connect()
        request = {
            "program": program,
            "args": list(map(str, args)),
            "environment": {**os.environ, "COLUMNS": "200"},
            "folder": str(cwd or os.getcwd()),  # noqa: PTH109
            "outputs": [str(self._out), str(self._err)],
            "eager": eager,
            "kill_before_writing": kill_before_writing and str(kill_before_writing),
        }
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        return Command(self._connection)

    def run(
        self,
        *args: str | Path,
        program: str = PROGRAM,
        status: int = 0,
        cwd: Path | None = None,
        eager: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and check its exit status."""
        command = self.start(*args, program=program, cwd=cwd, eager=eager)
        result = subprocess.CompletedProcess(
            args, command.wait(500), *(path.read_text() for path in (self._out, self._err))
        )
        assert result.returncode == status, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        with locked(self._lock):
            try:
                connection.connect(str(self._address))
            except (FileNotFoundError, ConnectionRefusedError):  # none has been started, or it has ended
                self._address.unlink(missing_ok=True)
                self._start_process()
                connection.connect(str(self._address))
        return connection

    def _start_process(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", self._address, *self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},  # hides TensorFlow's messages at import
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "it has not started"


class Command:
    """A command that a fork server has started."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pid = self._read_number()

    def wait(self, seconds: float) -> int:
        """Wait for its end and return its exit status; after too long a time, kill it and fail."""
        ended, _, _ = select.select([self._connection], [], [], seconds)
        if not ended:
            self.kill()
        assert ended, "it took too long"
        return self._read_number()

    def kill(self) -> None:
        """Kill it and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._read_number()

    def _read_number(self) -> int:
        """Read a line, and no more, so that `select` tells whether there is another one."""
        line = b""
        while not line.endswith(b"\n"):
            read = self._connection.recv(1)
            assert read, "the fork server has ended"
            line += read
        return int(line)


def read_in_process(request: bytes, timeout: float) -> tuple[int, bytes]:  # noqa: ARG001 - stands for another function
    """Stand for `fer_edge_convert.formats.isolated.run_reader`, whose process would load TensorFlow again."""
    from fer_edge_convert.formats import process  # noqa: PLC0415 - not in every fork server

    return 0, process.answer(msgspec.json.decode(request, type=process.Request), limit=False)


def _serve(address: str, modules: list[str]) -> None:
    """Answer connections until the end of standard input. In a fork, run a command and return."""
    atexit.register(_end_fork)  # before other modules do, so that it runs after theirs
    set_opencv_defaults()
    for module in modules:
        importlib.import_module(module)
    with contextlib.redirect_stdout(io.StringIO()):
        app(["--version"], standalone_mode=False)  # typer imports more when it runs
    gc.freeze()  # spares each fork a copy of most memory
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)  # noqa: T201 - the protocol
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # forks outlive this process, and it must not seem to live on
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks of connections
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if not os.fork():
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(connection)
                return
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Run the commands of a connection until its end. In a fork, run one command and return."""
    with connection.makefile("r") as requests:
        for line in requests:
            pid = os.fork()
            if not pid:
                connection.close()
                requests.close()
                _run(**json.loads(line))
                return
            connection.sendall(b"%d\n" % pid)
            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    connection.close()
    _statuses.append(0)


def _run(
    program: str,
    args: list[str],
    environment: dict[str, str],
    folder: str,
    outputs: list[str],
    *,
    eager: bool,
    kill_before_writing: str | None,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115 - until the process ends
    os.dup2(sys.stdin.fileno(), 0)
    for descriptor, path in enumerate(outputs, start=1):
        with open(path, "wb") as file:  # noqa: PTH123
            os.dup2(file.fileno(), descriptor)
    if eager:
        sys.modules["tensorflow"].config.run_functions_eagerly(run_eagerly=True)
    if reader := sys.modules.get("fer_edge_convert.formats.isolated"):
        reader.run_reader = read_in_process  # type: ignore[attr-defined]
    if kill_before_writing:
        sys.addaudithook(functools.partial(_kill_before, kill_before_writing))
    sys.argv = ["fer-edge", *args]
    try:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):  # a message, which Python prints
            raise
        _statuses.append(end.code or 0)
    else:
        _statuses.append(0)


def _kill_before(name: str, event: str, args: tuple[object, ...]) -> None:
    if event == "os.rename" and os.fspath(args[1]) == name:  # type: ignore[call-overload]
        os.kill(os.getpid(), signal.SIGKILL)


def _end_fork() -> None:
    """End a fork whose command has ended; Python's own end would write to every page of memory, which copies it."""
    if _statuses:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_statuses[0])


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
