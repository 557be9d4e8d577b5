"""Test tagging over a Dask cluster, which must give the same table as one machine."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import pytest

from fer_edge import demo
from fer_edge.errors import InputError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.tagging import cluster as tag_cluster
from fer_edge.tagging.options import TagOptions
from fer_edge.tagging.output.destinations import Outputs
from fer_edge.tagging.run import tag

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]
OPTIONS = TagOptions(model=str(DEFAULT_MODEL))


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 150 images, some of them damaged."""
    folder = tmp_path_factory.mktemp("images")
    cv2.imwrite(str(folder / "000.png"), cv2.resize(demo.frame(60), (320, 240)))
    for number in range(1, 150):
        name = folder / f"{number:03d}.png"
        if number % 33 == 5:
            name.write_bytes(b"no image")
        else:
            shutil.copy(folder / "000.png", name)
    return folder


def test_killed_worker_neither_loses_nor_repeats_rows(
    two_workers: Any,  # noqa: ANN401 - Dask has no types
    images: Path,
    tmp_path: Path,
) -> None:
    with two_workers.get_client() as client:
        worker_pid, _ = client.run(os.getpid).values()
    result_numbers = iter(range(150))

    def kill_worker(_result: object) -> None:
        if next(result_numbers) == 60:
            os.kill(worker_pid, signal.SIGKILL)

    summary = tag(
        [str(images)],
        Outputs(str(tmp_path / "far.csv")),
        OPTIONS,
        cluster=two_workers.scheduler_address,
        on_result=kill_worker,
    )
    with (tmp_path / "far.csv").open(newline="") as file:
        errors = [row["error"] for row in csv.DictReader(file) if row["error"]]
    assert [error for error in errors if "not an image" not in error] == []
    assert (summary.images, summary.errors) == (150, 5)
    tag([str(images)], Outputs(str(tmp_path / "near.csv")), OPTIONS, processes=1)
    assert (tmp_path / "far.csv").read_bytes() == (tmp_path / "near.csv").read_bytes()


def test_cluster_resumes_the_run_of_one_machine(
    two_workers: Any,  # noqa: ANN401 - Dask has no types
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)  # the workers run in another folder
    for name in ("000.png", "001.png", "005.png"):
        shutil.copy(images / name, name)
    Path("gone.png").symlink_to("nowhere")
    inputs = ["*.png"]
    for table in ("near.parquet", "far.parquet/"):
        with pytest.raises(KeyboardInterrupt):
            tag(inputs, Outputs(table), OPTIONS, on_result=_interrupt)
    summary = tag(inputs, Outputs("far.parquet/"), OPTIONS, cluster=two_workers.scheduler_address)
    assert summary.resumed > 0
    tag(inputs, Outputs("near.parquet"), OPTIONS)
    assert [path.name for path in Path("far.parquet").iterdir()] == ["faces-000000.parquet"]
    assert parquet.read_table("far.parquet").equals(parquet.read_table("near.parquet"))
    with pytest.raises(InputError, match="exists already"):
        tag(inputs, Outputs("far.parquet/"), OPTIONS)
    tag(["gone.png"], Outputs("far.parquet/", overwrite=True), OPTIONS)
    assert parquet.read_table("far.parquet").num_rows == 1


def test_input_that_hangs_costs_its_own_row(
    two_workers: Any,  # noqa: ANN401 - Dask has no types
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tag_cluster, "PATIENCE_S", 10)
    with two_workers.get_client() as client:
        workers = client.run(os.getpid).values()
    ended = threading.Event()
    thread = threading.Thread(target=_stop_one_at_work, args=(list(workers), ended))
    table = tmp_path / "far.csv"
    thread.start()
    try:
        summary = tag([str(images)], Outputs(str(table)), OPTIONS, cluster=two_workers.scheduler_address)
    finally:
        ended.set()
        thread.join()
    with table.open(newline="") as file:
        errors = [row["error"] for row in csv.DictReader(file) if "not an image" not in row["error"] and row["error"]]
    assert len(errors) == 1
    assert errors[0].endswith(".png: no progress within 10 s; left out")
    assert summary.images == 150
    assert not [child for worker in workers for child in _children(worker)], "the processes end with the run"


def _stop_one_at_work(workers: list[int], ended: threading.Event) -> None:
    """Stop a process that works on an image: one that calculates and has loaded the models' runtime."""
    while not ended.wait(0.01):
        for child in (child for worker in workers for child in _children(worker)):
            with suppress(OSError):  # it has ended
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                if fields[0] == "R" and "ai_edge_litert" in Path(f"/proc/{child}/maps").read_text():
                    os.kill(child, signal.SIGSTOP)
                    return


def _children(pid: int) -> list[int]:
    """Return the child processes of a process that run our pool."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def _interrupt(_result: object) -> None:
    raise KeyboardInterrupt


def test_unusable_cluster_gives_one_error_line(
    two_workers: Any,  # noqa: ANN401 - Dask has no types
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def error_message(address: str) -> str:
        with pytest.raises(InputError) as error:
            tag([str(images)], Outputs(str(tmp_path / "t.csv")), OPTIONS, cluster=address)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "not the address of a scheduler" in error_message("gateway")
    assert "which certificates to trust" in error_message("tls://127.0.0.1:1")
    monkeypatch.setattr(tag_cluster, "_VERSION", "0.0.1")
    assert ", but this is 0.0.1; install the same version there" in error_message(two_workers.scheduler_address)
    monkeypatch.setattr(tag_cluster, "_CONNECT_S", 1)
    assert "no Dask scheduler there" in error_message("tcp://127.0.0.1:1")
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=0, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        assert "has no workers" in error_message(cluster.scheduler_address)
