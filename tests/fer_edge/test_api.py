"""Test the public names and functions of the package."""

from __future__ import annotations

import csv
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import pytest

import fer_edge
from fer_edge import demo
from fer_edge.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from fer_edge_device.app import events
from fer_edge_device.config.settings import CameraSettings, Config, EventsSettings
from tests.fer_edge.detection import onnx_squares

if TYPE_CHECKING:
    import numpy.typing as npt

    from tests.conftest import Cli, Sample


class BytesPath(os.PathLike[bytes]):
    """A path of bytes, which fer-edge does not take."""

    def __fspath__(self) -> bytes:
        return b"a.jpg"


def test_every_public_name_can_be_imported() -> None:
    assert fer_edge.__all__ == sorted(fer_edge.__all__)
    for name in fer_edge.__all__:
        assert getattr(fer_edge, name) is getattr(fer_edge, name)
        assert name in dir(fer_edge)
        assert getattr(fer_edge, name).__doc__
    assert fer_edge.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="module 'fer_edge' has no attribute 'lod'"):
        fer_edge.lod  # type: ignore[attr-defined]  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); from fer_edge import load, tag, watch; import fer_edge;"
        " dir(fer_edge); print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "fer_edge" in loaded
    assert not {"cv2", "numpy", "msgspec", "ai_edge_litert", "typer", "fer_edge_device"} & loaded


def test_loads_a_model_by_name_or_path(gray: npt.NDArray[np.uint8]) -> None:
    expected = list(fer_edge.load()(gray))
    for model in ("edge", Path("edge"), DEFAULT_MODEL, str(DEFAULT_MODEL)):
        assert list(fer_edge.load(model)(gray)) == expected
    assert fer_edge.load("edge-plus").model == "edge-plus"
    assert list(fer_edge.load(detector_model=DEFAULT_DETECTOR, threads=2)(gray)) == expected
    assert list(fer_edge.load(detector_model="faces", min_face=40)(gray))
    assert list(fer_edge.load(min_face=300)(gray)) == []


def test_loads_yunet(gray: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "squares.onnx"
    onnx_squares.write_network(path, 2.0)
    recognizer = fer_edge.load(detector="yunet", detector_model=path)
    assert "detector YuNetDetector" in repr(recognizer)
    recognizer(gray)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": None}, "model: None is neither a name nor a path"),
        ({"model": ""}, "model: '' is neither"),
        ({"model": 3}, "model: 3 is neither"),
        ({"model": "none.tflite"}, r"none\.tflite: no such"),
        (
            {"model": "edg"},
            r"edg: no such model file; the shipped models are edge, edge-plus, large \(did you mean edge\?\)",
        ),
        ({"model": "faces"}, r"faces\.tflite: a face detector; give a classifier here"),
        ({"model": np.zeros((9, 9))}, "model: a value of type ndarray is neither a name nor a path$"),
        ({"model": "a\0b"}, "model: .* contains a NUL character"),
        ({"model": BytesPath()}, "model: .* is neither a name nor a path"),
        ({"detector": np.zeros(2)}, "detector: a value of type ndarray is not one of network, yunet"),
        ({"detector": "haar"}, "detector: 'haar' is not one of network, yunet"),
        ({"detector": "yunet"}, "detector_model: yunet needs its file"),
        ({"detector": None, "min_face": 20}, "detector: None finds no faces"),
        ({"detector": None, "detector_model": "faces"}, "detector: None finds no faces"),
        ({"detector_model": 3}, "detector_model: 3 is neither"),
        ({"detector_model": "none.tflite"}, r"none\.tflite: no such"),
        ({"detector_model": "edge"}, r"edge\.tflite"),
        ({"min_face": 11}, "min_face: 11 is not a whole number from 12 to 4096"),
        ({"min_face": 20.5}, r"min_face: 20\.5 is not"),
        ({"min_face": True}, "min_face: True is not"),
        ({"detector": None, "min_score": 0.5}, "detector: None finds no faces"),
        ({"min_score": 0}, r"min_score: 0 is not a number from 0\.01 to 0\.99"),
        ({"min_score": float("nan")}, "min_score: nan is not"),
        ({"min_score": True}, "min_score: True is not"),
        ({"min_score": "0.9"}, "min_score: '0.9' is not"),
        ({"threads": 0}, "threads: 0 is not a whole number from 1 to 64"),
        ({"threads": "2"}, "threads: '2' is not"),
    ],
)
def test_rejects_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(fer_edge.InputError, match=message):
        fer_edge.load(**options)
    if not any(options.get(name, "") is None for name in ("detector", "model")):  # in watch: not given
        with pytest.raises(fer_edge.InputError, match=message):
            next(fer_edge.watch("demo", **options))


