"""Normalisers on the host against NumPy on all the data at once."""

import io

import numpy as np
import pytest

from optix import ObsNormalizer, RewardNormalizer


def stream(seed, n=400):
    rng = np.random.default_rng(seed)
    # 1e6 beside a deviation of 1e-3: float32 could not tell the rows apart
    return rng.normal([1e6, -2.0, 0.0], [1e-3, 3.0, 1e-6], size=(n, 3))


def assert_moments(normalizer, rows, rtol=1e-12):
    assert normalizer.count == len(rows)
    np.testing.assert_allclose(normalizer.mean, rows.mean(0), rtol=rtol, atol=1e-15)
    # what the mean at 1e6 loses of its digits, the variance loses as well
    np.testing.assert_allclose(normalizer.var, rows.var(0), rtol=1e-6)


def returns_of(rewards, ended, gamma):
    """Every discounted return along the way, [T, B], by its definition."""
    steps, envs = rewards.shape
    found = np.zeros((steps, envs))
    for env in range(envs):
        for t in range(steps):
            since = t
            while since > 0 and not ended[since - 1, env]:
                since -= 1
            ages = t - np.arange(since, t + 1)
            found[t, env] = (gamma**ages * rewards[since : t + 1, env]).sum()
    return found


# ---------------------------------------------------------------------- observations


@pytest.mark.parametrize("seed", range(3))
def test_any_chunks_give_the_moments_of_the_whole(seed):
    sizes = np.random.default_rng(seed).choice([0, 1, 3, 90], size=12)
    rows = stream(seed, n=sizes.sum())
    normalizer = ObsNormalizer((3,))
    for chunk in np.split(rows, sizes.cumsum()[:-1]):
        normalizer.update(chunk)
    assert_moments(normalizer, rows)


def test_one_by_one_and_in_any_leading_axes():
    rows = stream(3, n=60)
    single, folded = ObsNormalizer((3,)), ObsNormalizer((3,))
    for row in rows:
        single.update(row)
    folded.update(rows.reshape(5, 12, 3))
    assert_moments(single, rows)
    assert_moments(folded, rows)
    images = np.random.default_rng(0).random((20, 4, 5)).astype(np.float32)
    normalizer = ObsNormalizer((4, 5))
    normalizer.update(images)
    assert_moments(normalizer, images.astype(np.float64))
    numbers = ObsNormalizer(())
    numbers.update(rows[:, 1])
    assert_moments(numbers, rows[:, 1])


def test_workers_merge_to_all_at_once():
    parts = np.split(stream(4), [10, 250, 251])
    total = ObsNormalizer((3,))
    for part in parts:
        worker = ObsNormalizer((3,))
        worker.update(part)
        total.merge(worker)
    total.merge(ObsNormalizer((3,)))  # one that has seen nothing
    assert_moments(total, stream(4))


def test_normalize():
    rows = np.random.default_rng(5).normal([5.0, -3.0], [2.0, 0.1], size=(300, 2))
    normalizer = ObsNormalizer((2,), clip=2.0)
    np.testing.assert_array_equal(normalizer.normalize([1.5, -9.0]), [1.5, -2.0])
    normalizer.update(rows)
    got = normalizer.normalize(rows)
    expected = ((rows - rows.mean(0)) / rows.std(0)).clip(-2, 2)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    before = normalizer.state()
    normalizer.normalize(rows + 1)  # looking changes nothing
    assert all((normalizer.state()[name] == before[name]).all() for name in before)
    free = ObsNormalizer((2,), clip=np.inf)
    assert free.normalize([1e9, 0.0])[0] == np.float32(1e9)


def test_observations_that_are_not_finite_are_left_out():
    rows = stream(6, n=50)
    spoilt = rows.copy()
    spoilt[4, 0], spoilt[30, 1] = np.nan, -np.inf
    normalizer = ObsNormalizer((3,))
    normalizer.update(spoilt)
    normalizer.update([np.nan] * 3)
    assert_moments(normalizer, np.delete(rows, [4, 30], 0))


# --------------------------------------------------------------------------- rewards


@pytest.mark.parametrize("gamma", [0.99, 0.0, 1.0])
def test_the_deviation_is_that_of_all_returns(gamma):
    rng = np.random.default_rng(7)
    rewards = rng.normal(1, 2, size=(200, 4))
    ended = rng.random((200, 4)) < 0.05
    normalizer = RewardNormalizer(gamma, num_envs=4)
    for reward, end in zip(rewards, ended, strict=True):
        normalizer.step(reward)
        normalizer.reset(end)
    returns = returns_of(rewards, ended, gamma)
    assert normalizer.count == 800
    np.testing.assert_allclose(normalizer.mean, returns.mean(), rtol=1e-12)
    np.testing.assert_allclose(normalizer.var, returns.var(), rtol=1e-12)
    expected = (rewards / returns.std()).clip(-10, 10)
    np.testing.assert_allclose(normalizer.normalize(rewards), expected, rtol=1e-6)
    assert (np.sign(normalizer.normalize(rewards)) == np.sign(rewards)).all()


