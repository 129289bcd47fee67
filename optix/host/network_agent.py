"""What agents of networks have, whatever framework the networks are of.

An adapter says how networks are read, written and drawn anew; hyperparameters, episodes
and weight files are the same for all.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from optix import checks
from optix.host.agent import BaseAgent, HyperparamSet, named
from optix.host.masked import one_row
from optix.host.numbers import Numbers
from optix.host.weights import averaged
from optix.host.window import EpisodeData
from optix.types import PyTree

Floats = Mapping[str, tuple[float, float, float]]
Sizes = Mapping[str, tuple[int, int]]
Hyperparams = HyperparamSet | Mapping[str, Any] | None


class NetworkAgent(BaseAgent):
    """An agent of networks and optimizers, of which an adapter makes its own.

    What the networks hold, and the `records`, are its state.

    FLOATS: hyperparameters {name: (default, low, high)} that the loop may tune.
    SIZES: whole ones, {name: (default, minimum)}.
    OPTIONAL: floats that some agents of the class have and others have not.
    """

    FLOATS: Floats = {}
    SIZES: Sizes = {}
    OPTIONAL: ClassVar[Floats] = {}
    # optimizers by name; what they hold stays when weights are averaged
    optimizers: Mapping[str, Any]

    def __init__(self, hyperparams: Hyperparams):
        """Take the hyperparameters; `seed` is the adapter's to call."""
        self.learned_from = Numbers(windows=0)
        # {name: has state() and restore(state)}
        self.records: dict[str, Any] = {"learned": self.learned_from}
        self.hyperparams: dict[str, Any] = {
            name: row[0] for name, row in {**self.FLOATS, **self.SIZES}.items()
        }
        self.given = named(hyperparams)
        self.set_hyperparams(HyperparamSet(self.given))
        self.rng = np.random.default_rng(0)
        self._first_rate = 0.0
        self._own_weights = False  # made by `for_env`, so that `reset` may make others
        self._first: dict[str, dict[str, np.ndarray]] | None = None

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
        self.rng = np.random.default_rng(int(seed))

    def act(
        self, observation: Any, explore: bool = True, *, action_mask: Any = None
    ) -> Any:
        """Return the action for one observation, as the environment takes it.

        Of an agent that `takes_masks` one that is allowed, if `action_mask` [n] bool is
        given, or the observation is an `optix.types.Masked`.
        """
        return self.act_batch(one_row(observation, action_mask), explore)[0][0]

    def action_probs(self, observation: Any) -> np.ndarray:
        """Return the probabilities of discrete actions, [n], with the memory of now.

        Of an agent of action values it is one for the best. The step that this asks
        about is not remembered. Those of a `Masked` observation are under its mask.

        Raises:
          NotImplementedError: actions are not discrete.
        """
        return self.action_probs_batch(one_row(observation))[0]

    def action_probs_batch(self, observations: PyTree) -> np.ndarray:
        """Return the same for a batch, [B, n]."""
        raise self._missing("action_probs")

    def check_masked(self, action_mask: bool) -> bool:
        """Return a flag of `export_onnx`, or raise ValueError where there is no mask."""
        if checks.boolean("action_mask", action_mask) and not self.takes_masks:
            raise checks.OptionError(
                f"action_mask must be False for {type(self).__name__}, which does not "
                "take masks, got True"
            )
        return action_mask

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

    def began(self, window: EpisodeData) -> np.ndarray:
        """Return which environments began an episode with the first step, [B] bool."""
        began = window.extras.get("began")
        return np.zeros(window.num_envs, bool) if began is None else began[0]

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of weights, moments of the optimizers, and running numbers."""
        arrays = self._arrays()
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
        self._put(rest)
        for name, arrays in own.items():
            self.records[name].restore(arrays)

    def reset(self, seed: int) -> None:
        """Take new first weights, where `for_env` made the networks.

        Networks of one's own, and weights that have learned or were loaded, averaged or
        perturbed, stay what they are: all seeds begin with them.
        """
        if not self._own_weights or self.learned_from["windows"] > 0:
            return
        self._draw_anew(seed)
        for name, first in (self._first or {}).items():
            self.records[name].restore(first)
        self._after_reset()

    def save_weights(self, path: str) -> None:
        """Write the whole state as a file of arrays."""
        self._write(path, self.state())

    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote; nothing in the file is executed.

        Raises:
          ValueError: another kind of file, or one of another network.
        """
        self.restore(self._read(path))
        self._own_weights = False

    def average_weights(self, paths: Iterable[str]) -> None:
        """Take the mean of the weights saved at `paths`; whole numbers of the first.

        Normalisers and targets are averaged too, optimizers stay as they are.

        Raises:
          ValueError: no paths, or weights of another network.
        """
        states = [self._read(path) for path in paths]
        if not states:
            raise checks.OptionError("paths must name at least one file, got none")
        present = self.state()
        kept = tuple(f"{name}." for name in self.optimizers)
        for one in states:
            self.restore(one)  # refuses what is of another network
        mean = averaged(present, states, kept)
        self.restore(mean)
        self._own_weights = False

    def perturb_weights(self, noise: float) -> None:
        """Multiply every weight that is learned by 1 + `noise` times a normal number."""
        self._perturb(checks.within("noise", noise, 0.0, 1e3))
        self._own_weights = False

    def made_for_env(self) -> None:
        """Say that the weights are nobody's yet: each run may begin with its own."""
        self._own_weights = True
        self._first = {name: record.state() for name, record in self.records.items()}

    def take_rate(self, rate: float) -> None:
        """Let the rate of the first optimizer be the default of `learning_rate`."""
        if self._first_rate == 0.0:
            self._first_rate = rate or 1.0
            if "learning_rate" not in self.given:
                self.set_hyperparams(HyperparamSet({"learning_rate": rate}))

    @abc.abstractmethod
    def _arrays(self) -> dict[str, np.ndarray]:
        """Return copies of what networks and optimizers hold."""

    @abc.abstractmethod
    def _put(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put back what `_arrays` returned, or raise ValueError and change nothing."""

    @abc.abstractmethod
    def _write(self, path: str, state: Mapping[str, np.ndarray]) -> None:
        """Write arrays as a file."""

    @abc.abstractmethod
    def _read(self, path: str) -> dict[str, np.ndarray]:
        """Return the arrays of a file that `_write` wrote."""

    @abc.abstractmethod
    def _draw_anew(self, seed: int) -> None:
        """Draw first weights, and let optimizers be as before their first step."""

    @abc.abstractmethod
    def _perturb(self, noise: float) -> None:
        """Multiply what is learned by 1 + `noise` times normal numbers."""

    def _after_reset(self) -> None:  # noqa: B027
        """Let what follows from the weights follow; nothing by default."""


def check_two(modules: Iterable[Any]) -> None:
    """Raise ValueError where a network is there twice."""
    modules = list(modules)
    if len({id(module) for module in modules}) < len(modules):
        raise checks.OptionError(
            "critic1 and critic2 must be two networks, got one of them twice"
        )
