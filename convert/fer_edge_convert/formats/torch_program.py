"""Read a program of `torch.export` as a float ``.tflite``: PyTorch makes ONNX of it, which is read from there on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fer_edge.errors import ModelError, first_line
from fer_edge_convert.flatbuffer import run_model
from fer_edge_convert.formats.onnx_file import OnnxModel, Original, refuse_difference
from fer_edge_convert.formats.tensorflow import DEBUG, hide_output

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge_convert.formats.request import ReadOptions


def load() -> None:
    """Import PyTorch and its exporter of ONNX."""
    with hide_output():
        import onnxscript  # noqa: F401, PLC0415 - takes seconds, and is an extra
        import torch.onnx  # noqa: F401, PLC0415 - likewise


def read_exported_program(path: Path, options: ReadOptions) -> tuple[str, bytes]:
    """Read a ``.pt2`` file that `check_exported_program` has accepted; see `read_keras_archive`."""
    program, model = _load(path)
    made = model.convert(options)
    original = model.open(options)
    images = original.probes()
    refuse_difference(path, "PyTorch", _run(program, original, images), run_model(made, images))
    return "PyTorch, torch.export", made


def run_exported_program(path: Path, options: ReadOptions, images: Path) -> bytes:
    """Return the outputs of a ``.pt2`` file for images, by PyTorch; see `run_onnx`."""
    program, model = _load(path)
    return _run(program, model.open(options), np.load(images)).astype("<f4").tobytes()


def _load(path: Path) -> tuple[Any, OnnxModel]:
    import torch  # noqa: PLC0415 - takes seconds, and is an extra

    torch.set_num_threads(1)
    with hide_output():
        try:
            program = torch.export.load(path)
            return program.module(), OnnxModel(path, torch.onnx.export(program, dynamo=True, verbose=False).model_proto)
        except ModelError:  # of what PyTorch made of it
            raise
        except Exception as error:  # PyTorch has many ways to say that it cannot
            raise ModelError(
                f"{path}: PyTorch {torch.__version__} cannot load it ({first_line(error)[:200]}); export it to ONNX"
                f" where it was made, with torch.onnx.export, and convert that; {DEBUG}"
            ) from error


def _run(program: Any, original: Original, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:  # noqa: ANN401
    """Return the outputs, of shape (n, values), for images of shape (n, height, width, channels)."""
    import torch  # noqa: PLC0415 - see _load

    index = [one.name for one in original.session.get_outputs()].index(original.output)
    outputs = []
    with torch.no_grad():
        for one in original.feeds(images):
            result = program(torch.from_numpy(np.ascontiguousarray(one[None])))
            outputs.append(torch.utils._pytree.tree_leaves(result)[index].float().numpy().ravel())  # noqa: SLF001
    return np.stack(outputs)
