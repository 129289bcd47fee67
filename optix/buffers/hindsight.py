"""Missed goals relabelled as the ones that were reached."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from optix import checks
from optix.trees import all_finite, take
from optix.types import PyTree, Trajectory, Transition

STRATEGIES = ("episode", "final", "future")


def hindsight(
    achieved: Callable[[PyTree], PyTree],
    substitute: Callable[[PyTree, PyTree], PyTree],
    reward: Callable[[PyTree, PyTree], tuple[Any, Any]],
    *,
    goals: int = 4,
    strategy: str = "future",
) -> Callable[..., tuple[Transition, jax.Array]]:
    """Return the relabelling of windows by goals that were reached in them.

    Hindsight experience replay (https://arxiv.org/abs/1707.01495). The goals of a step
    come from its own episode, as far as the window shows it. Reward and termination are
    both computed anew: a step that reaches its new goal terminates, and a step at which
    the environment really terminated still does.

    Args:
      achieved: `(next_obs) -> goal`, what an observation has reached.
      substitute: `(obs, goal) -> obs` with that goal in place of its own.
      reward: `(achieved_goal, goal) -> (reward [], terminated [])`. All three are
        written for one observation.
      goals: relabelled rows for each step.
      strategy: "future" draws from the step itself to the end of its episode, "final"
        takes the last step of the episode, "episode" draws from all of it.

    Returns:
      relabel: `(trajectory [T, B, ...], key, discount []) -> (Transition [N, ...], valid
        [N] bool)` with N = goals * T * B; a row with a NaN or infinity is not valid.

    Raises:
      ValueError: an unknown strategy or `goals` below one; at trace time functions that
        do not fit together.

    >>> relabel = hindsight(
    ...     achieved=lambda obs: obs["position"],
    ...     substitute=lambda obs, goal: {**obs, "goal": goal},
    ...     reward=lambda reached, goal: (1.0 * (reached == goal), reached == goal),
    ...     strategy="final",
    ...     goals=1,
    ... )
    >>> position = jnp.arange(4.0)[:, None]
    >>> obs = {"position": position, "goal": position * 0 - 1}
    >>> no = jnp.zeros((4, 1), bool)
    >>> next_obs = {**obs, "position": position + 1}
    >>> walk = Trajectory(obs, no, position, no, no, next_obs)
    >>> rows, valid = relabel(walk, jax.random.key(0), 0.9)
    >>> rows.obs["goal"].tolist(), rows.reward.tolist()
    ([4.0, 4.0, 4.0, 4.0], [0.0, 0.0, 0.0, 1.0])
    """
    for name, value in {
        "achieved": achieved,
        "substitute": substitute,
        "reward": reward,
    }.items():
        checks.function(name, value, "it is given one observation or goal")
    goals = checks.positive_int("goals", goals)
    checks.known_names("strategy", [strategy], STRATEGIES)

    def relabel(trajectory, key, discount):
        chex.assert_rank([trajectory.reward, trajectory.terminated], 2)
        chex.assert_rank(jnp.asarray(discount), 0)
        _check_fit(trajectory, achieved, substitute, reward)
        low, high = _candidates(trajectory.terminated | trajectory.truncated, strategy)
        time = jax.random.randint(key, (goals, *low.shape), low, high + 1)

        def row(time, reached, obs, action, terminated, next_obs, own):
            goal = take(reached, time)
            value, success = reward(own, goal)
            return Transition(
                obs=substitute(obs, goal),
                action=action,
                reward=jnp.float32(value),
                discount=jnp.where(terminated | jnp.bool_(success), 0.0, discount),
                next_obs=substitute(next_obs, goal),
            )

        reached = jax.vmap(jax.vmap(achieved))(trajectory.next_obs)
        each = (
            trajectory.obs,
            trajectory.action,
            trajectory.terminated,
            trajectory.next_obs,
            reached,
        )
        over_batch = jax.vmap(row, in_axes=(0, 1, *(0,) * len(each)))
        over_time = jax.vmap(over_batch, in_axes=(0, None, *(0,) * len(each)))
        over_goals = jax.vmap(over_time, in_axes=(0, None, *(None,) * len(each)))
        rows = over_goals(time, reached, *each)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), rows)
        return rows, jax.vmap(all_finite)(rows)

    return relabel


def _candidates(ended: jax.Array, strategy: str) -> tuple[jax.Array, jax.Array]:
    """The first and the last step, both [T, B], that a step's goals may come from."""
    time = jnp.broadcast_to(jnp.arange(len(ended))[:, None], ended.shape)
    last_step = jnp.where(ended.at[-1].set(True), time, len(ended))
    last = jax.lax.cummin(last_step, axis=0, reverse=True)
    if strategy == "final":
        return last, last
    if strategy == "future":
        return time, last
    begins = jnp.roll(ended, 1, axis=0).at[0].set(True)
    return jax.lax.cummax(jnp.where(begins, time, 0), axis=0), last


def _check_fit(trajectory: Trajectory, achieved, substitute, reward) -> None:
    """Raise ValueError unless the three functions fit the window and each other."""

    def shape(name, function, *arguments):
        try:
            return jax.eval_shape(function, *arguments)
        except (TypeError, ValueError, IndexError, KeyError) as error:
            given = ", ".join(str(_shapes(x)) for x in arguments)
            raise checks.OptionError(
                f"{name} must take what it is given, of shape {given}: {error}"
            ) from error

    def one(tree):
        return jax.eval_shape(lambda x: take(take(x, 0), 0), tree)

    obs, next_obs = one(trajectory.obs), one(trajectory.next_obs)
    goal = shape("achieved", achieved, next_obs)
    for old in (obs, next_obs):
        new = shape("substitute", substitute, old, goal)
        if _shapes(new) != _shapes(old):
            raise checks.OptionError(
                "substitute must return an observation like the one it is given, "
                f"{_shapes(old)}, got {_shapes(new)}; the goal is {_shapes(goal)}"
            )
    outcome = shape("reward", reward, goal, goal)
    if not isinstance(outcome, tuple) or [getattr(x, "shape", 0) for x in outcome] != [
        (),
        (),
    ]:
        raise checks.OptionError(
            "reward must return two scalars (reward, terminated) for one pair of goals "
            f"of shape {_shapes(goal)}, got {_shapes(outcome)}"
        )


def _shapes(tree: PyTree) -> PyTree:
    """Shapes for people."""
    return jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree)
