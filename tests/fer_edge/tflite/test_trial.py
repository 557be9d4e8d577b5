from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from fer_edge.errors import FerEdgeError, ModelError
from fer_edge.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes
from fer_edge.tflite import trial, trial_process
from fer_edge.tflite.interpreter import make_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable

SQUARES = Path(__file__).parents[2] / "data" / "squares.tflite"


@pytest.fixture(autouse=True)
def know_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_known", set())


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files of the models that are tried, none of which is."""
    tried: list[Path] = []

    def succeed(path: Path, *_: object) -> bool:
        tried.append(path)
        return True

    monkeypatch.setattr(trial, "_try", succeed)
    return tried


def test_tries_each_unknown_model_once(trials: list[Path]) -> None:
    for _ in range(2):
        make_interpreter(model_bytes(SQUARES), SQUARES)
    assert trials == [SQUARES]


def test_knows_the_shipped_models_wherever_they_lie(trials: list[Path], tmp_path: Path) -> None:
    for path in (DEFAULT_MODEL, DEFAULT_DETECTOR):
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        make_interpreter(model_bytes(copy), copy)
    assert trials == []


def test_runs_a_model_in_another_process() -> None:
    assert trial.works(model_bytes(SQUARES), SQUARES, "ai_edge_litert.interpreter")
    assert not trial.works(model_bytes(SQUARES)[:5000], SQUARES, "ai_edge_litert.interpreter")


def crash(*_: object) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), signal.SIGSEGV)


def fill_memory(*_: object) -> Callable[[], None]:
    def run() -> None:
        bytes(1 << 31)

    return run


def spin(*_: object) -> Callable[[], None]:
    def run() -> None:
        while True:
            pass

    return run


def fail_to_import(*_: object) -> Callable[[], None]:
    raise ImportError


@pytest.mark.parametrize(
    ("prepare", "seconds", "error", "message"),
    [
        (crash, 8, ModelError, r"m\.tflite: crashes the runtime \(SIGSEGV in a process of its own\)"),
        (fill_memory, 8, ModelError, r"m\.tflite: takes more than 629 MB of memory"),
        (spin, 1, ModelError, r"m\.tflite: takes longer than 1 s to load and run"),
        (fail_to_import, 8, FerEdgeError, r"m\.tflite: cannot be tried in a process of its own"),
    ],
)
def test_reports_what_became_of_the_other_process(
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[..., Callable[[], None]],
    seconds: int,
    error: type[FerEdgeError],
    message: str,
) -> None:
    # The other process imports this module, and prepares the model with one of its functions.
    command = (
        "import sys; sys.path[:] = sys.argv[1:]; from fer_edge.tflite import trial_process;"
        " from tests.fer_edge.tflite import test_trial;"
        f" trial_process._prepare_flatbuffer = test_trial.{prepare.__name__}; trial_process.main()"
    )
    monkeypatch.setattr(trial, "_COMMAND", command)
    monkeypatch.setattr(trial, "TRIAL_CPU_S", seconds)
    with pytest.raises(error, match=message):
        trial.works(b"model", Path("m.tflite"), "json")


def test_gives_up_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_COMMAND", "import time; time.sleep(60)")
    monkeypatch.setattr(trial, "TRIAL_S", 0.5)
    with pytest.raises(ModelError, match=r"m\.tflite: takes longer than 0\.5 s"):
        trial.works(b"model", Path("m.tflite"), "json")


def test_request_survives_the_way() -> None:
    request = trial_process.Request(module="m", input_shape=(1, 2), max_bytes=1, max_cpu_s=2)
    assert msgspec.json.decode(msgspec.json.encode(request), type=trial_process.Request) == request
