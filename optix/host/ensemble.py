"""Several host agents that act as one, of whatever frameworks they are."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.host.agent import BaseAgent, HyperparamSet
from optix.host.masked import allowed_odds, with_mask
from optix.host.window import EpisodeData
from optix.math.masks import mask_of, observed
from optix.population.weighting import normalised
from optix.types import PyTree


class EnsembleAgent(BaseAgent):
    """The weighted mean of agents: of probabilities (discrete), or of actions (a box).

    Members may be of JAX (`as_base_agent`), Torch, TensorFlow or your own; those of
    discrete actions need `action_probs`. Exploring it draws from the mean distribution,
    or takes the mean of what the members draw; otherwise it plays the most probable
    action, or the mean of theirs. It keeps to action masks, also where members are that
    do not read them.

    It plays and does not learn: what one member would have done is not what the ensemble
    did, so that none could be taught by its windows but off policy. Train the members,
    and score the ensemble by `pipeline.evaluate(ensemble, seed, episodes)`.

    Args:
      agents: at least one; they act in the same spaces.
      weights: one for each, not negative; None weighs all alike. They are normalised.

    Attributes:
      agents: the members.
      weights: [members] float64, their sum is 1.

    Raises:
      TypeError: a member that is no `BaseAgent`.
      ValueError: no members, weights of another number, negative or all zero.

    >>> class Still(BaseAgent):
    ...     def __init__(self, action): self.action = action
    ...     def act(self, observation): return np.full(1, self.action)
    ...     def learn(self, episode_data): return {}
    ...     def get_hyperparams(self): return HyperparamSet({})
    ...     def set_hyperparams(self, hyperparams): pass
    ...     def save_weights(self, path): pass
    ...     def load_weights(self, path): pass
    >>> EnsembleAgent([Still(0.0), Still(4.0)], weights=[3, 1]).act(np.zeros(2))
    array([1.])
    """

    takes_masks = True

    def __init__(
        self, agents: Sequence[BaseAgent], weights: Sequence[float] | None = None
    ):
        """See the class."""
        self.agents = list(agents)
        if not self.agents:
            raise checks.OptionError("agents must be at least one, got none")
        for agent in self.agents:
            if not isinstance(agent, BaseAgent):
                raise TypeError(
                    "agents must be BaseAgents, got a "
                    f"{type(agent).__name__}; as_base_agent(...) makes one of a JAX agent"
                )
        self.weights = normalised(weights, len(self.agents))
        self.seed(0)

    def act(
        self, observation: Any, explore: bool = True, *, action_mask: Any = None
    ) -> Any:
        """Return the action for one observation, as the environment takes it.

        It is allowed, if `action_mask` [n] bool is given, or the observation is an
        `optix.types.Masked`.
        """
        observation = with_mask(observation, action_mask)
        rows = jax.tree.map(lambda x: np.asarray(x)[None], observation)
        actions, _ = self.act_batch(rows, explore)
        return jax.tree.map(lambda x: x[0], actions)

    def act_batch(
        self, observations: PyTree, explore: bool = True
    ) -> tuple[np.ndarray, dict[str, PyTree]]:
        """Return actions [B, ...] that all members have a part in; no extras."""
        carries = self.carry or (None,) * len(self.agents)
        probs, actions, after = [], [], []
        for agent, carry in zip(self.agents, carries, strict=True):
            agent.carry = carry
            shown = _shown(agent, observations)
            probs.append(_probs(agent, shown))
            given = jax.tree.map(np.array, shown)
            actions.append(np.asarray(agent.act_batch(given, explore=explore)[0]))
            after.append(agent.carry)
        self.carry = tuple(after)
        if np.issubdtype(actions[0].dtype, np.integer):
            odds = self._mean(probs, observations)
            return self._drawn(odds, explore), {}
        mean = np.tensordot(self.weights, _together(self.agents, actions), 1)
        return mean.astype(actions[0].dtype), {}

    def begin_episode(self, which: np.ndarray) -> None:
        """Let the members forget the episodes of environments that begin anew."""
        carries = self.carry or (None,) * len(self.agents)
        for agent, carry in zip(self.agents, carries, strict=True):
            agent.carry = carry
            agent.begin_episode(which)
        self.carry = tuple(agent.carry for agent in self.agents)

    def learn(self, episode_data: EpisodeData) -> Mapping[str, Any]:
        """Raise NotImplementedError: an ensemble plays; its members learn."""
        raise NotImplementedError(
            "an EnsembleAgent plays and does not learn; train each of its agents, with a "
            "pipeline of its own"
        )

    def get_hyperparams(self) -> HyperparamSet:
        """Return the weights, of which the loop tunes none."""
        return HyperparamSet({"weights": tuple(self.weights.tolist())})

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Take other weights.

        Raises:
          ValueError: another name, or weights that are none.
        """
        checks.known_names(
            "hyperparameter of an ensemble", hyperparams.params, ["weights"]
        )
        if "weights" in hyperparams.params:
            given = hyperparams.params["weights"]
            self.weights = normalised(given, len(self.agents))

    def action_probs(self, observation: Any) -> np.ndarray:
        """Return the mean probabilities of discrete actions, [n]."""
        rows = [
            np.asarray(agent.action_probs(_shown(agent, observation)))
            for agent in self.agents
        ]
        odds = self._mean(rows, observation)
        return odds / odds.sum(-1, keepdims=True)

    def seed(self, seed: int) -> None:
        """Seed what is drawn here and by each member; members draw apart."""
        self._rng = np.random.default_rng(seed)
        words = np.random.SeedSequence(seed).generate_state(len(self.agents))
        for agent, word in zip(self.agents, words.tolist(), strict=True):
            agent.seed(word)

    def save_weights(self, path: str) -> None:
        """Write a folder: each member's own files, and the weights of the members."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        for number, agent in enumerate(self.agents):
            agent.save_weights(str(folder / f"member-{number}"))
        record = {
            "agents": [type(agent).__name__ for agent in self.agents],
            "weights": self.weights.tolist(),
        }
        (folder / "ensemble.json").write_text(json.dumps(record))

    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote, into members of the same kinds in order.

        Raises:
          ValueError: it is of other members.
          FileNotFoundError: there is none.
        """
        folder = Path(path)
        file = folder / "ensemble.json"
        if not file.is_file():
            raise FileNotFoundError(
                f"there is no ensemble at {folder}; save_weights first"
            )
        record = json.loads(file.read_text())
        own = [type(agent).__name__ for agent in self.agents]
        if record["agents"] != own:
            raise checks.OptionError(
                f"agents must be those of the saved ensemble, {record['agents']}, got "
                f"{own}"
            )
        for number, agent in enumerate(self.agents):
            agent.load_weights(str(folder / f"member-{number}"))
        self.weights = normalised(record["weights"], len(own))

    def close(self) -> None:
        """Free what the members hold."""
        for agent in self.agents:
            agent.close()

    def _mean(self, probs: Sequence, observations: PyTree) -> np.ndarray:
        """Return the mean of the members' probabilities, of what is allowed."""
        mean = np.tensordot(self.weights, _together(self.agents, probs), 1)
        mask = mask_of(observations)
        return mean if mask is None else allowed_odds(mean, mask)

    def _drawn(self, odds: np.ndarray, explore: bool) -> np.ndarray:
        """Return actions [B] of odds [B, n]."""
        if not explore:
            return odds.argmax(-1)
        total = odds.cumsum(-1)
        point = self._rng.random(len(odds)) * total[:, -1]
        return (total > point[:, None]).argmax(-1)


def _shown(agent: BaseAgent, observations: PyTree) -> PyTree:
    return observations if agent.takes_masks else observed(observations)


def _probs(agent: BaseAgent, observations: PyTree) -> np.ndarray | None:
    """Return [B, n] with what the agent remembers of each row; None of a box."""
    try:
        return np.asarray(agent.action_probs_batch(observations))
    except NotImplementedError:
        return None


def _together(agents: Sequence[BaseAgent], parts: Sequence) -> np.ndarray:
    """Return [members, ...], or raise ValueError where they can not be averaged."""
    names = [type(agent).__name__ for agent in agents]
    missing = [name for name, part in zip(names, parts, strict=True) if part is None]
    if missing:
        raise checks.OptionError(
            "agents must all offer action_probs where actions are discrete, but "
            f"{missing[0]} does not"
        )
    shapes = [np.shape(part) for part in parts]
    if len(set(shapes)) > 1:
        raise checks.OptionError(
            "agents must act in the same space, got "
            f"{list(zip(names, shapes, strict=True))}"
        )
    return np.stack(parts)
