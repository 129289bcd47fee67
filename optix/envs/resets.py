"""How an episode that ended begins again, where a fresh state is dear.

A step makes fresh states for all environments and keeps those of the few that ended; or
for as many as ended, up to a share of all; or each environment goes back to its own first
state.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.envs.operations import operations
from optix.forms import action_form
from optix.trees import select_rows, take
from optix.types import Environment, PyTree
from optix.xla.backend import on_cpu

RESETS = ("all", "shared", "cached")
_SHARE = 16  # environments for each fresh state of a step
_DEAR = 100_000  # operations: what a small network learns from a step costs as much


class Cached(NamedTuple):
    """Environments that begin where they began before."""

    state: PyTree  # [B, ...]
    first_state: PyTree  # [B, ...]
    first_obs: PyTree  # [B, ...]


def with_resets(env: Environment, resets: str | None = None) -> Environment:
    """Return an environment on the device whose ended episodes begin again so.

    Evaluation begins with a fresh state for each episode in any case: once for a whole
    episode, which costs little beside its steps.

    Args:
      env: made by `device`, and does not replace its ended episodes by itself.
      resets: "all" makes a fresh state for every environment at each step; "shared" one
        for sixteen at most, handed to those that ended in turn, so that two of them get
        the same only where more end at once than are fresh (`EnvStep.shared` says who);
        on a CPU no more are made than environments ended. "cached" takes each
        environment back to its own first state, as Brax does: what begins is then no
        fresh draw. A task (`optix.envs.tasks`) is drawn with a fresh state and shared or
        kept with it. None takes "shared" where a reset is dear, by its operations: more
        than a step, and more than learning from a step costs; else "all".

    Raises:
      ValueError: another word.
    """
    checks.record("env", env, Environment, "make it by optix.envs.device.device(...)")
    if resets is None:
        resets = "shared" if is_dear(env) else "all"
    else:
        checks.known_names("resets", [resets], RESETS)
    if resets == "all":
        return env
    return _cached(env) if resets == "cached" else _shared(env)


def is_dear(env: Environment) -> bool:
    """Return whether a reset of one environment costs more than a step and learning.

    Costs are counted by tracing, so that the same versions choose the same, and a
    resumed run has the same program.
    """
    cost = cost_of_reset(env)
    return cost > _DEAR and cost > cost_of_step(env)


def cost_of_reset(env: Environment) -> int:
    """Return the operations of a reset of one environment."""
    return operations(lambda key: env.reset(key, 1), jax.random.key(0))


def cost_of_step(env: Environment) -> int:
    """Return the operations of a step of one environment that does not end."""
    key = jax.random.key(0)
    state, _ = jax.eval_shape(lambda key: env.reset(key, 1), key)
    one = action_form(env.action_space)
    action: Any = jax.ShapeDtypeStruct((1, *one.shape), one.dtype)
    return operations(env.play, key, state, action)


def _shared(env: Environment) -> Environment:
    def step(key, state, action):
        key, reset_key = jax.random.split(key)
        state, result = env.play(key, state, action)
        done = result.terminated | result.truncated
        number = math.ceil(done.shape[0] / _SHARE)
        place, ended = jnp.cumsum(done) - 1, done.sum()  # among those that ended
        now = state, result.obs
        rows = jax.tree.map(lambda x: x[:number], now)
        fresh = _fresh(env, reset_key, rows, ended)
        state, obs = select_rows(done, take(fresh, place % number), now)
        alike = (place >= number) | (place + number < ended)
        return state, result._replace(obs=obs, shared=done & alike)

    return env._replace(step=step)


def _fresh(env: Environment, key: jax.Array, rows: PyTree, wanted: jax.Array) -> PyTree:
    """Return fresh (state, obs) in the place of the first `wanted` of some rows."""

    def row(number):
        return take(env.reset(jax.random.fold_in(key, number), 1), 0)

    count = len(jax.tree.leaves(rows)[0])
    if not on_cpu():
        return jax.vmap(row)(jnp.arange(count))

    def put(number, rows):
        return jax.tree.map(lambda x, new: x.at[number].set(new), rows, row(number))

    # one after another, so that those nobody wants cost nothing
    return jax.lax.fori_loop(0, jnp.minimum(wanted, count), put, rows)


def _cached(env: Environment) -> Environment:
    def reset(key, batch):
        state, obs = env.reset(key, batch)
        return Cached(state, state, obs), obs

    def play(key, state, action):
        now, result = env.play(key, state.state, action)
        return state._replace(state=now), result

    def step(key, state, action):
        after, result = play(key, state, action)
        done = result.terminated | result.truncated
        first = state.first_state, state.first_obs
        now, obs = select_rows(done, first, (after.state, result.obs))
        return after._replace(state=now), result._replace(obs=obs)

    shown, (render, html) = {}, (env.render, env.html)
    if render is not None:
        shown["render"] = lambda state: render(state.state)
    if html is not None:
        shown["html"] = lambda states: html([each.state for each in states])
    return env._replace(reset=reset, step=step, play=play, **shown)