def test_environments_side_by_side_are_workers_merged():
    rewards = np.random.default_rng(8).normal(size=(150, 3))
    together = RewardNormalizer(num_envs=3)
    alone = [RewardNormalizer() for _ in range(3)]
    for row in rewards:
        together.step(row)
        for worker, reward in zip(alone, row, strict=True):
            worker.step(reward)
    total = RewardNormalizer()
    for worker in alone:
        total.merge(worker)
    assert total.count == together.count == 450
    np.testing.assert_allclose(total.mean, together.mean, rtol=1e-12)
    np.testing.assert_allclose(total.var, together.var, rtol=1e-12)


def test_the_first_rewards_are_not_blown_up():
    normalizer, seen = RewardNormalizer(), []
    for _ in range(5):
        normalizer.step(1.0)
        seen.append(float(normalizer.normalize(1.0)))
    # from the second on, one over the deviation of as many returns
    returns = [(1 - 0.99**n) / 0.01 for n in range(1, 6)]
    expected = [1.0, *(1 / np.std(returns[:n]) for n in range(2, 6))]
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    np.testing.assert_allclose(seen, [1, 2.02, 1.24, 0.91, 0.73], atol=0.01)


def test_returns_that_never_differ_leave_rewards_alone():
    normalizer = RewardNormalizer(gamma=0.0, num_envs=3)
    for _ in range(7):
        normalizer.step([0.1, 0.1, 0.1])
    assert normalizer.var == 0
    np.testing.assert_allclose(normalizer.normalize([0.1, 40.0]), [0.1, 10.0])


def test_a_reward_that_is_not_finite_is_left_out():
    normalizer = RewardNormalizer(gamma=0.5)
    for reward in (4.0, np.nan, 1.0, np.inf, 3.0, 2.0):
        normalizer.step(reward)
    returns = np.array([4.0, 1.0, 3.0, 3.5])
    assert normalizer.count == 4
    np.testing.assert_allclose(normalizer.var, returns.var())


# ----------------------------------------------------------------- states and refusals


def test_a_state_goes_on_where_it_was_saved():
    rng = np.random.default_rng(9)
    rewards, rows = rng.normal(size=(60, 2)), stream(9, n=60)
    whole, first, second = (RewardNormalizer(num_envs=2) for _ in range(3))
    obs_whole, obs_first, obs_second = (ObsNormalizer((3,)) for _ in range(3))
    for t in range(60):
        if t == 30:
            file = io.BytesIO()
            np.savez(file, **first.state())  # plain arrays: nothing to pickle
            file.seek(0)
            second.restore(np.load(file, allow_pickle=False))
            obs_second.restore(obs_first.state())
        for normalizer in (whole, first if t < 30 else second):
            normalizer.step(rewards[t])
        for normalizer in (obs_whole, obs_first if t < 30 else obs_second):
            normalizer.update(rows[t])
    for a, b in ((whole, second), (obs_whole, obs_second)):
        assert a.state().keys() == b.state().keys()
        for name, value in a.state().items():
            np.testing.assert_array_equal(value, b.state()[name])
    obs_second.state()["mean"][:] = 7.0  # a copy
    np.testing.assert_array_equal(obs_second.mean, obs_whole.mean)


def test_what_is_refused():
    for words, wrong in [
        ("clip must be > 0, got 0", lambda: ObsNormalizer((3,), clip=0)),
        ("gamma must be in", lambda: RewardNormalizer(gamma=1.5)),
        ("num_envs must be an integer >= 1", lambda: RewardNormalizer(num_envs=0)),
        (
            r"\[..., 3\].*shape \(4, 2\)",
            lambda: ObsNormalizer((3,)).update([[1, 2]] * 4),
        ),
        ("hold 1 numbers.*num_envs", lambda: RewardNormalizer().step([1.0, 2.0])),
        ("must be a ObsNorm", lambda: ObsNormalizer((3,)).merge(RewardNormalizer())),
        (
            r"of observations \(3,\), got \(2,\)",
            lambda: ObsNormalizer((3,)).merge(ObsNormalizer((2,))),
        ),
        (
            "gamma 0.99, got 0.9;",
            lambda: RewardNormalizer().merge(RewardNormalizer(0.9)),
        ),
        (
            "returns of the state must have.*got nothing",
            lambda: RewardNormalizer().restore(ObsNormalizer(()).state()),
        ),
        (
            "mean of the state must have the shape",
            lambda: ObsNormalizer((3,)).restore(ObsNormalizer((2,)).state()),
        ),
        (
            "unknown entry of the state 'means'; did you mean 'mean'",
            lambda: ObsNormalizer((3,)).restore({"means": 0}),
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            wrong()
