"""What all Torch agents have: hyperparameters, seeds, a device, a state, weight files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from optix import checks
from optix.host.agent import BaseAgent, HyperparamSet
from optix.host.window import EpisodeData
from optix_torch import onnx
from optix_torch import state as tensors
from optix_torch.given import Hyperparams, check_optimizer, chosen_device, named

Floats = Mapping[str, tuple[float, float, float]]
Sizes = Mapping[str, tuple[int, int]]


class ModuleAgent(BaseAgent):
    """An agent of Torch modules, of which a subclass says how they act and learn.

    It learns with `optimizers` from what is in `modules`; both, and the `records`, are
    its state. Acting draws from `generator`, of which `seed` decides.

    FLOATS: hyperparameters {name: (default, low, high)} that the loop may tune.
    SIZES: whole ones, {name: (default, minimum)}.
    OPTIONAL: floats that some agents of the class have and others have not.
    """

    FLOATS: Floats = {}
    SIZES: Sizes = {}
    OPTIONAL: ClassVar[Floats] = {}

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        hyperparams: Hyperparams,
        device: str | torch.device,
    ):
        """Move the modules to the device and take the hyperparameters."""
        self.device = chosen_device(device)
        for name, module in modules.items():
            checks.record(name, module, nn.Module, "give the network itself")
        self.modules = {
            name: module.to(self.device) for name, module in modules.items()
        }
        for module in self.modules.values():
            module.eval()
        self.parts: dict[str, tensors.Part] = dict(self.modules)
        self.optimizers: dict[str, Optimizer] = {}
        self._learned = tensors.Numbers(windows=0)
        # {name: has state() and restore(state)}
        self.records: dict[str, Any] = {"learned": self._learned}
        self.hyperparams: dict[str, Any] = {
            name: row[0] for name, row in {**self.FLOATS, **self.SIZES}.items()
        }
        self._given = named(hyperparams)
        self.set_hyperparams(HyperparamSet(self._given))
        self._rates: list[tuple[dict[str, Any], float]] = []  # (group, its share)
        self._first_rate = 0.0
        self._own_weights = False  # made by `for_env`, so that `reset` may make others
        self._first: dict[str, dict[str, np.ndarray]] | None = None
        self.seed(0)

    def get_hyperparams(self) -> HyperparamSet:
        """Return the current hyperparameters."""
        return HyperparamSet(dict(self.hyperparams))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Use these from now on; those that are not named stay as they are.

        Raises:
          ValueError: an unknown name, or a value out of its range.
        """
        given = named(hyperparams)
        known = {**self.FLOATS, **self.SIZES}
        checks.known_names(f"hyperparameter of {type(self).__name__}", given, known)
        for name, value in given.items():
            if name in self.SIZES:
                value = checks.positive_int(name, value, self.SIZES[name][1])
            else:
                value = checks.within(name, value, *self.FLOATS[name][1:])
            self.hyperparams[name] = value

    def seed(self, seed: int) -> None:
        """Seed what acting and learning draw."""
        self.generator = torch.Generator(self.device).manual_seed(int(seed))
        self.rng = np.random.default_rng(int(seed))

    def act(self, observation: Any, explore: bool = True) -> Any:
        """Return the action for one observation, as the environment takes it."""
        actions, _ = self.act_batch(np.asarray(observation)[None], explore)
        return actions[0]

    def begin_episode(self, which: np.ndarray) -> None:
        """Remember which of the environments begin an episode, [B] bool."""
        self.carry = {**(self.carry or {}), "began": np.array(which, bool)}

    def take_began(self, count: int) -> np.ndarray:
        """Return which environments begin an episode with this step, [count] bool."""
        began = (self.carry or {}).get("began")
        if began is None or len(began) != count:
            began = np.ones(count, bool)
            self.carry = None
        if began.any():
            self.carry = {**(self.carry or {}), "began": np.zeros(count, bool)}
        return began

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of weights, moments of the optimizers, and running numbers."""
        arrays = tensors.arrays(self.parts)
        for name, record in self.records.items():
            arrays |= {f"{name}/{key}": x for key, x in record.state().items()}
        return arrays

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Become what `state` was taken of.

        Raises:
          ValueError: it is of another network or agent.
        """
        own: dict[str, dict[str, np.ndarray]] = {name: {} for name in self.records}
        rest = {}
        for name, array in state.items():
            record, slash, key = name.partition("/")
            if slash and record in own:
                own[record][key] = array
            else:
                rest[name] = array
        tensors.restore(self.parts, rest)
        for name, arrays in own.items():
            self.records[name].restore(arrays)

    def reset(self, seed: int) -> None:
        """Take new first weights, where `for_env` made the networks.

        Networks of one's own, and weights that have learned or were loaded, averaged or
        perturbed, stay what they are: all seeds begin with them.
        """
        if not self._own_weights or self._learned["windows"] > 0:
            return
        on_cuda = self.device.type == "cuda"
        devices = [torch.cuda.current_device()] if on_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            for module in self.modules.values():
                module.apply(_reset_parameters)
        for optimizer in self.optimizers.values():
            tensors.forget(optimizer)
        for name, first in (self._first or {}).items():
            self.records[name].restore(first)
        self._after_reset()

    def save_weights(self, path: str) -> None:
        """Write the whole state as a safetensors file."""
        tensors.save(path, self.state())

    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote; nothing in the file is executed.

        Raises:
          ValueError: another kind of file, or one of another network.
        """
        self.restore(tensors.load(path))
        self._own_weights = False

    def average_weights(self, paths: Iterable[str]) -> None:
        """Take the mean of the weights saved at `paths`; whole numbers of the first.

        Normalisers and targets are averaged too, optimizers stay as they are.

        Raises:
          ValueError: no paths, or weights of another network.
        """
        states = [tensors.load(path) for path in paths]
        if not states:
            raise checks.OptionError("paths must name at least one file, got none")
        present = self.state()
        kept = tuple(f"{name}." for name in self.optimizers)
        for one in states:
            self.restore(one)  # refuses what is of another network
        mean = dict(present)
        for name, first in states[0].items():
            if name.startswith(kept):
                continue
            if first.dtype.kind == "f":
                rows = [one[name].astype(np.float64) for one in states]
                mean[name] = np.asarray(np.mean(rows, 0), first.dtype)
            else:
                mean[name] = first
        self.restore(mean)
        self._own_weights = False

    def perturb_weights(self, noise: float) -> None:
        """Multiply every weight that is learned by 1 + `noise` times a normal number."""
        noise = checks.within("noise", noise, 0.0, 1e3)
        with torch.no_grad():
            for parameter in self.learned():
                draw = torch.empty_like(parameter).normal_(generator=self.generator)
                parameter.mul_(1 + noise * draw)
        self._own_weights = False

    def export_onnx(self, path: str | os.PathLike) -> None:
        """Write the deterministic policy as an ONNX file that takes any batch.

        Inputs are "observation" [batch, ...] float32, as the environment gives it, and of
        an agent that remembers "carry"; outputs what `policy_outputs` gives. The
        normaliser is part of it.

        Raises:
          ValueError: a path that can not be written to, an observation whose shape is not
            known yet, networks that Torch can not export.
          ImportError: onnx or onnxscript is not installed.
        """
        about = {"agent": type(self).__name__}
        onnx.write(
            path,
            self.modules,
            self.policy_outputs,
            self.policy_inputs(),
            device=self.device,
            about=about,
        )

    def policy_inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one row of what `policy_outputs` takes, by name."""
        raise self._missing("export_onnx")

    def policy_outputs(
        self, observation: torch.Tensor, *carry: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return what actions are chosen from, by name, and the greedy "action" [B, ...].

        Args:
          observation: [B, ...] float32, as the environment gives it.
          *carry: of an agent that remembers [B, size]; it returns "next_carry" too.
        """
        raise self._missing("export_onnx")

    def began(self, window: EpisodeData) -> np.ndarray:
        """Return which environments began an episode with the first step, [B] bool."""
        began = window.extras.get("began")
        return np.zeros(window.num_envs, bool) if began is None else began[0]

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
        if optimizer is None:
            rate = self.hyperparams["learning_rate"]
            optimizer = torch.optim.Adam(parameters, rate, eps=epsilon, fused=True)
        check_optimizer(name, optimizer, parameters)
        rate = float(optimizer.param_groups[0]["lr"])
        if not self.optimizers:
            self._first_rate = rate or 1.0
            if "learning_rate" not in self._given:
                self.set_hyperparams(HyperparamSet({"learning_rate": rate}))
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
        self._learned["windows"] += 1
        for name in self.modules:
            self.modules[name].train(not name.startswith("target"))

    def end_learning(self) -> None:
        """Let the modules be as acting needs them."""
        for module in self.modules.values():
            module.eval()

    def made_for_env(self) -> None:
        """Say that the weights are nobody's yet: each run may begin with its own."""
        self._own_weights = True
        self._first = {name: record.state() for name, record in self.records.items()}

    def _after_reset(self) -> None:
        """Let what follows from the weights follow; nothing by default."""


def _reset_parameters(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
