"""A noisy XOR bandit, which no linear policy solves, for the benchmark of growth."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

STEPS = 32  # of an episode, each a draw of its own
NOISE = 0.3  # deviation of an observation around its corner of the square


class Params(NamedTuple):
    """Parameters of the bandit."""

    max_steps_in_episode: int = STEPS


class State(NamedTuple):
    """State of the bandit."""

    corner: jax.Array  # [2] float32 of -1 and 1
    time: jax.Array | int


class NoisyXor:
    """Action 1 earns 1 where the signs of the corner differ, action 0 where they agree.

    A linear policy is right in three of four corners at most: a return of 24 out of 32.
    """

    default_params = Params()

    def observation_space(self, params):
        del params
        return spaces.Box(-jnp.inf, jnp.inf, (2,))

    def action_space(self, params):
        del params
        return spaces.Discrete(2)

    def _draw(self, key, time):
        corner_key, noise_key = jax.random.split(key)
        corner = jax.random.rademacher(corner_key, (2,), jnp.float32)
        return corner + NOISE * jax.random.normal(noise_key, (2,)), State(corner, time)

    def reset_env(self, key, params):
        del params
        return self._draw(key, 0)

    def step_env(self, key, state, action, params):
        right = (action == 1) == (state.corner[0] != state.corner[1])
        obs, after = self._draw(key, state.time + 1)
        done = after.time >= params.max_steps_in_episode
        return obs, after, right.astype(jnp.float32), done, {}

    def is_truncated(self, state, params):
        del state, params
        return False
