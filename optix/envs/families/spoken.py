"""A world of a family in the words of gymnax's protocol, as `device` takes it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optix.envs.families.world import World


class Limit(NamedTuple):
    """The parameters that are left: all others are within the world's functions."""

    max_steps_in_episode: int


class Played(NamedTuple):
    """Where an episode stands."""

    world: Any  # the state of the world
    truncated: jax.Array  # [] bool, what its latest step said


class Spoken:
    """One world: parts only, an ended episode is not replaced."""

    def __init__(self, world: World):
        """Speak for a world."""
        self.world, self.default_params = world, Limit(world.time_limit)
        self.render = self.html = None
        if world.render is not None:
            draw = world.render
            self.render = lambda state, params: draw(state.world)
        if world.html is not None:
            write = world.html
            self.html = lambda states: write([state.world for state in states])

    def observation_space(self, params: Limit) -> Any:
        """Return the space of the world."""
        del params
        return self.world.observations

    def action_space(self, params: Limit) -> Any:
        """Return the space of the world."""
        del params
        return self.world.actions

    def reset_env(self, key: jax.Array, params: Limit) -> tuple[Any, Played]:
        """Return (obs, state) of a fresh episode."""
        del params
        obs, state = self.world.reset(key)
        return obs, Played(state, jnp.bool_(False))

    def step_env(self, key: jax.Array, state: Played, action: Any, params: Limit):
        """Return (obs, state, reward, terminated, info)."""
        del params
        result = self.world.step(key, state.world, action)
        obs, after, reward, terminated, truncated = result
        return obs, Played(after, jnp.asarray(truncated, bool)), reward, terminated, {}

    def is_truncated(self, state: Played, params: Limit) -> jax.Array:
        """Return whether the latest step was cut off."""
        del params
        return state.truncated
