"""Test the command line as users run it, above all its errors."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from fer_edge import demo
from fer_edge.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes, refiner_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import DetectorCard
from tests.device.brokers import Mosquitto
from tests.processes import Process

if TYPE_CHECKING:
    from tests.conftest import Cli, Sample

ROOT = Path(__file__).parents[2]
COMMANDS = (
    *("train", "train-faces", "recipes", "convert", "evaluate", "inspect", "card", "predict", "tag", "report", "bench"),
    *("run", "config", "cameras", "mqtt", "service", "doctor", "deploy"),
)
RUN_DEMO = (sys.executable, "-m", "fer_edge.cli", "run", "--source", "demo", "--node", "test")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Return a frame of the demo with three faces, in colour."""
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), cv2.cvtColor(demo.frame(60), cv2.COLOR_GRAY2BGR))
    return path


@pytest.fixture
def crop(sample: Sample, tmp_path: Path) -> Path:
    path = tmp_path / "crop.png"
    cv2.imwrite(str(path), sample.faces[550])
    return path


def error_line(cli: Cli, *args: str | Path) -> str:
    """Return the only line that a failing command prints, on standard error."""
    result = cli(*args, status=2)
    assert result.stdout == ""
    assert result.stderr.startswith("fer-edge: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_shows_an_example(cli: Cli, command: str) -> None:
    assert f"Example: fer-edge {command} " in cli(command, "--help").stdout


def test_help_lists_every_command_and_imports_nothing_heavy(cli: Cli) -> None:
    help_text = cli("--help").stdout
    assert all(f"\n  {command} " in help_text for command in COMMANDS)
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fer_edge.cli", "--help"], capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"cv2", "numpy", "tensorflow", "keras", "ai_edge_litert", "tflite_runtime", "msgspec"}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("foo",), "fer-edge: foo: no such command; `fer-edge --help` shows how"),
        (("trian",), "trian: no such command; did you mean train?;"),
        (("service", "instal"), "instal: no such command; did you mean install or uninstall?"),
        (("convert", "model.tflite"), "model.tflite: no such model; check the path; give a .keras, "),
        (("collect", "pull", "pi"), "fer-edge: missing option --identity;"),
        (("mqtt",), "fer-edge: missing command;"),
        (("predict",), "fer-edge: missing argument images;"),
        (("predict", "x", "--jsn"), "--jsn: no such option; did you mean --json?;"),
        (("run", "--set", "x=1"), "--set: no such option; similar ones are --"),
        (("recipes", "--x"), "--x: no such option;"),
        (("evaluate",), "; `fer-edge evaluate --help` shows how"),
        (("run", "--detector", "hog"), "--detector: 'hog' is unknown; choose network or yunet;"),
        (("predict", "x", "--min-face", "3"), "--min-face: must be at least 12;"),
        (("predict", "x", "--min-face", "100000"), "--min-face: must be at most 4096;"),
        (("run", "--min-face", "100000"), "--min-face: must be at most 4096;"),
        (("run", "--min-score", "1.5"), "--min-score"),
        (("tag", ".", "--out", "a.csv", "--min-score", "0"), "--min-score"),
        (("run", "--min-face", "3"), "--min-face: faces.min_face must be at least 12, or 0"),
        (("bench", "--runs", "abc"), "--runs: must be a whole number;"),
        (("bench", "--runs", "1.5"), "--runs: must be a whole number;"),
        (("bench", "--seconds", "abc"), "--seconds: must be a number;"),
        (("run", "--log-level", "x"), "choose debug, info, warning or error;"),
        (("tag", "x", "--out", "y", "--sidecar", "foo"), "--sidecar: 'foo' is unknown; choose xmp;"),
        (("run", "extra"), "unexpected argument: extra;"),
        (("predict", "x", "--min-face"), "--min-face: give a value; `fer-edge predict --help` shows how"),
        (("mqtt", "forget", "--node"), "--node: give a value; `fer-edge mqtt forget --help` shows how"),
        (("convert", "nope.keras", "-o", "x.tflite"), "nope.keras: no such model; check the path; give a .keras, "),
        (("convert", "egde", "-o", "x.tflite"), "egde: no such model; did you mean edge? It is shipped as a converted"),
        (("convert", "edge", "--int8", "-o", "x.tflite"), "edge: no such model; it is shipped as a converted model"),
        (("bench", "--runs", "0"), "--runs"),
        (("run", "--seconds", "-1"), "--seconds"),
        (("card", "set", "x.tflite", "--label", "x"), "`fer-edge card set --help` shows how"),
        (("bench", "--seconds", "1", "--runs", "3"), "leave out --runs"),
        (("convert", "x.keras", "--float32", "--report", "x", "-o", "x.tflite"), "give --data, too"),
        (("run", "--source", "demo", "--detector-model", "yunet.onnx"), "--detector yunet"),
        (("inspect", "/"), "/: not a file"),
        (("tag", "x.png"), "--out"),
    ],
)
def test_wrong_usage_gives_one_error_line(cli: Cli, args: tuple[str, ...], expected: str) -> None:
    assert expected in error_line(cli, *args)


