"""Test conversion of ONNX files, each compared with ONNX Runtime."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.classification.labels import FER2013
from fer_edge.errors import InputError, ModelError
from fer_edge.tflite.graph import read_graph
from fer_edge_convert.flatbuffer import run_model
from fer_edge_convert.formats.isolated import read_isolated
from fer_edge_convert.formats.request import ReadOptions
from fer_edge_convert.quantization import Scheme, float_operators
from fer_edge_convert.sources import open_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from tests.conftest import Cli, Sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("onnx")]
NETWORKS = (
    *("vgg", "resnet", "mobilenet", "shufflenet", "inception", "pooling", "transformer", "normalization"),
    "activations",
)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with networks that PyTorch exported."""
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("onnx")
    result = subprocess.run(
        [sys.executable, "-m", "tests.convert.onnx_models", out],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert result.returncode == 0, result.stderr
    return out


def run_onnx(path: Path, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what ONNX Runtime says of images with the channels last."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    feeds = images.transpose(0, 3, 1, 2).astype(np.float16 if given.type == "tensor(float16)" else np.float32)
    return np.concatenate([session.run(None, {given.name: one[None]})[0] for one in feeds]).astype(np.float32)


@pytest.mark.parametrize("exporter", ["script", "graph"])
@pytest.mark.parametrize("name", NETWORKS)
def test_translates_networks_of_pytorch(exported: Path, name: str, exporter: str) -> None:
    path = exported / f"{name}-{exporter}.onnx"
    kind, model = read_isolated(path, "onnx", ReadOptions())
    assert kind.startswith("ONNX, opset ")
    assert "by pytorch" in kind
    operations = read_graph(model, path).operations
    (taken,) = read_graph(model, path).inputs
    channels = 3 if name in {"resnet", "mobilenet"} else 1
    assert tuple(taken.shape) == (1, 48, 48, channels)
    images = np.random.default_rng(5).uniform(-1, 1, (5, 48, 48, channels)).astype(np.float32)
    expected = run_onnx(path, images)
    assert np.ptp(expected, axis=0).max() > 1e-3  # it looks at the image
    assert np.abs(run_model(model, images) - expected).max() < 1e-4 * max(np.abs(expected).max(), 1)
    # Images are not transposed, but for flattening and for the groups of a shuffle.
    transposed = [one for one in operations if one.kind == "TRANSPOSE" and len(one.outputs[0].shape) == 4]
    assert name in {"shufflenet", "transformer", "normalization"} or len(transposed) <= (name == "vgg")


def test_activations_become_operators_with_integer_kernels(exported: Path) -> None:
    _, model = read_isolated(exported / "activations-script.onnx", "onnx", ReadOptions())
    kinds = [one.kind for one in read_graph(model, exported).operations]
    expected = {"LEAKY_RELU": 3, "ELU": 4, "PRELU": 2, "HARD_SWISH": 1, "GELU": 1, "TANH": 2}
    assert {kind: kinds.count(kind) for kind in expected} == expected
    assert "NEG" not in kinds[: kinds.index("GELU")]
    assert not float_operators(model, Scheme.INT8)


def test_converts_a_trained_network_with_the_same_accuracy_on_real_faces(
    cli: Cli, exported: Path, edge_float: Path, sample: Sample, tmp_path: Path
) -> None:
    out = tmp_path / "edge.tflite"
    data = sample.write_csv(tmp_path / "fer2013.csv")
    result = cli("convert", exported / "edge.onnx", "--int8", "--data", data, "-o", out)
    assert "original    ONNX Runtime gives the same label for 200 of 200 faces" in result.stderr
    assert f"labels      {','.join(FER2013)}" in result.stderr
    assert ": right on 71." in result.stderr  # in -1..1, or standardized, which is nearly the same
    _, model = read_isolated(exported / "edge.onnx", "onnx", ReadOptions())
    images = (sample.faces[::7] / np.float32(128) - 1).astype(np.float32)[..., None]
    session = onnxruntime.InferenceSession(exported / "edge.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    original = np.concatenate([session.run(None, {name: one[None]})[0] for one in images])
    assert np.abs(run_model(model, images) - original).max() < 1e-4
    classifier = TFLiteClassifier(edge_float)
    assert np.abs(classifier.classify(sample.faces[::7]) - original).max() < 1e-3
    native = read_graph(open_model(edge_float).model, edge_float).operations
    assert sorted(one.kind for one in read_graph(model, out).operations) == sorted(one.kind for one in native)


def test_converts_float16_and_sizes_that_are_left_open(exported: Path) -> None:
    images = np.random.default_rng(5).uniform(0, 1, (5, 48, 48, 1)).astype(np.float32)
    _, half = read_isolated(exported / "half.onnx", "onnx", ReadOptions())
    assert np.abs(run_model(half, images) - run_onnx(exported / "half.onnx", images)).max() < 5e-3
    with pytest.raises(InputError, match=r"any\-size.onnx: it takes images of any size: say which, such as --size 48"):
        open_model(exported / "any-size.onnx")
    assert open_model(exported / "any-size.onnx", ReadOptions(size=48)).height == 48
    with pytest.raises(ModelError, match="it takes 32 images at a time"):
        open_model(exported / "batch.onnx")


def test_reads_weights_beside_the_file_and_nowhere_else(exported: Path, tmp_path: Path) -> None:
    name = "vgg-graph.onnx"
    alone = Path(shutil.copy(exported / name, tmp_path))
    with pytest.raises(ModelError, match=rf"its weights are in .*{name}\.data, which is missing; copy that file, too"):
        open_model(alone)
    weights = (exported / f"{name}.data").read_bytes()
    (tmp_path / f"{name}.data").write_bytes(weights[:1000])
    with pytest.raises(ModelError, match=r"shorter than .* says; copy both again"):
        open_model(alone)
    for location in ("../weights", "/etc/passwd", "..", "sub/weights"):
        model = onnx.load(exported / name, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        alone.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="refused, its weights are in a file elsewhere"):
            open_model(alone)


def write_onnx(
    path: Path, nodes: Sequence[Any], *, opset: int = 17, inputs: int = 1, shape: tuple[int, ...] = (1, 1, 8, 8)
) -> Path:
    """Write a model of ``nodes`` that takes ``image`` and gives ``scores``."""
    taken = [helper.make_tensor_value_info(f"image{i or ''}", TensorProto.FLOAT, shape) for i in range(inputs)]
    given = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)]
    weights = np.random.default_rng(0).normal(0, 1, (64, 7)).astype(np.float32)
    graph = helper.make_graph(nodes, "model", taken, given, [onnx.numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


DENSE = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "weights"], ["scores"])]


