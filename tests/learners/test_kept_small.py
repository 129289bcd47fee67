"""Observations of small numbers wait in a replay in their own type, and lose nothing."""

import gymnasium.spaces as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.envs.device import device
from tests import probes

SMALL = {
    "hidden": (4,),
    "num_envs": 2,
    "num_steps": 16,
    "batch_size": 4,
    "capacity": 64,
    "learning_starts": 8,
    "evaluation_episodes": 1,
}


def shows(space, shown):
    """`ActionIsSign` that shows its sign, 0 or 1, as `shown` makes it."""

    class Shows(probes.ActionIsSign):
        def observation_space(self, params):
            return space

        def reset_env(self, key, params):
            _, state = super().reset_env(key, params)
            return shown(jnp.int32(state.obs[0] > 0)), state

        def step_env(self, *given):
            _, state, *rest = super().step_env(*given)
            return shown(jnp.int32(state.obs[0] > 0)), state, *rest

    return Shows()


BYTES = gym.Box(0, 255, (2,), np.uint8)
KEPT = {  # (space, what is shown, in which type it is kept)
    "bytes": (BYTES, lambda x: jnp.uint8([200, x]), "uint8"),
    "flags": (gym.MultiBinary(2), lambda x: jnp.array([x, 1], bool), "bool"),
    "short": (gym.Box(-9, 9, (1,), np.int8), lambda x: jnp.int8([-x]), "int8"),
    "states": (gym.Discrete(2), lambda x: x, "bool"),
    "parts": (
        gym.Dict({"a": BYTES, "b": gym.Box(0, 9, (), np.uint8)}),
        lambda x: {"a": jnp.uint8([200, x]), "b": jnp.uint8(x)},
        "uint8",
    ),
    # a space may say what its environment does not keep to
    "shares": (BYTES, lambda x: jnp.array([0.5, x]), "float32"),
    "mixed": (
        gym.Dict({"a": BYTES, "b": gym.Box(0, 9, ())}),
        lambda x: {"a": jnp.uint8([200, x]), "b": jnp.float32(x) / 2},
        "float32",
    ),
    "number": (gym.Box(-9, 9, ()), lambda x: jnp.float32(x), "float32"),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_type_is_that_of_what_is_shown(name):
    space, shown, kept = KEPT[name]
    env = device(shows(space, shown))
    state, obs = env.reset(jax.random.key(0), 2)
    assert obs.dtype == np.float32 and obs.ndim == 2
    learner = optix.make(env, "dqn", **SMALL).learner
    memory = jax.eval_shape(learner.init, jax.random.key(0)).memory
    rows = [
        leaf
        for leaf in jax.tree.leaves(memory)
        if leaf.shape[1:] == env.observation_shape and leaf.shape[0] >= 64
    ]
    assert rows and {leaf.dtype.name for leaf in rows} == {kept}


def test_nothing_is_lost():
    policies = []
    for observation_dtype in (None, "float32"):
        space, shown, _ = KEPT["bytes"]
        env = shows(space, shown)
        options = {**SMALL, "observation_dtype": observation_dtype}
        learner = optix.make(env, "dqn", **options).learner
        state, report = jax.jit(learner.step)(
            learner.init(jax.random.key(0)),
            learner.hyperparams,
            jax.random.key(1),
            jnp.bool_(True),
        )
        assert bool(report.finite) and int(state.policy.extras.updates) > 0
        policies.append(state.policy)
    jax.tree.map(np.testing.assert_array_equal, *policies)
