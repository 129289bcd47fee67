"""What holds for every replay; a new one is tested by being in the table."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.buffers.compact import compact
from optix.buffers.prioritised import prioritised
from optix.buffers.uniform import uniform
from optix.trees import differs
from optix.types import LANE_AXIS, Transition

CAPACITY, TURNS, ROWS, BATCH = 16, 20, 3, 4
KINDS = {
    "uniform": uniform,
    "prioritised": prioritised,
    "compact": lambda capacity: compact(uniform(capacity), "float16"),
    "compact prioritised": lambda capacity: compact(prioritised(capacity), "float16"),
    "linked": lambda capacity: uniform(capacity, streams=ROWS),
    "linked prioritised": lambda capacity: prioritised(capacity, streams=2, n_step=2),
    "compact linked": lambda capacity: compact(uniform(capacity, streams=ROWS), "int8"),
}
ITEM = Transition(
    jnp.zeros(2), jnp.int32(0), jnp.float32(0), jnp.float32(0), jnp.zeros(2)
)


def named(names):
    """Rows whose content is their name."""
    number = jnp.asarray(names, jnp.float32)
    obs = jnp.stack([number, -number], -1)
    return Transition(obs, jnp.asarray(names, jnp.int32), number, number + 0.5, -obs)


NAMES = 1 + np.arange(TURNS * ROWS).reshape(TURNS, ROWS)
VALID = np.random.default_rng(0).random((TURNS, ROWS)) < 0.7
VALID[0, 0] = True


@pytest.fixture(params=KINDS, scope="module")
def buffer(request):
    return KINDS[request.param](CAPACITY)


def story(buffer, key, exponent):
    """Turns of add, sample and update, and whether rows that are not valid told."""

    def turn(state, inputs):
        names, valid, key = inputs
        sample_key, priority_key = jax.random.split(key)
        state = buffer.add(state, named(names), valid)
        told = differs(state, buffer.add(state, named(-names), jnp.zeros(ROWS, bool)))
        sample = buffer.sample(state, sample_key, BATCH, exponent)
        priority = jax.random.uniform(priority_key, (BATCH,))
        told |= differs(state, buffer.update(state, sample.index, priority, False))
        state = buffer.update(state, sample.index, priority, True)
        return state, (sample, buffer.size(state), told)

    keys = jax.random.split(key, TURNS)
    return jax.lax.scan(turn, buffer.init(ITEM), (NAMES, VALID, keys))[1]


@pytest.fixture(scope="module")
def alone(buffer):
    """The story, compiled; it refuses to be traced again."""
    traces = []

    @jit
    def run(key, exponent):
        traces.append(exponent)
        assert len(traces) == 1, "a float that changes must not trace again"
        return story(buffer, key, exponent)

    return run


def test_only_stored_rows_come_out_as_they_went_in(alone):
    for exponent in (0.4, 1.0):  # another float is not another program
        sample, size, told = alone(jax.random.key(0), exponent)
        assert not told.any()
        for turn in range(TURNS):
            given = NAMES[: turn + 1][VALID[: turn + 1]]
            got = np.asarray(sample.items.action[turn])
            assert set(got) <= set(given[-CAPACITY:])
            assert 0 < size[turn] <= min(len(given), CAPACITY)
            rows = jax.tree.map(lambda x, turn=turn: x[turn], sample.items)
            jax.tree.map(np.testing.assert_array_equal, rows, named(got))
        assert ((sample.weight > 0) & (sample.weight <= 1)).all()


def test_seeds_side_by_side_are_a_loop(buffer, alone):
    keys = jax.random.split(jax.random.key(1), 2)
    together = jit(jax.vmap(lambda key: story(buffer, key, 0.5)))(keys)
    for seed, key in enumerate(keys):
        one, many = alone(key, 0.5), jax.tree.map(lambda x, s=seed: x[s], together)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), many, one
        )


def test_lanes_share_one_unbatched_state(buffer):
    def lane(state, names, priority, key):
        gather = lambda x: jax.lax.all_gather(x, LANE_AXIS, tiled=True)  # noqa: E731
        state = buffer.add(state, named(gather(names)), jnp.ones(4, bool))
        sample = buffer.sample(state, key, 2, 0.5)
        index, priority = gather(sample.index), gather(priority)
        return buffer.update(state, index, priority, True)

    # out_axes=None is refused for a state that took on a lane axis
    lanes = jax.vmap(
        lane, in_axes=(None, 0, 0, None), out_axes=None, axis_name=LANE_AXIS
    )
    names, priority = jnp.array([[1, 2], [3, 4]]), jnp.ones((2, 2))
    state = jax.eval_shape(buffer.init, ITEM)
    after = jax.eval_shape(lanes, state, names, priority, jax.random.key(0))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


def test_an_empty_one_gives_zeros(buffer):
    sample = buffer.sample(buffer.init(ITEM), jax.random.key(0), 4, 0.5)
    assert not any(np.any(x) for x in jax.tree.leaves(sample.items))
    np.testing.assert_array_equal(sample.weight, np.ones(4))
    np.testing.assert_array_equal(sample.index, np.zeros(4))


def test_a_fresh_state_can_be_donated(buffer):
    """Two leaves that share their memory could not be."""
    leaves = jax.tree.leaves(buffer.init(ITEM))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_capacity_does_not_wrap(kind):
    buffer = KINDS[kind](2**31 - 1)

    def turn():
        state = buffer.add(buffer.init(ITEM), named([1, 2, 3]), jnp.ones(3, bool))
        return buffer.sample(state, jax.random.key(0), 2, 0.5)

    assert jax.eval_shape(turn).index.shape == (2,)
