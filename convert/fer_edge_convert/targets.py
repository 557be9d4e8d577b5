"""Accelerators with a compiler of their own: the files that each compiler takes, and its commands.

None of this was tried on the hardware. The commands are those of the makers' documentation: coral.ai (Edge TPU),
Hailo's Dataflow Compiler, and Raspberry Pi's pages on the AI Camera (IMX500).
"""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.errors import InputError
from fer_edge.tflite.graph import read_graph
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from fer_edge_convert.flatbuffer import Images

# Operators that the Edge TPU runs, of coral.ai's "TensorFlow models on the Edge TPU".
_EDGE_TPU_OPERATORS: Final = {
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "EXPAND_DIMS",
    "FULLY_CONNECTED",
    "L2_NORMALIZATION",
    "LOGISTIC",
    "LSTM",
    "MAXIMUM",
    "MAX_POOL_2D",
    "MEAN",
    "MINIMUM",
    "MUL",
    "PACK",
    "PAD",
    "PRELU",
    "QUANTIZE",
    "REDUCE_MAX",
    "REDUCE_MIN",
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "RSQRT",
    "SLICE",
    "SOFTMAX",
    "SPACE_TO_DEPTH",
    "SPLIT",
    "SQUARED_DIFFERENCE",
    "SQUEEZE",
    "STRIDED_SLICE",
    "SUB",
    "SUM",
    "TANH",
    "TRANSPOSE",
    "TRANSPOSE_CONV",
}
_KERAS_FILES: Final = {".keras", ".h5", ".hdf5", ".json"}
_IMX500_SCRIPT: Final = '''\
"""Quantize a model for the IMX500. Run this where edge-mdt[tf] is installed."""

from pathlib import Path

import model_compression_toolkit as mct
import numpy as np
import tensorflow as tf
from edgemdt_tpc import get_target_platform_capabilities

here = Path(__file__).parent
images = np.load(here / {calibration!r}, mmap_mode="r")  # what the model takes, of shape (n, height, width, channels)


def batches():
    for begin in range(0, len(images), 10):
        yield [np.array(images[begin : begin + 10])]


{loading}
quantized, _ = mct.ptq.keras_post_training_quantization(
    model,
    batches,
    target_platform_capabilities=get_target_platform_capabilities(tpc_version="1.0", device_type="imx500"),
)
mct.exporter.keras_export_model(model=quantized, save_model_path=str(here / {quantized!r}))
'''
_LOADING: Final = "model = tf.keras.models.load_model({model!r}, compile=False)"
_LOADING_PARTS: Final = """\
model = tf.keras.models.model_from_json(Path({architecture!r}).read_text(encoding="utf-8"))
model.load_weights({model!r})"""


class Target(StrEnum):
    """A device to convert for."""

    TFLITE_RUNTIME = "tflite-runtime"
    EDGETPU = "edgetpu"
    HAILO = "hailo"
    HAILO8 = "hailo8"
    IMX500 = "imx500"

    @property
    def schemes(self) -> tuple[str, ...]:
        """The schemes that it takes, the usual one first: most compilers quantize a float model themselves."""
        if self is Target.TFLITE_RUNTIME:
            return ("int8", "int16x8", "dynamic", "float16", "float32")
        return ("int8",) if self is Target.EDGETPU else ("float32",)

    @property
    def one_dense_scale(self) -> bool:
        """Whether dense layers need one scale for all outputs; tflite-runtime 2.14 needs it for dynamic range alone."""
        return self in {Target.TFLITE_RUNTIME, Target.EDGETPU}

    @property
    def compiler(self) -> str:
        """The name of its compiler's program; empty if it needs none."""
        names = {Target.TFLITE_RUNTIME: "", Target.EDGETPU: "edgetpu_compiler", Target.IMX500: "imxconv-tf"}
        return names.get(self, "hailo")

    @property
    def takes_calibration(self) -> bool:
        """Whether its compiler measures ranges itself, on images that are written for it."""
        return "float32" in self.schemes[:1]


