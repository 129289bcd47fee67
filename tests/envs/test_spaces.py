"""Spaces: known by their type, honoured entry by entry."""

import gymnasium
import gymnasium.spaces as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from optix.envs.actions import action_decoder, action_space
from optix.envs.device import device
from optix.envs.hosted import hosted
from optix.host.jax_view import view
from optix.types import Box, Discrete, MultiDiscrete
from tests import probes

INF, HUGE = float("inf"), 3e38
MAX = float(np.finfo(np.float32).max)
ACTIONS = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], np.float32)
INSIDE = np.clip(ACTIONS, -1, 1).astype(np.float64)


def decoded(space):
    decode = action_decoder("Odd", space)
    size = action_space("Odd", space).shape[0]
    return np.stack([np.ravel(decode(jnp.full(size, action))) for action in ACTIONS], 1)


@pytest.mark.parametrize("kind", [spaces.Box, gym.Box])
def test_every_entry_of_a_box_by_itself(kind):
    ends = [  # low, high, what the actions become
        (-2.0, 6.0, 2.0 + 4.0 * INSIDE),
        (-HUGE, HUGE, HUGE * INSIDE),
        (-MAX, MAX, MAX * INSIDE),
        (0.0, MAX, MAX * (1 + INSIDE) / 2),
        (-1e-36, 1e-36, 1e-36 * INSIDE),
        (5.0, 5.0, 5.0 + 0.0 * INSIDE),
        (-INF, INF, ACTIONS),
        (5.0, INF, 5.0 + np.maximum(ACTIONS + 1, 0)),
        (-INF, 5.0, 5.0 + np.minimum(ACTIONS - 1, 0)),
        (-HUGE, INF, -HUGE + 0.0 * INSIDE),
    ]
    low, high, expected = (list(column) for column in zip(*ends, strict=True))
    low, high = np.array(low, np.float32), np.array(high, np.float32)
    found = decoded(kind(low, high, (len(ends),), np.float32))
    np.testing.assert_allclose(found, np.array(expected, np.float64), rtol=1e-6)
    assert (found >= low[:, None]).all() and (found <= high[:, None]).all()


def test_ends_beyond_float32_are_infinite():
    found = decoded(gym.Box(-1e300, 1e300, (1,), np.float64))
    np.testing.assert_array_equal(found, [ACTIONS])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_actions_have_the_dtype_of_their_box(dtype):
    action = action_decoder("Odd", spaces.Box(-2, 2, (2,), dtype))(jnp.ones(2))
    assert action.dtype == dtype and action.tolist() == [2, 2]


def test_discrete_actions_begin_at_their_start():
    space = gym.Discrete(3, start=-1)
    assert action_space("Odd", space) == Discrete(3)
    assert action_decoder("Odd", space)(jnp.arange(3)).tolist() == [-1, 0, 1]
    assert view(lambda: Counted(space)).restore(np.array([-1, 1])).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("space", "sizes", "seen"),
    [
        (gym.MultiDiscrete([3, 2]), (3, 2), [2, 1]),
        (
            gym.MultiDiscrete([[3, 2], [1, 4]], start=[[5, 0], [-1, 0]]),
            (3, 2, 1, 4),
            [[7, 1], [-1, 3]],
        ),
        (gym.MultiBinary([1, 2]), (2, 2), [[1, 1]]),
    ],
)
def test_several_choices_have_the_shape_and_the_starts_of_their_space(
    space, sizes, seen
):
    assert action_space("Odd", space) == MultiDiscrete(sizes)
    last = jnp.array(sizes) - 1
    found = np.asarray(action_decoder("Odd", space)(last))
    assert found.tolist() == seen and space.contains(found.astype(space.dtype))
    restored = view(lambda: Counted(space)).restore(found[None])
    assert restored.tolist() == [list(np.array(sizes) - 1)]


class Counted(gymnasium.Env):
    """Shows the action that it was given; what lies outside its space is an error."""

    def __init__(self, actions):
        self.action_space, self.observation_space = actions, gym.Box(-9, 9, (1,))

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert action in self.action_space
        return np.full(1, np.ravel(action)[-1], np.float32), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("space", "actions", "seen"),
    [
        (gym.Discrete(3, start=-1), np.array([0, 2]), [-1, 1]),
        (gym.Box(2, 7, (1,), np.int64), np.array([[-0.5], [3.0]]), [3, 7]),
        (gym.Box(-2, 2, (), np.float32), np.array([[-0.5], [3.0]]), [-1, 2]),
        (gym.MultiDiscrete([3, 2], start=[5, 2]), np.array([[0, 0], [1, 1]]), [2, 3]),
        (gym.MultiBinary([1, 2]), np.array([[0, 0], [1, 1]]), [0, 1]),
    ],
)
def test_environments_on_the_host_are_given_what_they_take(space, actions, seen):
    env = hosted(lambda: Counted(space))
    on = jnp.bool_(True)
    state, _, _ = env.claim(jax.random.key(0), *env.reset(None, 2), 1, on)
    _, step = env.step(None, state, jnp.asarray(actions))
    assert step.obs.ravel().tolist() == seen


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_integers_of_a_box_are_the_nearest_within_its_ends(dtype):
    found = decoded(gym.Box(2, 7, (1,), dtype))
    # -0.5 lies at 3.25, 0.5 at 5.75
    assert found.tolist() == [[2, 2, 3, 4, 6, 7, 7]] and found.dtype.kind in "iu"


