"""Agents that live on the host: Torch, TensorFlow, NumPy or anything with six methods.

`optix.host.learner` puts such an agent into the same loop as one written in JAX.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from optix import checks
from optix.host.window import EpisodeData, stack_steps
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


def named(hyperparams: Any) -> dict[str, Any]:
    """Return hyperparameters, of a set, a mapping or None, as a dict of their own.

    Raises:
      ValueError: it is something else.

    >>> named(HyperparamSet({"epochs": 4})), named(None)
    ({'epochs': 4}, {})
    """
    if isinstance(hyperparams, HyperparamSet):
        return dict(hyperparams.params)
    if hyperparams is None:
        return {}
    if not isinstance(hyperparams, Mapping):
        raise checks.OptionError(
            "hyperparams must be a HyperparamSet, a mapping {name: value} or None, got "
            f"{hyperparams!r}"
        )
    return dict(hyperparams)


class Memory(Protocol):
    """What an agent remembers of a run besides its weights: a replay.

    Lanes of a run share it and a rollback keeps it; runs never see each other's.
    """

    def __len__(self) -> int:
        """Return how many rows there are."""
        ...

    def state(self) -> Mapping[str, np.ndarray]:
        """Return all that `restore` needs, {name: array}, for a checkpoint."""
        ...

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become what `state` was taken of."""
        ...


class BaseAgent(abc.ABC):
    """An agent with a state of its own, outside the device.

    Six methods are required. The others have a default: those that say so do nothing,
    the rest raise NotImplementedError.

    One object serves all seeds and lanes of a run, and evaluations in between. So what
    belongs to one of them is handed to it before every window: its weights (`state` or
    files), its replay (`memory`), and what it remembers of the running episodes (`carry`).

    memory: the replay of the run whose window it is, what `make_memory` made; or None.
    carry: what `act_batch` remembers of the episodes under way, a tree [B, ...]; None
        where it remembers nothing. It is kept beside the environments and handed back
        where their episodes go on, by reference: put a new tree here, write into none.
    takes_masks: whether it is shown `optix.types.Masked` observations, and so are its
        windows', where an environment tells which actions are allowed. An agent that does
        not say so is shown observations alone, as if all were.
    number_of_actions: among which it chooses, where they are numbers and it knows; then
        it is refused where an environment has more or fewer.
    """

    takes_masks: bool = False
    number_of_actions: int | None = None
    memory: Any = None
    carry: PyTree = None

    @abc.abstractmethod
    def act(self, observation: Any) -> Any:
        """Return the action for one observation, as the environment takes it.

        An agent that explores declares a keyword, `act(observation, explore=True)`;
        evaluations then pass `explore=False`, which plays deterministically. Without
        the keyword they play what `act` gives.
        """

    @abc.abstractmethod
    def learn(self, episode_data: EpisodeData) -> Mapping[str, Any]:
        """Learn from a window and return numbers about it by name.

        NaN or infinity among them tells the loop that the update failed; what is not
        known is left out. Other windows may have been played since this one was acted
        in: what is needed of the acting is in `episode_data.extras`.
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
        out (an optimizer's moments, a normaliser) is not rolled back and not resumed,
        and all lanes and seeds share it. The replay is no part of it.
        """

    @abc.abstractmethod
    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote, given the same file name, maybe elsewhere."""

    def act_batch(
        self, observations: PyTree, explore: bool = True
    ) -> tuple[PyTree, Mapping[str, PyTree]]:
        """Return the actions of a batch, and what learning will want to know of them.

        All pipelines play by it. By default `act` is asked for one row after another.

        Args:
          observations: [B, ...], the caller's own copies.
          explore: False plays deterministically.

        Returns:
          actions [B, ...], and extras {name: [B, ...]}, the same names every time while
          it explores: log_prob, value, the carry before the step, say.
        """
        act: Callable[..., Any] = self.act
        if _declares_explore(getattr(act, "__func__", act)):
            act = functools.partial(act, explore=explore)
        leaves, tree = jax.tree.flatten(observations)
        rows = [
            tree.unflatten([leaf[row] for leaf in leaves])
            for row in range(len(leaves[0]))
        ]
        return stack_steps([act(row) for row in rows]), {}

    def begin_episode(self, which: np.ndarray) -> None:  # noqa: B027
        """Forget the episodes of environments that begin anew. Nothing by default.

        Called before the first `act_batch` in fresh environments, and after each end.

        Args:
          which: [B] bool; all are True where B environments are played that were not
            before, of an evaluation say.
        """

    def state(self) -> Mapping[str, np.ndarray]:
        """Return copies of everything that learning goes on from, {name: array}.

        What `save_weights` writes, without files and many times faster: an agent that
        overrides it, and `restore` with it, is kept in memory.
        """
        raise self._missing("state")

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Become what `state` was taken of; the arrays must not be written into.

        Raises:
          ValueError: they are of another network.
        """
        raise self._missing("restore")

    def reset(self, seed: int) -> None:
        """Take new first weights, as `seed` has it.

        Where it is overridden each run begins with it, so that seeds differ in their
        first weights. Otherwise all begin with those that the agent came with.
        """
        raise self._missing("reset")

    def make_memory(self) -> Memory | None:
        """Return an empty replay for one run; None, the default, if it needs none."""
        return None

    def seed(self, seed: int) -> None:  # noqa: B027
        """Seed the agent's random numbers. Nothing by default.

        Called before every window and evaluation. With it a window is a function of
        weights, hyperparameters and seed, and lanes explore with common random numbers.
        """

    def close(self) -> None:  # noqa: B027
        """Free what the agent holds. Nothing by default."""

    def action_probs(self, observation: Any) -> np.ndarray:
        """Return the probabilities of discrete actions, [n], for ensembles."""
        raise self._missing("action_probs")

    def action_probs_batch(self, observations: PyTree) -> np.ndarray:
        """Return the probabilities of discrete actions for a batch, [B, n].

        By default `action_probs` is asked for one row after another, each with what the
        agent remembers of it.

        Args:
          observations: [B, ...].
        """
        leaves, tree = jax.tree.flatten(observations)
        carry, rows = self.carry, []
        try:
            for row in range(len(leaves[0])):
                self.carry = jax.tree.map(lambda x, row=row: x[row : row + 1], carry)
                one = tree.unflatten([leaf[row] for leaf in leaves])
                rows.append(np.asarray(self.action_probs(one)))
        finally:
            self.carry = carry
        return np.stack(rows)

    def average_weights(self, paths: Iterable[str]) -> None:
        """Take the mean of the weights saved at `paths`."""
        raise self._missing("average_weights")

    def perturb_weights(self, noise: float) -> None:
        """Multiply every weight by 1 + `noise` times a standard normal number."""
        raise self._missing("perturb_weights")

    def export_onnx(self, path: str) -> None:
        """Write the deterministic policy as an ONNX file, in place of one that is there.

        `optix.load(DIR).export_onnx` and `optix export` call it with the best weights; of
        an agent that has learned under masks with `action_mask=True`, for a file that has
        them as an input.
        """
        raise self._missing("export_onnx")

    def _missing(self, method: str) -> NotImplementedError:
        return NotImplementedError(
            f"{type(self).__name__} does not offer {method}: override it to use this"
        )


