"""How agents run a network over a window of experience, and learn from parts of it."""

import operator
from collections.abc import Callable
from typing import NamedTuple

import jax

from optix import checks
from optix.networks.sequence import run_sequence
from optix.types import Network, PyTree, Trajectory


class Batch(NamedTuple):
    """What a minibatch holds; `N` samples."""

    obs: (
        PyTree  # [N, ...] float32, normalised, or uint8; `Masked` where there are masks
    )
    action: jax.Array  # [N, ...]
    log_prob: jax.Array | tuple  # [N] float32 of the behaviour, () where it has none
    advantage: jax.Array  # [N] float32
    value: jax.Array  # [N] float32 before the update


class Reading(NamedTuple):
    """How an agent runs its network over a window and learns from parts of it.

    agent: its name, for messages.
    count: `(num_steps, num_envs) -> int` rows of a window; raises ValueError where
        they do not fit.
    unit: what the rows are, for messages.
    values: `(params, structure, obs [T, B, ...], trajectory, see) -> [T, B]`, of the
        observations acted on; `see` makes of them what the network takes.
    value_after: `(params, structure, carry [B, ...], obs [B, ...], next_obs [B, ...]) ->
        [B]`, of the observation that followed one, with the carry that acting had.
    rows: `(batch [T, B, ...], trajectory) -> rows [N, ...]`, what a minibatch takes whole.
    outputs: `(params, structure, rows [M, ...], see) -> (outputs, batch)` of a minibatch.
    """

    agent: str
    count: Callable[[int, int], int]
    unit: str
    values: Callable[..., jax.Array]
    value_after: Callable[..., jax.Array]
    rows: Callable[[Batch, Trajectory], PyTree]
    outputs: Callable[..., tuple[PyTree, Batch]]


def stretches(
    length: int,
) -> tuple[Callable[[int, int], int], Callable[[jax.Array], jax.Array]]:
    """Return what cuts a window into sequences of `length` steps.

    Returns:
      `(num_steps, num_envs) -> int` sequences, which raises ValueError where the length
      does not divide the steps; and `(x [T, B, ...]) -> [N, length, ...]`.
    """
    checks.positive_int("sequence_length", length)

    def count(num_steps, num_envs):
        if num_steps % length:
            raise checks.OptionError(
                f"the steps of a window must be divisible by sequence_length={length}, "
                f"got {num_steps}"
            )
        return num_steps // length * num_envs

    def cut(x):
        # parts of a carry may be empty, of which no size can be inferred
        blocks, rest = x.shape[0] // length, x.shape[1:]
        x = x.reshape(blocks, length, *rest).swapaxes(1, 2)
        return x.reshape(blocks * rest[0], length, *rest[1:])

    return count, cut


def single_samples(agent: str, network: Network, parts: int) -> Reading:
    """Return how a feed-forward network reads a window: every sample by itself.

    The values of a window are found in so many `parts` of it: all at once, the hidden
    layers of all its samples would take more memory than anything else does.
    """

    def values(params, structure, obs, trajectory, see):
        rows = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[2:]), obs)
        value = jax.lax.map(
            lambda part: network.apply(params, structure, (), see(part))[1][1], rows
        )
        return value.reshape(trajectory.reward.shape)

    def value_after(params, structure, carry, obs, next_obs):
        del carry, obs
        return network.apply(params, structure, (), next_obs)[1][1]

    def rows(batch, trajectory):
        del trajectory
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def outputs(params, structure, part, see):
        return network.apply(params, structure, (), see(part.obs))[1], part

    unit = "samples of a window (num_steps * num_envs)"
    return Reading(agent, operator.mul, unit, values, value_after, rows, outputs)


class Sequences(NamedTuple):
    """`N` stretches of a window, each of `S` steps."""

    batch: Batch  # [N, S, ...]
    ended: jax.Array  # [N, S] bool: the step ended its episode
    carry: PyTree  # [N, ...] before the first step


def sequences(agent: str, network: Network, sequence_length: int) -> Reading:
    """Return how a network with a carry reads a window: in sequences of so many steps.

    Gradients flow back through the carry to a sequence's first step, which starts from
    the carry that acting had there. Within a sequence the carry is fresh after an
    episode's end, as it was in acting. A network without a carry reads blocks of samples.
    """
    count, cut = stretches(sequence_length)

    def values(params, structure, obs, trajectory, see):
        if "carry" in trajectory.extras:
            return trajectory.extras["value"]
        return network.apply(params, structure, (), see(obs))[1][1]

    def value_after(params, structure, carry, obs, next_obs):
        after, _ = network.apply(params, structure, carry, obs)
        return network.apply(params, structure, after, next_obs)[1][1]

    def rows(batch, trajectory):
        num_steps, num_envs = trajectory.reward.shape
        number = count(num_steps, num_envs)
        first = jax.tree.map(
            # parts of a carry may be empty, of which no size can be inferred
            lambda x: x[::sequence_length].reshape(number, *x.shape[2:]),
            trajectory.extras.get("carry", ()),
        )
        ended = trajectory.terminated | trajectory.truncated
        return Sequences(jax.tree.map(cut, batch), cut(ended), first)

    def outputs(params, structure, part, see):
        batch, ended = jax.tree.map(
            lambda x: x.swapaxes(0, 1), (part.batch, part.ended)
        )
        _, outputs = run_sequence(
            network, params, structure, part.carry, see(batch.obs), ended
        )
        return outputs, batch

    unit = "sequences of a window (num_steps / sequence_length * num_envs)"
    return Reading(agent, count, unit, values, value_after, rows, outputs)
