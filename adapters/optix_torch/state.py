"""Modules and optimizers as plain arrays: {name: array}, and files of them.

A name is that of the part, a dot, and the part's own name of the tensor. Everything is
copied bit for bit; bfloat16, which NumPy has not, is held as float32, which holds it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.optim import Optimizer

from optix import checks
from optix.host.weights import check_shape, weights_file

Part = nn.Module | Optimizer | nn.Parameter
ADAM = (torch.optim.Adam, torch.optim.AdamW)
SUFFIX = ".safetensors"


def arrays(parts: Mapping[str, Part]) -> dict[str, np.ndarray]:
    """Return copies of all tensors of the parts, {name: array}."""
    return {name: _array(tensor) for name, tensor in _tensors(parts)}


def restore(parts: Mapping[str, Part], state: Mapping[str, np.ndarray]) -> None:
    """Put arrays back where `arrays` took them.

    What an optimizer had not made yet when they were taken, it has not made again.

    Raises:
      ValueError: they are of other parts; no weight is changed then.
    """
    present = dict(_tensors(parts))
    differing = []
    if present.keys() != state.keys():
        differing = list(_differing(parts, present, state))
    free = {name for _, _, names in differing for name in names}
    # in order, so that the message names the first layer that differs
    for name in dict.fromkeys((*present, *state)):
        if name not in free:
            check_shape(name, present.get(name), state.get(name))
    for own, parameter, names in differing:
        own.clear()
        for name in names & state.keys():
            # a counter stays where a new optimizer would keep it
            device = parameter.device if state[name].shape else None
            own[name.rpartition(".")[-1]] = _tensor(state[name].copy()).to(device)
    with torch.no_grad():
        for name, tensor in present.items():
            if name not in free:
                tensor.copy_(_tensor(state[name]))


def make_moments(optimizer: Optimizer) -> None:
    """Make the moments of Adam at once, so that every state has the same form.

    Torch makes them at the first step. Other optimizers are left to do that.
    """
    if not isinstance(optimizer, ADAM):
        return
    for group in optimizer.param_groups:
        on_device = group.get("fused") or group.get("capturable")
        names = ["exp_avg", "exp_avg_sq"]
        names += ["max_exp_avg_sq"] if group.get("amsgrad") else []
        for parameter in group["params"]:
            if optimizer.state[parameter]:
                continue
            device = parameter.device if on_device else None
            step = torch.zeros((), dtype=torch.float32, device=device)
            optimizer.state[parameter] = {"step": step} | {
                name: torch.zeros_like(
                    parameter, memory_format=torch.preserve_format, requires_grad=False
                )
                for name in names
            }


def forget(optimizer: Optimizer) -> None:
    """Let an optimizer be as before its first step."""
    optimizer.state.clear()
    make_moments(optimizer)


def save(path: str, state: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a safetensors file: `path`, with that ending added if it lacks."""
    save_file(
        {name: x.copy(order="C") for name, x in state.items()},
        weights_file(path, SUFFIX),
    )


def load(path: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file that `save` wrote; nothing in it is executed.

    Raises:
      ValueError: it is no safetensors file.
      FileNotFoundError: there is none.
    """
    file = weights_file(path, SUFFIX, written=True)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise checks.OptionError(
            f"{file} must be a safetensors file that save_weights wrote, got one that "
            f"can not be read as such ({error}); pickles are never loaded"
        ) from error


def _tensors(parts: Mapping[str, Part]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            for key, value in part.state_dict(keep_vars=True).items():
                if isinstance(value, torch.Tensor):
                    yield f"{name}.{key}", value
        elif isinstance(part, Optimizer):
            for place, parameter in _places(name, part):
                own = part.state.get(parameter, {})
                for key, value in own.items():
                    if isinstance(value, int | float):  # a counter: it adds up as well
                        value = own[key] = torch.tensor(value)
                    if isinstance(value, torch.Tensor):
                        yield f"{place}{key}", value
        else:
            yield name, part


def _places(name: str, optimizer: Optimizer) -> Iterator[tuple[str, nn.Parameter]]:
    for number, group in enumerate(optimizer.param_groups):
        for place, parameter in enumerate(group["params"]):
            yield f"{name}.{number}.{place}.", parameter


def _differing(
    parts: Mapping[str, Part],
    present: Mapping[str, torch.Tensor],
    state: Mapping[str, np.ndarray],
) -> Iterator[tuple[dict[str, Any], nn.Parameter, set[str]]]:
    """Of what an optimizer has made in one of the two only: (its place, of, names)."""
    for part_name, part in parts.items():
        if not isinstance(part, Optimizer):
            continue
        for place, parameter in _places(part_name, part):
            have, wanted = (
                {name for name in names if name.startswith(place)}
                for names in (present, state)
            )
            if not have or not wanted:
                yield part.state[parameter], parameter, have | wanted


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    if tensor.device.type != "cpu":
        return tensor.cpu().numpy()
    return tensor.numpy().copy()


def _tensor(array: np.ndarray) -> torch.Tensor:
    # Torch warns of arrays that it could write into but must not
    writable = array.flags.writeable
    return torch.from_numpy(array if writable else array.copy())
