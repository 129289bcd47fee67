"""An agent on the device with the methods of a host agent."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.host.advantages import discounted_returns
from optix.host.agent import HyperparamSet
from optix.host.jax_learning import (
    Outcome,
    learn_replay,
    learn_window,
    replay_options,
    trajectory,
)
from optix.host.jax_programs import OFF_POLICY, ON_POLICY, learner_kind, programs
from optix.host.jax_view import plain, view
from optix.host.jax_weights import PolicyAgent
from optix.host.replay import Replay
from optix.host.told import not_finite
from optix.host.window import EpisodeData
from optix.learners.memory import importance
from optix.onnx.policy import export_policy
from optix.trees import select_rows
from optix.types import Agent, PyTree, Trajectory

_LARGEST = float(np.finfo(np.float32).max)


def as_base_agent(
    agent: Agent,
    env: Any = None,
    *,
    seed: int = 0,
    learner: str | None = None,
    **options: Any,
) -> "JaxAgent":
    """Return a JAX agent as a `BaseAgent`: six methods, for code outside JAX.

    It acts, learns and is saved alone and in ensembles. In the loop,
    `host(agent, pipeline)` binds the JAX agent itself to the pipeline's environments, and
    there it keeps to action masks; its own `act` is shown observations alone, and none.

    Args:
      agent: on or off policy, with a carry or without.
      env: whose observations it is shown and whose actions it gives: an environment of
        Gymnasium, a registered name or a function that makes one. None where these are
        the agent's own: arrays as the agent sees them, a box of actions in [-1, 1].
      seed: of the first weights.
      learner: "on_policy" or "off_policy"; None finds out what `agent.learn` takes.
      **options: of an agent with a replay, as of `off_policy`: batch_size, capacity,
        learning_starts, n_step, prioritised (with its floats), collect_steps,
        gradient_steps (by default an update for each environment step).

    Raises:
      ValueError: something else than an agent, an unknown option, spaces that no agent
        can use or that this one is not for.

    >>> from optix.agents.ppo import ppo
    >>> from optix.networks.mlp import actor_critic
    >>> from optix.types import Discrete
    >>> spaces = (4,), Discrete(2)
    >>> agent = as_base_agent(ppo(actor_critic(*spaces), *spaces), "CartPole-v1")
    >>> agent.act(np.zeros(4)) in (0, 1), agent.action_probs(np.zeros(4)).shape
    (True, (2,))
    """
    return JaxAgent(agent, env, seed=seed, learner=learner, **options)


class JaxAgent(PolicyAgent):
    """See `as_base_agent`.

    It computes with JAX, so no callback of a compiled program may call it.

    agent: the `Agent`.
    policy: its `Policy` now.
    learner: "on_policy" or "off_policy", None before it has seen an observation.
    hyperparams: {name: float} now.
    options: of its replay.
    """

    def __init__(
        self,
        agent: Agent,
        env: Any = None,
        *,
        seed: int = 0,
        learner: str | None = None,
        **options: Any,
    ):
        """See `as_base_agent`."""
        checks.record("agent", agent, Agent, "make one by optix.make_agent(...)")
        checks.positive_int("seed", seed, 0, 2**32 - 1)
        if learner is not None:
            checks.known_names("learner", [learner], (ON_POLICY, OFF_POLICY))
        self.agent, self.learner = agent, learner
        self.options, floats = replay_options(options)
        self._has_options = bool(options)
        self._view = plain() if env is None else view(env)
        self._programs = programs(agent, self._view)
        self.hyperparams = {k: float(v) for k, v in agent.hyperparams.items()} | floats
        self._shape: tuple[int, ...] | None = None  # of a raw observation
        self._seen: Any = None  # shape and dtype of it, to the agent
        self._discrete = False
        if self._view.shape is not None and self._view.dtype is not None:
            self._settle(self._view.shape, self._view.dtype)
        super().__init__(jax.jit(agent.init), seed)

    def act(self, observation: Any, explore: bool = True) -> Any:
        """Return the action for one observation, as the environment takes it."""
        return self.act_batch(self._row(observation), explore)[0][0]

    def act_batch(
        self, observations: PyTree, explore: bool = True
    ) -> tuple[np.ndarray, dict[str, PyTree]]:
        """Return actions [B, ...], and while exploring what `learn` needs of them.

        Of a box they are random until a replay holds `learning_starts` steps.
        """
        raw, explore = self._raw(observations), bool(explore)
        carry, began = self._carried(len(raw))
        random = self.learner == OFF_POLICY and not self._warm
        given = self.policy, carry, raw, self.hyperparams, self._next_key(), random
        after, action, extras = self._programs.act(*given, explore=explore)
        self.carry = {"began": np.zeros(len(raw), bool), "memory": after}
        if not explore:
            return np.asarray(action), {}
        return np.asarray(action), {**jax.tree.map(np.asarray, extras), "began": began}

    def begin_episode(self, which: np.ndarray) -> None:
        """Forget the episodes of environments that begin anew, [B] bool."""
        which = np.array(which, bool)
        carry, began = self._carried(len(which))
        fresh = self.agent.initial_carry(len(which))
        carry = select_rows(jnp.asarray(which), fresh, carry)
        self.carry = {"began": began | which, "memory": carry}

    def learn(self, episode_data: EpisodeData) -> dict[str, float]:
        """Learn from a window; return numbers about it.

        On policy minibatches must divide the samples: as few of the last steps as
        possible are left out. Each size of a window has a program of its own, compiled
        when it comes for the first time.

        Raises:
          ValueError: a window that is not finite, too short or of other observations.
        """
        window = episode_data.batched()
        if (wrong := not_finite(window)) is not None:
            raise checks.OptionError(f"a window must be finite, but its {wrong}")
        first = jax.tree.map(lambda x: x[0], window.observations)
        self._raw(first)  # refuses those of another environment
        self.untouched = False
        batch = trajectory(window, self._view, self._discounted(window))
        if self.learner == OFF_POLICY:
            outcome = self._learn_replay(batch._replace(extras={}), batch)
        else:
            outcome = learn_window(
                self.agent,
                self._programs,
                self.policy,
                batch,
                self.hyperparams,
                self._next_key(),
            )
        self.policy, numbers, finite = outcome
        return numbers if finite else {**numbers, "update": float("nan")}

    def get_hyperparams(self) -> HyperparamSet:
        """Return the current hyperparameters."""
        return HyperparamSet(dict(self.hyperparams))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Use these from now on; those that are not named stay as they are.

        Raises:
          ValueError: an unknown name, or a value that is no finite number.
        """
        given = hyperparams.params
        checks.known_names("hyperparameter of the agent", given, self.hyperparams)
        for name, value in given.items():
            self.hyperparams[name] = checks.within(name, value, -_LARGEST, _LARGEST)

    def action_probs(self, observation: Any) -> np.ndarray:
        """Return the probabilities of discrete actions, [n], with the memory of now.

        Of an agent of action values it is one for the best. The step that this asks
        about is not remembered.

        Raises:
          NotImplementedError: actions are not discrete, or the agent has no `outputs`.
        """
        return self.action_probs_batch(self._row(observation))[0]

    def action_probs_batch(self, observations: PyTree) -> np.ndarray:
        """Return the same for a batch, [B, n]."""
        raw = self._raw(observations)
        if self.agent.outputs is None or not self._discrete:
            raise self._missing("action_probs")
        carry, _ = self._carried(len(raw))
        rows = np.asarray(self._programs.outputs(self.policy, carry, raw))
        if self.learner == OFF_POLICY:
            return np.eye(rows.shape[-1], dtype=np.float32)[rows.argmax(-1)]
        odds = np.exp(rows - rows.max(-1, keepdims=True))
        return odds / odds.sum(-1, keepdims=True)

    def export_onnx(self, path: str) -> None:
        """Write the deterministic policy as an ONNX file, see `optix.onnx.export_policy`.

        The "observation" is one as the agent sees it, an image with its channels last and
        the number of a state one-hot; the "action" is as the environment takes it.

        Raises:
          ValueError: no observation is known yet, a path that can not be written to, or
            an operation of the network that has no ONNX form.
          ImportError: the package onnx is not installed.
        """
        if self._seen is None:
            raise checks.OptionError(
                "the shape of an observation must be known to export; give as_base_agent "
                "its env, or act once"
            )

        def act(*given):
            carry, action, extras = self.agent.act(*given)
            return carry, jax.vmap(self._view.decode)(action), extras

        export_policy(
            self.agent._replace(act=act),
            self.policy,
            path,
            observation_shape=self._seen.shape[1:],
            observation_dtype=self._seen.dtype,
            hyperparams={
                name: self.hyperparams[name] for name in self.agent.hyperparams
            },
        )

    def make_memory(self) -> Replay | None:
        """Return an empty replay for one run; None on policy."""
        if self.learner == ON_POLICY:
            return None
        return Replay(self.options.capacity, prioritised=self.options.prioritised)

    def _row(self, observation: Any) -> PyTree:
        """Return a batch of one observation."""
        if self._view.join is None:
            return np.asarray(observation)[None]
        return jax.tree.map(lambda x: np.asarray(x)[None], observation)

    def _raw(self, observations: Any) -> np.ndarray:
        """Return observations [B, ...] for the device; the first ones say their shape."""
        raw = self._view.raw(observations)
        if self._shape is None:
            self._settle(raw.shape[1:], raw.dtype)
        if raw.shape[1:] != self._shape:
            raise checks.OptionError(
                f"each observation must have the shape {self._shape}, got {raw.shape[1:]}"
            )
        return raw

    def _settle(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Say what one raw observation is; find out how the agent learns."""
        one = jax.ShapeDtypeStruct((1, *shape), dtype)
        seen = jax.eval_shape(self._view.encode, one)
        found, self._discrete = learner_kind(self.agent, seen.shape[1:], seen.dtype)
        self.learner = self.learner or found
        if self._has_options and self.learner == ON_POLICY:
            raise checks.OptionError(
                "options of as_base_agent are for agents with a replay, but this one "
                f"learns from windows, got {self.options}; leave them out"
            )
        self._shape, self._seen = shape, seen

    def _carried(self, count: int) -> tuple[PyTree, np.ndarray]:
        """Return what is remembered of so many episodes, and which of them begin."""
        carry = self.carry
        if carry is None or len(carry["began"]) != count:
            return self.agent.initial_carry(count), np.ones(count, bool)
        return carry["memory"], carry["began"]

    @property
    def _warm(self) -> bool:
        """Whether there is enough to learn from, so that acting need not be random."""
        held = 0 if self.memory is None else len(self.memory)
        return held >= min(self.options.learning_starts, self.options.capacity)

    def _discounted(self, window: EpisodeData) -> np.ndarray:
        """Return the discounted returns [T, B] up to each step, over windows."""
        began, running = window.extras.get("began"), self._numbers["running"]
        if running.shape != (window.num_envs,):
            running = np.zeros(window.num_envs)
        if began is not None:
            running = np.where(began[0], 0.0, running)
        sums, self._numbers["running"] = discounted_returns(
            window.rewards, window.dones, running, self.hyperparams["discount"]
        )
        return sums

    def _learn_replay(self, rows: Trajectory, window: Trajectory) -> Outcome:
        """Store a window, and learn from the replay once it holds enough."""
        if self.memory is None:
            self.memory = self.make_memory()
        self.memory.add(*rows[:-1])
        policy = self._programs.observe(self.policy, window)
        steps, num_envs = window.reward.shape
        numbers, options = self._numbers, self.options
        numbers["env_steps"] = numbers["env_steps"] + steps * num_envs
        if not self._warm:
            return Outcome(policy, {}, True)
        due = steps / options.collect_steps * options.updates(num_envs) + numbers["due"]
        numbers["due"] = np.array(due % 1)
        exponent = 0.0
        if options.prioritised:
            env_steps = jnp.asarray(numbers["env_steps"])
            exponent = float(importance(env_steps, self.hyperparams))
        return learn_replay(
            self._programs,
            policy,
            self.memory,
            int(due),
            options,
            self.hyperparams,
            exponent,
            self._rng,
            self._next_key,
        )
