"""The parity report of a detector, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.reports.html import render
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_convert.detector_parity import DetectorParity
    from fer_edge_convert.result import DetectorConversion

_LAYERS: Final = 12  # that the report names


def detector_summary(result: DetectorConversion) -> list[str]:
    """Return the report in a few lines of text."""
    parity = result.parity
    if parity is None:
        return ["no --data: not compared with the float model"]
    lines = []
    for name, one in (("float", parity.original), (result.scheme, parity.converted)):
        if one:
            lines.append(
                f"{name:<12}average precision {one.average_precision:.2%} on {counted(one.faces, 'face')} of"
                f" {counted(one.images, 'image')}; at {one.threshold:g} recall {one.recall:.2%}, "
                f"{one.false_positives_per_image:.3f} false alarms per image"
            )
    change = "not measured: no faces are marked in the images (labels.csv)"
    if parity.change_points is not None:
        change = f"{parity.change_points:+.2f} points of average precision"
    lines += [
        f"{'change':<12}{change}",
        f"{'size':<12}{parity.original_bytes / 1e3:.0f} kB to {parity.converted_bytes / 1e3:.0f} kB",
        f"{'latency':<12}{parity.original_ms:.2f} ms to {parity.converted_ms:.2f} ms per image here, one thread",
    ]
    if result.calibration_images:
        lines.append(
            f"{'calibrated':<12}on {counted(result.calibration_images, 'image')}, seed {result.seed}: {result.way}"
        )
    if result.choice_images:
        images = counted(result.choice_images, "image")
        lines.append(f"{'rescue':<12}chose by {images} of the test data; the figures above are of the others")
    return lines


def write_detector_report(stem: Path, result: DetectorConversion, *, refused: bool, max_drop: float) -> None:
    """Write ``<stem>.json`` and ``<stem>.html``.

    Args:
        stem: the report's path without its ending.
        result: the result of the conversion.
        refused: whether the model was not written.
        max_drop: how many points may be lost.
    """
    parity = result.parity
    if parity is None:
        return
    with replacing(stem.with_name(f"{stem.name}.json")) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    verdict = f"Refused: more than {max_drop:g} points lost." if refused else "Accepted."
    noisiest = sorted(parity.signal_to_noise_db.items(), key=lambda item: item[1])[:_LAYERS]
    page = render(
        "detector_parity.html",
        title=f"{result.card.name}: {result.scheme} beside float",
        summary="\n".join([verdict, *detector_summary(result)]),
        scheme=result.scheme,
        recalls=_recalls(parity),
        outputs=[(name, f"{difference:.4f}") for name, difference in parity.difference.items()],
        layers=[(name, f"{decibels:.1f}") for name, decibels in noisiest],
        attempts=[
            (one.way, f"{one.kl_divergence:.4f}", "" if one.change_points is None else f"{one.change_points:+.2f}")
            for one in result.attempts
        ],
    )
    with replacing(stem.with_name(f"{stem.name}.html")) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _recalls(parity: DetectorParity) -> list[tuple[str, str, str]]:
    if parity.original is None or parity.converted is None:
        return []
    before, after = parity.original.recall_by_side, parity.converted.recall_by_side
    return [(side, f"{share:.3f}", f"{after[side]:.3f}") for side, share in before.items()]
