"""The programs of a run over a mesh of devices: seeds on one axis, data on the other.

Each device runs the program of one device on the seeds that are its own; a device whose
seeds have stopped ends. The devices of the data axis play one run together: each has
environments and a replay of its own, and they meet wherever the agent takes means over
DATA_AXIS.

The state of a run is that of one device, [S, ...], spread over the seed axis. Only what a
device of the data axis has for itself, the rollout and the memory, has one axis more:
[S, D, ...]. `jit` with sharded keys is no way to the same: the partitioner then has every
device compute every seed.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from optix import checks
from optix.distributed.peers import place
from optix.types import LearnerState, LoopState, PyTree

SEED_AXIS, DATA_AXIS = "seed", "data"


class DevicesDifferError(RuntimeError):
    """Devices that share one policy hold different ones."""


class Split(NamedTuple):
    """How many devices an axis of the mesh has."""

    seeds: int
    data: int


ONE_DEVICE = Split(1, 1)


def split(seeds: int, devices: int) -> Split:
    """Return how devices are shared out: over seeds as far as these divide, then data.

    >>> split(8, 4), split(1, 4), split(2, 8)
    (Split(seeds=4, data=1), Split(seeds=1, data=4), Split(seeds=2, data=4))
    """
    over_seeds = math.gcd(seeds, devices)
    return Split(over_seeds, devices // over_seeds)


def mesh_of(sizes: Split, devices: list[Any]) -> Mesh:
    """Return the mesh (SEED_AXIS, DATA_AXIS) of such sizes."""
    axes = SEED_AXIS, DATA_AXIS
    return jax.make_mesh(
        tuple(sizes), axes, axis_types=(AxisType.Auto,) * 2, devices=devices
    )


class MeshPrograms(NamedTuple):
    """The compiled functions of a run over the devices of a mesh.

    init, advance, finish: as those of `optix.run.programs.Programs`.
    checksums: `(state) -> [S, D] uint32` of all that the D devices of a seed must have
        alike: everything but rollout and memory.
    placed: `(shapes of a state) -> shapes` that say on which devices it is.
    """

    init: Callable[[jax.Array], LoopState]
    advance: Callable[..., tuple]
    finish: Callable[[LoopState], LoopState]
    checksums: Callable[[LoopState], jax.Array]
    placed: Callable[[PyTree], PyTree]


def over_mesh(
    mesh: Mesh,
    init: Callable[[jax.Array], LoopState],
    advance: Callable[..., tuple],
    finish: Callable[[LoopState], LoopState],
    axis_name: str | None,
) -> MeshPrograms:
    """Return the programs of one device over a mesh.

    Args:
      mesh: of the axes SEED_AXIS and DATA_AXIS.
      init: `(keys [s]) -> state [s, ...]` of the s seeds of a device.
      advance: `(state, count) -> (state, reports [s, ...], rounds [s])`.
      finish: `(state) -> state`.
      axis_name: of the agent: DATA_AXIS where devices share the data, else None.

    Raises:
      OptionError: an agent of another axis, or one of a single device where the mesh
        has several for the data.
    """
    if axis_name not in (None, DATA_AXIS):
        raise checks.OptionError(
            f"axis_name must be {DATA_AXIS!r}, the axis of the devices that share the "
            f"data, got {axis_name!r}"
        )
    shared = axis_name is not None
    if mesh.shape[DATA_AXIS] > 1 and not shared:
        raise checks.OptionError(
            f"an agent must be made with axis_name={DATA_AXIS!r} for "
            f"{mesh.shape[DATA_AXIS]} devices to share its data"
        )
    specs = _specs(shared)
    enter, leave = _on_own(shared, lambda x: x[:, 0]), _on_own(shared, _with_axis)
    per_device = partial(jax.shard_map, mesh=mesh, check_vma=False)

    def begin(keys):
        return leave(init(keys))

    def play(state, count):
        state, *told = advance(enter(state), count)
        return leave(state), *told

    def end(state):
        return leave(finish(enter(state)))

    def check(state):
        return jax.vmap(_checksum)(_alike(state) if shared else state)[:, None]

    seeds = P(SEED_AXIS)
    programs = {
        "init": (begin, seeds, specs, ()),
        "advance": (play, (specs, P()), (specs, seeds, seeds), 0),
        "finish": (end, (specs,), specs, ()),
        "checksums": (check, (specs,), P(SEED_AXIS, DATA_AXIS), ()),
    }

    def on(spec):
        return jax.tree.map(partial(NamedSharding, mesh), spec)

    compiled: dict[str, Any] = {
        name: jax.jit(
            per_device(function, in_specs=inside, out_specs=outside),
            in_shardings=on(inside),
            out_shardings=on(outside),
            donate_argnums=donated,
        )
        for name, (function, inside, outside, donated) in programs.items()
    }

    begins = compiled["init"]

    def spread(keys):  # of one process to devices of several
        return begins(
            keys if isinstance(keys, Tracer) else jax.tree.map(on_seeds, keys)
        )

    def on_seeds(keys):
        return place(keys, on(seeds))

    if mesh.is_multi_process:
        compiled["init"] = spread

    def placed(shapes):
        wide = jax.tree.broadcast(on(specs), shapes)
        return jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
            shapes,
            wide,
        )

    return MeshPrograms(**compiled, placed=placed)


def agreed(checksums: jax.Array) -> list[list[int]]:
    """Return the checksums [S, D] of the devices, equal in each row.

    Raises:
      DevicesDifferError: they are not.
    """
    table = np.asarray(checksums)
    for seed, row in enumerate(table):
        if (row != row[0]).any():
            words = ", ".join(f"{word:08x}" for word in row)
            raise DevicesDifferError(
                f"the devices of seed {seed} hold different policies or judgements "
                f"(checksums {words}); what changes a policy by the experience of its "
                f"own device, as a transform may, must take means over {DATA_AXIS!r}. "
                "The checkpoint before is intact"
            )
    return table.tolist()


def _specs(shared: bool) -> Any:
    """Return on which axes of the mesh the parts of a state lie, a prefix of it."""
    if not shared:
        return P(SEED_AXIS)  # whatever state it is, that of a population too
    parts: dict[str, Any] = {name: P(SEED_AXIS) for name in LoopState._fields}
    own = P(SEED_AXIS, DATA_AXIS)
    learner: dict[str, Any] = {"policy": P(SEED_AXIS), "rollout": own, "memory": own}
    parts["learner"] = LearnerState(**learner)
    return LoopState(**parts)


def _on_own(shared: bool, change: Callable) -> Callable[[LoopState], LoopState]:
    """Return `state -> state` that changes what each device of the data axis has."""

    def changed(state):
        learner = state.learner
        rollout, memory = jax.tree.map(change, (learner.rollout, learner.memory))
        learner = learner._replace(rollout=rollout, memory=memory)
        return state._replace(learner=learner)

    return changed if shared else lambda state: state


def _with_axis(x: jax.Array) -> jax.Array:
    return x[:, None]


def _alike(state: LoopState) -> LoopState:
    """Return the part of a state that is the same on all devices of the data axis."""
    return state._replace(learner=state.learner._replace(rollout=(), memory=()))


def _checksum(tree: PyTree) -> jax.Array:
    """Return a checksum [] uint32 of all bits of a tree; one changed word changes it."""
    total = jnp.uint32(0)
    for leaf in jax.tree.leaves(tree):
        words = _words(leaf)
        odd = 2 * jnp.arange(words.size, dtype=jnp.uint32) + 1
        total = total * jnp.uint32(16777619) + (words * odd).sum(dtype=jnp.uint32)
    return total


def _words(leaf: jax.Array) -> jax.Array:
    """Return the bits of an array as uint32, one for each of its words."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    kind = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(leaf, kind).astype(jnp.uint32).ravel()
