"""The best policy of a run as an object that acts."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.host.masked import given_mask
from optix.host.slots import HostStore
from optix.onnx.policy import export_policy
from optix.run.folder import RunFolder, RunFolderError
from optix.run.loaded_agent import LoadedAgent
from optix.run.train import loop_to_read
from optix.types import Agent, Best, Environment, Loop, Masked, Policy


class LoadedPolicy:
    """The best policy of a run: NumPy in, NumPy out, without a loop.

    A recurrent policy remembers what it has acted on until `reset`.

    agent: the `Agent`, for JAX code.
    policy: its `Policy`.
    hyperparams: {name: [] float32} that it was trained with.
    env: the `Environment` it was trained in.
    score: how it was scored.
    name: of the algorithm, None where the run does not say.
    origin: where the policy comes from, in words.
    """

    agent: Agent
    policy: Policy
    hyperparams: dict[str, Any]
    env: Environment
    score: float
    name: str | None
    origin: str

    def __init__(
        self,
        agent: Agent,
        env: Environment,
        best: Best,
        seed: int = 0,
        name: str | None = None,
        origin: str = "the best one",
    ):
        """See the class; `seed` is of actions that are drawn."""
        checks.record("agent", agent, Agent, "take it from Learner.agent")
        checks.record("env", env, Environment, "take it from Learner.env")
        checks.positive_int("seed", seed, minimum=0)
        self.agent, self.env, self.policy = agent, env, best.policy
        self.hyperparams, self.score = dict(best.hyperparams), float(best.score)
        self.name, self.origin = name, origin
        self._key, self._turn = jax.random.key(seed), 0
        self._carry: Any = None
        self._rows: int | None = None  # of the carry

        def act(carry, obs, key, explore):
            carry, action, _ = agent.act(
                best.policy, carry, obs, best.hyperparams, key, explore
            )
            if env.decode is not None:
                action = jax.vmap(env.decode)(action)
            return carry, action

        self._act = jax.jit(act, static_argnames="explore")

    def act(
        self, observation: Any, explore: bool = False, *, action_mask: Any = None
    ) -> np.ndarray:
        """Return the action of one observation, or those of a batch [B, ...].

        Actions are what the environment itself takes: within its bounds, not in [-1, 1].

        Args:
            observation: of the environment's shape, or with one axis before it. Of an
                environment whose observations are numbers of states, one-hot; an image
                with its channels last; of several parts these, or all in one vector.
            explore: draw the action as in training, not the mode.
            action_mask: [n] or [B, n] bool, or 0 and 1 as `info["action_mask"]` of
                Gymnasium's, the actions that are allowed, those of several choices one
                after another: of an environment that tells them, and of no other.

        Raises:
            ValueError: another shape; no mask where there must be one; or, of a policy
                that remembers, another number of rows than before without a `reset`.
        """
        checks.boolean("explore", explore)
        parts = self.env.parts
        if parts is not None and isinstance(observation, Mapping | tuple):
            observation = parts.join(observation)
        obs = self._numbers(observation).astype(self.env.observation_dtype)
        shape = self.env.observation_shape
        single = obs.shape == shape
        if single:
            obs = obs[None]
        if obs.ndim != len(shape) + 1 or obs.shape[1:] != shape or not len(obs):
            raise checks.OptionError(
                f"an observation of {self.env.name} must have the shape {shape}, or "
                f"(B, {', '.join(map(str, shape))}) for a batch, got "
                f"{np.shape(observation)}"
            )
        if self._rows != len(obs):
            if self._rows is not None and jax.tree.leaves(self._carry):
                raise checks.OptionError(
                    f"the policy remembers {self._rows} rows, got {len(obs)}; call "
                    "reset() where other episodes begin"
                )
            self._carry, self._rows = self.agent.initial_carry(len(obs)), len(obs)
        obs = self._masked(obs, action_mask, single)
        key = jax.random.fold_in(self._key, self._turn)
        self._turn += 1
        self._carry, action = self._act(self._carry, obs, key, explore=explore)
        actions = np.asarray(action)
        return actions[0] if single else actions

    def _numbers(self, observation: Any) -> np.ndarray:
        """Return an array of real numbers, or raise ValueError."""
        try:
            obs = np.asarray(observation)
        except ValueError:  # rows of different lengths
            obs = np.asarray(None)
        kinds = np.bool_, np.integer, np.floating
        if not any(jax.dtypes.issubdtype(obs.dtype, kind) for kind in kinds):
            raise checks.OptionError(
                f"an observation of {self.env.name} must be an array of real numbers, got "
                f"{observation!r}"
            )
        return obs

    def _masked(self, obs: np.ndarray, mask: Any, single: bool) -> Any:
        """Return the batch as the agent takes it."""
        if self.env.masked != (mask is not None):
            rule = "must be given" if self.env.masked else "must be None"
            raise checks.OptionError(
                f"action_mask {rule}: {self.env.name} "
                f"{'tells' if self.env.masked else 'does not tell'} which actions are "
                f"allowed, got {mask!r}"
            )
        if mask is None:
            return obs
        sizes = self.env.action_space.sizes  # type: ignore  # masks are of numbers
        mask = given_mask(mask, () if single else obs.shape[:1], sizes)
        return Masked(obs, mask[None] if single else mask)

    def reset(self, which: Any = None) -> None:
        """Forget what was acted on: where episodes begin.

        Args:
            which: [B] bool, rows of the batch; None forgets all and lets the next batch
                have another size.

        Raises:
            ValueError: `which` of another length than the batch.
        """
        if which is None:
            self._carry = self._rows = None
            return
        which = np.asarray(which, bool)
        if self._rows is None or which.shape != (self._rows,):
            raise checks.OptionError(
                f"which must be [B] for the B={self._rows} rows acted on, got a shape of "
                f"{which.shape}"
            )
        fresh = self.agent.initial_carry(self._rows)
        self._carry = jax.tree.map(
            lambda new, old: np.where(
                which.reshape(-1, *[1] * (np.ndim(old) - 1)), new, old
            ),
            fresh,
            self._carry,
        )

    def export_onnx(self, path: str | os.PathLike) -> None:
        """Write the policy as an ONNX file, `optix.onnx.export_policy` says how.

        Raises:
            ValueError: a path that can not be written to, or an operation of the network
                that has no ONNX form.
            ImportError: the package onnx is not installed.
        """
        export_policy(
            self.agent,
            self.policy,
            path,
            env=self.env,
            hyperparams=self.hyperparams,
            about={"agent": self.name, "score": f"{self.score:.6g}"},
        )

    def __repr__(self) -> str:
        """Say what it plays and how well."""
        kind = type(self.env.action_space).__name__.lower()
        score = "" if np.isnan(self.score) else f", score {self.score:.5g}"
        return f"LoadedPolicy({self.env.name}, {kind} actions{score}; {self.origin})"


def load(
    directory: str | os.PathLike, *, loop: Loop | None = None, seed: int = 0
) -> LoadedPolicy | LoadedAgent:
    """Return the best policy of a run, which may still be under way.

    Of an agent outside JAX it is a `LoadedAgent`, which acts in the same way.

    Args:
        directory: of the run.
        loop: the loop of the run, needed only if `train` was given one.
        seed: of the actions that are drawn where `act` explores.

    Raises:
        RunFolderError: no run there, or one without a finite score yet.
        CheckpointError: no intact policy, or one of another configuration.

    Example:
        >>> import tempfile
        >>> from optix.run.train import train
        >>> small = dict(num_envs=4, num_steps=8, max_rounds=1, progress=False)
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     _ = train("CartPole-v1", directory=f"{parent}/run", **small)
        ...     player = load(f"{parent}/run")
        >>> player.act(np.zeros(4)).shape, player.act(np.zeros((3, 4))).shape
        ((), (3,))
    """
    folder = RunFolder.open(directory, write=False)
    loop = loop_to_read(folder, loop)
    store, agent, env = loop.learner.host, loop.learner.agent, loop.learner.env
    if isinstance(store, HostStore):
        best = _best(folder, loop)
        host_agent = store.agent_of(best.policy)
        host_agent.seed(seed)
        masked = store.masked
        if masked is None and host_agent.takes_masks:  # a run of older files
            masked = getattr(store.pipeline, "masked", None)
        return LoadedAgent(host_agent, best.hyperparams, best.score, masked=masked)
    if agent is None or env is None:
        raise RunFolderError(
            f"{folder.path} holds a learner without an agent or an environment; play it "
            "with optix.evaluate"
        )
    recipe = folder.config["recipe"] or {}
    return LoadedPolicy(agent, env, _best(folder, loop), seed, recipe.get("agent"))


def _best(folder: RunFolder, loop: Loop) -> Best:
    target = jax.eval_shape(lambda key: loop.init(key).best, jax.random.key(0))
    return folder.load_best(target, loop)[0]
