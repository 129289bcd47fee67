"""A corridor beside a sure thing: who is not lucky at once never sees its end again."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

SURE, END = 0.5, 1.0


class Params(NamedTuple):
    """Parameters of the corridor; no episode is as long as this."""

    max_steps_in_episode: int = 64


class State(NamedTuple):
    """State of the corridor."""

    place: jax.Array  # [] int32, 0 before it
    time: jax.Array | int


class Corridor:
    """Action 0 at the start earns `SURE` and ends the episode, action 1 goes in.

    Inside one action at each place leads on, and all others end the episode with nothing;
    the one at the last place earns `END`. A policy that does not know its way does better
    with the sure thing.

    Args:
      depth: places inside.
      arms: actions.
    """

    default_params = Params()

    def __init__(self, depth=5, arms=3):
        """See the class."""
        self.depth, self.arms = depth, arms

    def observation_space(self, params):
        del params
        return spaces.Box(0.0, 1.0, (self.depth + 1,))

    def action_space(self, params):
        del params
        return spaces.Discrete(self.arms)

    def observe(self, place):
        return jax.nn.one_hot(place, self.depth + 1)

    def reset_env(self, key, params):
        del key, params
        return self.observe(0), State(jnp.int32(0), 0)

    def step_env(self, key, state, action, params):
        del key, params
        outside = state.place == 0
        way_on = jnp.where(outside, 1, state.place % self.arms)
        on = action == way_on
        arrived = on & (state.place == self.depth)
        reward = jnp.where(outside & (action == 0), SURE, jnp.where(arrived, END, 0.0))
        over = ~on | arrived
        after = State(jnp.where(over, state.place, state.place + 1), state.time + 1)
        return self.observe(after.place), after, reward, over, {}

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode
