"""What an agent is given: a device, an optimizer."""

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
