"""Episodes one step at a time, so that they can be looked at."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.checks import OptionError
from optix.envs.pictures import image, is_image, pixels
from optix.envs.vectors import Stage
from optix.math.masks import observed
from optix.types import Agent, Environment, Hyperparams, Policy
from optix.xla.threefry import fold_in, split


class Seen(NamedTuple):
    """A moment of an episode."""

    reward: float  # of the step that led here, 0 where the episode begins
    ended: bool
    picture: Callable[[], np.ndarray]  # [H, W, 3] uint8, drawn when it is asked for
    state: Any = None  # of an environment on the device


def device_episodes(
    agent: Agent,
    env: Environment,
    policy: Policy,
    hyperparams: Hyperparams,
    keys: jax.Array,
    explore: bool,
) -> Iterator[Seen]:
    """Play an episode for each key, the ones that `optix.learners.evaluate` plays.

    Raises:
        OptionError: an environment of which there is no picture; nothing is played.
    """
    render = env.render
    if render is None and env.html is None and not is_image(env.observation_shape):
        raise no_picture(env.name)

    def first(tree):
        return jax.tree.map(lambda x: x[0], tree)

    @jax.jit
    def begin(key):
        reset_key, play_key = split(key)
        state, obs = env.reset(reset_key, 1)
        return play_key, state, obs, agent.initial_carry(1), first((state, obs))

    @jax.jit
    def step(policy, play_key, number, state, obs, carry):
        act_key, env_key = split(fold_in(play_key, number))
        carry, action, _ = agent.act(policy, carry, obs, hyperparams, act_key, explore)
        state, result = env.play(env_key, state, action)
        return state, carry, result, first((state, result.next_obs))

    def seen(reward, ended, one):
        state, obs = one

        def picture():
            if render is not None:
                return render(state)
            return image(np.asarray(observed(obs)))

        return Seen(float(reward), bool(ended), picture, state)

    for key in keys:
        play_key, state, obs, carry, one = begin(key)
        yield seen(0.0, False, one)
        for number in range(env.time_limit):
            state, carry, result, one = step(
                policy, play_key, number, state, obs, carry
            )
            obs, last = result.next_obs, number + 1 == env.time_limit
            ended = bool(result.terminated[0] | result.truncated[0]) or last
            yield seen(result.reward[0], ended, one)
            if ended:
                break


def hosted_episodes(
    name: str,
    stage: Stage,
    act: Callable[[Any], Any],
    reset: Callable[[], None],
    seeds: list[int],
    time_limit: int,
) -> Iterator[Seen]:
    """Play an episode for each seed in an environment of Gymnasium.

    Args:
        name: of the environment, for messages.
        stage: that environment.
        act: `(observation) -> action`, of one.
        reset: called where an episode begins.
        seeds: of the episodes.
        time_limit: steps after which one ends in any case.
    """
    vector = stage.vector

    def rows(obs):
        return jax.tree.map(lambda x: np.array(x)[0], stage.encode(obs))

    def seen(reward, ended, obs):
        obs = observed(obs)

        def picture():
            drawn = vector.picture()
            if drawn is None and is_image(obs.shape):
                return image(obs)
            if drawn is None:
                raise no_picture(name)
            return pixels(name, drawn)

        return Seen(float(reward), bool(ended), picture)

    try:
        for seed in seeds:
            reset()
            obs = rows(vector.reset(seed))
            yield seen(0.0, False, obs)
            for number in range(time_limit):
                result = vector.step(np.asarray(act(obs))[None], False)
                obs = rows(result.final)
                ended = result.terminated[0] | result.truncated[0]
                ended = bool(ended) or number + 1 == time_limit
                yield seen(result.reward[0], ended, obs)
                if ended:
                    break
    finally:
        vector.close()


def no_picture(name: str) -> OptionError:
    """Return the error of an environment that can not be seen."""
    return OptionError(
        f"{name} can not be rendered: it has no render(state, params), and its "
        "observations are no images; give it such a method, or play another run"
    )
