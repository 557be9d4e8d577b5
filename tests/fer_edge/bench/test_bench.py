"""Test benchmarks: the measurements, their report and the comparison of two reports."""

from __future__ import annotations

import hashlib
import json
import os
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from fer_edge.bench.compare import compare_reports, ratio_interval
from fer_edge.bench.conditions import Condition
from fer_edge.bench.environment import warnings
from fer_edge.bench.interleave import TURN, compute_stats, interleave, make_case
from fer_edge.bench.machine import MachineFacts, read_condition
from fer_edge.bench.measure import benchmark
from fer_edge.bench.options import BenchOptions
from fer_edge.bench.page import as_html
from fer_edge.bench.pareto import plot_pareto
from fer_edge.bench.results import (
    MAX_SAMPLES,
    CaseId,
    Report,
    Stretch,
    SustainedLoad,
    decode_report,
    encode_report,
    json_schema,
)
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.cli import app
from fer_edge.errors import InputError
from fer_edge.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from fer_edge.utils.atomic_file import ensure_writable
from tests.fer_edge.test_cli import error_line
from tests.reports import CASE_IDS, IDLE, PI, make_report

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from tests.conftest import Cli, Sample

pytestmark = pytest.mark.xdist_group("bench")  # one worker, so that the models are measured once


