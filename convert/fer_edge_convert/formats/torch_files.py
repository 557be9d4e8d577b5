"""Say what a file of PyTorch holds, without unpickling it, and check a program of `torch.export` before it is loaded.

Most files of PyTorch are pickles, which may run any code when they are opened. A program of ``torch.export`` is JSON
with plain arrays, but its loader also unpickles, calls functions by name and evaluates expressions if the JSON says so.
Here it may only call PyTorch's operators on tensors.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Final

from fer_edge.errors import ModelError, printable
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.limits import JSON_BYTES, KERAS_BYTES
from fer_edge.utils.words import megabytes
from fer_edge.utils.zip_reader import open_zip
from fer_edge_convert.formats.nested import dictionaries

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES: Final = {".pt", ".pth", ".pt2", ".ckpt", ".bin", ".torchscript", ".ptl"}
_MAGIC: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # files of PyTorch before 1.6 begin with this number
_EXPORT: Final = 'torch.onnx.export(network.eval(), torch.zeros(1, 1, 48, 48), "model.onnx")'
_PICKLE_BYTES: Final = 4 << 20  # that are searched for the names of classes
# What a dictionary of weights is made of.
_WEIGHTS: Final = re.compile(r"collections |torch(\._utils|\._tensor|\.serialization|\.storage)? |numpy")
_MEMBERS: Final = re.compile(
    r"data/(weights/(weight_\d+|\w+_config\.json)|constants/(tensor_\d+|\w+_config\.json)|sample_inputs/\w+\.pt)"
    r"|models/\w+\.json|\.?data/(version|serialization_id|\.data/\w+)|archive_format|archive_version|byteorder|version"
)
_OPERATORS: Final = re.compile(r"torch\.ops\.aten\.(?!from_file)\w+\.\w+|_operator\.(getitem|add|sub|mul|floordiv|neg)")
_EXPRESSION: Final = re.compile(
    r"-?\d+|[su]\d+|(int_)?oo|True|False|Symbol\('\w+'(, (positive|nonnegative|integer)=(True|False))*\)"
)


def is_exported_program(path: Path) -> bool:
    """Return whether a file is a program of `torch.export`."""
    names = _names(path)
    return any(name.partition("/")[2] == "archive_format" for name in names)


def refuse_torch_file(path: Path, begin: bytes) -> None:
    """Refuse a file of PyTorch that holds no whole network which can be read without running code.

    Args:
        path: the file.
        begin: its first bytes.

    Raises:
        ModelError: it is one; the message says what it holds, and what to do.
    """
    if path.suffix.lower() == ".safetensors":
        raise ModelError(
            f"{path}: weights without their network; load them into the network where its code is, and export that:"
            f" {_EXPORT}"
        )
    names = {name.partition("/")[2] for name in _names(path)} if begin.startswith(b"PK") else set()
    # Many have a name of another kind, such as model.pth.tar or model.t7.
    if path.suffix.lower() not in _SUFFIXES and "data.pkl" not in names and not begin.startswith(_MAGIC):
        return
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        raise ModelError(
            f"{path}: a TorchScript program, which is not read here; make an ONNX file of it and convert that:"
            f' torch.onnx.export(torch.jit.load("{printable(path.name)}").eval(), torch.zeros(1, 1, 48, 48),'
            ' "model.onnx", dynamo=False)'
        )
    made = _first_class(path, is_archive="data.pkl" in names)
    if made is None:
        return
    if _WEIGHTS.match(made) or not made:
        raise ModelError(
            f"{path}: weights of PyTorch without their network (a state dict), which is not unpickled; load them into"
            f" the network where its code is, and export that: {_EXPORT}"
        )
    raise ModelError(
        f"{path}: a pickled network of PyTorch, of the class {printable(made.replace(' ', '.'))}, which is not"
        f" unpickled, because that may run any code; load it where the class is defined, and export it: {_EXPORT}"
    )


def check_exported_program(path: Path) -> None:
    """Check a program of `torch.export`; see `check_keras_archive`.

    Raises:
        ModelError: it is damaged or too large, or loading it would run code.
    """
    try:
        with open_zip(path, ModelError) as archive:
            sizes = [member.size for member in archive.members]
            names = [member.name.partition("/")[2] for member in archive.members]
            texts = [json.loads(member.read(JSON_BYTES)) for member in archive.members if member.name.endswith(".json")]
    except Exception as error:  # a damaged archive can fail anywhere
        raise ModelError(f"{path}: damaged, or not a file of torch.export; save or copy the model again") from error
    if sum(sizes) > KERAS_BYTES:
        raise ModelError(f"{path}: refused, it is larger than {megabytes(KERAS_BYTES)}")
    for name in names:
        if not _MEMBERS.fullmatch(name):
            raise ModelError(f"{path}: refused, it holds {printable(name)}, which loading might run; export it again")
    for text in texts:
        _check_json(path, text)


def _check_json(path: Path, content: object) -> None:
    for one in dictionaries(content):
        if one.get("use_pickle"):
            raise ModelError(f"{path}: refused, it holds a pickle, which loading would run; export it again")
        target, expression = one.get("target"), one.get("expr_str")
        # An operator of a graph has inputs; the target of an output is the name of a buffer.
        if isinstance(target, str) and "inputs" in one and not _OPERATORS.fullmatch(target):
            raise ModelError(
                f"{path}: refused, it calls {printable(target)}, which is not one of PyTorch's operators on tensors"
            )
        if expression is not None and not _EXPRESSION.fullmatch(str(expression)):
            raise ModelError(
                f"{path}: its sizes depend on each other ({printable(str(expression))}); export fixed ones"
            )


def _names(path: Path) -> list[str]:
    """Return the names in an archive; none of a file that is no archive."""
    try:
        with open_zip(path, ModelError) as archive:
            return [member.name for member in archive.members]
    except (ModelError, UnpackError):
        return []


def _first_class(path: Path, *, is_archive: bool) -> str | None:
    """Return module and name of the first class or function that a pickle names; None if it is no pickle."""
    try:
        if is_archive:
            with zipfile.ZipFile(path) as archive:
                member = next(one for one in archive.infolist() if one.filename.partition("/")[2] == "data.pkl")
                with archive.open(member) as file:
                    content = file.read(_PICKLE_BYTES)
        else:
            with path.open("rb") as file:
                content = file.read(_PICKLE_BYTES)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        return None
    begin, found = 0, None
    # Files of PyTorch before 1.6 hold a magic number, a version and the machine's sizes, a pickle each, first.
    while begin < len(content) and content[begin : begin + 1] == b"\x80":
        found, length = found or "", 0
        try:
            for opcode, argument, position in pickletools.genops(content[begin:]):
                if opcode.name == "GLOBAL":
                    return str(argument)
                length = (position or 0) + 1
        except ValueError:  # it goes on beyond what was read, or is damaged
            break
        begin += length
    return found
