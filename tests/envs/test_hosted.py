"""Environments of Gymnasium for agents on the device."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from optix.envs.environment import environment
from optix.envs.hosted import hosted
from optix.envs.source import source
from optix.envs.spaces import spaces as spaces_of
from optix.envs.vectors import SameStep
from optix.types import Box, Discrete
from tests.envs.counting import Counting, Dying, Pictures, Scaled, play


def seed_of(key):
    return int(jax.random.bits(key, (), jnp.uint32) >> 2)


def window(env, key, state, obs, actions, active=True):
    """Play actions [T, B, ...] from where a state was left."""
    state, first, fresh = env.claim(key, state, obs, len(actions), active)

    def step(state, action):
        return env.step(None, state, action)

    state, steps = jax.lax.scan(step, state, actions)
    return state, first, fresh, steps


def actions_of(env, steps, count):
    shape = () if isinstance(env.action_space, Discrete) else env.action_space.shape
    if shape:
        return jax.random.uniform(
            jax.random.key(7), (steps, count, *shape), minval=-1.5, maxval=1.5
        )
    return jax.random.randint(jax.random.key(7), (steps, count), 0, env.action_space.n)


@pytest.mark.parametrize("kind", [Counting, Scaled, Pictures])
@pytest.mark.parametrize("vector", [None, gymnasium.vector.SyncVectorEnv])
def test_a_window_is_what_a_plain_loop_plays_bit_for_bit(kind, vector):
    def make():  # that vector environment keeps what it is shown, not a copy
        return gymnasium.wrappers.TransformObservation(
            kind(), np.copy, kind.observation_space
        )

    def same_step(count):
        mode = gymnasium.vector.AutoresetMode.SAME_STEP
        return vector([make] * count, autoreset_mode=mode)

    env = hosted(kind, vector=same_step if vector else None)
    key, actions = jax.random.key(1), actions_of(env, 11, 3)
    played = jax.jit(lambda *args: window(env, *args))
    state, obs = env.reset(key, 3)
    state, first, fresh, steps = played(key, state, obs, actions[:6])
    _, _, continued, rest = played(
        jax.random.key(2), state, steps.obs[-1], jnp.concatenate([actions[6:]] * 2)[:6]
    )
    assert fresh and not continued
    steps = jax.tree.map(lambda *x: np.concatenate(x)[:11], steps, rest)

    given = np.asarray(actions)
    if kind is Scaled:
        given = np.asarray(jax.vmap(jax.vmap(env.decode))(actions)).astype(float)
        assert given.min() == 2.0 and given.max() == 6.0  # clipped at both ends
    expected_first, expected = play(kind, seed_of(key), given)
    dtype = np.uint8 if kind is Pictures else np.float32
    for found, wanted in ((first, expected_first), (steps.obs, expected[0])):
        wanted = np.moveaxis(wanted, -3, -1) if kind is Pictures else wanted
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, wanted.astype(dtype))
    wanted = np.moveaxis(expected[4], -3, -1) if kind is Pictures else expected[4]
    np.testing.assert_array_equal(steps.next_obs, wanted.astype(dtype))
    np.testing.assert_array_equal(steps.reward, expected[1].astype(np.float32))
    np.testing.assert_array_equal(steps.terminated, expected[2])
    np.testing.assert_array_equal(steps.truncated, expected[3])
    assert expected[2].any() and expected[3].any()
    env.host.close()


@pytest.fixture(scope="module")
def counting():
    """An environment and its window as one program of 2 steps in 2 environments."""
    env = hosted(Counting, copies=2)
    actions = jnp.ones((2, 2), jnp.int32)
    program = jax.jit(lambda key, *at: window(env, key, *at[:2], actions, *at[2:]))
    return env, program


def test_only_the_first_of_two_forks_goes_on(counting):
    env, program = counting
    start = env.reset(None, 2)
    state, first, fresh, steps = program(jax.random.key(0), *start, True)
    assert fresh and not np.array_equal(first, start[1])
    left = state, steps.obs[-1]
    one = program(jax.random.key(1), *left, True)
    two = program(jax.random.key(1), *left, True)
    assert not one[2] and two[2]
    np.testing.assert_array_equal(one[1], left[1])
    assert (one[1][:, 1] > 0).all() and (two[1][:, 1] == 0).all()
    # the stream of that number in another object, as of another process, is another
    other = hosted(Counting, copies=2)
    for _ in range(int(state[1])):
        other.host.claim((0, 0), seed=0, count=2, steps=0, play=False)
    assert other.claim(jax.random.key(1), *left, 2, True)[2]


def test_nothing_is_stepped_for_a_seed_that_has_stopped(counting):
    env, program = counting
    state, _, _, steps = program(jax.random.key(0), *env.reset(None, 2), True)
    idle, first, fresh, nothing = program(
        jax.random.key(1), state, steps.obs[-1], False
    )
    assert not fresh and not nothing.reward.any()
    np.testing.assert_array_equal(first, steps.obs[-1])
    assert not program(jax.random.key(1), state, steps.obs[-1], True)[2]
    assert program(jax.random.key(1), idle, steps.obs[-1], True)[2]


def test_copies_are_bounded_and_the_longest_untouched_is_taken(counting):
    env, program = counting
    env.host.close()
    states = []
    for turn in range(6):
        state, _, _, steps = program(jax.random.key(turn), *env.reset(None, 2), True)
        states.append((state, steps.obs[-1]))
        assert len(env.host) == min(turn + 1, 2)
    went_on = [not program(jax.random.key(9), *at, True)[2] for at in states[::-1]]
    assert went_on[:2] == [True, True] and not any(went_on[2:])
    assert len(env.host) == 2


def test_more_windows_at_once_than_copies_wait():
    """Vmapped, all windows are under way together, and each has its own copy."""
    env = hosted(Counting, copies=1)
    actions = jnp.ones((3, 2), jnp.int32)
    keys = jax.random.split(jax.random.key(0), 3)

    def begin(key):
        state, obs = env.reset(key, 2)
        return window(env, key, state, obs, actions)

    _, first, fresh, steps = jax.jit(jax.vmap(begin))(keys)
    assert fresh.all()
    for key, one, reward in zip(keys, first, steps.reward, strict=True):
        expected, _ = play(Counting, seed_of(key), np.ones((1, 2), int))
        np.testing.assert_array_equal(one, expected)
        assert (reward == 1).all()


def test_an_evaluation_ends_with_each_episode_and_frees_its_copy():
    made = []

    def make():
        made.append(Counting())
        return made[-1]

    env = hosted(make)
    key = jax.random.key(0)
    state, _, _ = env.claim(key, *env.reset(key, 4), 10, True, play=True)
    for step in range(4):
        _, result = env.play(None, state, jnp.ones(4, jnp.int32))
        if step == 2:  # those that began at an even number are over
            first = np.asarray(result.next_obs[:, 0], int)
            assert 0 < (first % 2).sum() < 4
            np.testing.assert_array_equal(result.terminated, first % 2 == 0)
    np.testing.assert_array_equal(result.truncated, first % 2 == 1)
    assert sum(env.steps for env in made) == (3 + first % 2).sum()
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(env.play(None, state, jnp.ones(4, jnp.int32)))
    with pytest.raises(RuntimeError, match="no environments of Counting are behind"):
        env.host.raise_if_failed()
    env.host.raise_if_failed()  # once


def test_names_are_gymnaxs_unless_forced_and_else_gymnasiums():
    assert environment("CartPole-v1").claim is None
    forced = environment("gymnasium:CartPole-v1")
    assert (forced.name, forced.time_limit, forced.action_space) == (
        "CartPole-v1",
        500,
        Discrete(2),
    )
    lake = environment("FrozenLake-v1")
    assert lake.observation_shape == (16,) and lake.time_limit == 100
    assert environment(gymnasium.make("Pendulum-v1", g=1.0)).action_space == Box((1,))
    lake = environment("FrozenLake-v1", {"map_name": "8x8"})
    assert lake.observation_shape == (64,)
    assert spaces_of("FrozenLake-v1") == ((16,), Discrete(4), "FrozenLake-v1")
    assert spaces_of(Pictures) == ((8, 6, 3), Discrete(3), "Pictures")


def test_states_that_are_numbers_are_one_hot():
    env = environment("FrozenLake-v1")
    _, obs, _ = env.claim(jax.random.key(0), *env.reset(None, 2), 1, True)
    np.testing.assert_array_equal(obs, np.eye(16, dtype=np.float32)[[0, 0]])


def test_a_wrapped_environment_is_copied_with_its_wrappers():
    wrapped = gymnasium.wrappers.RescaleObservation(
        gymnasium.make("MountainCar-v0"), np.float32(-1), np.float32(1)
    )
    env = environment(wrapped)
    _, obs, _ = env.claim(jax.random.key(0), *env.reset(None, 2), 1, True)
    expected = wrapped.reset(seed=seed_of(jax.random.key(0)))[0]
    np.testing.assert_array_equal(obs[0], expected)


class Odd(Counting):
    """Counts, but some of what it is or gives is replaced."""

    def __init__(self, reset=None, step=None, **replaced):
        super().__init__()
        self.given = {"reset": reset, "step": step}
        for name, value in replaced.items():
            setattr(self, name, value)

    def reset(self, **options):
        result = super().reset(**options)
        return result if self.given["reset"] is None else self.given["reset"]

    def step(self, action):
        result = super().step(action)
        return result if self.given["step"] is None else self.given["step"]


@pytest.mark.parametrize(
    ("space", "wrong"),
    [
        (spaces.Discrete(3, start=1), 4),
        (spaces.Discrete(3, start=1), 0),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 3])),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([0.0, 0.5])),  # shares of 255
        (spaces.Box(0, 255, (2,), np.uint8), np.array([0, 256])),
        (spaces.Box(0, 255, (2,), np.uint8), [-1, 0]),
        (spaces.Dict(a=spaces.Discrete(2)), {"a": 2}),
        (spaces.Dict(a=spaces.MultiDiscrete([2, 3])), {"a": np.array([2, 0])}),
        (spaces.Dict(a=spaces.Box(0, 255, (2,), np.uint8)), {"a": np.array([0, 300])}),
    ],
)
def test_observations_that_their_rows_can_not_hold_are_refused(space, wrong):
    env = hosted(lambda: Odd(reset=(wrong, {}), observation_space=space))
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(
            env.claim(jax.random.key(0), *env.reset(None, 1), 1, True)
        )
    with pytest.raises(ValueError, match="observation of Odd must be of .*, got"):
        env.host.raise_if_failed()


def recorder(env):
    """A wrapper of which Gymnasium does not know how to make another."""

    class Mine(gymnasium.Wrapper):
        pass

    return Mine(env)


NEXT_STEP = {"vector": lambda count: gymnasium.make_vec("CartPole-v1", count)}
REFUSED = {
    **{
        f"{kind}: {space}": (
            lambda kind=kind, space=space: hosted(
                lambda: Odd(**{f"{kind}_space": space})
            ),
            f"{'actions' if kind == 'action' else 'observations'} of Odd must be",
        )
        for kind, space in (
            ("action", spaces.Dict({"a": spaces.Discrete(2)})),
            ("action", spaces.Tuple([spaces.Discrete(2)])),
            ("action", spaces.Text(3)),
            ("observation", spaces.Text(3)),
            ("observation", spaces.Sequence(spaces.Discrete(2))),
        )
    },
    "an unknown name": (
        lambda: environment("LunarLnder-v3"),
        "unknown environment 'LunarLnder-v3'; did you mean 'LunarLander-v3'",
    ),
    "an unknown name of Gymnasium": (
        lambda: environment("gymnasium:CartPol-v1"),
        "environment 'CartPol-v1': .*CartPol",
    ),
    "an unknown package": (
        lambda: environment("nowhere_to_be_found:Mine-v0"),
        "environment 'nowhere_to_be_found:Mine-v0'; no package 'nowhere_to_be_found'",
    ),
    "keywords that it has not": (
        lambda: environment("gymnasium:MountainCar-v0", {"goal": 1.0}),
        "env_params of gymnasium:MountainCar-v0 must be keywords of it.*'goal'",
    ),
    "parameters that are none": (
        lambda: environment("gymnasium:MountainCar-v0", 5),
        "env_params of gymnasium:MountainCar-v0 must be a mapping.* got 5",
    ),
    "parameters beside a function": (
        lambda: environment(Counting, {"a": 1}),
        "env_params are for a name, got {'a': 1} beside",
    ),
    "a vector environment": (
        lambda: environment(gymnasium.make_vec("CartPole-v1", 2)),
        "vector environment .* can not be copied.*give the name.*SAME_STEP",
    ),
    "an autoreset one step late": (
        lambda: hosted("CartPole-v1", **NEXT_STEP),
        "CartPole-v1 must have autoreset_mode=AutoresetMode.SAME_STEP, got .*NEXT_STEP",
    ),
    "a vector that is none": (
        lambda: hosted("CartPole-v1", vector=lambda count: Counting()),
        "vector of CartPole-v1 must make a gymnasium.vector.VectorEnv, got a Counting",
    ),
    "parameters beside a vector": (
        lambda: hosted("CartPole-v1", {"a": 1}, **NEXT_STEP),
        "vector must be without env_params and async_envs",
    ),
    "a function that wants arguments": (
        lambda: environment(lambda seed: Counting()),
        r"env must be a function without arguments .*got <lambda>\(seed\); give",
    ),
    "a function of something else": (
        lambda: environment(lambda: 5),
        "must make a gymnasium.Env, got a int",
    ),
    "an instance without a spec": (
        lambda: environment(Counting()),
        "can not be copied.*give a function without arguments that makes one",
    ),
    "a wrapper that can not be copied": (
        lambda: environment(recorder(gymnasium.make("MountainCar-v0"))),
        "can not be copied.*give a function",
    ),
    "no copies": (lambda: hosted(Counting, copies=0), "copies must be an integer >= 1"),
    "a name that is none": (lambda: hosted(Counting, name=""), "name must be a string"),
    "a switch that is none": (
        lambda: hosted(Counting, async_envs=1),
        "async_envs must be True or False, got 1",
    ),
    "processes on the device": (
        lambda: environment("CartPole-v1", async_envs=True),
        "async_envs is for environments of Gymnasium, got True beside 'CartPole-v1'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_with_an_environment_is_told_before_it_is_played(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("LunarLander-v3", "pip install 'tensor-optix-jax[box2d]'"),
        ("HalfCheetah-v5", "pip install 'tensor-optix-jax[mujoco]'"),
        ("ALE/Pong-v5", "pip install 'tensor-optix-jax[atari]'"),
    ],
)
def test_a_missing_package_is_told_with_the_command_that_installs_it(
    name, command, monkeypatch
):
    import sys

    for package in ("Box2D", "mujoco", "ale_py"):
        monkeypatch.setitem(sys.modules, package, None)
    for module in [m for m in sys.modules if "gymnasium.envs.box2d" in m]:
        monkeypatch.delitem(sys.modules, module)
    for module in [m for m in sys.modules if "gymnasium.envs.mujoco" in m]:
        monkeypatch.delitem(sys.modules, module)
    known = {k: v for k, v in gymnasium.registry.items() if not k.startswith("ALE/")}
    monkeypatch.setattr(gymnasium.envs.registration, "registry", known)
    monkeypatch.setattr(gymnasium, "registry", known)
    with pytest.raises(ValueError, match="needs a package") as caught:
        environment(name)
    assert command in str(caught.value)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"step": (np.zeros(2), None, False, False, {})}, "step of Odd must return"),
        ({"step": (np.zeros(2), 1.0, False, {})}, "step of Odd must return"),
        ({"step": (np.zeros(2), 1.0, None, [1, 2], {})}, "step of Odd must return"),
        ({"step": 5}, "step of Odd must return .* got 5"),
        (
            {"step": (np.zeros(3), 1.0, False, False, {})},
            "observation of Odd must be of Box",
        ),
        ({"step": (0.0, 1.0, False, False, {})}, "observation of Odd must be of Box"),
        ({"reset": np.zeros(2)}, "reset of Odd must return .observation, info."),
        ({"reset": (np.zeros(1), {})}, "observation of Odd must be of Box"),
    ],
)
def test_a_wrong_form_is_told_by_the_name_of_the_environment(replaced, message):
    env = hosted(lambda: Odd(**replaced))
    with pytest.raises(jax.errors.JaxRuntimeError):
        state, _, _ = env.claim(jax.random.key(0), *env.reset(None, 1), 1, True)
        jax.block_until_ready(env.step(None, state, jnp.zeros(1, jnp.int32)))
    with pytest.raises(ValueError, match=message):
        env.host.raise_if_failed()
    assert len(env.host) == 0


def test_processes_play_the_same():
    plain, processes = (hosted(Counting, async_envs=switch) for switch in (False, True))
    key, actions = jax.random.key(0), jnp.full((5, 2), 2)
    _, first, _, expected = window(plain, key, *plain.reset(None, 2), actions)
    _, found_first, _, steps = window(
        processes, key, *processes.reset(None, 2), actions
    )
    np.testing.assert_array_equal(found_first, first)
    for found, wanted in zip(steps, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    processes.host.close()


def test_a_process_that_ends_in_a_step_is_told_and_the_others_are_not_waited_for():
    def begins_at(seed):
        return Counting().reset(seed=seed)[0][0]

    alive_and_dead = (
        seed for seed in range(99) if begins_at(seed) % 2 < begins_at(seed + 1) % 2
    )
    host = hosted(Dying, async_envs=True).host
    stream, _ = host.claim((0, 0), next(alive_and_dead), 2, 5, False)
    with pytest.raises(RuntimeError, match=r"a process of the 2 .* exit codes .*3"):
        host.guarded(host.step)(stream, np.zeros(2, np.int64))
    assert len(host) == 0


def test_another_vector_of_the_kind_does_not_say_when_this_one_resets():
    """Gymnasium writes the mode into metadata that all of a class share."""
    modes = gymnasium.vector.AutoresetMode

    def made(mode):
        return gymnasium.vector.SyncVectorEnv([Counting], autoreset_mode=mode)

    same, late = made(modes.SAME_STEP), made(modes.NEXT_STEP)
    SameStep("Counting", same).close()
    made(modes.SAME_STEP).close()
    with pytest.raises(ValueError, match="got .*NEXT_STEP"):
        SameStep("Counting", late)


def test_a_name_with_a_module_is_known_once_that_is_imported(tmp_path, monkeypatch):
    (tmp_path / "worlds_of_mine.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import MountainCarEnv\n"
        "gymnasium.register('Mine-v0', MountainCarEnv, max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        made = environment("worlds_of_mine:Mine-v0")
    finally:
        gymnasium.registry.pop("Mine-v0", None)
    assert (made.name, made.time_limit) == ("Mine-v0", 7)


def test_all_copies_are_closed_whichever_can_not_be_made_or_closed():
    made, closed = [], []

    class Third(Counting):
        def __init__(self):
            super().__init__()
            made.append(self)
            if len(made) == 4:  # the first one showed its spaces
                raise RuntimeError("no third one")

        def close(self):
            closed.append(self)
            if len(closed) > 3:
                raise RuntimeError("can not be closed")

    of = source(Third, None)
    with pytest.raises(RuntimeError, match="no third one"):
        of.open(3)
    assert len(closed) == 3 and set(closed) == set(made[:3])
    copies = of.open(3)
    with pytest.raises(RuntimeError, match="can not be closed"):
        copies.close()
    assert set(closed[3:]) == set(made[4:]) and len(made) == 7
