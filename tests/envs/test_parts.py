"""Observations of several parts: one vector as Gymnasium flattens it, and back."""

from collections import OrderedDict
from typing import NamedTuple

import gymnasium
import gymnasium.spaces as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from gymnax.environments import spaces

import optix
from optix.envs.device import device
from optix.envs.hosted import hosted
from optix.envs.parts import Parts
from optix.host import VectorBatchPipeline, as_base_agent
from optix.networks.module import module_network
from optix.run.load import LoadedPolicy
from tests import probes
from tests.agents.windows import training

SPACE = gym.Dict(
    {
        "speed": gym.Box(-9, 9, (2,)),
        "arm": gym.Tuple((gym.Discrete(3, start=1), gym.Box(-9, 9, (2, 2)))),
        "keys": gym.MultiBinary(2),
        "dials": gym.MultiDiscrete([2, 3], start=[0, 4]),
        "image": gym.Box(0, 255, (2, 1), np.uint8),
        "height": gym.Box(-9, 9, ()),
    }
)
BYTES = gym.Dict(
    {"a": gym.Box(0, 255, (2,), np.uint8), "b": gym.Box(0, 9, (), np.uint8)}
)
SMALL = {"hidden": (4,), "num_envs": 2, "num_steps": 8, "evaluation_episodes": 1}


def samples(space, count):
    space.seed(0)
    return [space.sample() for _ in range(count)]


@pytest.mark.parametrize("space", [SPACE, BYTES])
def test_parts_are_joined_as_gymnasium_flattens_them(space):
    parts = Parts("Odd", space)
    several = samples(space, 4)
    expected = np.stack([gym.flatten(space, one) for one in several])
    assert expected.shape == (4, parts.size)
    for one, row in zip(several, expected, strict=True):
        np.testing.assert_array_equal(parts.join(one), row.astype(parts.dtype))
        traced = jax.jit(parts.join)(jax.tree.map(jnp.asarray, one))
        np.testing.assert_array_equal(traced, row.astype(np.float32))
    together = jax.tree.map(lambda *x: np.stack(x), *several)
    found = parts.join(together)
    assert found.dtype == (np.uint8 if space is BYTES else np.float32)
    np.testing.assert_array_equal(found, expected.astype(found.dtype))


def test_split_gives_the_parts_by_name_again():
    parts, (one, *_) = Parts("Odd", SPACE), samples(SPACE, 1)
    vector = jnp.broadcast_to(parts.join(one), (5, 4, parts.size))
    found = jax.tree.map(lambda x: np.asarray(x[3, 2]), parts.split(vector))
    assert list(found) == list(SPACE.spaces) == sorted(SPACE.spaces)
    assert found["height"].shape == () and found["arm"][1].shape == (2, 2)
    np.testing.assert_array_equal(found["arm"][1], one["arm"][1])
    np.testing.assert_array_equal(found["arm"][0].argmax() + 1, one["arm"][0])
    np.testing.assert_array_equal(found["image"], one["image"])
    np.testing.assert_array_equal(
        found["dials"], gym.flatten(SPACE["dials"], one["dials"])
    )


class Whole(NamedTuple):
    """An observation as a record, whose fields are the names of its space."""

    place: jax.Array
    lit: jax.Array


class Signs(probes.ActionIsSign):
    """`ActionIsSign` whose sign is in the second part; the first one is noise."""

    def observation_space(self, params):
        parts = OrderedDict(place=spaces.Box(-1, 1, (2,)), lit=spaces.Discrete(2))
        return spaces.Dict(parts)

    def shown(self, key, state):
        noise = jax.random.uniform(key, (2,))
        return {"lit": jnp.int32(state.obs[0] > 0), "place": noise}

    def reset_env(self, key, params):
        _, state = super().reset_env(key, params)
        return self.shown(key, state), state

    def step_env(self, key, state, action, params):
        _, state, *rest = super().step_env(key, state, action, params)
        return self.shown(key, state), state, *rest


class Recorded(Signs):
    def shown(self, key, state):
        return Whole(**super().shown(key, state))


@pytest.mark.parametrize("probe", [Signs, Recorded])
def test_parts_on_the_device_in_the_order_of_the_space(probe):
    env = device(probe())
    assert env.observation_shape == (4,)
    state, obs = env.reset(jax.random.key(0), 8)
    np.testing.assert_array_equal(obs[:, 3], state.obs[:, 0] > 0)
    np.testing.assert_array_equal(obs[:, 2:].sum(1), 1)
    _, step = env.step(jax.random.key(1), state, jnp.zeros(8, jnp.int32))
    assert env.parts.split(step.next_obs)["place"].shape == (8, 2)


