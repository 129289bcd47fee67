"""The deterministic policy of a Torch agent as an ONNX file.

By Torch's own exporter, which knows the operations of whatever module a user has.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from optix.checks import OptionError
from optix.onnx.file import INSTALL, MEANINGS, checked_path, require_onnx, save
from optix.types import Masked

OPSET = 18
CARRIES = {
    "carry": "what is remembered before the step, zeros where an episode begins",
    "next_carry": "carry of the next step",
}


class Exported(nn.Module):
    """A function of tensors and the modules that it calls, as one module."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        function: Callable[..., Mapping[str, torch.Tensor]],
    ):
        """Take both."""
        super().__init__()
        self.held = nn.ModuleDict(modules)
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs in the order of the function."""
        return tuple(self.function(*inputs).values())


def write(
    path: str | os.PathLike,
    modules: Mapping[str, nn.Module],
    function: Callable[..., Mapping[str, torch.Tensor]],
    inputs: Mapping[str, Sequence[int]],
    *,
    masked: bool = False,
    device: torch.device,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a function of Torch as an ONNX file, whose first axis is "batch".

    Args:
      path: of the file; one that is there is replaced.
      modules: that the function calls, as they shall act.
      function: `(*inputs [B, ...]) -> {name: [B, ...]}`.
      inputs: {name: shape of one row}, float32, in the order of the arguments.
      masked: the first input comes as `Masked`, by a further one "action_mask" for the
        entries of the first output.
      device: of the modules.
      about: metadata by name.

    Raises:
      ValueError: a path that can not be written to, a module that Torch can not export
        for any batch.
      ImportError: onnx or onnxscript is not installed.
    """
    onnx = require_onnx()
    if importlib.util.find_spec("onnxscript") is None:
        raise ImportError(
            "an ONNX file of a Torch agent needs the package onnxscript; install it by "
            f"{INSTALL}"
        )
    checked_path(path)
    module = Exported(modules, _under_masks(function) if masked else function).eval()
    # two rows: of one Torch would take the batch for a constant
    rows = tuple(torch.zeros(2, *shape, device=device) for shape in inputs.values())
    with torch.no_grad():
        named = function(*rows)
    names, taken = list(named), list(inputs)
    if masked:
        rows += (torch.ones_like(named[names[0]], dtype=torch.bool),)
        taken.append("action_mask")
    batch = torch.export.Dim("batch")
    try:
        with _quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                module,
                rows,
                input_names=taken,
                output_names=names,
                dynamic_shapes=(tuple({0: batch} for _ in rows),),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        model = onnx.ModelProto.FromString(program.model_proto.SerializeToString())
    except Exception as error:
        raise OptionError(
            "the networks must be such that torch.onnx can export them for any batch, got "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]}; what they do "
            "must not hang on the values of tensors, or on how many rows there are"
        ) from error
    meanings = {**MEANINGS, **CARRIES}
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = meanings.get(value.name, "")
    save(model, path, about)


def _under_masks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of tensors whose last one is the mask of the first."""

    def masked(seen, *others):
        *carry, mask = others
        # of what allows nothing everything is allowed
        mask = mask | ~mask.any(-1, keepdim=True)
        return function(Masked(seen, mask), *carry)

    return masked


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch tells of packages that it does without, and warns of its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
