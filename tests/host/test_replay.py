"""The replay of the host against a slow list of steps."""

import numpy as np
import pytest

from optix.host.priorities import BRANCHES, SumTree
from optix.host.replay import Replay

DISCOUNT = 0.9


def window(start, ended=(), terminated=(), steps=4, envs=2):
    """Steps of environments that count: row (t, b) shows 100 b + t."""
    t = np.arange(start, start + steps)[:, None] + 100.0 * np.arange(envs)
    flags = []
    for places in (terminated, ended):
        flag = np.zeros((steps, envs), bool)
        for place in places:
            flag[place] = True
        flags.append(flag)
    obs = t[..., None].astype(np.float32)
    return obs, t.astype(np.int64), (t + 0.5).astype(np.float32), *flags, obs + 1


class SlowList:
    """Every step in a list, and returns step by step."""

    def __init__(self):
        self.steps = []  # of each environment: (obs, reward, terminated, truncated, next)

    def add(self, obs, action, reward, terminated, truncated, next_obs):
        for b in range(obs.shape[1]):
            if len(self.steps) <= b:
                self.steps.append([])
            self.steps[b] += [
                (
                    obs[t, b, 0],
                    reward[t, b],
                    terminated[t, b],
                    truncated[t, b],
                    next_obs[t, b, 0],
                )
                for t in range(len(obs))
            ]

    def rows(self, n):
        """{obs: (reward, discount, next_obs)} of up to n steps."""
        rows = {}
        for steps in self.steps:
            for at in range(len(steps)):
                total, power = 0.0, 1.0
                for k in range(at, min(at + n, len(steps))):
                    _, reward, terminated, truncated, after = steps[k]
                    total += power * reward
                    power *= DISCOUNT
                    if terminated or truncated:
                        break
                    begins = steps[k + 1][0] if k + 1 < len(steps) else None
                    if begins != after:
                        break
                rows[steps[at][0]] = total, 0.0 if terminated else power, after
        return rows


def every_row(replay, n, draws=400):
    drawn = replay.sample(np.random.default_rng(0), draws, discount=DISCOUNT, n_step=n)
    return {
        float(obs[0]): (reward, discount, float(after[0]))
        for obs, reward, discount, after in zip(
            drawn.obs, drawn.reward, drawn.discount, drawn.next_obs, strict=True
        )
    }


