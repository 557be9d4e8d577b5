from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import DataError
from fer_edge.geometry import Box
from fer_edge.tagging.output.table_reader import TableRow
from fer_edge.tagging.steadiness import measure_steadiness, read_timeline
from tests.videos import make_video

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli


def rows(labels: str, track: int = 1, path: str = "clip.mp4") -> list[TableRow]:
    """Make a row for each second: h is happy, s is sad, u is unclear."""
    names = {"h": "happy", "s": "sad", "u": "unclear"}
    return [
        TableRow(path, float(time), Box(0, 0, 9, 9), names[label], 0.9, "", "edge (0123)", track)
        for time, label in enumerate(labels)
    ]


def write(folder: Path, *lines: str) -> Path:
    path = folder / "timeline.csv"
    path.write_text("\n".join(["start,end,emotion,person", *lines]) + "\n")
    return path


def test_counts_flips_of_each_face() -> None:
    found = measure_steadiness([*rows("hhshu"), *rows("sss", track=2)], None)
    assert (found.tracks, found.flips, found.unclear) == (2, 2, 1)
    assert found.minutes * 60 == pytest.approx(5)
    assert found.flips_a_minute == pytest.approx(24)
    assert found.reviewed is None


def test_compares_with_timeline_by_time_and_track(tmp_path: Path) -> None:
    timeline = read_timeline(write(tmp_path, "0,2,Happiness,", "2,4,sad,", "0,9,sad,2"))
    found = measure_steadiness([*rows("hhhsh"), *rows("ss", track=2)], timeline)
    assert found.reviewed == 6  # the fifth second of the first face has no label
    assert found.agreement == pytest.approx(5 / 6)
    assert found.kappa == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "no line with start, end and emotion"),
        (("1,0,happy,",), "line 2: start must be before end"),
        (("0,one,happy,",), "line 2: not start and end in seconds"),
        (("0,1",), "line 2: not start and end in seconds"),
        (("0,inf,happy,",), "line 2: start must be before end"),
        (("0,1,happy,left",), "the number of a track"),
        (("0,2,happy,", "1,3,sad,"), "two spans overlap at 1 s"),
    ],
)
def test_refuses_wrong_timelines(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_timeline(write(tmp_path, *lines))


def test_refuses_rows_that_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no face of a video"):
        measure_steadiness([], None)
    timeline = read_timeline(write(tmp_path, "0,2,happy,"))
    with pytest.raises(DataError, match="a timeline is for one"):
        measure_steadiness([*rows("h"), *rows("h", path="other.mp4")], timeline)


def test_measures_a_video_as_its_table(cli: Cli, tmp_path: Path) -> None:
    video = make_video(tmp_path / "clip.mp4")
    table = tmp_path / "faces.csv"
    cli("tag", video, "--out", table)
    timeline = write(tmp_path, "0,60,happy,")
    of_table, of_video = (
        json.loads(cli("evaluate-video", source, "--timeline", timeline, "--json").stdout)[0]
        for source in (table, video)
    )
    assert of_table["tracks"] > 0
    assert of_table["reviewed"] > 10
    assert {**of_video, "source": ""} == {**of_table, "source": ""}
    assert "agreement with the timeline: " in cli("evaluate-video", table, "--timeline", timeline).stdout
    refused = cli("evaluate-video", table, "--model", "edge", status=2).stderr
    assert "leave --model out for a table" in refused
    assert "no column start" in cli("evaluate-video", table, "--timeline", table, status=2).stderr
