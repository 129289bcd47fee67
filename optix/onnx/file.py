"""An ONNX model as a file: checked, with metadata, and whole or not there.

The package `onnx` is imported where a file is written, never by `import optix`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optix import files
from optix.checks import OptionError
from optix.files import replacing

MEANINGS = {  # of inputs and outputs that have these names in every framework
    "observation": "as the environment gives it",
    "action_mask": "which actions are allowed",
    "logits": "unnormalised log-probabilities of the actions",
    "mean": "of the Gaussian that actions are drawn from, as the agent draws them",
    "log_scale": "logarithm of its standard deviation",
    "q_values": "the value of each action",
    "unit_action": "the action in [-1, 1]",
    "action": "the greedy action, as the environment takes it",
}
INSTALL = "pip install 'tensor-optix-jax[onnx]'"


def require_onnx() -> Any:
    """Return the package `onnx`, or raise ImportError that says how to install it."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError(
            f"an ONNX file needs the package onnx; install it by {INSTALL}"
        ) from error
    return onnx


def checked_path(path: str | os.PathLike) -> Path:
    """Return where a policy can be written, see `optix.files.checked_path`."""
    return files.checked_path(path, "policy.onnx")


def save(
    model: Any, path: str | os.PathLike, about: Mapping[str, Any] | None = None
) -> None:
    """Check a model and write it in place of any file of that name.

    Args:
      model: an `onnx.ModelProto`.
      path: of the file.
      about: what is said in its metadata, {name: text or what JSON can hold}; None among
        the values is left out.

    Raises:
      ValueError: a path that can not be written to.
      ImportError: onnx is not installed.
    """
    onnx, where = require_onnx(), checked_path(path)
    said = {name: value for name, value in (about or {}).items() if value is not None}
    for name, value in said.items():
        text = value if isinstance(value, str) else json.dumps(value)
        entry = next((e for e in model.metadata_props if e.key == name), None)
        if entry is None:
            entry = model.metadata_props.add()
            entry.key = name
        entry.value = text
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    try:
        with replacing(where) as file:
            file.write(data)
    except OSError as error:
        raise OptionError(f"path can not be written to: {error}") from error


def annotate(path: str | os.PathLike, about: Mapping[str, Any]) -> None:
    """Add to the metadata of a file; entries of the same names are replaced."""
    onnx = require_onnx()
    save(onnx.load(os.fspath(path)), path, about)
