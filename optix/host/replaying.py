"""What agents with a replay do in every framework, as DQN, SAC and TD3 have one.

The replay is the agent's `memory`, one for each run. A window is stored; then as many
updates are made as its steps ask for. Rows are seen with the moments of now.
"""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from optix import checks
from optix.host.advantages import ReturnScale
from optix.host.network_agent import Floats, NetworkAgent, Sizes
from optix.host.numbers import Numbers
from optix.host.observing import ObservationView
from optix.host.replay import Replay, Rows
from optix.host.window import EpisodeData
from optix.learners.memory import PRIORITY


class ReplayLearner(NetworkAgent):
    """An agent that learns from a replay.

    An adapter's agents derive from this and from its own; they call `with_priorities`
    before their own parts are made, and `with_replay` after.
    """

    OPTIONAL: ClassVar = PRIORITY
    NAMES: ClassVar[tuple[str, ...]]  # of the numbers of an update
    memory: Any  # the Replay of the run
    view: Any  # an `ObservationView`, of the framework's arrays

    _acted = 0  # steps of the window under way
    _scale: np.float32 | None = None  # of rewards, with those of the last window

    def with_priorities(self, prioritised: bool) -> None:
        """Have the hyperparameters of a prioritised replay, if it is one."""
        self.prioritised = checks.boolean("prioritised", prioritised)
        if self.prioritised:
            self.FLOATS = {**self.FLOATS, **self.OPTIONAL}

    def with_replay(self, view: ObservationView, normalize_rewards: bool) -> None:
        """Begin to count, and have records of what is seen."""
        self.numbers = Numbers(env_steps=0, updates=0, due=0.0)
        self.view = view
        self.records |= {"numbers": self.numbers, "observations": view}
        if checks.boolean("normalize_rewards", normalize_rewards):
            self.records["returns"] = ReturnScale()

    def make_memory(self) -> Replay:
        """Return an empty replay for one run.

        Raises:
          ValueError: it can never hold enough to begin to learn.
        """
        least, most = self.hyperparams["learning_starts"], self.hyperparams["capacity"]
        if least > most:
            raise checks.OptionError(
                f"learning_starts must be at most capacity={most}, got {least}: there "
                "would never be so many rows; make the replay larger, or begin sooner"
            )
        return Replay(self.hyperparams["capacity"], prioritised=self.prioritised)

    def seed(self, seed: int) -> None:
        """Seed what acting and learning draw; a window begins."""
        super().seed(seed)
        self._acted = 0

    @property
    def env_steps(self) -> int:
        """Steps that this policy has explored, those of the window under way too."""
        return int(self.numbers["env_steps"]) + self._acted

    @property
    def warm(self) -> bool:
        """Whether there is enough to learn from, so that acting need not be random."""
        stored = 0 if self.memory is None else len(self.memory)
        return stored >= self.hyperparams["learning_starts"]

    def act_batch(self, observations: Any, explore: bool = True) -> tuple[Any, dict]:
        """Return actions [B, ...], random until there is enough to learn from."""
        action = self._chosen(self._seen(observations), explore)
        if not explore:
            return self._decoded(action), {}
        self._acted += len(action)
        return self._decoded(action), {"began": self.take_began(len(action))}

    def learn(self, episode_data: EpisodeData) -> dict[str, float]:
        """Store a window and learn; return the means over the updates."""
        window = episode_data.batched()
        if self.memory is None:
            self.memory = self.make_memory()
        self._store(window)
        if not self.warm:
            return {}
        ratio = self.hyperparams["updates_per_step"]
        due = float(self.numbers["due"]) + ratio * window.length
        self.numbers["due"] = due - int(due)
        if int(due) < 1:
            return {}
        means = self._improve(int(due))
        return dict(zip(self.NAMES, means, strict=True))

    def drawn(self, count: int) -> tuple[Rows, np.ndarray]:
        """Return rows for `count` updates, one after the other, and scaled rewards."""
        h = self.hyperparams
        rows = self.memory.sample(
            self.rng,
            count * h["batch_size"],
            discount=h["discount"],
            n_step=h["n_step"],
            importance_exponent=self._importance() if self.prioritised else 0.0,
        )
        return rows, rows.reward if self._scale is None else rows.reward * self._scale

    def learned_of(self, rows: Rows, error: np.ndarray) -> None:
        """Give rows of a prioritised replay the priorities of their errors [N]."""
        exponent = self.hyperparams["priority_exponent"]
        self.memory.prioritise(rows.index, error.astype(np.float64) ** exponent)

    def _store(self, window: EpisodeData) -> None:
        self.memory.add(
            window.observations,
            self._encoded(window.actions),
            window.rewards,
            window.terminated,
            window.truncated,
            window.next_observations,
        )
        self.view.observe(window.observations, 2)
        scale = self.records.get("returns")
        if scale is not None:
            discount = self.hyperparams["discount"]
            scale.observe(window.rewards, window.dones, self.began(window), discount)
        self._scale = None if scale is None else scale.inverse()
        self.numbers["env_steps"] += window.length
        self._acted = 0

    def _importance(self) -> float:
        """The exponent rises to one, as the mean of what is learned must be right then."""
        h = self.hyperparams
        share = min(self.env_steps / h["importance_steps"], 1.0)
        return h["importance_exponent"] + share * (1.0 - h["importance_exponent"])

    def _encoded(self, actions: np.ndarray) -> np.ndarray:
        """Return the agent's actions [T, B, ...] of the environment's."""
        return actions

    def _decoded(self, action: np.ndarray) -> np.ndarray:
        """Return the environment's actions [B, ...] of the agent's."""
        return action

    def _seen(self, observations: Any) -> Any:
        """Return observations [B, ...] as `_chosen` takes them."""
        return self.view(observations)

    @abc.abstractmethod
    def _chosen(self, obs: Any, explore: bool) -> np.ndarray:
        """Return the agent's actions [B, ...], random ones too while it explores."""

    @abc.abstractmethod
    def _improve(self, updates: int) -> list[float]:
        """Make so many updates; return the means of the numbers of `NAMES`."""


def replay_floats(floats: Floats, updates_per_step: float) -> Floats:
    """Return hyperparameters with those of every agent that has a replay."""
    return {**floats, "updates_per_step": (updates_per_step, 0.0, 1e3)}


def replay_sizes(batch_size: int, n_step: int = 1) -> Sizes:
    """Return the whole hyperparameters of every agent that has a replay."""
    return {
        "batch_size": (batch_size, 1),
        "capacity": (100_000, 1),
        "learning_starts": (1_000, 1),
        "n_step": (n_step, 1),
    }


def epsilon(hyperparams: Mapping[str, Any], env_steps: int) -> float:
    """Return the share of random actions after so many steps; it falls linearly.

    >>> h = {"epsilon_start": 1.0, "epsilon_end": 0.0, "epsilon_steps": 100.0}
    >>> epsilon(h, 50), epsilon(h, 1000)
    (0.5, 0.0)
    """
    share = min(env_steps / hyperparams["epsilon_steps"], 1.0)
    first, last = hyperparams["epsilon_start"], hyperparams["epsilon_end"]
    return first + share * (last - first)
