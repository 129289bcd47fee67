"""The files of JAX agents against the agents, at batches 1 and 7."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from optix.checks import OptionError
from optix.envs.environment import environment
from optix.make import make_agent
from optix.math.running import Moments
from optix.networks.module import module_network
from optix.neuroevo.graph.build import layered
from optix.onnx import UnsupportedError, export_policy
from optix.types import Discrete
from tests.onnx.parity import BATCHES, TOLERANCE, Played, after, moved

SMALL = {"hidden": (4,)}
CELL = {**SMALL, "cell_size": 4}
MINATAR = {"observation_dtype": np.dtype(np.uint8), "observation_shape": (10, 10, 4)}
AGENTS = {  # (environment, algorithm, options, what stands beside the action)
    "ppo": ("CartPole-v1", "ppo", SMALL, ["logits"]),
    "ppo_box": ("Pendulum-v1", "ppo", SMALL, ["mean", "log_scale"]),
    "ppo_plain": ("CartPole-v1", "ppo", {**SMALL, "normalize_observations": False}, 0),
    "gru": ("CartPole-v1", "recurrent_ppo", CELL, ["logits"]),
    "lstm": (
        "CartPole-v1",
        "recurrent_ppo",
        {**CELL, "cell": "lstm", "shared": False},
        0,
    ),
    "dqn": (
        "CartPole-v1",
        "dqn",
        {
            **SMALL,
            "dueling": True,
            "activation": "gelu",
            "normalize_observations": True,
        },
        ["q_values"],
    ),
    "pqn": (
        "CartPole-v1",
        "pqn",
        {**SMALL, "normalize_observations": True},
        ["q_values"],
    ),
    "memory": ("CartPole-v1", "recurrent_pqn", CELL, ["q_values"]),
    "rainbow": ("CartPole-v1", "rainbow", {**SMALL, "num_atoms": 5}, ["q_values"]),
    "sac": (
        "Pendulum-v1",
        "sac",
        {**SMALL, "normalize_observations": True},
        ["mean", "log_scale"],
    ),
    "td3": ("Pendulum-v1", "td3", {**SMALL, "activation": "silu"}, ["unit_action"]),
    "images": ("Breakout-MinAtar", "dqn", SMALL, ["q_values"]),
    "graph": ("CartPole-v1", "ppo", {"network": layered(4, (3, 2), 3)}, ["logits"]),
}


@functools.cache
def made(name):
    env_name, algorithm, options, _ = AGENTS[name]
    env = environment(env_name)
    if name == "images":
        env = env._replace(**MINATAR)
    agent = make_agent(env, algorithm, **options)
    policy = jax.eval_shape(agent.init, jax.random.key(0))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), policy.params)
    params = moved(zeros, 1, 0.1 if name == "images" else 0.6)
    if name == "graph":  # no weights but on edges
        policy = jax.jit(agent.init)(jax.random.key(0))
        params = policy.params
    shape = env.observation_shape
    moments = Moments(
        np.float32(9),
        np.linspace(-1, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape),
        np.linspace(0.1, 6, int(np.prod(shape)), dtype=np.float32).reshape(shape),
    )
    extras = policy.extras._replace(observations=moments)
    return env, agent, policy._replace(params=params, extras=extras)


@pytest.fixture(scope="module", params=AGENTS)
def exported(request, tmp_path_factory):
    env, agent, policy = made(request.param)
    path = tmp_path_factory.mktemp("onnx") / "policy.onnx"
    export_policy(agent, policy, path, env=env)
    beside = AGENTS[request.param][3] or ["logits"]
    return env, agent, policy, Played(path), beside


def observations(env, batch, seed):
    random = np.random.default_rng(seed)
    shape = (batch, *env.observation_shape)
    if env.observation_dtype == np.uint8:
        return random.integers(0, 255, shape, np.uint8)
    return 3 * random.normal(size=shape).astype(np.float32)


def test_parameters_and_greedy_actions_are_those_of_the_agent(exported):
    env, agent, policy, played, beside = exported
    assert [name for name in played.outputs if "next_" not in name] == [
        *beside,
        "action",
    ]

    @jax.jit
    def expected(carry, obs):
        _, outputs = agent.outputs(policy, carry, obs)
        key = jax.random.key(0)
        after, action, _ = agent.act(policy, carry, obs, agent.hyperparams, key, False)
        if env.decode is not None:
            action = jax.vmap(env.decode)(action)
        return after, [*jax.tree.leaves(outputs), action]

    carry = agent.initial_carry(7)
    fed = {batch: played.at_rest(batch) for batch in BATCHES}
    for step in range(3 if jax.tree.leaves(carry) else 1):
        obs = observations(env, 7, step)
        carry, values = expected(carry, obs)
        values += [x for x in jax.tree.leaves(carry) if x.size]
        for batch in BATCHES:
            found = played(observation=obs[:batch], **fed[batch])
            for name, value in zip(found, values, strict=True):
                assert found[name].shape == (batch, *value.shape[1:])
                np.testing.assert_allclose(found[name], value[:batch], **TOLERANCE)
            fed[batch] = after(found)
            if step == 1:  # the first episode begins anew
                for part in fed[batch].values():
                    part[0] = 0
        carry = jax.tree.map(lambda x: x.at[0].set(0), carry) if step == 1 else carry


def test_actions_are_whole_numbers_or_within_the_bounds(exported):
    env, _, _, played, _ = exported
    if isinstance(env.action_space, Discrete):
        assert played.outputs["action"].type == "tensor(int64)"
    else:
        obs = 100 * observations(env, 50, 0)
        assert np.abs(played(observation=obs)["action"]).max() <= 2.0


class Own(linen.Module):
    """Layers of a user's own: attention over the entries, layer norm, a loop."""

    odd: bool = False

    @linen.compact
    def __call__(self, obs):
        x = linen.Dense(6)(obs[..., None])
        x = linen.MultiHeadDotProductAttention(num_heads=2, qkv_features=4)(x)
        x = linen.LayerNorm()(x).reshape(*obs.shape[:-1], -1)
        for _ in range(2):
            x = linen.leaky_relu(linen.Dense(5)(x)) if not self.odd else jnp.sort(x)
        return linen.Dense(2)(x), linen.Dense(1)(x)[..., 0]


