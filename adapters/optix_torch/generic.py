"""An agent of one's own Torch module and loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from optix import checks
from optix.host.agent import HyperparamSet, named
from optix.host.network_agent import Hyperparams
from optix.host.window import EpisodeData
from optix_torch.actions import Categorical, count_of
from optix_torch.agent import ModuleAgent
from optix_torch.given import called, tried
from optix_torch.view import TensorView


class TorchWindow(NamedTuple):
    """A window as tensors on the agent's device."""

    obs: torch.Tensor  # [T, B, ...] float32
    action: torch.Tensor  # [T, B, ...]
    reward: torch.Tensor  # [T, B]
    terminated: torch.Tensor  # [T, B] bool
    truncated: torch.Tensor  # [T, B] bool
    next_obs: torch.Tensor  # [T, B, ...]
    extras: Mapping[str, torch.Tensor]  # {name: [T, B, ...]} what `act` added


Loss = Callable[[nn.Module, TorchWindow, Mapping[str, Any]], Any]
Act = Callable[[Any, bool, torch.Generator], Any]


def categorical(
    logits: torch.Tensor, explore: bool, generator: torch.Generator
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Draw discrete actions from logits [B, n]; the likeliest where not exploring."""
    actions = Categorical(logits)
    action = actions.sample(generator) if explore else actions.mode()
    return action, {"log_prob": actions.log_prob(action)}


class TorchAgent(ModuleAgent):
    """Any module that acts, and any loss that it learns from.

    Args:
      module: observations [B, ...] -> what `act` makes actions of.
      loss: `(module, window: TorchWindow, hyperparams) -> loss []`, or (loss, {name:
        number or tensor []}) with what a person may want to know. It is asked
        `num_epochs` times for each window, with a step of the optimizer each time.
      optimizer: of the module's parameters; None is Adam.
      hyperparams: a `HyperparamSet` or {name: value}: learning_rate, max_grad_norm and
        num_epochs, and whatever else the loss wants. Its floats may be tuned.
      device: "auto" (CUDA where there is one), "cpu", "cuda".
      act: `(what the module gave, explore, generator) -> actions [B, ...]` or (actions,
        extras {name: [B, ...]}); by default discrete actions from logits.

    Raises:
      ValueError: `loss` or `act` is no function, an optimizer of other parameters, a known
        hyperparameter out of its range, a device that is not there.

    >>> def loss(module, window, hyperparams):
    ...     log_probs = module(window.obs).log_softmax(-1)
    ...     chosen = log_probs.gather(-1, window.action[..., None])[..., 0]
    ...     return -(chosen * window.reward).mean()
    >>> agent = TorchAgent(nn.Linear(4, 2), loss, hyperparams={"temperature": 1.0})
    >>> agent.act(np.zeros(4)) in (0, 1), agent.get_hyperparams().params["temperature"]
    (True, 1.0)
    """

    FLOATS = {
        "learning_rate": (1e-3, 0.0, 1.0),
        "max_grad_norm": (1e9, 0.0, 1e9),
    }
    SIZES = {"num_epochs": (1, 1)}

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        optimizer: Optimizer | None = None,
        hyperparams: Hyperparams = None,
        device: str | torch.device = "auto",
        *,
        act: Act = categorical,
    ):
        """See the class."""
        checks.function(
            "loss", loss, "it is called as loss(module, window, hyperparams)"
        )
        checks.function("act", act, "it is called as act(outputs, explore, generator)")
        self._own = {*named(hyperparams)} - {*self.FLOATS, *self.SIZES}
        super().__init__({"module": module}, hyperparams, device)
        self.loss, self._act = loss, act
        self.add_optimizer("optimizer", optimizer, [module])
        self._parameters = self.parameters_of("optimizer")
        self.view = TensorView(None, False, self.device, trial=self.try_networks)

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Use these from now on; those that are not named stay as they are.

        Names of the loss's own are taken as they are when the agent is made.
        """
        own = {
            name: value
            for name, value in hyperparams.params.items()
            if name in self._own
        }
        rest = {k: v for k, v in hyperparams.params.items() if k not in own}
        super().set_hyperparams(HyperparamSet(rest))
        self.hyperparams |= own

    def try_networks(self, seen: torch.Tensor) -> None:
        """Raise ValueError where the module does not take observations.

        Or, where actions are drawn from logits, gives none.
        """
        module, what = self.modules["module"], "observations"
        if self._act is not categorical:
            called("module", module, seen, what)
            return
        logits = tried("module", module, seen, what)
        self.number_of_actions = count_of("module", logits)

    def act_batch(self, observations: Any, explore: bool = True) -> tuple[Any, dict]:
        """Return actions [B, ...], and what `act` added while exploring."""
        with torch.inference_mode():
            outputs = self.modules["module"](self.view.plain(observations))
            acted = self._act(outputs, explore, self.generator)
        action, extras = acted if isinstance(acted, tuple) else (acted, {})
        return _array(action), {name: _array(x) for name, x in extras.items()}

    def learn(self, episode_data: EpisodeData) -> dict[str, float]:
        """Go down the loss of a window; return the means of what it told."""
        window = self._window(episode_data.batched())
        told: dict[str, list[torch.Tensor]] = {}
        self.begin_learning()
        try:
            for _ in range(self.hyperparams["num_epochs"]):
                loss, info = self._asked(window)
                norm = self.descend("optimizer", loss, self._parameters)
                info = {"loss": loss, "grad_norm": norm, **info}
                for name, value in info.items():
                    told.setdefault(name, []).append(torch.as_tensor(value).detach())
        finally:
            self.end_learning()
        return {
            name: float(torch.stack([x.float() for x in values]).mean())
            for name, values in told.items()
        }

    def action_probs_batch(self, observations: Any) -> np.ndarray:
        """Return the probabilities of discrete actions, [B, n], of a module of logits.

        Raises:
          NotImplementedError: the agent has an `act` of its own.
        """
        if self._act is not categorical:
            raise self._missing("action_probs")
        with torch.inference_mode():
            seen = self.view.plain(np.asarray(observations))
            return _array(self.modules["module"](seen).softmax(-1))

    def policy_inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one observation."""
        return {"observation": self.view.shape(self.modules["module"])}

    def policy_outputs(
        self, observation: torch.Tensor, *carry: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return "logits" and "action", or what the module gives an `act` of one's own.

        Names are those of a dictionary, else "output", or "output_0" and on of several.
        """
        out = self.modules["module"](observation)
        if self._act is categorical:
            return {"logits": out, "action": Categorical(out).mode()}
        if isinstance(out, Mapping):
            return dict(out)
        if isinstance(out, torch.Tensor):
            return {"output": out}
        return {f"output_{number}": part for number, part in enumerate(out)}

    def _asked(self, window: TorchWindow) -> tuple[torch.Tensor, Mapping[str, Any]]:
        given = self.loss(self.modules["module"], window, dict(self.hyperparams))
        loss, info = given if isinstance(given, tuple) else (given, {})
        if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
            raise checks.OptionError(
                "loss must give one number [] that depends on the module's parameters, "
                f"got {loss!r}"
            )
        return loss, info

    def _window(self, window: EpisodeData) -> TorchWindow:
        return TorchWindow(
            self.view.plain(window.observations),
            self.to_tensor(window.actions),
            self.to_tensor(window.rewards),
            self.to_tensor(window.terminated),
            self.to_tensor(window.truncated),
            self.view.plain(window.next_observations),
            {name: self.to_tensor(x) for name, x in window.extras.items()},
        )


def _array(value: Any) -> np.ndarray:
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
