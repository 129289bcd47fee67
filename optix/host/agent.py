"""Agents that live on the host: Torch, TensorFlow, NumPy or anything with six methods.

`optix.host.learner` puts such an agent into the same loop as one written in JAX.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, Protocol

import jax
import numpy as np

from optix import checks
from optix.types import PyTree


@dataclasses.dataclass(frozen=True)
class HyperparamSet:
    """Hyperparameters of a host agent by name.

    Floats are what the loop may tune; everything else stays as the agent set it.

    >>> HyperparamSet({"learning_rate": 3e-4, "epochs": 4}).params["epochs"]
    4
    """

    params: dict[str, Any]

    def copy(self) -> HyperparamSet:
        """Return a set that can be changed without changing this one."""
        return HyperparamSet(dict(self.params))


@dataclasses.dataclass(frozen=True)
class EpisodeData:
    """A window of experience, time major: whole episodes, or the beginning of one.

    The leading axis is time; a pipeline of several environments adds a second one.
    Lists of steps are stacked. The last step may be in the middle of an episode: then
    neither flag is set and the future is bootstrapped from the last of
    `next_observations`.

    Raises:
      ValueError: no steps, fields of different lengths, steps of different shapes.

    >>> data = EpisodeData([0, 1], [1, 1], [1.0, 2.0], [0, 1], [0, 0], [1, 2])
    >>> data.total_reward, data.length, data.dones.tolist()
    (3.0, 2, [False, True])
    """

    observations: PyTree  # [T, ...]
    actions: PyTree  # [T, ...]
    rewards: np.ndarray  # [T] float32
    terminated: np.ndarray  # [T] bool: the return really ends here
    truncated: np.ndarray  # [T] bool: cut off, the future is bootstrapped
    next_observations: PyTree  # [T, ...] before any reset
    infos: list[Mapping[str, Any]] = dataclasses.field(
        default_factory=list
    )  # T or none

    def __post_init__(self) -> None:
        """Stack what came as lists and check the lengths."""
        if not len(self.rewards):
            raise checks.OptionError("a window must have at least one step, got none")
        dtypes = {"rewards": np.float32, "terminated": bool, "truncated": bool}
        for name in ("observations", "actions", "next_observations", *dtypes):
            value = _stack(getattr(self, name))
            if name in dtypes:
                value = np.asarray(value, dtypes[name])
            object.__setattr__(self, name, value)
            self._check_length(name, {len(leaf) for leaf in jax.tree.leaves(value)})
        if self.infos:
            self._check_length("infos", {len(self.infos)})

    def _check_length(self, name: str, lengths: set[int]) -> None:
        if lengths != {len(self.rewards)}:
            raise checks.OptionError(
                f"{name} must have one entry for each of the {len(self.rewards)} "
                f"rewards, got {sorted(lengths)}"
            )

    @property
    def dones(self) -> np.ndarray:
        """Where an episode ended, for either reason, [T] bool."""
        return self.terminated | self.truncated

    @property
    def total_reward(self) -> float:
        """The sum of all rewards of the window."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def length(self) -> int:
        """Environment steps in the window."""
        return self.rewards.size


def _stack(steps: PyTree) -> PyTree:
    """Stack a list of equally shaped steps; leave what is stacked already."""
    if not isinstance(steps, list) or not steps:
        return steps
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps, is_leaf=_is_row)


def _is_row(node: PyTree) -> bool:
    """Whether a node is a list of numbers, or of such lists: an array, no structure."""
    if not isinstance(node, list):
        return False
    return all(isinstance(part, Real) or _is_row(part) for part in node)


class BaseAgent(abc.ABC):
    """An agent with a state of its own, outside the device.

    Six methods are required. The others have a default: those that say so do nothing,
    the rest raise NotImplementedError.
    """

    @abc.abstractmethod
    def act(self, observation: Any) -> Any:
        """Return the action for one observation, as the environment takes it.

        An agent that explores declares a keyword, `act(observation, explore=True)`;
        evaluations then pass `explore=False`, which plays deterministically. Without
        the keyword they play what `act` gives. Whatever `act` remembers must not matter
        to `learn`: evaluations act in between.
        """

    @abc.abstractmethod
    def learn(self, episode_data: EpisodeData) -> Mapping[str, Any]:
        """Learn from a window and return numbers about it by name.

        NaN or infinity among them tells the loop that the update failed; what is not
        known is left out.
        """

    @abc.abstractmethod
    def get_hyperparams(self) -> HyperparamSet:
        """Return the current hyperparameters."""

    @abc.abstractmethod
    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Use these from now on; called before every window, so it must be cheap."""

    @abc.abstractmethod
    def save_weights(self, path: str) -> None:
        """Write everything that learning goes on from at `path`.

        A file of that name, files whose names begin with it, or a folder. What is left
        out (an optimizer's moments, a normaliser, a replay buffer) is not rolled back
        and not resumed, and all lanes and seeds share it.
        """

    @abc.abstractmethod
    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote, given the same file name, maybe elsewhere."""

    def seed(self, seed: int) -> None:  # noqa: B027
        """Seed the agent's random numbers. Nothing by default.

        Called before every window and evaluation. With it a window is a function of
        weights, hyperparameters and seed, and lanes explore with common random numbers.
        """

    def begin_episode(self, index: int = 0) -> None:  # noqa: B027
        """Forget the running episode of environment `index`. Nothing by default."""

    def close(self) -> None:  # noqa: B027
        """Free what the agent holds. Nothing by default."""

    def action_probs(self, observation: Any) -> np.ndarray:
        """Return the probabilities of discrete actions, [n], for ensembles."""
        raise self._missing("action_probs")

    def average_weights(self, paths: Iterable[str]) -> None:
        """Take the mean of the weights saved at `paths`."""
        raise self._missing("average_weights")

    def perturb_weights(self, noise: float) -> None:
        """Multiply every weight by 1 + `noise` times a standard normal number."""
        raise self._missing("perturb_weights")

    def export_onnx(self, path: str) -> None:
        """Write the deterministic policy as an ONNX file."""
        raise self._missing("export_onnx")

    def _missing(self, method: str) -> NotImplementedError:
        return NotImplementedError(
            f"{type(self).__name__} does not offer {method}: override it to use this"
        )


class Pipeline(Protocol):
    """A source of experience for a host agent."""

    def collect(self, agent: BaseAgent, seed: int) -> EpisodeData:
        """Return a window of fresh episodes, the same for the same seed and actions."""
        ...

    def evaluate(self, agent: BaseAgent, seed: int, episodes: int) -> float:
        """Return the score of whole episodes, without learning."""
        ...

    def close(self) -> None:
        """Free the environments."""
        ...
