"""Scores: the mean return of whole episodes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap

from optix import checks
from optix.forms import action_form, check_environment, number_of_actions
from optix.learners.collect import own_key
from optix.types import Agent, Environment, Hyperparams, Masked, Numbered, Policy
from optix.xla.threefry import fold_in, split


def evaluator(
    agent: Agent,
    env: Environment,
    *,
    episodes: int = 16,
    deterministic: bool = True,
) -> Callable[[Policy, Hyperparams, jax.Array], jax.Array]:
    """Return `(policy, hyperparams, key) -> score []`: the mean return of whole episodes.

    Returns are not discounted. The same key gives the same episodes to every policy
    (common random numbers).

    Args:
      agent: whose `act` plays, with the hyperparameters that the score is asked for; on
        the devices of its `axis_name` each plays `episodes`, and the score is their mean.
      env: where; any environment of the same spaces serves as a validation score.
      episodes: played side by side, each to its end.
      deterministic: play the mode of the policy, not samples.

    Raises:
      ValueError: no episodes, an environment that does not keep to its record, or an
        agent whose actions are not the environment's.
    """
    returns = episode_returns(
        agent, env, episodes=episodes, deterministic=deterministic
    )
    axis_name = agent.axis_name

    def evaluate(policy, hyperparams, key):
        score = returns(policy, hyperparams, own_key(key, axis_name)).mean()
        return score if axis_name is None else jax.lax.pmean(score, axis_name)

    return evaluate


def episode_returns(
    agent: Agent,
    env: Environment,
    *,
    episodes: int,
    deterministic: bool = True,
) -> Callable[[Policy, Hyperparams, jax.Array], jax.Array]:
    """Return `(policy, hyperparams, key) -> [episodes]`: the return of each episode.

    What `evaluator` takes the mean of; the arguments are its.
    """
    checks.record("agent", agent, Agent, "make one by its factory, as in ppo(...)")
    checks.record("env", env, Environment, "make one by optix.envs.device.device(...)")
    checks.positive_int("episodes", episodes)
    checks.boolean("deterministic", deterministic)
    check_environment(env, "play", episodes)
    check_fit(agent, env)

    def returns(policy, hyperparams, key):
        reset_key, play_key = split(key)
        state, obs = env.reset(reset_key, episodes)
        if env.claim is not None:
            limit = env.time_limit
            state, obs, _ = env.claim(reset_key, state, obs, limit, True, play=True)
        carry = agent.initial_carry(episodes)

        def unfinished(loop):
            step, _, alive, *_ = loop
            return jnp.any(alive) & (step < env.time_limit)

        def play(loop):
            step, total, alive, state, obs, carry = loop
            act_key, env_key = split(fold_in(play_key, step))
            carry, action, _ = agent.act(
                policy, carry, obs, hyperparams, act_key, not deterministic
            )
            state, result = env.play(env_key, state, action)
            # a reward after the end of an episode must not count, not even as NaN
            total = total + jnp.where(alive, result.reward, 0.0)
            alive = alive & ~(result.terminated | result.truncated)
            return step + 1, total, alive, state, result.next_obs, carry

        start = (
            jnp.int32(0),
            jnp.zeros(episodes, jnp.float32),
            jnp.ones(episodes, bool),
            state,
            obs,
            carry,
        )
        return jax.lax.while_loop(unfinished, play, start)[1]

    # a loop whose seeds end apart has no callbacks in it
    return returns if env.claim is None else sequential_vmap(returns)


def check_fit(agent: Agent, env: Environment) -> None:
    """Refuse an agent for other spaces: broadcasting would often hide the mistake."""

    def act(key):
        obs = jnp.zeros((1, *env.observation_shape))
        if env.masked:
            number = number_of_actions(env.name, env.action_space)
            obs = Masked(obs, jnp.ones((1, number), bool))
        policy, carry = agent.init(key), agent.initial_carry(1)
        told: Any = None
        if agent.outputs is not None and len(agent.output_names) == 1:
            told = agent.outputs(policy, carry, obs)[1]
        return agent.act(policy, carry, obs, agent.hyperparams, key, False)[1], told

    try:
        action, told = jax.eval_shape(act, jax.random.key(0))
    except Exception as error:
        raise checks.OptionError(
            f"the agent must act on observations of {env.name}, of shape "
            f"{env.observation_shape}, but it failed to: {error}"
        ) from error
    one = action_form(env.action_space)
    kind = jnp.integer if one.dtype == jnp.int32 else jnp.floating
    if action.shape != (1, *one.shape) or not jnp.issubdtype(action.dtype, kind):
        raise checks.OptionError(
            f"the agent's actions must be those of {env.name}, {env.action_space}, got "
            f"{action.dtype}{list(action.shape[1:])} for one; build both on one space"
        )
    space: Any = env.action_space
    is_array = isinstance(told, jax.ShapeDtypeStruct)
    if not is_array or not isinstance(space, Numbered):
        return
    if told.shape != (1, sum(space.sizes)):
        raise checks.OptionError(
            f"the agent's actions must be those of {env.name}, {space}, got "
            f"{told.shape[-1]} {agent.output_names[0]} for one; build both on one space"
        )
