"""The replay that the lanes of a run share: how rows enter it and are drawn from it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.buffers.compact import compact, numbers_dtype
from optix.buffers.prioritised import prioritised as prioritised_buffer
from optix.buffers.storage import checked_batch_size
from optix.buffers.uniform import uniform
from optix.trees import (
    count_devices,
    gather_lanes,
    mean_lanes,
    on_all_devices,
    saturating_add,
)
from optix.types import (
    Buffer,
    Environment,
    Hyperparams,
    PyTree,
    Sample,
    Transition,
)

PRIORITY = {  # name: (default, low, high), of a prioritised replay
    "priority_exponent": (0.6, 0.0, 1.0),
    "importance_exponent": (0.4, 0.0, 1.0),
    "importance_steps": (100_000.0, 1.0, 1e9),  # environment steps until it is 1
}


class Memory(NamedTuple):
    """What the lanes share."""

    replay: PyTree  # the buffer's state
    env_steps: jax.Array  # [] int32 collected by all lanes, on all devices


class ReplayMemory(NamedTuple):
    """Functions of a `Memory`; they run in a map over the lanes where there are several.

    init: `(row: Transition without axes) -> Memory`.
    collect: `(memory, rows [N, ...], valid [N], active) -> Memory` with one row for each
        environment step: they are counted.
    store: `(memory, rows [N, ...], valid [N], active) -> Memory`; not counted.
    warm: `(memory) -> [] bool`: enough steps that acting need not be random.
    ready: `(memory, was_ready) -> [] bool`: every device has enough to learn from.
    sample: `(memory, hyperparams, key) -> Sample` of the batch size.
    prioritise: `(memory, index [M], priority [M], hyperparams, valid []) -> Memory`.
    """

    init: Callable[[Transition], Memory]
    collect: Callable[[Memory, PyTree, jax.Array, jax.Array], Memory]
    store: Callable[[Memory, PyTree, jax.Array, jax.Array], Memory]
    warm: Callable[[Memory], jax.Array]
    ready: Callable[[Memory, jax.Array], jax.Array]
    sample: Callable[[Memory, Hyperparams, jax.Array], Sample]
    prioritise: Callable[..., Memory]


def replay_memory(
    env: Environment,
    *,
    rows_at_once: int,
    streams: int,
    lanes: int,
    batch_size: int,
    capacity: int,
    learning_starts: int,
    n_step: int,
    prioritised: bool,
    buffer: Buffer | None,
    hindsight: Callable | None,
    observation_dtype: str | None,
    one_copy: bool | None,
    axis_name: str | None,
) -> ReplayMemory:
    """Return the `ReplayMemory` of a learner; the options are those of `off_policy`.

    `env` is whose observations are kept, `rows_at_once` how many rows a step of all
    lanes may add, `streams` the environments of all lanes.

    Raises:
      ValueError: sizes that do not fit each other, parts that are something else.
    """
    if buffer is not None:
        checks.record("buffer", buffer, Buffer, "use uniform(...) or prioritised(...)")
    shares = _checked_one_copy(one_copy, env, hindsight, buffer)
    kind = prioritised_buffer if prioritised else uniform
    checks.positive_int("capacity", capacity)
    replay = buffer or kind(capacity, streams=streams if shares else 0, n_step=n_step)
    if observation_dtype is not None:
        kept = numbers_dtype("observation_dtype", observation_dtype)
        replay = _compacted(replay, kept, env)
    elif env.kept_dtype is not None and buffer is None and hindsight is None:
        replay = _compacted(replay, jnp.dtype(env.kept_dtype), env)
    checked_batch_size(batch_size, replay.capacity)
    _check_capacity(replay.capacity, rows_at_once, shares)
    # a replay of one copy, ours or the user's, may never hold more than this quarter
    enough = min(batch_size, learning_starts, -(-replay.capacity // 4))

    def store(memory, rows, valid, active):
        rows, valid = gather_lanes((rows, valid & active), lanes)
        return memory._replace(replay=replay.add(memory.replay, rows, valid))

    def collect(memory, rows, valid, active):
        steps = lanes * valid.size * count_devices(axis_name)
        counted = saturating_add(memory.env_steps, jnp.where(active, steps, 0))
        return store(memory, rows, valid, active)._replace(env_steps=counted)

    def warm(memory):
        return memory.env_steps >= learning_starts

    def ready(memory, was_ready):
        own = warm(memory) & (replay.size(memory.replay) >= enough)
        if axis_name is None:
            return own
        # devices that knew it when the window began need not ask again
        return jax.lax.cond(
            was_ready, lambda: was_ready, lambda: on_all_devices(own, axis_name)
        )

    def sample(memory, hyperparams, key):
        if lanes > 1:  # that of the first lane: all learn from the same rows
            words = jax.random.key_data(key)
            words = gather_lanes(words, lanes)[: words.size]
            key = jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
        exponent = importance(memory.env_steps, hyperparams) if prioritised else 0.0
        return replay.sample(memory.replay, key, batch_size, exponent)

    def prioritise(memory, index, priority, hyperparams, valid):
        if not prioritised:
            return memory
        priority = mean_lanes(priority ** hyperparams["priority_exponent"], lanes)
        updated = replay.update(memory.replay, index, priority, valid)
        return memory._replace(replay=updated)

    return ReplayMemory(
        lambda row: Memory(replay.init(row), jnp.int32(0)),
        collect,
        store,
        warm,
        ready,
        sample,
        prioritise,
    )


def importance(env_steps: jax.Array, hyperparams: Hyperparams) -> jax.Array:
    """Return the exponent of the importance weights [], which rises linearly to 1."""
    share = jnp.clip(env_steps / hyperparams["importance_steps"], 0.0, 1.0)
    first = hyperparams["importance_exponent"]
    return first + share * (1.0 - first)


def _compacted(replay: Buffer, kept: Any, env: Environment) -> Buffer:
    """Return the replay that keeps floats in another type; bytes stay what they are."""
    own = np.dtype(env.observation_dtype)
    if own == np.uint8 and kept != own:
        raise checks.OptionError(
            f"observation_dtype must be uint8 or None for {env.name}, whose observations "
            f"are of that type, got {kept}"
        )
    return replay if kept == own else compact(replay, kept)


def _checked_one_copy(
    one_copy: Any, env: Environment, hindsight: Any, buffer: Any
) -> bool:
    """Return whether the replay keeps each observation once."""
    if one_copy is not None and not isinstance(one_copy, bool | np.bool_):
        raise checks.OptionError(
            f"one_copy must be True, False or None, got {one_copy!r}"
        )
    can = hindsight is None and buffer is None
    if one_copy and not can:
        raise checks.OptionError(
            "one_copy must be None or False with hindsight, whose rows start from other "
            "goals, and with a buffer, which takes `streams` itself"
        )
    if one_copy is None:
        return can and len(env.observation_shape) > 1
    return bool(one_copy)


def _check_capacity(capacity: int, rows_at_once: int, one_copy: bool) -> None:
    if capacity < rows_at_once:
        raise checks.OptionError(
            "capacity must be at least n_step * num_envs * lanes = "
            f"{rows_at_once}, got {capacity}"
        )
    if one_copy and capacity < 4 * rows_at_once:
        raise checks.OptionError(
            "capacity must be at least 4 * n_step * num_envs * lanes = "
            f"{4 * rows_at_once} where observations are kept once, got {capacity}; a "
            "longer replay or one_copy=False"
        )