@pytest.fixture(scope="module")
def bench_folder(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all output files of a benchmark of two models."""
    folder = tmp_path_factory.mktemp("bench")
    options = ("--runs", "2", "--threads", "1,2", "--batch", "1,3", "--starts", "1", "--profile")
    plots = ("--html", folder / "a.html", "--pareto", folder / "a.svg", "--sustained", "1s")
    result = cli("bench", "edge", "edge-plus", *options, *plots, "--out", folder / "a.json")
    (folder / "a.txt").write_text(result.stdout)
    return folder


def test_measures_every_requested_case(bench_folder: Path) -> None:
    report = decode_report((bench_folder / "a.json").read_bytes(), "a.json")
    case_ids = {case.id for case in report.cases}
    assert len(case_ids) == len(report.cases) == 2 * 2 * 2 + 1 + 2 * 2
    assert {case_id.batch for case_id in case_ids if case_id.job == "whole_frame"} == {1}
    assert CaseId("classifier", "edge-plus", 2, batch=3) in case_ids
    for case in report.cases:
        assert case.latency.runs == len(case.samples) == 2
        assert 0 < case.latency.min <= case.latency.median <= case.latency.p95 <= case.latency.p99
    for start in report.starts:
        assert min(start.import_ms, start.load_ms, start.first_run_ms, start.detector_ms, start.first_frame_ms) > 0
        assert 20 < start.classifier_peak_mb <= start.peak_mb < 400
    assert report.sustained is not None
    assert len(report.sustained.stretches) >= 2
    assert report.sustained.stretches[-1].seconds >= 1
    first = report.profiles[0].operators
    assert first[0].kind == "CONV_2D"
    assert first[-1].kind == "SOFTMAX"
    assert first[0].own_ms > 0
    assert all(operator.until_ms > 0 for operator in first)
    assert [model.name for model in report.models] == ["edge", "edge-plus"]
    assert all("PublicTest" in model.accuracy_of for model in report.models)
    assert report.environment.runtime.startswith("ai-edge-litert ")
    assert report.settings.detector_sha256 == hashlib.sha256(DEFAULT_DETECTOR.read_bytes()).hexdigest()
    assert "edge-plus, 2 threads, 3 faces" in (bench_folder / "a.txt").read_text()


def test_batch_size_and_delegate_do_not_change_scores(sample: Sample) -> None:
    single, batched, without_xnnpack = TFLiteClassifier(), TFLiteClassifier(batch=3), TFLiteClassifier(xnnpack=False)
    faces = sample.faces[:7]
    assert batched.classify(faces) == pytest.approx(single.classify(faces), abs=0.01)
    assert without_xnnpack.classify(faces) == pytest.approx(single.classify(faces), abs=0.05)


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.others: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        self.others += [value or "" for name, value in attrs if name in {"src", "href", "data", "srcset"}]


def test_page_is_one_file_with_valid_svg_plots(bench_folder: Path) -> None:
    page = (bench_folder / "a.html").read_text()
    parser = _Addresses()
    parser.feed(page)
    assert parser.others == []
    assert not {"script", "link", "iframe", "img"} & set(parser.opened)
    assert "url(" not in page
    plots = page.split("<svg ")[1:]
    assert len(plots) >= 6
    for part in plots:
        assert ET.fromstring("<svg " + part.partition("</svg>")[0] + "</svg>").tag.endswith("svg")  # noqa: S314 - ours
    assert "edge-plus: 88." in ET.tostring(ET.parse(bench_folder / "a.svg").getroot(), "unicode", "text")  # noqa: S314


def test_written_report_is_read_back_and_matches_the_schema(cli: Cli) -> None:
    report = make_report()
    assert decode_report(encode_report(report), "x") == report
    printed = json.loads(cli("bench", "--schema").stdout)
    assert printed == json.loads(json.dumps(json_schema()))
    assert set(printed["$defs"]["Report"]["properties"]) == set(msgspec.to_builtins(report))
    assert printed["$defs"]["Report"]["properties"]["schema"] == {"enum": [1], "default": 1}


def test_sustained_results_keep_their_json_names() -> None:
    stretch = Stretch(seconds=1.0, median=1.0, frames=9, condition=IDLE)
    sustained = SustainedLoad(case="whole frame", stretches=(stretch,), drift=1.0)
    report = msgspec.structs.replace(make_report(), sustained=sustained)
    assert set(json.loads(encode_report(report))["sustained"]) == {"way", "moments", "drift"}
    assert decode_report(encode_report(report), "x") == report


def test_statistics_equal_those_of_numpy() -> None:
    samples = np.random.default_rng(3).gamma(2, 5, 9001)
    stats = compute_stats(samples, batch=4)
    expected = (samples.min(), np.median(samples), *np.percentile(samples, (95, 99)), np.std(samples, ddof=1))
    assert (stats.min, stats.median, stats.p95, stats.p99, stats.standard_deviation) == pytest.approx(
        expected, abs=1e-4
    )
    assert stats.per_second == pytest.approx(4000 / samples.mean(), abs=0.01)
    assert compute_stats(np.array([2.0])).standard_deviation == 0
    case = make_case(CASE_IDS[0], samples)
    assert case.latency.runs == 9001
    assert len(case.samples) == MAX_SAMPLES
    assert np.median(case.samples) == pytest.approx(np.median(samples), rel=0.05)


def test_interleaves_jobs() -> None:
    calls: list[str] = []
    all_samples = interleave([lambda _: calls.append("a"), lambda _: calls.append("b")], 25)
    assert [len(samples) for samples in all_samples] == [25, 25]
    call_order = "".join(calls).lstrip("a").lstrip("b")  # without the warm-up and the first turn
    assert f"{'b' * (TURN + 1)}{'a' * (TURN + 1)}" in call_order
    by_time = interleave([lambda _: None], 1, seconds=0.01)[0]
    assert 9.999 < by_time.sum() < 1000
    assert len(by_time) > 1


def _make_times(scale: float, seed: int, runs: int = 200) -> npt.NDArray[np.float64]:
    """Return latencies in ms as a busy machine gives them: autocorrelated, with rare slow runs."""
    generator = np.random.default_rng(seed)
    slow = np.zeros(runs)
    for run in range(1, runs):
        slow[run] = 0.9 * slow[run - 1] + generator.normal(0, 0.1)
    return scale * (10 + slow + generator.exponential(0.3, runs))


def _make_reports(scale: float, seed: int) -> tuple[Report, Report]:
    return make_report({CASE_IDS[0]: _make_times(1, 2 * seed)}), make_report(
        {CASE_IDS[0]: _make_times(scale, 2 * seed + 1)}
    )


def test_reports_a_slowdown_but_not_noise() -> None:
    for seed in range(4):
        assert not compare_reports(*_make_reports(1, seed)).regressions
        change = compare_reports(*_make_reports(1.2, seed)).changes[0]
        assert change.regression
        assert change.verdict == "slower"
        assert change.interval[0] < 1.2 < change.interval[1] or change.ratio == pytest.approx(1.2, rel=0.03)
        assert compare_reports(*_make_reports(0.8, seed)).changes[0].verdict == "faster"
    assert not compare_reports(*_make_reports(1.2, 1), tolerance=0.3).regressions


def test_interval_covers_the_true_ratio_of_autocorrelated_runs() -> None:
    covered = 0
    for seed in range(20):
        low, high = ratio_interval(_make_times(1, 1000 + seed, 1000), _make_times(1.1, 2000 + seed, 1000), seed)
        covered += low <= 1.1 <= high
    assert covered >= 16


def test_regression_gives_status_1(cli: Cli, tmp_path: Path) -> None:
    old, new = (tmp_path / f"{name}.json" for name in ("old", "new"))
    for path, report in zip((old, new), _make_reports(1.2, 0), strict=True):
        path.write_bytes(encode_report(report))
    assert "slower, by more than 5%" in cli("bench", "--compare", old, new, status=1).stdout
    comparison = json.loads(cli("bench", "--compare", new, old, "--json").stdout)
    assert comparison["changes"][0]["verdict"] == "faster"
    assert "cannot be read (No such file or directory)" in error_line(cli, "bench", "--compare", old, tmp_path / "none")


def test_compares_different_machines_only_with_anyway() -> None:
    other = make_report(environment=msgspec.structs.replace(PI, machine="Another Pi", runtime="some 2.0"))
    differences = "machine A Pi, then Another Pi; runtime some 1.0, then some 2.0"
    with pytest.raises(
        InputError, match=f"not the same conditions: {differences}; --anyway compares them all the same"
    ):
        compare_reports(make_report(), other)
    times = {CASE_IDS[0]: _make_times(1, 7)}
    comparison = compare_reports(
        make_report(times), msgspec.structs.replace(make_report(times), environment=other.environment), anyway=True
    )
    assert "; ".join(comparison.notes) == differences


def test_notes_different_files_of_the_same_name() -> None:
    old = make_report({CASE_IDS[1]: _make_times(1, 7)})
    settings = msgspec.structs.replace(old.settings, detector_sha256="2" * 64, found=1.5)
    models = (msgspec.structs.replace(old.models[0], sha256="3" * 64),)
    assert compare_reports(old, msgspec.structs.replace(old, settings=settings, models=models)).notes == (
        "edge (000000000000) is compared with edge (333333333333): another file",
        "network detector (111111111111) is compared with network detector (222222222222): another file",
        "faces found in a frame: 2, then 1.5; not the same amount of work",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            encode_report(make_report()).replace(b"[1.0,1.25,2.5]", b"[]"),
            r"\(cases\[0\]\.samples must have at least 1 entry",
        ),
        (
            encode_report(make_report()).replace(b"[1.0,1.25,2.5]", b"[0.0]"),
            r"\(cases\[0\]\.samples\[0\] must be above 0",
        ),
        (b'{"schema": 9}', "of version 9, but this fer-edge reads version 1"),
        (b"TFL3", "not a result of `fer-edge bench --json`"),
        (b"\xff\xfe", "not a result of `fer-edge bench --json`"),
    ],
)
def test_rejects_damaged_reports(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_report(content, "x.json")


def test_compare_requires_enough_runs_and_a_common_case() -> None:
    with pytest.raises(InputError, match="too few runs to compare"):
        compare_reports(make_report(), make_report())
    with pytest.raises(InputError, match="no case in common"):
        compare_reports(make_report({CASE_IDS[0]: _make_times(1, 0)}), make_report({CASE_IDS[1]: _make_times(1, 0)}))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--threads", "1,x"), "--threads 1,x: give numbers from 1 to 64"),
        (("--batch", "2000"), "--batch 2000: give numbers from 1 to 1024"),
        (
            ("--sustained", "soon"),
            "--sustained soon: not a duration; write a number and a unit, such as",
        ),
        (("--pareto", "a.png"), "--pareto a.png: end it in .svg or .html"),
        (("none.tflite",), "none.tflite: no such model file"),
        (("edge", "edge"), "a model is named twice"),
        (("--compare", "a.json", "b.json", "--out", "c.json"), "--compare measures nothing and writes no file"),
        (("--compare", "a.json", "b.json", "--threads", "2"), "and writes no file: leave out --threads"),
        (("edge", "--peer", "--venvs", "/proc/none", "--out", "c.json"), "writes no file: leave out models, --out"),
        (("--schema", "--html", "a.html"), "--schema prints and measures nothing: leave out --html"),
        (("--anyway",), "--anyway is for --compare; give that, too"),
        (("--tolerance", "5"), "--tolerance is for --compare; give that, too"),
        (("--venvs", "v"), "--venvs is for --peer; give that, too"),
        (("--html", "/proc/none/a.html"), "cannot write there"),
    ],
)
def test_rejects_wrong_options_in_one_line(cli: Cli, args: tuple[str, ...], message: str) -> None:
    assert message in error_line(cli, "bench", *args)


def test_warns_if_the_detector_misses_faces() -> None:
    report = benchmark(BenchOptions(models=(DEFAULT_MODEL,), min_face=300, runs=1, starts=0))
    assert report.settings.found < 1
    assert "makes a whole frame less work than usual" in report.warnings[-1]


def test_profiles_operators_with_the_first_delegate() -> None:
    for xnnpack, state in (((False,), "off"), ((True, False), "on")):
        report = benchmark(BenchOptions(models=(DEFAULT_MODEL,), xnnpack=xnnpack, runs=1, starts=0, profile=True))
        assert report.profiles[0].method.endswith(f"with XNNPACK {state}")


def test_suffix_of_a_plot_ignores_case(cli: Cli, tmp_path: Path) -> None:
    cli("bench", "--runs", "1", "--starts", "0", "--pareto", tmp_path / "plot.SVG")
    assert ET.parse(tmp_path / "plot.SVG").getroot().tag.endswith("svg")  # noqa: S314 - ours


def test_refuses_to_replace_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"a\.json: a device, pipe or socket; choose another place"):
        ensure_writable(tmp_path / "a.json")


def test_peer_requires_a_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("fer_edge.__file__", str(tmp_path / "site-packages" / "fer_edge" / "__init__.py"))
    with pytest.raises(InputError, match="--peer takes a clone"):
        app(["bench", "--peer"], standalone_mode=False)


def _write_files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_reads_machine_facts_from_linux(tmp_path: Path) -> None:
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    root = _write_files(
        tmp_path,
        {
            f"{policy}/scaling_governor": "powersave\n",
            f"{policy}/scaling_driver": "cpufreq-dt\n",
            f"{policy}/scaling_min_freq": "600000\n",
            f"{policy}/scaling_max_freq": "1800000\n",
            f"{policy}/scaling_cur_freq": "600000\n",
            "sys/devices/system/cpu/online": "0-2,5\n",
            "etc/os-release": 'NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
            "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
            "proc/loadavg": "3.50 1.00 0.50 1/100 1\n",
            "proc/self/cgroup": "0::/user/one\n",
            "sys/fs/cgroup/user/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/user/one/cpu.max": "max 100000\n",
        },
    )
    assert MachineFacts.read(root) == MachineFacts(
        cpu="ARM part 0xd08",
        system="Debian GNU/Linux 12 (bookworm)",
        cores=4,
        quota=1.5,
        governor="powersave",
        governor_driver="cpufreq-dt",
        clock_limits_mhz=(600.0, 1800.0),
    )
    condition = read_condition(root)
    assert (condition.load, condition.clock_mhz) == (3.5, 600.0)
    unknown = MachineFacts.read(tmp_path / "none")
    assert (unknown.cpu, unknown.quota, unknown.governor, unknown.clock_limits_mhz) == ("unknown", None, None, None)


HOT = Condition(load=0.1, clock_mhz=600.0, temperature_c=85.0, throttled=0x40004)
COOLED = msgspec.structs.replace(HOT, throttled=0x40000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"others": 0.3}, "other programs took 30% of the processor time"),
        ({"before": msgspec.structs.replace(IDLE, load=3.0)}, "a load of 3 on 4 cores"),
        ({"stolen": 0.05}, "the host of this virtual machine took 5.0%"),
        ({"quota": 1.5}, "a control group limits this process to the time of 1.5"),
        ({"governor": "powersave"}, "the governor powersave keeps the clock low"),
        ({"governor": "powersave", "governor_driver": "intel_pstate"}, ""),
        ({"after": HOT}, "the firmware reported throttling now meanwhile"),
        ({"after": COOLED}, "the firmware reported throttling now meanwhile"),
        ({"before": COOLED, "after": COOLED}, ""),
    ],
)
def test_warns_of_unsuitable_conditions(changes: dict[str, object], message: str) -> None:
    messages = warnings(msgspec.structs.replace(PI, **changes))
    assert len(messages) == bool(message)
    assert message in "".join(messages)


def test_page_shows_when_throttling_began() -> None:
    conditions = (COOLED, HOT, COOLED, HOT)
    stretches = tuple(
        Stretch(seconds=float(seconds), median=1.0, frames=9, condition=condition)
        for seconds, condition in enumerate(conditions, start=1)
    )
    sustained = SustainedLoad(case=str(CASE_IDS[2]), stretches=stretches, drift=1.0)
    page = as_html(msgspec.structs.replace(make_report(), sustained=sustained))
    assert "<p>The firmware first reported throttling now at 2 s.</p>" in page


def test_warns_of_drift_and_too_many_threads() -> None:
    drifting = make_case(CaseId("classifier", "edge", 8), np.concatenate([np.full(50, 1.0), np.full(50, 1.3)]))
    first, second = warnings(PI, [drifting])
    assert "took 1.30 times as long as the first" in first
    assert "4 processors had to run 8 threads" in second


def test_page_escapes_text_and_omits_plot_without_accuracy() -> None:
    report = make_report(environment=msgspec.structs.replace(PI, machine="<b>&"), accuracy=None)
    page = as_html(report)
    assert "<b>&" not in page
    assert "Accuracy and latency" not in page
    with pytest.raises(InputError, match="no model has an accuracy on its card"):
        plot_pareto(report)
