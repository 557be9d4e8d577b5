"""The commands of the manual exist, and those of the pages for newcomers work, one after the other."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import cv2
import pytest
import typer
from typer.core import TyperGroup

from fer_edge import demo
from fer_edge.cli import app
from tests.manual import ROOT, arguments_of, blocks, words_of
from tests.videos import make_video

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli, Sample

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAX_WORDS = 1200


def check_command(arguments: list[str]) -> None:
    """Fail if a command or one of its options does not exist."""
    command = typer.main.get_command(app)
    allowed = {"--help", "--install-completion", "--version"}
    while isinstance(command, TyperGroup):
        allowed |= options_of(command)
        if command.invoke_without_command and (not arguments or arguments[0].startswith("-")):
            break  # a group that is a command itself
        if arguments and arguments[0] in allowed:
            return  # --help and its like
        assert arguments, "no command"
        assert arguments[0] in command.commands, arguments
        command, arguments = command.commands[arguments[0]], arguments[1:]
    allowed |= options_of(command)
    assert allowed.issuperset(flags_of(arguments)), set(flags_of(arguments)) - allowed


def options_of(command: Any) -> set[str]:  # noqa: ANN401 - typer hides the type of commands
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def flags_of(arguments: list[str]) -> list[str]:
    return [each.partition("=")[0] for each in arguments if each.startswith("-") and each != "-"]


def test_wrong_commands_are_found() -> None:
    for line in ("tagg photos", "tag photos --outt x", "service instal", "history delete --before 3d --al"):
        with pytest.raises(AssertionError):
            check_command(line.split())
    for line in ("tag - --out x", "service install --dry-run", "history --since 7d --out x.csv", "web --model edge"):
        check_command(line.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_of_the_page_exist(page: Path) -> None:
    for words in words_of(page):
        if (arguments := arguments_of(words)) is not None:
            check_command(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_is_short(page: Path) -> None:
    words = len(page.read_text(encoding="utf-8").split())
    assert words <= MAX_WORDS, words


def play(page: str, cli: Cli, folder: Path, changes: dict[str, str], leave_out: str = "nothing") -> list[list[str]]:
    """Run the commands of a page in a folder, but those that set up the machine; return their arguments.

    Args:
        page: its name.
        cli: runs a command.
        folder: where.
        changes: words to replace.
        leave_out: a command with this in one of its words is left out.
    """
    done = []
    for words in words_of(ROOT / "docs/start" / page):
        arguments = arguments_of(words)
        if (
            arguments is None
            or words[0] == "sudo"
            or arguments[0] in {"deploy", "web"}
            or leave_out in shlex.join(words)
        ):
            continue  # set up in tests/system, and pages by tests/device/web
        arguments = [changes.get(word, word) for word in arguments]
        if arguments[0] == "run":
            arguments = [*arguments, "--seconds", "2", "--full-speed"]
        cli(*arguments, cwd=folder, status=1 if arguments[0] == "doctor" else 0)
        done.append(arguments)
    return done


def test_maker_page_works(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (config,) = blocks(ROOT / "docs/start/maker.md", "toml")
    (tmp_path / "config.toml").write_text(config)
    # There is no camera here, and no broker: `doctor` says so.
    commands = play("maker.md", cli, tmp_path, {"auto": "demo", "0.0.0.0:8080": "0"})
    assert [arguments[0] for arguments in commands] == ["run", "cameras", "run", "config", "doctor"]


def test_researcher_page_works(cli: Cli, tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos/one.mp4")
    cv2.imwrite(str(tmp_path / "videos/two.jpg"), demo.frame(60))
    sample.write_tree(tmp_path / "own")
    commands = play("researcher.md", cli, tmp_path, {})
    assert [arguments[0] for arguments in commands] == ["tag", "report", "evaluate"]
    assert (tmp_path / "faces.html").stat().st_size > 10_000
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks(ROOT / "docs/start/researcher.md", "python"):
        exec(block, namespace)  # noqa: S102 - that is what is tested
    assert len(namespace["shares"]) == 4, "three people in the video, and the faces of the image together"  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("parity")  # a worker in which TensorFlow is loaded
def test_engineer_page_works(warm_cli: Cli, tmp_path: Path, fer2013_csv: Path) -> None:
    (tmp_path / "fer2013.csv").write_bytes(fer2013_csv.read_bytes())
    (tmp_path / "model.keras").write_bytes((ROOT / "models/edge.keras").read_bytes())
    # Training in full takes an hour; tests/train trains for some epochs.
    commands = play("engineer.md", warm_cli, tmp_path, {"model.h5": "model.keras"}, leave_out="runs/cnn3")
    assert [arguments[0] for arguments in commands] == ["convert", "evaluate", "inspect", "bench", "run"]
