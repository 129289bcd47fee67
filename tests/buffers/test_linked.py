"""Observations kept once: every row comes out as it went in, and half the memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from scipy import stats

import optix
from optix.buffers.compact import compact
from optix.buffers.linked import linked
from optix.buffers.prioritised import prioritised
from optix.buffers.uniform import uniform
from optix.types import Transition

ZERO = jnp.zeros(())
ROW = Transition(jnp.zeros(2), jnp.int32(0), ZERO, ZERO, jnp.zeros(2))


def stream(rng, steps, n_step, end):
    """Rows of one environment, (obs, next_obs) each.

    Its episodes end with the chance `end` at each step, or have `end` steps if it is
    above 1.
    """
    rows = []
    while len(rows) < steps:
        length = rng.geometric(end) if end <= 1 else end
        obs = rng.normal(size=(length + 1, 2)).astype(np.float32)
        rows += [(obs[t], obs[min(t + n_step, length)]) for t in range(length)]
    return rows[:steps]


def pushes(rng, streams, steps, n_step, end):
    """[steps, streams] transitions whose action is their number."""
    rows = [stream(rng, steps, n_step, end) for _ in range(streams)]
    obs, next_obs = np.array(rows).transpose(2, 1, 0, 3)  # of [streams, steps, 2, ...]
    names = np.arange(steps * streams, dtype=np.int32).reshape(steps, streams)
    reward = names.astype(np.float32)
    return Transition(obs, names, reward, np.ones_like(reward), next_obs)


def filled(storage, rows, valid):
    """The state after all pushes."""

    def push(state, inputs):
        return storage.push(state, *inputs)[0], None

    return jit(
        lambda rows, valid: jax.lax.scan(push, storage.init(ROW), (rows, valid))
    )(rows, valid)[0]


@pytest.mark.parametrize(
    ("streams", "known", "n_step", "end", "rejected"),
    [
        (3, 3, 1, 0.1, 0.0),
        (3, 3, 1, 0.1, 0.2),
        (3, 8, 3, 0.05, 0.0),
        (3, 3, 3, 0.5, 0.2),  # episodes shorter than the steps of a row
        (2, 2, 5, 1.0, 0.0),  # of one step each
        (4, 2, 1, 0.1, 0.0),  # two streams more than announced
    ],
)
def test_rows_come_out_as_they_went_in(streams, known, n_step, end, rejected):
    rng, capacity, steps = np.random.default_rng(0), 64, 300
    storage = linked(capacity, known, n_step)
    given = pushes(rng, streams, steps, n_step, end)
    valid = rng.random((steps, streams)) >= rejected
    state = filled(storage, given, valid)
    place = np.flatnonzero(state.link >= 0)
    assert len(place) == int(storage.size(state))
    rows = storage.rows(state, place)
    names = np.asarray(rows.action)
    assert len(set(names)) == len(names)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), given)
    expected = jax.tree.map(lambda x: x[names], flat)
    jax.tree.map(np.testing.assert_array_equal, rows, expected)
    # the youngest are there: at most two observations were written for each since
    assert valid.ravel()[names].all()
    newest = np.flatnonzero(valid.ravel())[-capacity // 2 + 2 * streams :]
    assert set(newest) <= set(names)


@pytest.mark.parametrize("silent", range(1, 9))
def test_a_stream_goes_on_after_others_wrote_for_long(silent):
    storage, obs = linked(8, 2, 1), np.arange(40.0, dtype=np.float32)
    own, other = obs[:3], obs[3:]
    state = storage.init(ROW._replace(obs=ZERO, next_obs=ZERO))
    push = jit(storage.push)

    def pair(t, start, end):
        others = other[2 * t], other[2 * t + 1]  # continues nothing
        starts, ends = np.array([start, others[0]]), np.array([end, others[1]])
        name = np.array([100 + t, t], np.int32)
        return Transition(starts, name, starts, ends, ends)

    for t in range(silent + 1):
        speaks = t in (0, silent)
        start = 0 if t == 0 else 1
        rows = pair(t, own[start], own[start + 1])
        state, *_ = push(state, rows, np.array([speaks, True]))
    place = np.flatnonzero(state.link >= 0)
    rows = storage.rows(state, place)
    np.testing.assert_array_equal(rows.obs, rows.reward)
    np.testing.assert_array_equal(rows.next_obs, rows.discount)
    assert len(place) == int(state.size)
    assert {silent, 100 + silent} <= set(np.asarray(rows.action).tolist())


@pytest.mark.parametrize("n_step", [1, 4])
def test_an_episode_takes_one_place_more_than_it_has_rows(n_step):
    streams, length, episodes = 2, 20, 5
    rng = np.random.default_rng(1)
    rows = pushes(rng, streams, episodes * length, n_step, length)
    storage = linked(1000, streams, n_step)
    state = filled(storage, rows, np.ones(rows.reward.shape, bool))
    assert int(state.size) == streams * episodes * length
    assert int(state.filled) == streams * episodes * (length + 1)


def drawn(buffer, rows, batches, update=None):
    """How often each row was sampled, and the names of those stored."""

    def push(state, rows):
        return buffer.add(state, rows, jnp.ones(rows.reward.shape, bool)), None

    state, _ = jit(lambda rows: jax.lax.scan(push, buffer.init(ROW), rows))(rows)
    inner = getattr(state, "ring", state)
    place = np.flatnonzero(inner.link >= 0)
    names = np.asarray(inner.items.action)[place]
    if update is not None:
        priority = update(names).astype(np.float32)
        state = buffer.update(state, place, priority, True)
        # no priority for a place without a row
        bare = np.flatnonzero(inner.link < 0)
        state = buffer.update(state, bare, np.ones(len(bare), np.float32), True)
    draw = jit(jax.vmap(lambda key: buffer.sample(state, key, 64, 0.5).items.action))
    sampled = np.ravel(draw(jax.random.split(jax.random.key(0), batches)))
    return np.array([(sampled == name).sum() for name in names]), names, sampled


def test_every_row_is_equally_likely():
    rows = pushes(np.random.default_rng(2), 2, 100, 1, 0.4)
    counts, names, sampled = drawn(uniform(80, streams=2), rows, 200)
    assert len(names) < 70  # many observations have no row
    assert counts.sum() == len(sampled)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_rows_are_as_likely_as_their_priority():
    rows = pushes(np.random.default_rng(3), 2, 100, 1, 0.4)
    counts, names, sampled = drawn(
        prioritised(80, streams=2), rows, 200, lambda names: 1.0 + names % 7
    )
    assert counts.sum() == len(sampled)
    expected = (1.0 + names % 7) / (1.0 + names % 7).sum() * counts.sum()
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("kind", [uniform, prioritised])
def test_an_empty_buffer_gives_zeros(kind):
    buffer = kind(9, streams=2)
    sample = jit(lambda key: buffer.sample(buffer.init(ROW), key, 4, 0.5))(
        jax.random.key(0)
    )
    assert not any(np.any(x) for x in jax.tree.leaves(sample.items))
    assert int(buffer.size(buffer.init(ROW))) == 0


def test_seeds_side_by_side_are_a_loop():
    buffer = prioritised(30, streams=2, n_step=2)
    rng = np.random.default_rng(4)
    rows = [pushes(rng, 2, 40, 2, 0.2) for _ in range(3)]
    keys = jax.random.split(jax.random.key(1), 40)

    def story(rows):
        def turn(state, inputs):
            rows, key = inputs
            state = buffer.add(state, rows, jnp.ones(2, bool))
            sample = buffer.sample(state, key, 4, 0.5)
            priority = 1.0 + sample.items.reward % 3
            return buffer.update(state, sample.index, priority, True), sample

        return jax.lax.scan(turn, buffer.init(ROW), (rows, keys))

    together = jit(jax.vmap(story))(jax.tree.map(lambda *x: np.stack(x), *rows))
    for seed in range(3):
        alone = jit(story)(rows[seed])
        for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(x[seed], y, rtol=1e-6)


@pytest.mark.parametrize(("agent", "n_step"), [("dqn", 1), ("rainbow", 3)])
def test_a_learner_stores_the_same_rows(agent, n_step):
    sizes = dict(num_envs=2, num_steps=64, batch_size=4, learning_starts=1000)
    sizes |= dict(hidden=(8,), evaluation_episodes=1, n_step=n_step, capacity=400)
    rows = []
    for one_copy in (False, True):
        learner = optix.make("CartPole-v1", agent, one_copy=one_copy, **sizes).learner
        state, _ = jit(
            lambda state, key, learner=learner: learner.step(
                state, learner.hyperparams, key, True
            )
        )(learner.init(jax.random.key(0)), jax.random.key(1))
        replay = getattr(state.memory.replay, "ring", state.memory.replay)
        if one_copy:
            place = np.flatnonzero(replay.link >= 0)
            stored = linked(400, 4, n_step).rows(replay, place)
        else:
            stored = jax.tree.map(lambda x, n=replay.size: x[:n], replay.items)
        flat = [np.asarray(x).reshape(len(x), -1) for x in stored]
        flat = np.concatenate(flat, 1, dtype=np.float64)
        rows.append(flat[np.lexsort(flat.round(4).T)])
    np.testing.assert_allclose(*rows, rtol=1e-4, atol=1e-6)
    assert len(rows[0]) == 2 * (64 - n_step + 1)
    assert int(replay.filled) < 1.2 * len(rows[0])  # not two observations for each


@pytest.mark.parametrize("agent", ["dqn", "rainbow"])
def test_images_are_kept_once_in_half_of_the_memory(agent):
    nbytes = []
    for one_copy in (False, None):
        learner = optix.make("Breakout-MinAtar", agent, one_copy=one_copy).learner
        memory = jax.eval_shape(learner.init, jax.random.key(0)).memory
        nbytes.append(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(memory)))
    assert nbytes[1] < 0.51 * nbytes[0]


def test_a_smaller_type_and_one_copy():
    rows = pushes(np.random.default_rng(5), 2, 20, 1, 0.1)
    whole = rows._replace(obs=np.round(rows.obs), next_obs=np.round(rows.next_obs))
    counts, names, _ = drawn(compact(uniform(70, streams=2), "int8"), whole, 2)
    assert counts.sum() == 128 and len(names) == 40


def test_wrong_calls():
    with pytest.raises(ValueError, match="streams must be an integer >= 0, got -1"):
        uniform(10, streams=-1)
    with pytest.raises(ValueError, match="n_step must be an integer >= 1, got 0"):
        prioritised(10, streams=1, n_step=0)
    buffer = uniform(8, streams=2)
    with pytest.raises(ValueError, match=r"must be .*Transition.*leave streams at 0"):
        buffer.init({"obs": ZERO})
    with pytest.raises(ValueError, match="obs and next_obs of a row must be alike"):
        buffer.init(ROW._replace(next_obs=ZERO))
    rows = jax.tree.map(lambda x: jnp.zeros((5, *x.shape), x.dtype), ROW)
    with pytest.raises(ValueError, match="at most capacity / 2 = 4 rows"):
        buffer.add(buffer.init(ROW), rows, jnp.ones(5, bool))
    with pytest.raises(ValueError, match="one_copy must be True, False or None, got 3"):
        optix.make("CartPole-v1", "dqn", one_copy=3)
    with pytest.raises(ValueError, match="one_copy must be None or False with"):
        optix.make("CartPole-v1", "dqn", one_copy=True, buffer=uniform(100))
    with pytest.raises(
        ValueError, match=r"at least 4 \* n_step \* num_envs \* lanes = 32"
    ):
        optix.make("CartPole-v1", "dqn", one_copy=True, capacity=31, batch_size=8)