def test_a_network_of_ones_own_gets_its_parts_back():
    env = device(Signs())

    class Looks(linen.Module):
        @linen.compact
        def __call__(self, obs):
            lit = linen.Dense(4)(env.parts.split(obs)["lit"])
            return linen.Dense(2)(lit), linen.Dense(1)(lit).squeeze(-1)

    network = module_network(Looks(), jnp.zeros((1, 4)))
    learner = optix.make(
        env,
        "ppo",
        network=network,
        num_envs=16,
        num_steps=16,
        learning_rate=3e-2,
        evaluation_episodes=32,
    ).learner
    _, score = jax.jit(training(learner, 12))(jax.random.key(0))
    assert float(score) == 1.0


class Keyed(gymnasium.Env):
    """Counts its steps in one part, of `space`; ends after three."""

    observation_space, action_space = SPACE, gym.Discrete(2)

    def __init__(self):
        self.space = gym.Dict(SPACE.spaces, seed=0)

    def shown(self):
        self.now = {**self.space.sample(), "height": np.float32(self.time)}
        self.now["speed"][:] = self.time  # the array of the part is used again
        return self.now

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.shown(), {}

    def step(self, action):
        self.time += 1
        return self.shown(), 1.0, self.time >= 3, False, {}


@pytest.mark.parametrize("kind", ["rows", "vector"])
def test_parts_on_the_host(kind):
    vector = None
    if kind == "vector":
        mode = gymnasium.vector.AutoresetMode.SAME_STEP

        def vector(count):
            return gymnasium.vector.SyncVectorEnv([Keyed] * count, autoreset_mode=mode)

    env = hosted(Keyed, vector=vector)
    size = Parts("Keyed", SPACE).size
    assert env.observation_shape == (size,) and env.observation_dtype == np.float32
    state, obs, _ = env.claim(jax.random.key(0), *env.reset(None, 2), 4, True)
    heights = [obs]
    for _ in range(3):
        state, step = env.step(None, state, jnp.zeros(2, jnp.int32))
        heights.append(step.obs)
    told = [
        env.parts.split(rows)["height"].tolist() for rows in (*heights, step.next_obs)
    ]
    assert told == [[0, 0], [1, 1], [2, 2], [0, 0], [3, 3]]
    np.testing.assert_array_equal(env.parts.split(step.next_obs)["speed"], 3)
    env.host.close()


def test_bytes_of_all_parts_stay_bytes():
    class Bytes(Keyed):
        observation_space = BYTES

        def shown(self):
            return {"a": np.full(2, 200, np.uint8), "b": np.uint8(self.time)}

    env = hosted(Bytes)
    _, obs, _ = env.claim(jax.random.key(0), *env.reset(None, 1), 1, True)
    assert env.observation_dtype == obs.dtype == np.uint8
    assert obs.tolist() == [[200, 200, 0]]
    env.host.close()


def test_who_acts_elsewhere_takes_the_parts_too():
    learner = optix.make(Keyed, "ppo", **SMALL).learner
    policy = learner.agent.init(jax.random.key(0))
    several = samples(SPACE, 3)
    together = jax.tree.map(lambda *x: np.stack(x), *several)
    best = optix.types.Best(policy, (), learner.agent.hyperparams, 0.0, 0.0, 0)
    player = LoadedPolicy(learner.agent, learner.env, best)
    flat = np.stack([gym.flatten(SPACE, one) for one in several])
    expected = player.act(flat).tolist()
    assert player.act(together).tolist() == expected
    assert [int(player.act(one)) for one in several] == expected
    agent = as_base_agent(learner.agent, Keyed)
    agent.policy = policy
    assert agent.act_batch(together, explore=False)[0].tolist() == expected
    assert int(agent.act(several[0], explore=False)) == expected[0]
    pipeline = VectorBatchPipeline([Keyed] * 2, window_size=8)
    place = pipeline.open()
    numbers = agent.learn(pipeline.collect(agent, place, 0))
    assert np.isfinite(list(numbers.values())).all()


class Short(Signs):
    def shown(self, key, state):
        return {"place": jnp.zeros(3), "lit": jnp.int32(0)}


class Missing(Signs):
    def shown(self, key, state):
        return {"place": jnp.zeros(2)}


class Worded(Signs):
    def observation_space(self, params):
        return gym.Dict({"said": gym.Tuple((gym.Text(3),))})


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (
            Short,
            r"the part \['place'\] of the observation of Short must be of Box.*\(3,\)",
        ),
        (Missing, r"of Missing must have the part \['lit'\]"),
        (Worded, r"the part \['said'\]\[0\] of observations of Worded must be a Box"),
    ],
)
def test_parts_that_are_wrong(probe, message):
    with pytest.raises(ValueError, match=message):
        device(probe())
