"""The latest state and stats in OpenMetrics, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fer_edge_device.messages import State, Stats

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def render_metrics(latest: dict[str, Any]) -> str:
    """Return the metrics of a runner.

    Args:
        latest: the latest messages, as `LiveView.snapshot` returns them.
    """
    lines = [
        *_metric("fer_edge_enabled", "gauge", "Whether the privacy switch is on.", int(bool(latest["enabled"]))),
        *_metric(
            "fer_edge_camera_online", "gauge", "Whether the camera gives frames.", int(latest["camera"] == "online")
        ),
        *_family("fer_edge_events", "counter", "Events since the start."),
        *(f'fer_edge_events_total{{event_type="{kind}"}} {count}' for kind, count in latest["events"].items()),
    ]
    if state := latest["state"]:
        lines += _state_metrics(state)
    if stats := latest["stats"]:
        lines += _stats_metrics(stats)
    return "\n".join([*lines, "# EOF", ""])


def _state_metrics(state: State) -> Iterator[str]:
    yield from _metric("fer_edge_faces", "gauge", "Faces in view.", state.faces)
    yield from _metric("fer_edge_unclear_faces", "gauge", "Faces in view with an unreliable emotion.", state.unclear)
    yield from _family("fer_edge_emotion_faces", "gauge", "Faces in view that show an emotion.")
    for emotion, count in state.counts.items():
        yield f'fer_edge_emotion_faces{{emotion="{_escape(emotion)}"}} {count}'


def _stats_metrics(stats: Stats) -> Iterator[str]:
    yield from _metric("fer_edge_frames_per_second", "gauge", "Frames processed per second.", stats.fps)
    yield from _metric("fer_edge_skipped_frames", "counter", "Frames left out on purpose.", stats.skipped)
    yield from _metric("fer_edge_dropped_frames", "counter", "Frames lost while another was processed.", stats.dropped)
    yield from _metric("fer_edge_waiting_events", "gauge", "Events that wait for the broker.", stats.queued)
    yield from _metric("fer_edge_dropped_events", "counter", "Events that were dropped.", stats.dropped_events)
    if stats.rss_mb is not None:
        yield from _metric("fer_edge_resident_memory_bytes", "gauge", "Resident memory.", round(stats.rss_mb * 1e6))
    if stats.temp_c is not None:
        yield from _metric("fer_edge_temperature_celsius", "gauge", "Temperature of the processor.", stats.temp_c)
    yield from _family("fer_edge_stage_seconds", "gauge", "Median time of a stage of a frame.")
    for stage, times in stats.stages.items():
        yield f'fer_edge_stage_seconds{{stage="{_escape(stage)}"}} {times.p50 / 1e3:.6f}'


def _family(name: str, kind: str, text: str) -> list[str]:
    return [f"# TYPE {name} {kind}", f"# HELP {name} {text}"]


def _metric(name: str, kind: str, text: str, value: float) -> list[str]:
    return [*_family(name, kind, text), f"{name}{'_total' if kind == 'counter' else ''} {value}"]


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