def test_watch_gives_the_events_of_run() -> None:
    config = Config(camera=CameraSettings(source="demo"))
    watched = list(itertools.islice(fer_edge.watch("demo"), 6))
    assert watched == list(itertools.islice(events(config), 6))
    assert all(isinstance(event, fer_edge.Event) for event in watched)


def test_watch_takes_other_settings_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_EDGE_EVENTS_MIN_HITS", "9")  # applies only to the service
    file = tmp_path / "config.toml"
    file.write_text("[events]\nmin_hits = 4\n")
    config = Config(camera=CameraSettings(source="demo"), events=EventsSettings(min_hits=4))
    expected = list(itertools.islice(events(config), 3))
    assert list(itertools.islice(fer_edge.watch("demo", config=file), 3)) == expected
    assert list(itertools.islice(fer_edge.watch("demo"), 3)) != expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": b"0"}, "source: b'0' is not a camera's number, a name, an address or a path"),
        ({"source": ""}, "source: '' is not a camera's number"),
        ({"source": np.zeros((9, 9))}, "source: a value of type ndarray is not"),
        ({"source": True}, "source: True is not"),
        ({"source": 0.5}, r"source: 0\.5 is not"),
        ({"detector": np.zeros(2)}, "detector: a value of type ndarray is not one of"),
        ({"realtime": "yes"}, "realtime: 'yes' is neither True nor False"),
        ({"config": "none.toml"}, r"none\.toml: the configuration cannot be read"),
        ({"config": 3}, "config: 3 is neither"),
    ],
)
def test_watch_rejects_wrong_options_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(fer_edge.InputError, match=message):
        fer_edge.watch(**{"source": "demo", **options})


def test_watch_leaves_what_is_not_given_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('model = "edge-plus"\nthreads = 2\n[camera]\nsource = "demo"\n[faces]\nmin_face = 40\n')
    event = next(fer_edge.watch(config=file))
    assert event.model.startswith("edge-plus")
    assert not next(fer_edge.watch(config=file, model="edge")).model.startswith("edge-plus")
    with pytest.raises(fer_edge.SourceError, match="none"):
        next(fer_edge.watch("none.mp4", config=file))


def test_watch_finds_no_smaller_faces_than_the_file_allows(tmp_path: Path) -> None:
    video, file = tmp_path / "video.avi", tmp_path / "config.toml"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (demo.WIDTH, demo.HEIGHT))
    for number in range(20):
        writer.write(cv2.cvtColor(demo.frame(number), cv2.COLOR_GRAY2BGR))
    writer.release()
    largest = max(max(face.box[2:]) for face in demo.truth(0))
    file.write_text("[faces]\nmin_face = 40\n")
    assert [event.event_type for event in fer_edge.watch(video, config=file)]
    file.write_text(f"[faces]\nmin_face = {round(2 * largest)}\n")
    assert not list(fer_edge.watch(video, config=file))
    assert list(fer_edge.watch(video, config=file, min_face=40))  # an argument overrides it


def test_opencv_is_silent_and_limits_images_unless_the_environment_says_otherwise() -> None:
    names = "('LOG_LEVEL', 'IO_MAX_IMAGE_PIXELS')"
    code = f"import fer_edge, os; fer_edge.load; print(*(os.environ['OPENCV_' + name] for name in {names}))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV_")}
    for extra, expected in (({}, "SILENT 268435456"), ({"OPENCV_LOG_LEVEL": "INFO"}, "INFO 268435456")):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**environment, **extra}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


def test_watch_reports_a_missing_source() -> None:
    with pytest.raises(fer_edge.SourceError, match=r"no source 'none\.mp4'"):
        next(fer_edge.watch(Path("none.mp4")))


def test_watch_can_be_stopped_and_started_again() -> None:
    first = fer_edge.watch("demo")
    first_events = list(itertools.islice(first, 2))
    first.close()
    assert list(first) == []
    assert list(itertools.islice(fer_edge.watch("demo"), 2)) == first_events


