"""A world of a family in the words of gymnax's protocol, as `device` takes it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.envs.families.world import World


class Limit(NamedTuple):
    """Parameters: the limit, and the world's own where it is told them at each step."""

    max_steps_in_episode: int
    world: Any = None


class Played(NamedTuple):
    """Where an episode stands."""

    world: Any  # the state of the world
    truncated: jax.Array  # [] bool, what its latest step said


class Spoken:
    """One world: parts only, an ended episode is not replaced."""

    def __init__(self, world: World):
        """Speak for a world."""
        self.world = world
        self.default_params = Limit(world.time_limit, world.params)
        # `device` asks whether there is one
        self.action_mask = None if world.action_mask is None else self._action_mask
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
        reset, _ = self._played_with(params)
        obs, state = reset(key)
        return obs, Played(state, jnp.bool_(False))

    def step_env(self, key: jax.Array, state: Played, action: Any, params: Limit):
        """Return (obs, state, reward, terminated, info)."""
        _, step = self._played_with(params)
        result = step(key, state.world, action)
        obs, after, reward, terminated, truncated = result
        return obs, Played(after, jnp.asarray(truncated, bool)), reward, terminated, {}

    def is_truncated(self, state: Played, params: Limit) -> jax.Array:
        """Return whether the latest step was cut off."""
        del params
        return state.truncated

    def _action_mask(self, state: Played, params: Limit) -> jax.Array:
        del params
        assert self.world.action_mask is not None
        return self.world.action_mask(state.world)

    def tasks(self, task: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Limit]:
        """Return `(key) -> Limit` with the parameters that a task gives of the world.

        Raises:
          ValueError: the world has none that it is told at each step.
        """
        if self.world.at is None:
            raise checks.OptionError(
                "task is for environments that are told their parameters at each step, "
                f"of gymnax's protocol, xminigrid or craftax, got {self.world.name}, "
                "whose parameters are fixed when it is made; leave task out"
            )
        return lambda key: self.default_params._replace(world=task(key))

    def _played_with(self, params: Limit) -> tuple[Any, Any]:
        if self.world.at is None:
            return self.world.reset, self.world.step
        return self.world.at(params.world)