def test_card_set_without_options_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    shutil.copy(DEFAULT_MODEL, model)
    before = model.stat().st_mtime_ns, model.read_bytes()
    assert "nothing to set" in error_line(cli, "card", "set", model)
    assert (model.stat().st_mtime_ns, model.read_bytes()) == before


def test_card_set_states_a_licence_and_keeps_the_rest(cli: Cli, tmp_path: Path) -> None:
    model = tmp_path / "faces.tflite"
    shutil.copy(DEFAULT_DETECTOR, model)
    assert "Apache-2.0; its training images allow research only" in cli("inspect", model).stdout
    cli("card", "set", model, "--licence", "MIT")
    assert "licence        MIT\n" in cli("inspect", model).stdout
    assert replace(read_card(model, DetectorCard), licence="") == replace(
        read_card(DEFAULT_DETECTOR, DetectorCard), licence=""
    )
    assert (model_bytes(model), refiner_bytes(model)) == (
        model_bytes(DEFAULT_DETECTOR),
        refiner_bytes(DEFAULT_DETECTOR),
    )
    before = model.read_bytes()
    assert "one line of at most 1000" in error_line(cli, "card", "set", model, "--licence", "MIT\nor not")
    both = error_line(cli, "card", "set", model, "--licence", "MIT", "--labels", "a,b")
    assert "--licence is set alone" in both
    assert model.read_bytes() == before
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(model_bytes(model))
    assert "no model card in it" in error_line(cli, "card", "set", bare, "--licence", "MIT")


def test_what_tensorflow_writes_at_the_end_does_not_reach_users() -> None:
    """After Ctrl-C in an epoch, it writes from C++ as the process ends; what is registered first runs last."""
    program = (
        "import atexit, os, sys; atexit.register(os.write, 2, b'W0000 generator_dataset_op.cc\\n')\n"
        "sys.modules['tensorflow'] = sys; sys.argv[1:] = ['nonsense']\n"
        "from fer_edge.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "fer-edge: nonsense: no such command; `fer-edge --help` shows how\n"


@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_tag_leaves_only_its_journal(
    photo: Path, tmp_path: Path, signal_number: signal.Signals, status: int
) -> None:
    table = tmp_path / "tags.csv"
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3000):
        (folder / f"{number}.png").symlink_to(photo)
    command = [sys.executable, "-m", "fer_edge.cli", "tag", str(folder), "--out", str(table)]
    with Process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "tags.csv.part").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal_number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.glob("*tags*")] == ["tags.csv.part"]


def test_prints_version(cli: Cli) -> None:
    assert cli("--version").stdout.strip().count(".") == 2


