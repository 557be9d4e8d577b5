"""Convert a network to a ``.tflite``, compare it with the original, and refuse it if too much was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.errors import InputError, ModelError, printable
from fer_edge.utils.atomic_file import ensure_writable, replacing
from fer_edge_convert.quantization import Plan, Scheme, float_operators, quantize
from fer_edge_convert.result import RefusedError
from fer_edge_convert.stage import Candidate

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_convert.stage import ParityT, ResultT, Stage

_MAX_DROP: Final = 1.0  # points that a model may lose if the user says nothing
_NAMED: Final = 3  # layers of a kind that a message names
_FINER: Final = {
    Scheme.INT8: ("--int16x8", "--float16"),
    Scheme.INT16X8: ("--float16",),
    Scheme.DYNAMIC: ("--float16",),
    Scheme.FLOAT16: ("--float32",),
    Scheme.FLOAT32: (),
}


def convert(
    stage: Stage[ParityT, ResultT],
    scheme: Scheme,
    out: Path,
    *,
    max_drop: float | None = None,
    rescue: bool = False,
    allow_float: bool = False,
    report: Path | None = None,
    command: str = "",
) -> ResultT:
    """Convert a network, compare it with the original, and write it if it is as good.

    Args:
        stage: the network and its data.
        scheme: how to quantize it.
        out: the ``.tflite`` to write, whole or not at all.
        max_drop: how many points of accuracy, or of average precision, may be lost; None allows one point, and more
            where so few faces are tested that chance explains it.
        rescue: whether to try other ways when more is lost.
        allow_float: whether operators without an integer form may stay in floats.
        report: path of the report without ``.html`` and ``.json``; by default beside ``out``.
        command: the command that makes the file, for its card.

    Raises:
        InputError: ``out`` has another ending, or there is no data to measure ranges on.
        DataError: the data cannot be read, or does not fit the model.
        ModelError: the model cannot be quantized, or not all of it.
        RefusedError: too much was lost. The report is written, the model is not.
    """
    check_out(stage.path, out)
    ensure_writable(out)
    if scheme.calibrated and not allow_float:
        _refuse_floats(stage.path, stage.model, scheme)
    if not stage.has_data:
        if scheme.calibrated:
            raise InputError(
                f"{scheme} is compared with the float model on {stage.images}: give --data, such as {stage.example}"
            )
        plan = Plan(scheme, {}, one_dense_scale=stage.one_dense_scale)
        model = quantize(stage.model, plan)
        result, content = stage.result(
            out, Candidate(str(scheme), stage.model, plan, model, 0, np.empty(0, np.int64)), command
        )
        _write(out, content)
        return result
    stem = report or out.with_suffix(".parity")
    if not stem.name:
        raise InputError(f"--report {stem}: give a file's name without its ending, such as reports/{stage.path.stem}")
    ensure_writable(stem.with_name(f"{stem.name}.html"))
    trial = stage.trial(scheme)
    limit = _MAX_DROP if max_drop is None else max_drop
    choice = trial.choose(limit, rescue=rescue)
    warnings, parity = trial.warnings(), choice.parity
    lost_too_much = trial.can_lose and -(parity.change_points or 0.0) > limit
    refused = lost_too_much and (max_drop is not None or parity.loss_is_certain)
    if lost_too_much and not refused:
        warnings += (f"{stage.path}: {trial.loss(parity, limit)} but with so few faces this may be chance: test more",)
    result, content = trial.result(out, choice, command, warnings)
    if not refused:  # before the report, which would otherwise describe another model
        _write(out, content)
    trial.write_report(stem, result, refused=refused, max_drop=limit)
    if refused:
        raise RefusedError(
            f"{out}: not written, as {scheme} {trial.loss(parity, limit)} see {stem}.html;"
            f" {_advice(scheme, stage.images, rescue=rescue, int16=stage.int16)}",
            warnings,
        )
    return result


def check_out(path: Path, out: Path) -> None:
    """Refuse a file that cannot be the converted model, which can be known before the model is read.

    Args:
        path: the model.
        out: the file to write.

    Raises:
        InputError: ``out`` has another ending, is the model itself, or cannot be written.
    """
    if out.suffix != ".tflite":
        raise InputError(f"{out}: a converted model ends in .tflite; choose such a name")
    if out.resolve() == path.resolve():
        raise InputError(f"{out}: is the model itself; choose another name")
    if out.parent.is_dir():  # otherwise, the folder is made for a model that can be read
        ensure_writable(out)


def _refuse_floats(path: Path, model: bytes, scheme: Scheme) -> None:
    """Refuse a model of which a part would stay in floats."""
    places: dict[str, list[str]] = {}
    for one in float_operators(model, scheme):
        places.setdefault(one.kind, []).append(one.short_name)
    if places:
        spelled = ", ".join(f"{kind} (in {_spell_places(names)})" for kind, names in places.items())
        raise ModelError(
            f"{path}: --{scheme} would leave {spelled} in floats, which the quantizer has no integers for; use other"
            " layers, --dynamic or --float16, or allow it with --allow-float"
        )


def _spell_places(names: list[str]) -> str:
    """Return the names of a few layers."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return printable(", ".join(names[:_NAMED])) + more


def _write(out: Path, content: bytes) -> None:
    with replacing(out) as temporary:
        temporary.write_bytes(content)


def _advice(scheme: Scheme, images: str, *, rescue: bool, int16: bool) -> str:
    """Return what may help a model that lost too much.

    Args:
        scheme: how it was quantized.
        images: noun for what ranges are measured on.
        rescue: whether other ways were tried already.
        int16: whether activations may be in int16.
    """
    ways = []
    if scheme.calibrated:
        ways = [*([] if rescue else ["--rescue to try other ways"]), f"--calibrate with other {images}"]
    ways += [one for one in _FINER[scheme] if int16 or one != "--int16x8"]
    return f"try {', '.join(ways)}, or allow it with --max-drop" if ways else "allow it with --max-drop"
