"""Tiny learners whose course is known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix.trees import gather_lanes
from optix.types import Learner, LearnerState, Policy, Report


def report(finite=True, env_steps=10, **metrics):
    return Report(jnp.int32(env_steps), jnp.asarray(finite), metrics)


def target_learner(scale=1.0, noise=0.0, fails_above=jnp.inf):
    """The score of a window's rate is `scale * (1 - (rate - 0.8)**2)` plus noise.

    Above a rate it is not a number.
    """

    def init(key):
        del key
        return LearnerState(Policy({"rate": jnp.float32(0)}), jnp.int32(0))

    def step(state, hyperparams, key, active):
        del key, active
        policy = state.policy._replace(params={"rate": hyperparams["rate"]})
        return LearnerState(policy, state.rollout + 1, state.memory), report()

    def evaluate(policy, hyperparams, key):
        rate = policy.params["rate"]
        score = scale * (1 - (rate - 0.8) ** 2 + noise * jax.random.normal(key))
        return jnp.where(rate > fails_above, jnp.nan, score)

    return Learner(init, lambda p, k: jnp.int32(0), step, evaluate, {"rate": 0.5})


def scripted_learner(score_of_window):
    """A learner whose policy is a count of its windows, scored by a function of it."""

    def init(key):
        del key
        return LearnerState(Policy({"windows": jnp.float32(0)}), jnp.int32(0))

    def step(state, hyperparams, key, active):
        del hyperparams, key, active
        windows = state.policy.params["windows"] + 1
        policy = state.policy._replace(params={"windows": windows})
        return LearnerState(policy, state.rollout + 1, state.memory), report()

    def evaluate(policy, hyperparams, key):
        return score_of_window(policy.params["windows"], key)

    return Learner(init, lambda p, k: jnp.int32(0), step, evaluate, {"rate": 1.0})


class Replay(NamedTuple):
    rows: jax.Array  # [N, 16] float32
    cursor: jax.Array  # [] int32


def replay_learner(size, lanes=1):
    """Linear regression by SGD on rows drawn from a replay that the lanes share."""
    # NumPy: the same bits however the process compiles
    truth = np.linspace(-1.0, 1.0, 15, dtype=np.float32)

    def init(key):
        del key
        memory = Replay(jnp.zeros((size, 16)), jnp.int32(0))
        return LearnerState(Policy({"weights": jnp.zeros(15)}), jnp.int32(0), memory)

    def step(state, hyperparams, key, active):
        data_key, sample_key = jax.random.split(key)
        x = jax.random.normal(data_key, (10, 15))
        new = gather_lanes(jnp.concatenate([x, (x @ truth)[:, None]], 1), lanes)
        rows, cursor = state.memory
        at = (cursor + jnp.arange(new.shape[0])) % size
        rows = rows.at[at].set(jnp.where(active, new, rows[at]))
        cursor = jnp.where(active, cursor + new.shape[0], cursor)
        filled = jnp.minimum(cursor, size)
        batch = rows[jax.random.randint(sample_key, (32,), 0, jnp.maximum(filled, 1))]

        def loss(params):
            error = batch[:, :15] @ params["weights"] - batch[:, 15]
            return jnp.mean(error**2)

        value, grads = jax.value_and_grad(loss)(state.policy.params)
        params = jax.tree.map(
            lambda p, g: p - hyperparams["rate"] * g, state.policy.params, grads
        )
        policy = state.policy._replace(params=params)
        return (
            LearnerState(policy, state.rollout + 1, Replay(rows, cursor)),
            report(loss=value),
        )

    def evaluate(policy, hyperparams, key):
        x = jax.random.normal(key, (64, 15))
        return -jnp.mean((x @ (policy.params["weights"] - truth)) ** 2)

    return Learner(
        init, lambda p, k: jnp.int32(0), step, evaluate, {"rate": 0.05}, lanes=lanes
    )