def hand_over(agent: BaseAgent, hyperparams: Mapping[str, Any]) -> None:
    """Leave an agent those of a run's hyperparameters that it has, and no episodes."""
    own = agent.get_hyperparams().params
    known = {name: float(value) for name, value in hyperparams.items() if name in own}
    agent.set_hyperparams(HyperparamSet({**own, **known}))
    agent.carry = None


class Pipeline(Protocol):
    """A source of experience for host agents.

    window_steps: environment steps of a window, of all its environments together.
    time_limit: steps after which an episode of an evaluation ends, None if unknown.
    copies: how many copies of the environments it can open, None for any number.
    lanes: how many lanes of a run it can serve, None for any number.
    """

    @property
    def window_steps(self) -> int:
        """See the class."""
        ...

    @property
    def time_limit(self) -> int | None:
        """See the class."""
        ...

    @property
    def copies(self) -> int | None:
        """See the class."""
        ...

    @property
    def lanes(self) -> int | None:
        """See the class."""
        ...

    def open(self) -> Any:
        """Return one more copy of the environments; it has a method `close`.

        Raises:
          RuntimeError: there can be no other.
        """
        ...

    def collect(self, agent: BaseAgent, envs: Any, seed: int | None) -> EpisodeData:
        """Return the next window of a copy, in which the agent explores.

        Args:
          agent: plays by `act_batch`, and is told by `begin_episode`.
          envs: a copy that `open` gave.
          seed: begins fresh episodes, the same for the same seed and actions; None goes
            on where the copy was left.
        """
        ...

    def evaluate(self, agent: BaseAgent, seed: int, episodes: int) -> float:
        """Return the score of whole episodes in environments of their own.

        Nothing is learned, and the agent plays with `explore=False`.
        """
        ...

    def close(self) -> None:
        """Free all environments."""
        ...


@functools.lru_cache(maxsize=64)
def _declares_explore(function: Callable) -> bool:
    try:
        return "explore" in inspect.signature(function).parameters
    except ValueError:  # it is compiled, and says nothing of itself
        return False
