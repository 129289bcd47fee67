"""What a file computes, by onnxruntime."""

import jax
import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
BATCHES = (1, 7)


class Played:
    """A file as a function `({name: array}) -> {name: array}`."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {x.name: x for x in self.session.get_inputs()}
        self.outputs = {x.name: x for x in self.session.get_outputs()}
        for x in (*self.inputs.values(), *self.outputs.values()):
            assert x.shape[0] == "batch"
        self.about = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, **given):
        return dict(zip(self.outputs, self.session.run(None, given), strict=True))

    def at_rest(self, batch):
        """The carries where episodes begin: zeros."""
        return {
            name: np.zeros((batch, *x.shape[1:]), np.float32)
            for name, x in self.inputs.items()
            if name != "observation"
        }


def after(found):
    """The carries for the next step."""
    return {n.removeprefix("next_"): x for n, x in found.items() if "next_" in n}


def moved(tree, seed=0, size=0.3):
    """Floats of a tree with noise, so that no bias, gate or head is left at 0."""
    random = np.random.default_rng(seed)

    def noisy(x):
        if not np.issubdtype(x.dtype, np.floating):
            return x
        return np.asarray(x) + size * random.normal(size=x.shape).astype(x.dtype)

    return jax.tree.map(noisy, tree)
