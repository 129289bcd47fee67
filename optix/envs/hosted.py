"""Environments of Gymnasium, on the host, for agents on the device.

Their steps are one callback for each step of all environments of a window; everything
else of a run stays a compiled program. Under vmap, be it of seeds, of a tuner's lanes or
of final scores, the callbacks are made in turn.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jax.experimental import io_callback

from optix import checks
from optix.envs.actions import action_decoder, action_space
from optix.envs.copies import Copies
from optix.envs.observations import hosted_shape
from optix.envs.source import source
from optix.envs.vectors import Stage, Stepped
from optix.math.masks import observed
from optix.trees import select
from optix.types import Box, Environment, EnvStep

# [2] what a state holds: the mark of `Copies` and a number of a copy there
_NONE, _IDLE = np.zeros(2, np.int32), np.full(2, -1, np.int32)


def hosted(
    env: Any,
    env_params: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    async_envs: bool = False,
    vector: Callable[[int], Any] | None = None,
    copies: int = 8,
) -> Environment:
    """Return the `Environment` of a name of Gymnasium, or of what makes one of its.

    Its state is a number, of a copy of the environments that waits on the host; so
    `reset` plays nothing, and each window begins with `claim`, which gives fresh episodes
    where there is no such copy: at the beginning, in a fork, after a rollback or a
    resume. Observations of uint8, as of images, are uint8 on the device too, images with
    their channels last. A copy that raises ends the program with a `JaxRuntimeError`;
    `host.raise_if_failed()` then raises the exception itself, as `optix.train` does.

    An environment of numbered actions whose first `reset` has "action_mask" in its `info`
    tells in every step which of them are allowed, 1 or True, those of a MultiDiscrete
    one after another (or as a tuple of arrays, as `MultiDiscrete.sample` takes them);
    observations are then `Masked`, and agents act and learn under the mask. What followed
    an end is bootstrapped under the mask in that step's `info`, under none where it has
    none. A method `action_masks()`, as SB3-contrib has it, does as well. A mask beside a
    Box of actions is not read.

    Args:
      env: a registered name, "package:Name-v0" or "gymnasium:CartPole-v1" to say whose;
        a function without arguments that makes a `gymnasium.Env`; or one that Gymnasium
        knows how to make again, which itself is not played.
      env_params: keywords of `gymnasium.make`, for a name.
      name: how messages call it; None takes its id or its class.
      async_envs: in processes of their own, for environments that compute for long.
      vector: `(count) -> gymnasium.vector.VectorEnv` of SAME_STEP autoreset, in place of
        what would step them.
      copies: how many windows can go on where they were left; further seeds and lanes
        begin afresh where their turn comes.

    Raises:
      ValueError: no such environment, a package that it needs is not there, spaces that
        no agent can use, an autoreset that shows steps that never were.

    >>> env = hosted("Pendulum-v1")
    >>> env.observation_shape, env.action_space, env.time_limit
    ((3,), Box(shape=(1,)), 200)
    >>> state, obs, fresh = env.claim(jax.random.key(0), *env.reset(None, 2), 1, True)
    >>> _, step = env.step(None, state, jnp.zeros((2, 1)))
    >>> bool(fresh), step.reward.shape
    (True, (2,))
    """
    checks.boolean("async_envs", async_envs)
    checks.positive_int("copies", copies)
    if name is not None and not (isinstance(name, str) and name):
        raise checks.OptionError(f"name must be a string or None, got {name!r}")
    made = source(env, env_params, name=name, async_envs=async_envs, vector=vector)
    shape = hosted_shape(made.name, made.observations)
    space = action_space(made.name, made.actions)
    decode = action_decoder(made.name, made.actions)
    shown = made.shown
    dtype = np.dtype(np.uint8 if shown.dtype == np.uint8 else np.float32)

    def stage():
        return Stage(made.show(), shown.encode)

    host = Copies(made.name, made.open, copies, stage)

    def reset(key, batch):
        del key  # `claim` begins episodes
        obs = jnp.zeros((batch, *shape), dtype)
        if shown.masked:
            free = jax.tree.map(jnp.asarray, shown.zeros(batch))
            obs = free._replace(obs=obs)
        return jnp.asarray(_NONE), obs

    def claim(key, stream, obs, steps, active, play=False):
        # environments count up from it, some of them in 31 bits
        seed = jax.random.bits(key, (), jnp.uint32) >> 2
        count = len(observed(obs))
        ask = partial(_claim, host, shown, count, steps, play)
        shapes = _of((2,), np.int32), shown.form(count), _of((), bool)
        stream, first, fresh = _in_turn(host, ask, shapes)(
            stream, seed, jnp.asarray(active)
        )
        return stream, select(fresh, shown.encode(first), obs), fresh

    def step(key, stream, action):
        del key  # a copy has random numbers of its own
        count = len(action)
        if isinstance(space, Box):
            # what a policy of NaN wants is no business of the environment
            action = jnp.nan_to_num(action)
        ask = partial(_step, host, shown, count)
        numbers, flags = _of((count,), np.float32), _of((count,), bool)
        rows = shown.form(count)
        fields: Any = (rows, numbers, flags, flags, rows)
        shapes = _of((2,), np.int32), Stepped(*fields)
        stream, result = _in_turn(host, ask, shapes)(stream, jax.vmap(decode)(action))
        return stream, EnvStep(
            obs=shown.encode(result.obs),
            reward=result.reward,
            terminated=result.terminated,
            truncated=result.truncated,
            next_obs=shown.encode(result.final),
        )

    return Environment(
        made.name,
        shape,
        space,
        made.time_limit,
        reset,
        step,
        step,  # as was claimed
        decode,
        dtype,
        claim,
        host,
        masked=shown.masked,
        parts=shown.parts,
    )


_of = jax.ShapeDtypeStruct


def _in_turn(host: Copies, function: Callable, shapes: Any) -> Callable:
    """Return a callback as a function on the device; under vmap it is called in turn.

    What orders two of them is that the later one needs a result of the earlier one.
    """
    return sequential_vmap(partial(io_callback, host.guarded(function), shapes))


def _claim(host, shown, count, steps, play, stream, seed, active):
    found, obs = _IDLE, None
    if active:
        left = tuple(np.asarray(stream).tolist())
        found, obs = host.claim(left, int(seed), count, steps, play)
    fresh = obs is not None
    return (
        np.array(found, np.int32),
        obs if fresh else shown.zeros(count),
        np.bool_(fresh),
    )


def _step(host, shown, count, stream, action):
    stream = np.asarray(stream)
    mark, number = stream.tolist()
    if mark < 0:  # idle, of a seed that has stopped
        rows, none = shown.zeros(count), np.zeros(count, bool)
        return stream, Stepped(rows, np.zeros(count, np.float32), none, none, rows)
    return stream, host.step((mark, number), np.asarray(action))
