"""What all Torch agents have: modules and optimizers on a device, as a state."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from optix import checks
from optix.host.network_agent import Hyperparams, NetworkAgent
from optix.types import Box, Discrete, PyTree
from optix_torch import onnx
from optix_torch import state as tensors
from optix_torch.given import check_network, check_optimizer, chosen_device

TAKES = {
    Discrete: "TorchPPOAgent, TorchDQNAgent or TorchRainbowDQNAgent",
    Box: "TorchGaussianPPOAgent, TorchSACAgent or TorchTD3Agent",
}


class ModuleAgent(NetworkAgent):
    """An agent of Torch modules, of which a subclass says how they act and learn.

    It learns with `optimizers` from what is in `modules`; both, and the `records`, are
    its state. Acting draws from `generator`, of which `seed` decides.
    """

    TAKES: ClassVar = TAKES

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        hyperparams: Hyperparams,
        device: str | torch.device,
    ):
        """Move the modules to the device and take the hyperparameters."""
        self.device = chosen_device(device)
        for name, module in modules.items():
            check_network(name, module)
        self.modules = {
            name: module.to(self.device) for name, module in modules.items()
        }
        for module in self.modules.values():
            module.eval()
        self.parts: dict[str, tensors.Part] = dict(self.modules)
        self.optimizers: dict[str, Optimizer] = {}
        self._rates: list[tuple[dict[str, Any], float]] = []  # (group, its share)
        super().__init__(hyperparams)
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Seed what acting and learning draw."""
        super().seed(seed)
        self.generator = torch.Generator(self.device).manual_seed(int(seed))

    def export_onnx(
        self, path: str | os.PathLike, *, action_mask: bool = False
    ) -> None:
        """Write the deterministic policy as an ONNX file that takes any batch.

        Inputs are "observation" [batch, ...] float32, as the environment gives it, and of
        an agent that remembers "carry"; outputs what `policy_outputs` gives. The
        normaliser is part of it. With `action_mask` that is the last input, [batch, n]
        bool, and what it forbids is no "action".

        Raises:
          ValueError: a path that can not be written to, an observation whose shape is not
            known yet, networks that Torch can not export, a mask for other agents.
          ImportError: onnx or onnxscript is not installed.
        """
        about = {"agent": type(self).__name__}
        onnx.write(
            path,
            self.modules,
            self.policy_outputs,
            self.policy_inputs(),
            masked=self.check_masked(action_mask),
            device=self.device,
            about=about,
        )

    def try_networks(self, seen: torch.Tensor) -> None:  # noqa: B027
        """Raise ValueError where a network can not take observations [N, ...].

        Or where it gives anything else than is learned from. It is asked once, before
        the first action; nothing by default.
        """

    def policy_inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one row of what `policy_outputs` takes, by name."""
        raise self._missing("export_onnx")

    def policy_outputs(
        self, observation: PyTree, *carry: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return what actions are chosen from, by name, and the greedy "action" [B, ...].

        Args:
          observation: [B, ...] float32, as the environment gives it; maybe `Masked`.
          *carry: of an agent that remembers [B, size]; it returns "next_carry" too.
        """
        raise self._missing("export_onnx")

    def to_tensor(self, array: np.ndarray) -> torch.Tensor:
        """Return an array on the agent's device."""
        array = np.ascontiguousarray(array)
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    def learned(self) -> list[nn.Parameter]:
        """Return the parameters of all optimizers."""
        groups = [group for o in self.optimizers.values() for group in o.param_groups]
        return list(itertools.chain.from_iterable(g["params"] for g in groups))

    def add_optimizer(
        self,
        name: str,
        optimizer: Optimizer | None,
        modules: Sequence[nn.Module],
        epsilon: float = 1e-8,
    ) -> None:
        """Let an optimizer learn the modules; Adam, if None is given.

        The rate of the first one given is the default of `learning_rate`; the rates of
        all keep their ratio to it.

        Raises:
          ValueError: it does not hold just the parameters of the modules.
        """
        every = itertools.chain.from_iterable(module.parameters() for module in modules)
        parameters = [p for p in dict.fromkeys(every) if p.requires_grad]
        if not parameters:
            raise checks.OptionError(
                f"{name} must have parameters to learn, got networks that have none "
                "with requires_grad"
            )
        if optimizer is None:
            rate = self.hyperparams["learning_rate"]
            optimizer = torch.optim.Adam(parameters, rate, eps=epsilon, fused=True)
        check_optimizer(name, optimizer, parameters)
        rate = float(optimizer.param_groups[0]["lr"])
        self.take_rate(rate)
        for group in optimizer.param_groups:
            self._rates.append((group, float(group["lr"]) / self._first_rate))
        tensors.make_moments(optimizer)
        self.optimizers[name] = self.parts[name] = optimizer

    def descend(
        self, name: str, loss: torch.Tensor, parameters: list[nn.Parameter]
    ) -> torch.Tensor:
        """Take a step of an optimizer down the loss; return the norm of the gradient."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        # into these alone: a loss of the actor flows through the critics
        loss.backward(inputs=parameters)
        limit = self.hyperparams["max_grad_norm"]
        norm = nn.utils.clip_grad_norm_(parameters, limit, foreach=True)
        optimizer.step()
        return norm

    def parameters_of(self, name: str) -> list[nn.Parameter]:
        """Return the parameters of one optimizer."""
        groups = self.optimizers[name].param_groups
        return list(itertools.chain.from_iterable(group["params"] for group in groups))

    def begin_learning(self) -> None:
        """Let the optimizers have the learning rate of now, and modules learn."""
        rate = self.hyperparams["learning_rate"]
        for group, share in self._rates:
            group["lr"] = rate * share
        self.learned_from["windows"] += 1
        for name in self.modules:
            self.modules[name].train(not name.startswith("target"))

    def end_learning(self) -> None:
        """Let the modules be as acting needs them."""
        for module in self.modules.values():
            module.eval()

    def _arrays(self) -> dict[str, np.ndarray]:
        return tensors.arrays(self.parts)

    def _put(self, arrays: Mapping[str, np.ndarray]) -> None:
        tensors.restore(self.parts, arrays)

    def _write(self, path: str, state: Mapping[str, np.ndarray]) -> None:
        tensors.save(path, state)

    def _read(self, path: str) -> dict[str, np.ndarray]:
        return tensors.load(path)

    def _draw_anew(self, seed: int) -> None:
        on_cuda = self.device.type == "cuda"
        devices = [torch.cuda.current_device()] if on_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            for module in self.modules.values():
                module.apply(_reset_parameters)
        for optimizer in self.optimizers.values():
            tensors.forget(optimizer)

    def _perturb(self, noise: float) -> None:
        with torch.no_grad():
            for parameter in self.learned():
                draw = torch.empty_like(parameter).normal_(generator=self.generator)
                parameter.mul_(1 + noise * draw)


def _reset_parameters(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