def own_agent(module):
    env = environment("CartPole-v1")
    network = module_network(module, jnp.zeros((1, 4)))
    agent = make_agent(env, "ppo", network=network, normalize_observations=False)
    return env, agent, jax.jit(agent.init)(jax.random.key(0))


def test_a_flax_module_of_ones_own(tmp_path):
    env, agent, policy = own_agent(Own())
    policy = policy._replace(params=moved(policy.params))
    export_policy(agent, policy, tmp_path / "own.onnx", observation_shape=(4,))
    played = Played(tmp_path / "own.onnx")
    obs = observations(env, 7, 0)
    _, logits = jax.jit(agent.outputs)(policy, (), obs)
    for batch in BATCHES:
        found = played(observation=obs[:batch])["logits"]
        np.testing.assert_allclose(found, logits[:batch], **TOLERANCE)


def test_what_onnx_has_no_form_of_is_named(tmp_path):
    _, agent, policy = own_agent(Own(odd=True))
    with pytest.raises(UnsupportedError, match="operations that ONNX has .*got sort;"):
        export_policy(agent, policy, tmp_path / "own.onnx", observation_shape=(4,))
    assert not list(tmp_path.iterdir())


class Shuffled:
    """A distribution whose mode ONNX has no form of here."""

    def __init__(self, logits):
        self.logits = logits

    def mode(self):
        return jnp.argsort(self.logits)[..., -1]


def test_a_mode_that_can_not_be_written_leaves_the_parameters(tmp_path):
    env = environment("CartPole-v1")
    agent = make_agent(env, "ppo", distribution=Shuffled, **SMALL)
    policy = agent.init(jax.random.key(0))
    export_policy(agent, policy, tmp_path / "policy.onnx", env=env)
    played = Played(tmp_path / "policy.onnx")
    assert list(played.outputs) == ["output_0"]
    assert "sort" in played.about["without_action"]
    obs = observations(env, 7, 0)
    _, logits = agent.outputs(policy, (), obs)
    np.testing.assert_allclose(played(observation=obs)["output_0"], logits, **TOLERANCE)


def test_metadata_says_what_is_what(tmp_path):
    env, agent, policy = made("gru")
    path = tmp_path / "policy.onnx"
    export_policy(agent, policy, path, env=env, about={"score": "9.5", "steps": 3})
    played = Played(path)
    expected = {"environment": "CartPole-v1", "initial_carry": "zeros"}
    assert played.about == {**expected, "score": "9.5", "steps": "3"}
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(path).graph
    said = {x.name: x.doc_string for x in (*graph.input, *graph.output)}
    assert set(said) == {
        *("observation", "carry_0"),
        *("logits", "action", "next_carry_0"),
    }
    assert all(said.values()) and "zeros" in said["carry_0"]


def test_either_an_environment_or_a_shape(tmp_path):
    env, agent, policy = made("ppo")
    for given in ({}, {"env": env, "observation_shape": (4,)}):
        with pytest.raises(OptionError, match="either env= or observation_shape="):
            export_policy(agent, policy, tmp_path / "policy.onnx", **given)
    with pytest.raises(OptionError, match="policy must be a Policy"):
        export_policy(agent, policy.params, tmp_path / "policy.onnx", env=env)


@pytest.mark.parametrize("value", [-1, 1.5, "x", [1], True])
@pytest.mark.parametrize("name", ["hyperparams", "meanings", "about"])
def test_what_is_no_mapping(name, value, tmp_path):
    agent = make_agent("CartPole-v1", hidden=(2,))
    policy = agent.init(jax.random.key(0))
    path, shape = tmp_path / "policy.onnx", (4,)
    with pytest.raises(ValueError, match=f"{name} must be a mapping .* got"):
        export_policy(agent, policy, path, observation_shape=shape, **{name: value})
    for kind in (value, None, np.int8):
        with pytest.raises(ValueError, match="observation_dtype must be float32 or"):
            export_policy(
                agent, policy, path, observation_shape=shape, observation_dtype=kind
            )
    assert not list(tmp_path.iterdir())
