"""What an agent is given: a device, networks, an optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from optix import checks


def chosen_device(device: str | torch.device) -> torch.device:
    """Return the device; "auto" is CUDA's where there is one.

    >>> chosen_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise checks.OptionError(
            f"device must be 'auto', 'cpu' or 'cuda', got {device!r}"
        ) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise checks.OptionError(
            f"device must be one that this machine has, got {device!r}; use 'auto'"
        )
    return chosen


def check_network(name: str, module: Any) -> None:
    """Raise ValueError unless it is a module, with weights before its first call."""
    checks.record(name, module, nn.Module, "give the network itself")
    if any(isinstance(p, nn.UninitializedParameter) for p in module.parameters()):
        raise checks.OptionError(
            f"{name} must have its weights, got lazy layers, which have none yet; call "
            "it once with observations [N, ...] before"
        )


def tried(
    name: str, module: nn.Module, rows: torch.Tensor, what: str = "observations"
) -> torch.Tensor:
    """Return what a network gives for rows [N, ...] of what it will be given.

    Raises:
      ValueError: it can not take them, or gives no tensor with a row for each.

    >>> tried("critic", nn.Linear(4, 1), torch.zeros(2, 4)).shape
    torch.Size([2, 1])
    """
    out = called(name, module, rows, what)
    if not isinstance(out, torch.Tensor) or out.shape[:1] != rows.shape[:1]:
        is_tensor = isinstance(out, torch.Tensor)
        got = f"the shape {list(out.shape)}" if is_tensor else type(out).__name__
        raise checks.OptionError(
            f"{name} must give a tensor with a row for each of its {what}, [N, ...], "
            f"got {got} for N={len(rows)}"
        )
    return out


def called(name: str, module: nn.Module, rows: torch.Tensor, what: str) -> Any:
    """Return whatever a network gives, or raise ValueError if it can not take rows."""
    try:
        with torch.inference_mode():
            return module(rows)
    except Exception as error:
        sizes = "".join(f", {n}" for n in rows.shape[1:])
        shown = str(module)
        if "\n" in shown:
            shown = type(module).__name__
        raise checks.OptionError(
            f"{name} must take {what} [N{sizes}] of float32, got {shown}, which raises "
            f"{type(error).__name__}: {error}"
        ) from error


def check_optimizer(name: str, optimizer: Any, parameters: list[nn.Parameter]) -> None:
    """Raise ValueError unless an optimizer holds just these parameters."""
    checks.record(name, optimizer, Optimizer, "make one of the networks' parameters")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise checks.OptionError(
            f"{name} must step without a closure, got LBFGS; use Adam, say"
        )
    held = [p for group in optimizer.param_groups for p in group["params"]]
    missing = len(set(parameters) - set(held))
    beyond = len(set(held) - set(parameters))
    if missing or beyond:
        raise checks.OptionError(
            f"{name} must hold the parameters of the networks it is for, got one that "
            f"lacks {missing} of {len(parameters)} and has {beyond} of others; make it "
            "of the parameters of these networks, or give None"
        )
