"""A compiled update, a policy and windows that the tests of PPO share."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.agents.ppo import ProximalExtras
from optix.math.running import Moments
from optix.types import Trajectory
from tests.agents.ppo_reference import ACTIONS, INPUTS, B, T, build


@pytest.fixture(scope="session")
def learn():
    """A compiled update; it refuses to be traced again."""
    return jit(chex.assert_max_traces(build().learn, n=1))


@pytest.fixture(scope="session")
def policy():
    draw = np.random.default_rng(1).normal
    params = {
        "kernel": jnp.asarray(draw(size=(INPUTS, ACTIONS + 1)), jnp.float32),
        "bias": jnp.asarray(draw(size=ACTIONS + 1), jnp.float32),
    }
    fresh = build().init(jax.random.key(0))
    observations = Moments(jnp.float32(50), jnp.arange(3.0), jnp.array([1.0, 4.0, 0.5]))
    returns = Moments(jnp.float32(50), jnp.float32(2), jnp.float32(9))
    extras = ProximalExtras(observations, returns, jnp.int32(10))
    return fresh._replace(params=params, extras=extras)


@pytest.fixture(scope="session")
def window(policy):
    """A window from a behaviour near the policy: some of the ratios are clipped."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=(T, B, *shape)), jnp.float32)

    obs = 2 * draw(INPUTS)
    _, action, extras = build().act(policy, (), obs, {}, jax.random.key(5), True)
    reward = draw()
    terminated, truncated = (jnp.asarray(rng.random((T, B)) < 0.1) for _ in range(2))
    # what followed a step is acted on next, unless the episode ended
    ended = (terminated | truncated)[:-1, :, None]
    next_obs = 2 * draw(INPUTS)
    next_obs = next_obs.at[:-1].set(jnp.where(ended, next_obs[:-1], obs[1:]))
    return Trajectory(
        obs=obs,
        action=action,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        next_obs=next_obs,
        extras={
            "log_prob": extras["log_prob"] + 0.3 * draw(),
            "discounted_return": 3 * draw(),
        },
    )


@pytest.fixture(scope="session")
def own_window(policy, window):
    """The same, from the policy itself."""
    _, action, extras = build().act(policy, (), window.obs, {}, jax.random.key(5), True)
    return window._replace(action=action, extras={**window.extras, **extras})
