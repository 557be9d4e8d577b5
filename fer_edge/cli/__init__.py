"""The command line.

Every command imports what it needs when it runs: `fer-edge --help` loads neither OpenCV nor a
runtime, and nothing but `train`, `convert` and `evaluate` of a .keras file loads TensorFlow.
"""

from __future__ import annotations

import atexit
import errno
import io
import logging
import os
import signal
import sys
import warnings
from typing import Annotated, Final, NoReturn

import typer

from fer_edge.cli import (
    bench,
    cameras,
    card,
    collect,
    config,
    convert,
    deploy,
    doctor,
    ensemble,
    evaluate,
    evaluate_video,
    fleet,
    history,
    inspect,
    mqtt,
    predict,
    recipes,
    report,
    review,
    run,
    service,
    tag,
    train,
    train_faces,
    train_refiner,
    web,
)
from fer_edge.cli.output import INTERRUPTED, say
from fer_edge.cli.output import version as installed_version
from fer_edge.cli.usage_errors import named_commands, reword_usage_error
from fer_edge.errors import FerEdgeError, first_line, hide_passwords, one_line
from fer_edge.utils.address_space import own_process
from fer_edge.utils.opencv_defaults import set_opencv_defaults

_exit_statuses: Final[list[int]] = []  # of the signals that end this process
_NO_MEMORY: Final = "there is too little memory for this"

app = typer.Typer(name="fer-edge", rich_markup_mode=None, pretty_exceptions_enable=False)
for command in (
    train,
    train_faces,
    train_refiner,
    ensemble,
    recipes,
    convert,
    evaluate,
    evaluate_video,
    inspect,
    predict,
    tag,
    report,
    review,
    card,
    bench,
    run,
    web,
    history,
    collect,
    config,
    cameras,
    mqtt,
    service,
    doctor,
    deploy,
    fleet,
):
    app.add_typer(command.app)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,  # noqa: ARG001
) -> None:
    """Facial-expression recognition for a Raspberry Pi: train, convert, run, measure, tag.

    \b
    Example: fer-edge run --source demo
    """
    if version:
        print(installed_version())
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line; every failure is one line, and a traceback only with ``--debug``."""
    _set_up_process()
    try:
        status = app(standalone_mode=False)
        if status == INTERRUPTED and sys.stderr is not None:
            print("fer-edge: stopped", file=sys.stderr)
        sys.exit(status)
    except FerEdgeError as error:
        _fail(str(error), error.exit_status)
    except OSError as error:  # a full disk, a permission: what the machine says is what there is to say
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        if error.errno == errno.ENOSPC and not error.filename:
            message = "there is no space left where standard output, or a file, goes; make room"
        _fail(hide_passwords(message), 2 if isinstance(error, PermissionError) else 1)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped", INTERRUPTED)
    except MemoryError:
        _fail(_NO_MEMORY, 1)
    except Exception as error:  # noqa: BLE001 - the last resort
        if hasattr(error, "format_message"):  # a usage error, of whichever click typer brings
            message = reword_usage_error(error.format_message())
            names = named_commands(typer.main.get_command(app), sys.argv[1:])
            say(f"fer-edge: {message}; `{' '.join(['fer-edge', *names, '--help'])}` shows how", error=True)
            sys.exit(2)
        if type(error).__module__ == "cv2" and "Insufficient memory" in str(error):
            _fail(_NO_MEMORY, 1)
        message = f"{type(error).__name__}: {first_line(error)}"
        _fail(f"internal error: {message}; `fer-edge --debug ...` shows where; please report it", 1)


class _WarningFormatter(logging.Formatter):
    """Formats what is logged as the command line prints it: ``fer-edge: warning: ...``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record in one line."""
        mark = "warning: " if record.levelno == logging.WARNING else ""
        return one_line(f"fer-edge: {mark}{record.getMessage()}")


def _set_up_process() -> None:
    if logging.lastResort:  # which prints what is logged as long as nothing else is set up
        logging.lastResort.setFormatter(_WarningFormatter())
    _hide_warnings_of_libraries()
    set_opencv_defaults()
    own_process()
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for number in (signal.SIGTERM, signal.SIGHUP):  # an exit, so that what is half-written is taken away
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _exit_by_signal)


def _hide_warnings_of_libraries() -> None:
    """Hide what libraries warn of, such as TensorFlow's retracing, which is for programmers; `warn` prints ours.

    ``FER_EDGE_NATIVE_LOG=1`` shows it, as in `fer_edge.utils.native_stderr`; options of Python for warnings count.
    """
    if os.environ.get("FER_EDGE_NATIVE_LOG"):
        return
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    atexit.register(_hide_native_end)


def _hide_native_end() -> None:
    """Discard what TensorFlow writes to standard error as this process ends, above all after Ctrl-C in an epoch."""
    if "tensorflow" in sys.modules and sys.stderr is not None:
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _exit_by_signal(number: int, _frame: object) -> NoReturn:
    _exit_statuses.append(128 + number)
    sys.exit(128 + number)


def _fail(message: str, status: int) -> NoReturn:
    if _exit_statuses:  # libraries in C that were being imported have turned the exit into an ImportError
        sys.exit(_exit_statuses[0])
    if "--debug" in sys.argv:
        raise  # noqa: PLE0704 - called from main's handlers alone
    log = sys.modules.get("fer_edge_device.logging")
    if log and log.logging_is_set_up():  # it is `run` that fails
        logging.getLogger("fer_edge").error("%s", message)
    elif sys.stderr is not None:
        say(f"fer-edge: {message}", error=True)
    sys.exit(status)
