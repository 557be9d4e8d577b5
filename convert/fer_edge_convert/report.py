"""The parity report of a classifier, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fer_edge.reports.html import face_figure, render
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset
    from fer_edge_convert.parity import Parity
    from fer_edge_convert.result import ClassifierConversion


def classifier_summary(result: ClassifierConversion) -> list[str]:
    """Return the report in a few lines of text."""
    parity = result.parity
    if parity is None:
        return ["no --data: not compared with the float model"]
    before, after = parity.original, parity.converted
    low, high = parity.change_interval
    worst = min(parity.recall_change_points, key=parity.recall_change_points.__getitem__)
    faces = f"of {counted(before.faces, 'face')} {' and '.join(result.parts)}"
    change = f"95 % interval {low:+.2f} to {high:+.2f}; most in {worst}: {parity.recall_change_points[worst]:+.1f}"
    lines = [
        f"float       {before.accuracy:.2%} {faces} (95 % interval {_interval(parity.original_interval)})",
        f"{result.scheme:<12}{after.accuracy:.2%} {faces} (95 % interval {_interval(parity.converted_interval)})",
        f"change      {parity.change_points:+.2f} points ({change})",
        f"agreement   {parity.agreement:.2%} of faces keep their label; KL divergence {parity.kl_divergence:.4f} nats",
        f"size        {parity.original_bytes / 1e3:.0f} kB to {parity.converted_bytes / 1e3:.0f} kB",
        f"latency     {parity.original_ms:.2f} ms to {parity.converted_ms:.2f} ms per face here, one thread",
    ]
    if result.calibration_faces:
        faces = counted(sum(result.calibration_faces.values()), "face")
        lines.append(f"calibrated  on {faces}, seed {result.seed}: {result.way}")
    if result.choice_faces:
        faces = counted(result.choice_faces, "face")
        lines.append(f"rescue      chose by {faces} of the test data; the figures above are of the others")
    if any(attempt.change_points is not None for attempt in result.attempts):
        tried = [one for one in result.attempts if one.change_points is not None]
        lines += [f"tried       {one.way}: {one.change_points:+.2f} points" for one in tried]
    if parity.hurts_most:
        layer = next(layer for layer in parity.layers if layer.short_name == parity.hurts_most)
        lines.append(f"hurts most  {layer.kind} {layer.short_name}: KL {layer.alone_kl:.4f} if it alone is quantized")
    return lines


def write_classifier_report(
    stem: Path, result: ClassifierConversion, test: Dataset, *, refused: bool, max_drop: float
) -> None:
    """Write ``<stem>.json`` and ``<stem>.html``.

    Args:
        stem: the report's path without its ending.
        result: the result of the conversion.
        test: the faces on which both models were tested.
        refused: whether the model was not written.
        max_drop: how many points may be lost.
    """
    parity = result.parity
    if parity is None:
        return
    content = msgspec.json.format(msgspec.json.encode(result), indent=1)
    with replacing(stem.with_name(f"{stem.name}.json")) as temporary:
        temporary.write_bytes(content)
    verdict = f"Refused: more than {max_drop:g} points lost." if refused else "Accepted."
    layers = [layer.short_name for layer in parity.layers]
    page = render(
        "parity.html",
        title=f"{result.card.name}: {result.scheme} beside float",
        summary="\n".join([verdict, *classifier_summary(result)]),
        warnings=result.warnings,
        classes=_list_classes(parity),
        attempts=_list_attempts(result),
        layers=_list_layers(parity),
        worst_layer=layers.index(parity.hurts_most) if parity.hurts_most in layers else None,
        faces=_list_faces(parity, test),
    )
    with replacing(stem.with_name(f"{stem.name}.html")) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _list_classes(parity: Parity) -> list[tuple[object, ...]]:
    return [
        (label, f"{one.recall:.3f}", f"{parity.converted.classes[label].recall:.3f}", f"{change:+.1f}", one.support)
        for (label, one), change in zip(
            parity.original.classes.items(), parity.recall_change_points.values(), strict=True
        )
    ]


def _list_attempts(result: ClassifierConversion) -> list[tuple[str, str, str]]:
    return [
        (one.way, f"{one.kl_divergence:.5f}", "" if one.change_points is None else f"{one.change_points:+.2f}")
        for one in result.attempts
    ]


def _list_layers(parity: Parity) -> list[tuple[str, str, str, str]]:
    rows = []
    for layer in parity.layers:
        decibels = "" if layer.signal_to_noise_db is None else f"{layer.signal_to_noise_db:.1f}"
        alone = "in floats" if layer.in_floats else "" if layer.alone_kl is None else f"{layer.alone_kl:.5f}"
        rows.append((layer.short_name, layer.kind, decibels, alone))
    return rows


def _list_faces(parity: Parity, test: Dataset) -> list[dict[str, object]]:
    return [
        face_figure(
            test.faces[face.row],
            "a face",
            (
                f"{face.original} {face.original_score:.0%}",
                f"now {face.converted} {face.converted_score:.0%}",
                f"labelled {face.label}",
            ),
        )
        for face in parity.worst
    ]


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}"