def test_says_what_cannot_be_converted(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ModelError, match="it has 2 inputs; a classifier takes one image"):
        open_model(write_onnx(path, DENSE, inputs=2))
    with pytest.raises(ModelError, match="of ONNX's operators version 6, and ONNX Runtime reads 7 and later"):
        open_model(write_onnx(path, DENSE, opset=6))
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it"):
        open_model(write_onnx(path, [helper.make_node("Own", ["image"], ["scores"], domain="theirs")]))
    sums = [
        helper.make_node("Constant", [], ["axis"], value_int=2),
        helper.make_node("CumSum", ["image", "axis"], ["sums"], "running"),
        helper.make_node("Flatten", ["sums"], ["flat"]),
    ]
    with pytest.raises(ModelError, match="its CumSum running is an operator that fer-edge does not translate; export"):
        open_model(write_onnx(path, [*sums, DENSE[1]]))


def test_reads_an_old_file_of_cntk(tmp_path: Path) -> None:
    """Test operators as in the FER+ network of ONNX's model zoo: constants among the inputs, SAME, two dropouts."""
    random = np.random.default_rng(0)
    constants = {
        "mean": np.array([127.5], np.float32),
        "kernels": random.normal(0, 0.4, (8, 1, 3, 3)).astype(np.float32),
        "biases": random.normal(0, 0.1, (8, 1, 1)).astype(np.float32),
        "rows": np.array([1, 512]),
        "dense": random.normal(0, 0.01, (8, 8, 8, 8)).astype(np.float32),
        "columns": np.array([512, 8]),
    }
    nodes = [
        helper.make_node("Sub", ["Input3", "mean"], ["centred"]),
        helper.make_node("Conv", ["centred", "kernels"], ["sums"], kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
        helper.make_node("Add", ["sums", "biases"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["positive"]),
        helper.make_node("MaxPool", ["positive"], ["small"], kernel_shape=[8, 8], strides=[8, 8], auto_pad="NOTSET"),
        helper.make_node("Dropout", ["small"], ["kept", "mask"], ratio=0.25),
        helper.make_node("Reshape", ["kept", "rows"], ["flat"]),
        helper.make_node("Reshape", ["dense", "columns"], ["weights"]),
        helper.make_node("MatMul", ["flat", "weights"], ["Plus692_Output_0"]),
    ]
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    inputs = [helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in initializers]
    graph = helper.make_graph(
        nodes,
        "CNTKGraph",
        [helper.make_tensor_value_info("Input3", TensorProto.FLOAT, (1, 1, 64, 64)), *inputs],
        [helper.make_tensor_value_info("Plus692_Output_0", TensorProto.FLOAT, (1, 8))],
        initializers,
    )
    path = tmp_path / "emotion-ferplus-8.onnx"
    opset = [helper.make_opsetid("", 8)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=3, producer_name="CNTK", producer_version="2.5.1")
    path.write_bytes(model.SerializeToString())
    source = open_model(path)  # compared with ONNX Runtime
    assert source.kind == "ONNX, opset 8, by CNTK 2.5.1"
    assert (source.height, source.width, source.channels, source.outputs) == (64, 64, 1, 8)
    assert read_graph(source.model, path).operations[-1].kind == "SOFTMAX"


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", DENSE, shape=(1, 8, 8, 1))
    assert open_model(path).outputs == 7  # the order of images is of no matter to it
    content = path.read_bytes()
    for damaged in (b"\x08", content[: len(content) // 2], b"not a model at all"):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"damaged, or not an ONNX file|ONNX Runtime cannot load it"):
            open_model(path)