@pytest.mark.parametrize("kind", [spaces.Box, gym.Box])
def test_large_integers_stay_within_ends_that_float32_rounds(kind):
    ends = -16_777_219, 16_777_219  # float32 has the neighbours 16_777_220
    found = decoded(kind(*ends, (1,), np.int32))
    assert [found.min(), found.max()] == list(ends)


def with_space(kind, space):
    return type("Odd", (probes.Probe,), {kind: lambda self, params: space})()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        *(
            (
                space,
                "actions of Odd must be Discrete, MultiDiscrete or a Box of .*; number",
            )
            for space in (
                spaces.Box(0, 1, (1,), jnp.bool_),
                gym.Text(3),
                gym.Tuple([gym.Discrete(2)]),
                type("Mine", (), {"n": 3})(),
                None,
            )
        ),
        (spaces.Discrete(0), "actions of Odd must have at least one value"),
        (gym.Discrete(2, start=2**31 - 1), "actions of Odd must be numbers of int32"),
        (
            gym.Discrete(2, start=-(2**31) - 1),
            "actions of Odd must be numbers of int32",
        ),
        (
            gym.MultiDiscrete([2, 2], start=[0, 2**40]),
            "actions of Odd must be numbers of",
        ),
        (spaces.Box(-1, 1, (0,)), "actions of Odd must have at least one entry"),
        (spaces.Box(1, -1, (1,)), "bounds of actions of Odd must be low <= high"),
        (spaces.Box(float("nan"), 1, (1,)), "bounds of actions of Odd"),
        (spaces.Box(INF, INF, (1,)), "bounds of actions of Odd"),
        (spaces.Box(-jnp.ones(3), jnp.ones(3), (2,)), "bounds of actions of Odd"),
    ],
)
def test_actions_that_no_agent_can_take(space, message):
    with pytest.raises(ValueError, match=message):
        device(with_space("action_space", space))


@pytest.mark.parametrize(
    "space",
    [
        gym.Text(3),
        gym.Sequence(gym.Discrete(2)),
        type("Mine", (), {"n": 3})(),
        type("Mine", (), {"low": 0, "high": 1, "shape": (1,)})(),
    ],
)
def test_observations_that_no_agent_can_take(space):
    message = "observations of Odd must be a Box, Discrete, .* of these, got .*; make"
    with pytest.raises(ValueError, match=message):
        device(with_space("observation_space", space))


def test_discrete_observations_begin_at_their_start():
    class Counts(probes.Probe):
        def observation_space(self, params):
            return gym.Discrete(3, start=1)

        def reset_env(self, key, params):
            return 3, super().reset_env(key, params)[1]

        def step_env(self, *args):
            return 1, *super().step_env(*args)[1:]

    env = device(Counts())
    assert env.observation_shape == (3,)
    state, obs = env.reset(jax.random.key(0), 1)
    assert obs.tolist() == [[0, 0, 1]]
    _, result = env.play(jax.random.key(0), state, jnp.zeros(1, jnp.int32))
    assert result.obs.tolist() == [[1, 0, 0]]


def test_spaces_of_gymnasium_on_the_device():
    env = device(with_space("action_space", gym.Discrete(4)))
    assert env.action_space == Discrete(4)
    env = device(with_space("action_space", gym.Box(-1, 1, (2, 3))))
    assert env.action_space == Box((6,))


def test_observations_given_as_lists():
    class Lists(probes.Probe):
        def observation_space(self, params):
            return spaces.Box(-1, 1, (2,))

        def reset_env(self, key, params):
            return [0.0, 0.5], super().reset_env(key, params)[1]

        def step_env(self, *args):
            obs, *rest = super().step_env(*args)
            return [1.0, obs[0]], *rest

    env = device(Lists())
    state, obs = env.reset(jax.random.key(0), 1)
    assert obs.tolist() == [[0.0, 0.5]]
    _, result = env.play(jax.random.key(0), state, jnp.zeros(1, jnp.int32))
    assert result.next_obs.tolist() == [[1.0, 0.0]]


def test_actions_stay_between_ends_that_are_alike():
    """A mean of two like numbers is rounded now and then to another one."""
    low = np.linspace(0.1, 9.0, 50).astype(np.float32)
    space = gym.Box(low, low, dtype=np.float32)
    actions = jnp.linspace(-1, 1, 201)[:, None].repeat(len(low), 1)
    found = jax.jit(jax.vmap(action_decoder("Odd", space)))(actions)
    np.testing.assert_array_equal(found, np.broadcast_to(low, found.shape))


def test_actions_stay_within_ends_that_float32_rounds():
    ends = np.array([[0.1, 0.3], [-0.3, -0.1], [0.1, 0.1], [-INF, 0.3], [0.1, INF]])
    space = gym.Box(*ends.T, dtype=np.float64)
    for action in (-10.0, 10.0):
        found = np.asarray(action_decoder("Odd", space)(jnp.full(len(ends), action)))
        inside = (found >= space.low) & (found <= space.high)
        assert inside.tolist() == [True, True, False, True, True]  # 0.1 is no float32
        np.testing.assert_allclose(found[2], 0.1)