def check_against(slow, replay, n):
    wanted, got = slow.rows(n), every_row(replay, n)
    assert got.keys() == wanted.keys()
    for obs, row in wanted.items():
        np.testing.assert_allclose(got[obs], row, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_returns_of_several_steps_over_windows_that_go_on(n):
    slow, replay = SlowList(), Replay(100)
    windows = [
        window(0, ended=[(1, 0)], terminated=[(2, 1)]),
        window(4, ended=[(3, 0)]),  # goes on in both, the first ends with it
        window(8, terminated=[(0, 1)]),  # the first begins anew
        window(50),  # fresh episodes in both
    ]
    for x in windows[2]:
        if x.dtype != bool:
            x[:, 0] += 20
    for rows in windows:
        slow.add(*rows)
        replay.add(*rows)
        check_against(slow, replay, n)
    assert len(replay) == 32


@pytest.mark.parametrize("capacity", [8, 10, 13])
def test_the_oldest_are_overwritten_and_nothing_points_at_them(capacity):
    replay, slow = Replay(capacity), SlowList()
    for start in range(0, 40, 4):
        rows = window(start, terminated=[(2, 1)])
        replay.add(*rows)
        slow.add(*rows)
        wanted, got = slow.rows(3), every_row(replay, 3)
        kept = min(capacity // 2, start + 4)
        newest = [100.0 * b + start + 3 - t for t in range(kept) for b in (0, 1)]
        assert set(got) >= set(newest) and len(got) == min(capacity, start * 2 + 8)
        for obs, row in got.items():
            np.testing.assert_allclose(row, wanted[obs], rtol=1e-5)


def test_of_a_window_beyond_the_capacity_the_end_is_kept():
    replay = Replay(6)
    replay.add(*window(0, steps=10))
    assert sorted(every_row(replay, 1)) == [7.0, 8.0, 9.0, 107.0, 108.0, 109.0]


def test_the_discount_of_now_decides():
    replay = Replay(10)
    replay.add(*window(0, steps=2, envs=1))
    rng = np.random.default_rng(0)
    for discount in (0.5, 1.0):
        drawn = replay.sample(rng, 50, discount=discount, n_step=2)
        first = drawn.obs[:, 0] == 0
        np.testing.assert_allclose(drawn.reward[first], 0.5 + discount * 1.5)
        np.testing.assert_allclose(drawn.discount[first], discount**2)


def test_rows_keep_their_own_dtype_and_floats_are_no_more_than_32_bits():
    replay = Replay(10)
    obs = np.full((3, 1, 2, 2), 200, np.uint8)
    flat = np.zeros((3, 1))
    never = np.zeros((3, 1), bool)
    replay.add(obs, flat, flat, never, never, obs)
    drawn = replay.sample(np.random.default_rng(0), 4, discount=1.0)
    assert drawn.obs.dtype == np.uint8 and (drawn.obs == 200).all()
    assert drawn.action.dtype == drawn.reward.dtype == np.float32
    with pytest.raises(ValueError, match=r"obs must be uint8\[2, 2\] as in the rows"):
        replay.add(obs[..., 0], flat, flat, never, never, obs[..., 0])


@pytest.mark.parametrize("prioritised", [False, True])
def test_saved_and_restored_it_goes_on_bit_for_bit(prioritised):
    one, other = (Replay(10, prioritised=prioritised) for _ in range(2))
    other.restore(one.state())
    assert len(other) == 0
    for start in (0, 4, 8):
        one.add(*window(start))
        one.prioritise(np.arange(4), np.arange(1.0, 5))
    other.restore(one.state())
    for replay in (one, other):
        replay.add(*window(70))
    left, right = (
        r.sample(np.random.default_rng(1), 64, discount=0.9, n_step=3)
        for r in (one, other)
    )
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)
    for wrong, match in (
        (Replay(9, prioritised=prioritised), "capacity must be that of the saved"),
        (
            Replay(10, prioritised=not prioritised),
            "prioritised must be as in the saved",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            wrong.restore(one.state())


def test_what_was_saved_does_not_change():
    replay = Replay(10)
    replay.add(*window(0))
    saved = replay.state()
    before = {name: x.copy() for name, x in saved.items()}
    replay.add(*window(30))
    for name, x in before.items():
        np.testing.assert_array_equal(saved[name], x)


def test_rows_are_drawn_by_their_priority():
    replay = Replay(1000, prioritised=True)
    replay.add(*window(0, steps=100, envs=1))
    priority = np.random.default_rng(0).random(100) ** 3
    priority[7] = 0.0
    replay.prioritise(np.arange(100), priority)
    rng, counts = np.random.default_rng(1), np.zeros(100)
    for _ in range(400):
        drawn = replay.sample(rng, 50, discount=1.0, importance_exponent=0.7)
        np.add.at(counts, drawn.index, 1)
    share = priority / priority.sum()
    np.testing.assert_allclose(counts / counts.sum(), share, atol=0.002)
    assert counts[7] == 0
    weight = (100 * share[drawn.index]) ** -0.7
    np.testing.assert_allclose(drawn.weight, weight / weight.max(), rtol=1e-5)


def test_new_rows_have_the_greatest_priority():
    replay = Replay(8, prioritised=True)
    replay.add(*window(0, steps=2, envs=1))
    replay.prioritise(np.array([0, 1, 1]), np.array([0.5, 2.0, 0.1]))  # 2 counts
    replay.add(*window(2, steps=2, envs=1))
    np.testing.assert_array_equal(replay.state()["priority"], [0.5, 2, 2, 2])
    replay.prioritise(np.array([0, 1]), np.array([np.nan, -1.0]))  # nothing
    np.testing.assert_array_equal(replay.state()["priority"], [0.5, 2, 2, 2])


@pytest.mark.parametrize("capacity", [1, BRANCHES, BRANCHES + 1, 5000])
def test_the_tree_finds_what_a_running_sum_finds(capacity):
    rng, tree = np.random.default_rng(0), SumTree(capacity)
    wanted = np.zeros(capacity)
    for _ in range(5):
        index = rng.choice(capacity, min(capacity, 700), replace=False)
        wanted[index] = rng.random(len(index)) * 2.0 ** rng.integers(-20, 5, len(index))
        tree.write(index, wanted[index])
        np.testing.assert_allclose(tree.total, wanted.sum())
        mass = np.append(rng.random(200) * 0.999, 0.0) * wanted.sum()
        found = np.searchsorted(wanted.cumsum(), mass, side="right")
        np.testing.assert_array_equal(tree.find(mass), found)
    # rounding at the very end finds a row that is there
    assert wanted[tree.find(np.array([tree.total * (1 + 1e-12)]))] > 0


def test_wrong_calls():
    for capacity in (0, -1, 1.5, "x", None, True):
        with pytest.raises(ValueError, match="capacity must be an integer"):
            Replay(capacity)
    with pytest.raises(ValueError, match="prioritised must be True or False"):
        Replay(4, prioritised="yes")
    with pytest.raises(ValueError, match="a replay must hold rows"):
        Replay(4).sample(np.random.default_rng(0), 2, discount=0.9)
    with pytest.raises(ValueError, match="capacity must hold a step of each of the 2"):
        Replay(1).add(*window(0))