@pytest.fixture
def photos(gray: npt.NDArray[np.uint8], sample: Sample, tmp_path: Path) -> Path:
    """Return a folder with an image of three faces, one without faces, a damaged one, and a video."""
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "faces.png"), gray)
    cv2.imwrite(str(folder / "wall.png"), demo.wall())
    (folder / "text.jpg").write_text("not an image")
    writer = cv2.VideoWriter(str(folder / "video.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 480))
    for number in range(30):
        writer.write(cv2.cvtColor(demo.frame(number), cv2.COLOR_GRAY2BGR))
    writer.release()
    cv2.imwrite(str(tmp_path / "crop.png"), sample.faces[550])
    return folder


def test_tag_gives_the_rows_of_a_table(cli: Cli, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    cli("tag", photos, "--out", table, "--every", "1s", "--sha256")
    with table.open(newline="") as file:
        expected = list(csv.DictReader(file))
    for every, workers in (("1s", 0), (1, 2)):
        rows = list(fer_edge.tag([photos], every=every, workers=workers, sha256=True))
        as_text = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
        assert as_text == expected
    assert [Path(row["path"]).name for row in rows].count("faces.png") == 3
    assert {row["time"] for row in rows} == {None, 0, 1, 2}
    assert sum("text.jpg" in (row["error"] or "") for row in rows) == 1


def test_tag_takes_one_path_or_several(photos: Path, tmp_path: Path) -> None:
    image = photos / "faces.png"
    expected = list(fer_edge.tag(image))
    assert len(expected) == 3
    assert list(fer_edge.tag(str(image))) == list(fer_edge.tag([str(image)])) == expected
    assert list(fer_edge.tag(path for path in (image,))) == expected
    (crop,) = fer_edge.tag(tmp_path / "crop.png", detector=None)
    assert (crop["width"], crop["height"], crop["detector_score"]) == (48, 48, None)


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        ([], {}, "paths: nothing to tag"),
        (3, {}, "paths: 3 is neither"),
        ([None], {}, "paths: None is neither"),
        ([""], {}, "paths: '' is neither"),
        (["none.jpg"], {}, r"none\.jpg"),
        (["."], {"every": 0}, "every: 0 is not a time above 0"),
        (["."], {"every": -1.0}, r"every: -1\.0 is not"),
        (["."], {"every": True}, "every: True is not"),
        (["."], {"every": float("nan")}, "every: nan is not"),
        (["."], {"every": "often"}, "every often: not a duration"),
        (["."], {"every": np.zeros((9, 9))}, "every: a value of type ndarray is not"),
        (["."], {"every": "often\n" * 99}, r"^every .{1,90}: not a duration; .*$"),
        (["."], {"sha256": "yes"}, "sha256: 'yes' is neither True nor False"),
        (["."], {"detector": None, "min_face": 20}, "detector: None finds no faces"),
        ([np.zeros((9, 9))], {}, "paths: a value of type ndarray is neither"),
        (["a\0b"], {}, "paths: .* contains a NUL character"),
        ([BytesPath()], {}, "paths: .* is neither"),
        (["."], {"workers": -1}, "workers: -1 is not a whole number from 0 to 1024"),
        (["."], {"detector": "haar"}, "detector: 'haar' is not"),
        (["."], {"detector": "yunet"}, "detector_model: yunet needs its file"),
        (["."], {"min_face": 3}, "min_face: 3 is not"),
        (["."], {"model": "none.tflite"}, r"none\.tflite: no such"),
        (["."], {"model": None}, "model: None is neither"),
    ],
)
def test_tag_rejects_wrong_options_at_once(paths: Any, options: dict[str, Any], message: str) -> None:  # noqa: ANN401
    with pytest.raises(fer_edge.InputError, match=message):
        fer_edge.tag(paths, **options)


def test_tag_reports_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(fer_edge.InputError, match="no images"):
        next(fer_edge.tag(tmp_path))


def test_results_can_be_encoded_as_json(gray: npt.NDArray[np.uint8]) -> None:
    recognition = fer_edge.load()(gray)
    decoded = msgspec.json.decode(msgspec.json.encode(list(recognition)))
    assert [face["emotion"] for face in decoded] == [face.emotion for face in recognition]