@dataclass(frozen=True, slots=True)
class TargetFiles:
    """The names of the files for a target, all beside the ``.tflite``.

    Attributes:
        target: the target.
        tflite: the ``.tflite``.
        source: the model that was converted, or its weights.
        architecture: the JSON file that describes the layers of the weights; None for a whole model.
    """

    target: Target
    tflite: Path
    source: Path
    architecture: Path | None = None

    @property
    def calibration(self) -> Path:
        """The images to measure ranges on."""
        return self.tflite.with_suffix(".calibration.npy")

    @property
    def script(self) -> Path:
        """The program that quantizes a Keras model for the IMX500."""
        return self.tflite.with_suffix(".imx500.py")

    @property
    def quantized(self) -> Path:
        """The Keras model that the program writes."""
        return self.tflite.with_suffix(".imx500.keras")

    @property
    def compiled(self) -> Path:
        """What the compiler makes in the end."""
        match self.target:
            case Target.EDGETPU:
                return self.tflite.with_name(f"{self.tflite.stem}_edgetpu.tflite")
            case Target.IMX500:
                return self.tflite.with_name(f"{self.tflite.stem}_imx500") / "packerOut.zip"
            case _:
                return self.tflite.with_suffix(".hef")

    @property
    def compiled_pattern(self) -> str:
        """The pattern of the compiler's own name for that: Hailo's names it after the network."""
        return f"*{self.compiled.suffix}" if self.compiled.suffix == ".hef" else self.compiled.name

    def commands(self) -> list[list[str]]:
        """Return the commands that compile the files."""
        tflite, folder = str(self.tflite), str(self.tflite.parent)
        match self.target:
            case Target.EDGETPU:
                return [["edgetpu_compiler", "-o", folder, tflite]]
            case Target.IMX500:
                converter = ["imxconv-tf", "-i", str(self.quantized), "-o", str(self.compiled.parent)]
                return [[_python(), str(self.script)], [*converter, "--no-input-persistency"]]
            case _:
                chip = ["--hw-arch", "hailo8" if self.target is Target.HAILO8 else "hailo8l"]
                parsed, optimized = (str(self.tflite.with_suffix(end)) for end in (".parsed.har", ".har"))
                name = _identifier(self.tflite.stem)
                calibration = ["--calib-set-path", str(self.calibration), "--output-har-path", optimized]
                return [
                    ["hailo", "parser", "tf", tflite, "--har-path", parsed, "--net-name", name, *chip, "-y"],
                    ["hailo", "optimize", parsed, *calibration, *chip],
                    ["hailo", "compiler", optimized, *chip, "--output-dir", folder],
                ]

    def hints(self) -> list[str]:
        """Return the commands as a user types them."""
        return [shlex.join(command) for command in self.commands()]


def check_source(target: Target, model: Path, *, is_detector: bool = False, is_second_stage: bool = False) -> None:
    """Refuse a model that a target's compiler cannot take in any form.

    Args:
        target: the target.
        model: the file.
        is_detector: whether it is a stage of a face detector.
        is_second_stage: whether it is the second one, which is written into the file of the first.

    Raises:
        InputError: it is no Keras file, and the target is the IMX500; or it is a stage that cannot be compiled.
    """
    if is_second_stage and target.compiler:
        raise InputError(
            f"{model}: the second stage of a face detector, which is written into the file of the first;"
            f" {target.compiler} compiles one network: give the first stage, or leave --for out"
        )
    if is_detector and target is Target.IMX500:
        raise InputError(
            f"{model}: a face detector of images of any size, and the IMX500's converter takes one size only; --for"
            " imx500 is for classifiers"
        )
    if target is Target.IMX500 and model.suffix not in _KERAS_FILES:
        raise InputError(
            f"{model}: the IMX500's converter imxconv-tf takes a Keras model only, quantized by Sony's MCT; give the"
            " .keras or .h5 that this was made of"
        )


def write_files(files: TargetFiles, images: Images | None) -> list[Path]:
    """Write what a target's compiler takes beside the ``.tflite``, and return the paths."""
    written = []
    if images is not None and files.target.takes_calibration:
        with replacing(files.calibration) as temporary:
            shape = (len(images), *images[0].shape)
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            for i in range(len(images)):
                array[i] = images[i]
            array.flush()
        written.append(files.calibration)
    if files.target is Target.IMX500:
        loading = _LOADING if files.architecture is None else _LOADING_PARTS
        text = _IMX500_SCRIPT.format(
            loading=loading.format(
                model=str(files.source.resolve()), architecture=str((files.architecture or files.source).resolve())
            ),
            calibration=files.calibration.name,
            quantized=files.quantized.name,
        )
        with replacing(files.script) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(files.script)
    return written


def left_to_cpu(model: bytes, path: Path) -> list[str]:
    """Return the kinds of operators of a ``.tflite`` that the Edge TPU does not run, in their order."""
    kinds = [
        one.kind
        for one in read_graph(model, path).operations
        if one.kind not in _EDGE_TPU_OPERATORS or any("FLOAT" in node.dtype for node in (*one.inputs, *one.outputs))
    ]
    return list(dict.fromkeys(kinds))


def _identifier(stem: str) -> str:
    """Return a name of a network that Hailo's compiler takes: letters, digits and underscores."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in stem)


def _python() -> str:
    """Return the Python of the environment that imxconv-tf is installed in, where MCT is, too."""
    converter = shutil.which("imxconv-tf")
    python = Path(converter).parent / "python" if converter else None
    return str(python) if python and python.exists() else "python"
