"""Run ``fer-edge`` in forks of a process that has already imported slow modules.

``python -m tests.fork_server MODULE...`` imports the modules. Then it reads one request a line and runs it in a fork
that is otherwise like ``python -m fer_edge.cli``, or like another program. It prints the fork's process ID and, at its
end, its exit status.
"""

from __future__ import annotations

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
import subprocess
import sys
from typing import TYPE_CHECKING, Self

import msgspec

from fer_edge.cli import app

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

PROGRAM = "fer_edge.cli"
LIGHT = ("ai_edge_litert.interpreter", "msgspec", "numpy")  # no OpenCV, because fer-edge sets it up first
WITH_TENSORFLOW = (
    *("fer_edge_train.progress", "fer_edge_train.report", "fer_edge_train.training", "fer_edge_convert.conversion"),
    *("fer_edge_convert.formats.isolated", "tensorflow", "tf_keras"),
)


class ForkServer:
    """A process that forks for each command; it starts at the first one.

    Args:
        modules: the modules that it imports.
        folder: the folder for what the commands print.
    """

    def __init__(self, modules: tuple[str, ...], folder: Path) -> None:
        self._modules = modules
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
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
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", *self._modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},  # hides TensorFlow's messages at import
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "program": program,
            "args": list(map(str, args)),
            "environment": {**os.environ, "COLUMNS": "200"},
            "folder": str(cwd or os.getcwd()),  # noqa: PTH109
            "outputs": [str(self._out), str(self._err)],
            "eager": eager,
            "kill_before_writing": kill_before_writing and str(kill_before_writing),
        }
        print(json.dumps(request), file=self._process.stdin)
        return Command(self._process.stdout)

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


class Command:
    """A command that a fork server has started."""

    def __init__(self, answers: IO[str]) -> None:
        self._answers = answers
        self._pid = int(answers.readline())

    def wait(self, seconds: float) -> int:
        """Wait for its end and return its exit status; after too long a time, kill it and fail."""
        ended, _, _ = select.select([self._answers], [], [], seconds)
        if not ended:
            self.kill()
        assert ended, "it took too long"
        return int(self._answers.readline())

    def kill(self) -> None:
        """Kill it and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._answers.readline()


def read_in_process(request: bytes, timeout: float) -> tuple[int, bytes]:  # noqa: ARG001 - stands for another function
    """Stand for `fer_edge_convert.formats.isolated.run_reader`, whose process would load TensorFlow again."""
    from fer_edge_convert.formats import process  # noqa: PLC0415 - not in every fork server

    return 0, process.answer(msgspec.json.decode(request, type=process.Request), limit=False)


def _serve() -> None:
    """Answer requests until the end of standard input. In a fork, return its request."""
    for module in sys.argv[1:]:
        importlib.import_module(module)
    with contextlib.redirect_stdout(io.StringIO()):
        app(["--version"], standalone_mode=False)  # typer imports more when it runs
    gc.freeze()  # spares each fork a copy of most memory
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _run(**json.loads(line))
            return
        print(pid, flush=True)  # noqa: T201 - the protocol
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)  # noqa: T201 - likewise


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
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def _kill_before(name: str, event: str, args: tuple[object, ...]) -> None:
    if event == "os.rename" and os.fspath(args[1]) == name:  # type: ignore[call-overload]
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _serve()