def test_predict_reads_heic_and_turns_webp(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    image = Image.fromarray(demo.frame(60)).convert("RGB")
    image.save(tmp_path / "phone.heic", quality=95)
    tags = Image.Exif()
    tags[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.webp", quality=95, exif=tags)
    lines = cli("predict", tmp_path / "phone.heic", tmp_path / "turned.webp").stdout.splitlines()
    assert len(lines) == 6


def test_predict_classifies_each_face(cli: Cli, photo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "annotated.jpg"
    result = cli("predict", photo, "--json", "--save", copy)
    (line,) = result.stdout.splitlines()
    prediction = json.loads(line)
    assert prediction["path"] == str(photo)
    assert len(prediction["faces"]) == 3
    for face in prediction["faces"]:
        assert face["score"] == max(face["scores"].values())
        assert face["scores"][face["emotion"]] == face["score"]
    annotated, original = cv2.imread(str(copy)), cv2.imread(str(photo))
    assert annotated is not None
    assert original is not None
    assert annotated.shape == original.shape
    assert np.abs(annotated.astype(int) - original.astype(int)).max() > 100
    assert cli("predict", photo).stdout.count(f"{photo}: ") == 3


def test_predict_classifies_a_face_crop_unchanged(cli: Cli, crop: Path) -> None:
    face = json.loads(cli("predict", "--face", crop, "--json").stdout)["faces"][0]
    assert face["box"] == [0, 0, 48, 48]
    assert face["emotion"] in face["scores"]


def test_damaged_image_prints_no_library_messages(cli: Cli, photo: Path, tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        encoded_ok, encoded = cv2.imencode(f".{suffix}", demo.frame(0))
        assert encoded_ok
        (tmp_path / f"cut.{suffix}").write_bytes(encoded.tobytes()[:9000])
    result = cli("tag", tmp_path / "cut.png", tmp_path / "cut.jpg", photo, "--out", tmp_path / "t.jsonl")
    assert result.stderr == ""
    assert "3 images" in result.stdout
    (tmp_path / "head.png").write_bytes((tmp_path / "cut.png").read_bytes()[:40])
    assert "head.png: not an image, or a damaged one" in error_line(cli, "predict", tmp_path / "head.png")


def test_accepts_file_name_that_is_not_utf8(cli: Cli, photo: Path, tmp_path: Path) -> None:
    image = tmp_path / os.fsdecode(b"na\xffme.png")
    image.write_bytes(photo.read_bytes())
    assert os.fsencode(json.loads(cli("predict", image, "--json").stdout)["path"]) == os.fsencode(image)
    assert "neutral" in cli("predict", image).stdout
    cli("tag", image, "--out", tmp_path / "t.jsonl")
    assert os.fsencode(json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])["path"]) == os.fsencode(image)


def test_closed_output_does_not_crash() -> None:
    for redirect, status in ((">&-", 2), ("2>&-", 0)):
        command = ["bash", "-c", f'"$@" {redirect}', "-", *RUN_DEMO, "--full-speed", "--seconds", "1"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == status, result.stderr
        assert "internal error" not in result.stderr


def test_predict_rejects_folder_and_pipe(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in error_line(cli, "predict", tmp_path / "pipe.png")
    assert "fer_edge.tag and `fer-edge tag` take folders" in error_line(cli, "predict", tmp_path)


def test_predict_names_the_command_for_videos_and_archives(cli: Cli, photo: Path, tmp_path: Path) -> None:
    for name, kind in (("a.MP4", "videos"), ("a.tar.gz", "archives"), ("a.zip", "archives")):
        (tmp_path / name).write_bytes(b"any")
        expected = f"{tmp_path / name}: not an image; fer_edge.tag and `fer-edge tag` take {kind}"
        assert error_line(cli, "predict", tmp_path / name) == f"fer-edge: {expected}\n"
    shutil.copy(photo, tmp_path / "photo.mjpeg")
    assert "neutral" in cli("predict", tmp_path / "photo.mjpeg").stdout
    assert "cannot be read (No such file" in error_line(cli, "predict", tmp_path / "none.mp4")


def test_image_that_is_too_large_for_colour_keeps_its_faces(cli: Cli, photo: Path, tmp_path: Path) -> None:
    stored = cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE)
    large = np.full((8300, 8300), 128, np.uint8)
    large[: stored.shape[0], : stored.shape[1]] = stored
    image = tmp_path / "large.png"
    cv2.imwrite(str(image), large, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert "may have 67 million; make it smaller" in error_line(cli, "predict", image, "--save", tmp_path / "x.png")
    args = ("--min-face", "40", "--annotate", tmp_path / "copies", "--out", tmp_path / "t.jsonl")
    cli("tag", image, *args)
    *faces, error = map(json.loads, (tmp_path / "t.jsonl").read_text().splitlines())
    assert len(faces) == 3
    assert not any(face["error"] for face in faces)
    assert error["error"].endswith("make it smaller; it was not annotated")


def test_predict_skips_and_names_unreadable_images(cli: Cli, photo: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "bad.jpg"
    damaged.write_text("no image")
    result = cli("predict", damaged, photo, tmp_path / "none.png", status=2)
    assert result.stdout.count("photo.png: ") == 3
    assert result.stderr.splitlines() == [
        f"fer-edge: {damaged}: not an image, or a damaged one",
        f"fer-edge: {tmp_path / 'none.png'}: cannot be read (No such file or directory)",
    ]


def test_predict_rejects_wrong_save_options(cli: Cli, photo: Path, tmp_path: Path) -> None:
    assert "end it in .png or .jpg" in error_line(cli, "predict", photo, "--save", tmp_path / "x.xyz")
    assert "is the image itself" in error_line(cli, "predict", photo, "--save", photo)
    assert "--save takes one image" in error_line(cli, "predict", photo, photo, "--save", tmp_path / "x.png")
    assert not list(tmp_path.glob("x.*"))


def test_tag_writes_one_row_per_face_or_empty_image(cli: Cli, photo: Path, crop: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200), 128, np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    (tmp_path / "notes.txt").write_text("not looked at")
    out = tmp_path / "out" / "tags.jsonl"
    result = cli("tag", tmp_path, "--out", out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    columns = {"path", "time", "track", "box", "emotion", "score", "scores", "detector_score", "sha256", "error"}
    columns |= {"model", "model_sha256", "version", "reliable", "quality"}
    assert all(set(row) == columns for row in rows)
    by_name: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        by_name.setdefault(row["path"].rpartition("/")[2], []).append(row)
    assert set(by_name) == {photo.name, crop.name, "wall.png", "broken.jpg"}
    assert len(by_name["photo.png"]) == 3
    assert by_name["wall.png"][0]["emotion"] is None
    assert by_name["wall.png"][0]["error"] is None
    assert "not an image" in str(by_name["broken.jpg"][0]["error"])
    assert "4 images" in result.stdout
    assert "faces, 1 error\n" in result.stdout

    cli("tag", photo, tmp_path / "broken.jpg", "--out", tmp_path / "tags.csv")
    with (tmp_path / "tags.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    expected = [row for name in ("photo.png", "broken.jpg") for row in by_name[name]]
    assert [row["emotion"] or None for row in table] == [row["emotion"] for row in expected]
    assert [row["error"] or None for row in table] == [row["error"] for row in expected]
    assert float(table[0]["score_happy"]) == expected[0]["scores"]["happy"]  # type: ignore[index]


def test_evaluate_reads_a_card_before_it_loads_keras(tmp_path: Path) -> None:
    """Keras takes seconds and 800 MB to say that a download is a web page."""
    path = tmp_path / "model.keras"
    path.write_text("<!DOCTYPE html>")
    program = "import sys; sys.modules['keras'] = None; from fer_edge.cli import main; main()"
    command = [sys.executable, "-c", program, "evaluate", str(path), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"fer-edge: {path}: no model card in it")


def test_tag_of_face_crops_agrees_with_evaluate(cli: Cli, sample: Sample, fer2013_csv: Path, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(350, 700))
    cli("tag", tree, "--face", "--out", tmp_path / "tags.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "tags.jsonl").read_text().splitlines()]
    correct = sum(row["path"].split("/")[-2] == row["emotion"] for row in rows)
    metrics = json.loads(cli("evaluate", DEFAULT_MODEL, fer2013_csv, "--json").stdout)
    assert metrics["faces"] == len(rows) == 350
    assert metrics["usages"] == ["PublicTest"]
    assert metrics["accuracy"] == pytest.approx(correct / 350)
    assert sum(map(sum, metrics["confusion"])) == 350
    both = json.loads(cli("evaluate", DEFAULT_MODEL, fer2013_csv, tree, "--json").stdout)
    assert (both["faces"], both["usages"]) == (700, ["PublicTest", "test"])
    assert both["accuracy"] == pytest.approx(correct / 350)
    # A folder without a test part is evaluated as a whole, also beside other data.
    output = cli("evaluate", DEFAULT_MODEL, fer2013_csv, tree / "test").stdout
    assert f"PublicTest of {fer2013_csv} and Training of {tree / 'test'}" in output
    assert "of 700 faces" in output


def test_tag_rejects_unwritable_table_and_missing_paths(cli: Cli, photo: Path, tmp_path: Path) -> None:
    assert "end it in .jsonl, .csv, .parquet, .sqlite" in error_line(cli, "tag", photo, "--out", tmp_path / "tags.xlsx")
    assert "no such file or folder" in error_line(cli, "tag", tmp_path / "none", "--out", tmp_path / "t.csv")
    (tmp_path / "empty").mkdir()
    assert "no images" in error_line(cli, "tag", tmp_path / "empty", "--out", tmp_path / "t.csv")
    assert "cannot write there" in error_line(cli, "tag", photo, "--out", photo / "t.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "Is a directory" in error_line(cli, "tag", photo, "--out", tmp_path / "folder.csv")
    assert "--sidecar xmp too" in error_line(cli, "tag", photo, "--out", tmp_path / "t.csv", "--sidecar-dir", tmp_path)
    assert not (tmp_path / "t.csv").exists()


def test_commands_never_overwrite_models_images_or_tables(cli: Cli, photo: Path, tmp_path: Path) -> None:
    model, table = tmp_path / "model.tflite", tmp_path / "t.csv"
    shutil.copy(DEFAULT_MODEL, model)
    cli("tag", photo, "--out", table)
    contents = {path: path.read_bytes() for path in (model, table, photo)}
    for args, expected in (
        (("inspect", model, "--html", model), "--html"),
        (("bench", model, "--out", model), "end it in .json"),
        (("bench", model, "--html", model), "end it in .html"),
        (("report", table, "--out", photo), "end it in .html"),
        (("report", table, "--out", table), "end it in .html"),
        (("report", table, "--out", "http://me:secret@127.0.0.1/page.html"), "an address"),
        (("tag", photo, "--out", tmp_path / "u.csv", "--errors", photo, "--overwrite"), "is not a list of errors"),
    ):
        message = error_line(cli, *args)
        assert expected in message
        assert "secret" not in message
    assert contents == {path: path.read_bytes() for path in contents}
    table.write_bytes(contents[table][:-4])
    assert "the last one is incomplete" in error_line(cli, "report", table, "--out", tmp_path / "page.html")
    assert sorted(path.name for path in tmp_path.glob("[!.]*") if path != photo) == ["model.tflite", "t.csv"]


def test_errors_and_config_hide_passwords(cli: Cli, tmp_path: Path) -> None:
    address = "http://me:secret@127.0.0.1:1/x.tflite"
    for args in (
        ("predict", address),
        ("inspect", address),
        ("evaluate", "edge", address),
        ("report", address, "--out", tmp_path / "x.html"),
        ("run", "--config", address),
        ("tag", tmp_path, "--out", tmp_path / "x.csv", "--cluster", "tcp://me:secret@127.0.0.1:1"),
    ):
        assert "secret" not in error_line(cli, *args)
    config = tmp_path / "config.toml"
    config.write_text('[camera]\nsource = "rtsp://me:secret@camera/stream"\n')
    assert 'source = "rtsp://...@camera/stream"' in cli("config", "--config", config).stdout


def test_config_check_lists_every_mistake(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        'nodde = "a"\nthreads = 900\n[mqtt]\nkeepalive_s = "a"\nevent_max_age_s = 1e9\nfoo.bar = 1\n'
        "[camera]\nfps = 0\nidle_fps = 1\n[events]\nmargin = 2\n[camera.x]\n"
    )
    checked = cli("config", "--config", config, "--check", status=2)
    assert checked.stdout == ""
    assert checked.stderr.splitlines() == [
        f"fer-edge: {config}: {problem}"
        for problem in (
            "there is no key nodde; did you mean node?",
            "threads must be at most 64",
            "mqtt.keepalive_s must be a whole number, not text",
            "mqtt.event_max_age_s must be at most 31,536,000",
            "there is no key mqtt.foo",
            "camera.fps must be at least 0.1",
            "there is no key camera.x",
            "events.margin must be at most 1",
        )
    ]


def test_config_check_lists_every_file_that_cannot_be_used(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        'model = "none"\n[faces]\ndetector_model = "nothing"\n[mqtt]\nurl = "http://x"\n'
        '[outbox]\npath = "/proc/x/../outbox.sqlite"\n'
    )
    lines = cli("config", "--config", config, "--check", status=2).stderr.splitlines()
    for line, expected in zip(lines, ("none: no such", "nothing: no such", "mqtt.url: ", "outbox.path: "), strict=True):
        assert line.startswith(f"fer-edge: {expected}")
    (tmp_path / "folder.sqlite").mkdir()
    for path, problem in (("folder.sqlite", "is not a file"), ("config.toml/o.sqlite", "no file can be kept at")):
        config.write_text(f'[outbox]\npath = "{tmp_path / path}"\n')
        assert problem in error_line(cli, "config", "--config", config, "--check")


def test_undeliverable_messages_give_an_error_status(cli: Cli) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        result = subprocess.run(
            [*RUN_DEMO, "--full-speed"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "standard output: No space left on device" in result.stderr
    assert "no broker is given" in error_line(cli, "mqtt", "forget", "--node", "hall")


def test_inspect_describes_the_shipped_classifier(cli: Cli, tmp_path: Path) -> None:
    info = json.loads(cli("inspect", DEFAULT_MODEL, "--json").stdout)
    assert info["bytes"] == DEFAULT_MODEL.stat().st_size <= 1_000_000
    assert info["integer_only"] is True
    assert (info["input"]["dtype"], info["outputs"][0]["dtype"]) == ("int8", "int8")
    assert info["input"]["scale"] == 1 / 128, "so that a pixel becomes an int8 by subtracting 128"
    assert info["input"]["zero_point"] == 0
    assert info["operators"]["CONV_2D"] > 5
    assert 10e6 < info["multiply_adds"] < 120e6
    assert info["card"]["labels"] == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert all(command.startswith("fer-edge ") for command in info["card"]["made_by"])
    text = cli("inspect", DEFAULT_MODEL).stdout
    assert info["sha256"] in text
    assert "million" in text
    without_card = tmp_path / "bare.tflite"
    without_card.write_bytes(model_bytes(DEFAULT_MODEL))
    assert json.loads(cli("inspect", without_card, "--json").stdout)["card"] is None


def test_inspect_describes_the_shipped_detector(cli: Cli) -> None:
    info = json.loads(cli("inspect", "faces", "--json").stdout)
    assert info["bytes"] <= 300_000
    assert info["integer_only"] is True
    assert info["card"]["task"] == "faces"
    assert info["card"]["made_by"][-1].startswith("fer-edge convert ")
    refiner = info["refiner"]
    assert refiner["integer_only"] is refiner["intact"] is True
    assert refiner["multiply_adds"] < info["multiply_adds"] / 10, "of one face, not of an image"
    assert "multiply-adds a face" in cli("inspect", "faces").stdout
    text = cli("inspect", "faces").stdout
    assert info["sha256"] in text
    assert "any size x 1" in text


def test_rejects_unusable_models(cli: Cli, photo: Path, tmp_path: Path) -> None:
    content = DEFAULT_MODEL.read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[:300_000])
    (tmp_path / "bare.tflite").write_bytes(model_bytes(DEFAULT_MODEL))
    (tmp_path / "text.tflite").write_text("hello")
    for name, expected in (
        ("none.tflite", "no such model file"),
        ("cut.tflite", "no model card in it; the file was cut short"),
        ("bare.tflite", "no model card in it"),
        ("text.tflite", "no model card in it"),
    ):
        assert expected in error_line(cli, "predict", photo, "--model", tmp_path / name)
        assert expected in error_line(cli, "run", "--source", "demo", "--model", tmp_path / name)
    (tmp_path / "model.keras").write_bytes((ROOT / "models" / "edge.keras").read_bytes())
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    (tmp_path / "model.onnx").touch()
    forms = ("model.keras", "a Keras model"), ("model.onnx", "an ONNX model"), ("saved", "a SavedModel folder")
    for name, kind in forms:
        model = tmp_path / name
        for args in (("predict", photo, "--model", model), ("inspect", model), ("bench", model)):
            assert f"{kind}; run `fer-edge convert {model} --int8" in error_line(cli, *args)
    assert f"{kind}; run `fer-edge convert {model} --int8" in error_line(cli, "evaluate", model, photo)
    model = tmp_path / "model.onnx"  # a model, not data, wherever it stands
    assert f"an ONNX model; run `fer-edge convert {model} --int8" in error_line(cli, "evaluate", "edge", model, photo)
    assert "cut short" in error_line(cli, "inspect", tmp_path / "text.tflite")
    assert "cannot load it" in error_line(cli, "inspect", tmp_path / "cut.tflite")


@pytest.mark.parametrize(
    ("args", "template"),
    [
        (("predict", "x.png", "--model", "egde"), "egde: no such model file; {both} (did you mean edge?)"),
        (("run", "--source", "demo", "--model", "edgeplus"), "edgeplus: {none}; {both} (did you mean edge-plus?)"),
        (("bench", "other"), "other: {none}; {both}"),
        (("inspect", "fcaes"), "fcaes: {none}; {both}, faces (did you mean faces?)"),
        (("predict", "x.png", "--detector-model", "face"), "face: {none}; {one} (did you mean faces?)"),
        (("predict", "x.png", "--model", "folder/edge"), "folder/edge: {none}"),
    ],
)
def test_unknown_model_name_lists_shipped_models(cli: Cli, args: tuple[str, ...], template: str) -> None:
    classifiers, detector = "the shipped models are edge, edge-plus, large", "the shipped model is faces"
    expected = template.format(none="no such model file", both=classifiers, one=detector)
    assert error_line(cli, *args) == f"fer-edge: {expected}\n"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("predict x.png --model e", ["edge", "edge-plus"]),
        ("predict x.png --model l", ["large"]),
        ("ensemble e", ["edge", "edge-plus"]),
        ("inspect f", ["faces"]),
        ("train x.csv --recipe cnn-", ["cnn-bn-gap", "cnn-deep-dropout"]),
        ("run --detector y", ["yunet"]),
        ("eval", ["evaluate", "evaluate-video"]),
    ],
)
def test_shell_completes_commands_and_names(typed: str, completed: list[str]) -> None:
    result = subprocess.run(
        Path(sys.executable).with_name("fer-edge"),
        env={
            **os.environ,
            "_FER_EDGE_COMPLETE": "complete_bash",
            "COMP_WORDS": f"fer-edge {typed}",
            "COMP_CWORD": str(len(typed.split())),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == completed


def test_marks_warnings(cli: Cli, sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(350, 400))
    (tree / "test" / "angry" / "bad.png").write_text("no image")
    (warning,) = cli("evaluate", "edge", tree).stderr.splitlines()
    assert warning.startswith("fer-edge: warning: skipped ")
    assert "bad.png" in warning


def test_evaluate_rejects_unusable_data(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("emotion,pixels,Usage\n0," + " ".join(["1"] * 2303) + ",Training\n")
    (tmp_path / "empty").mkdir()
    for name, expected in (
        ("none.csv", "no such file or folder"),
        ("short.csv", "line 2: 2303 pixels, not 2304 (48x48)"),
        ("empty", "no images in class folders"),
    ):
        assert expected in error_line(cli, "evaluate", DEFAULT_MODEL, tmp_path / name)


def test_run_rejects_unusable_sources(cli: Cli, tmp_path: Path) -> None:
    assert "no source 'nowhere.mp4'" in error_line(cli, "run", "--source", "nowhere.mp4")
    assert "/dev/video77: cannot be opened" in error_line(cli, "run", "--source", "/dev/video77")
    assert "no images in this folder" in error_line(cli, "run", "--source", tmp_path)
    assert "no source ''" in error_line(cli, "run", "--source", "")
    assert "no source '9999999'" in error_line(cli, "run", "--source", "9999999")
    video = tmp_path / os.fsdecode(b"na\xffme.mp4")
    video.write_bytes(b"any")
    assert "na\\udcffme.mp4: not a video that FFmpeg can read" in error_line(cli, "run", "--source", video)
    message = error_line(cli, "run", "--source", "rtsp://me:secret@127.0.0.1:1/stream")
    assert "do not give a password in the address" in message
    assert "secret" not in message
    assert "cannot be opened" in error_line(cli, "run", "--source", "rtsp://127.0.0.1:1/user:1@2")
    assert "--node" in error_line(cli, "run", "--source", "demo", "--node", "a/b")
    assert "needs --detector-model" in error_line(cli, "run", "--source", "demo", "--detector", "yunet")
    classifier = ("--detector", "network", "--detector-model", DEFAULT_MODEL)
    assert "an expression classifier; give a face detector here" in error_line(
        cli, "run", "--source", "demo", *classifier
    )
    (tmp_path / "x.onnx").write_text("no network")
    yunet = ("--detector", "yunet", "--detector-model", tmp_path / "x.onnx")
    assert "not a YuNet network" in error_line(cli, "run", "--source", "demo", *yunet)


@pytest.mark.skipif(os.path.exists("/dev/video0"), reason="this machine has a camera")  # noqa: PTH110 - at import
def test_missing_camera_gives_advice(cli: Cli) -> None:
    message = error_line(cli, "run")
    assert "no camera found" in message
    assert "python3-picamera2" in message
    assert "try the source demo" in message


def test_run_prints_messages_and_a_two_line_summary(cli: Cli) -> None:
    result = cli("run", "--source", "demo", "--full-speed", "--node", "test", "--seconds", "4")
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(list(message) == ["topic", "payload", "qos", "retain"] for message in messages)
    events = [message["payload"] for message in messages if message["topic"] == "fer-edge/test/event"]
    assert {event["event_type"] for event in events} >= {"new", "end"}
    assert list(events[0]) == [
        *("schema", "event_type", "id", "time", "emotion", "score", "scores", "reliable", "quality"),
        *("previous", "box", "duration_s", "model"),
    ]
    summary = result.stderr.splitlines()
    assert len(summary) == 2
    assert summary[0].startswith("40 frames in ")
    assert summary[1].startswith(f"{len(events)} events: ")


def test_replayed_video_gives_the_same_events(cli: Cli, tmp_path: Path) -> None:
    video = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (demo.WIDTH, demo.HEIGHT))
    for number in range(50):
        writer.write(cv2.cvtColor(demo.frame(number), cv2.COLOR_GRAY2BGR))
    writer.release()

    def events() -> list[str]:
        lines = cli("run", "--source", video, "--node", "test").stdout.splitlines()
        return [line for line in lines if "/stats" not in line]

    first = events()
    assert sum("/event" in line for line in first) >= 4
    assert first == events()


def test_run_of_one_image_names_the_commands_for_images(cli: Cli, photo: Path) -> None:
    assert "use `fer-edge predict` or `fer-edge tag`" in cli("run", "--source", photo).stderr
    assert "hint" not in cli("run", "--source", "demo", "--seconds", "0.5", "--full-speed").stderr


def test_run_explains_why_photos_give_no_event(cli: Cli, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photo, folder)
    stderr = cli("run", "--source", folder).stderr
    assert f"hint: {folder}: `run` plays the images of a folder as one video" in stderr
    assert "use `fer-edge predict` or `fer-edge tag`" in stderr
    for number in range(9):
        shutil.copy(photo, folder / f"{number}.png")
    assert "hint" not in cli("run", "--source", folder).stderr


def test_run_says_which_events_still_wait_for_the_broker(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = tmp_path / "outbox.sqlite"
    monkeypatch.setenv("FER_EDGE_OUTBOX_PATH", str(outbox))
    demo_run = ("run", "--source", "demo", "--seconds", "5", "--full-speed", "--node", "test", "--mqtt")
    with socket.socket() as unused:  # bound and not listening: nobody answers
        unused.bind(("127.0.0.1", 0))
        dead = cli(*demo_run, f"mqtt://127.0.0.1:{unused.getsockname()[1]}").stderr
    trials = tmp_path / "trials" / outbox.name  # the demo's events do not wait among the node's own
    assert re.search(rf"^\d+ events wait for the broker in {re.escape(str(trials))}$", dead, re.MULTILINE)
    assert not outbox.exists()
    with Mosquitto(tmp_path / "broker") as broker:
        assert "for the broker" not in cli(*demo_run, f"mqtt://127.0.0.1:{broker.port}").stderr


def test_closed_pipe_ends_the_run_quietly() -> None:
    with Process[bytes]([*RUN_DEMO, "--full-speed"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"fer-edge/test/" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        errors = process.stderr.read().decode()
    assert len(errors.splitlines()) == 2, errors
    assert "frames in" in errors


@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_run_publishes_offline_on_signal(signal_number: signal.Signals, status: int) -> None:
    with Process(RUN_DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "/event" in line:
                break
        process.send_signal(signal_number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert output.splitlines()[-1] == '{"topic":"fer-edge/test/availability","payload":"offline","qos":1,"retain":true}'
    assert "Traceback" not in errors


def test_full_disk_leaves_no_partial_files(cli: Cli, photo: Path, tmp_path: Path) -> None:
    result = cli("tag", photo, "--out", "/dev/full/tags.csv", status=2)
    assert "cannot write there" in result.stderr
    before = sorted(tmp_path.iterdir())
    limited_result = subprocess.run(
        [
            *("bash", "-c", 'ulimit -f 0; trap "" XFSZ; exec "$@"', "-", sys.executable, "-m", "fer_edge.cli"),
            *("tag", str(photo), "--out", str(tmp_path / "tags.csv")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert limited_result.returncode == 1
    assert "cannot be written (disk I/O error)" in limited_result.stderr
    assert "Traceback" not in limited_result.stderr
    assert sorted(tmp_path.iterdir()) == before
