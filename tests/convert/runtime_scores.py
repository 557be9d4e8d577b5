"""Save a model's outputs for the inputs stored beside it: ``python runtime_scores.py RUNTIME MODEL...``.

Writes ``MODEL-RUNTIME-plain.npy``, of the reference kernels, and ``MODEL-RUNTIME-usual.npy``, of the default ones.
Imports nothing but NumPy and the runtime, because an old Python runs it, too.
"""

import importlib
import sys
from pathlib import Path

import numpy as np

MODULES = {
    "litert": "ai_edge_litert.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
RESOLVERS = {"plain": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "usual": "AUTO"}


def main(runtime: str, *models: str) -> None:
    """Run the models."""
    module = importlib.import_module(MODULES[runtime])
    for model in map(Path, models):
        stored = np.load(model.with_suffix(".npy"))
        for name, resolver in RESOLVERS.items():
            interpreter = module.Interpreter(
                str(model), experimental_op_resolver_type=getattr(module.OpResolverType, resolver)
            )
            interpreter.allocate_tensors()
            outputs = sorted(interpreter.get_output_details(), key=lambda output: tuple(output["shape"]))
            scores = []
            for image in stored:
                interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
                interpreter.invoke()
                scores.append(np.concatenate([interpreter.get_tensor(one["index"]).ravel() for one in outputs]))
            np.save(model.with_name(f"{model.stem}-{runtime}-{name}.npy"), np.array(scores))


if __name__ == "__main__":
    main(*sys.argv[1:])
