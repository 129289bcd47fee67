"""Keys in the states of environments: fast inside, of JAX's own kind outside."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.envs.device import device
from optix.make import make
from optix.run.train import resume, train
from tests import probes

OPTIONS = {
    "num_envs": 2,
    "num_steps": 8,
    "evaluation_episodes": 2,
    "final_scores": 2,
    "hidden": (4,),
}


class State(NamedTuple):
    key: jax.Array
    time: jax.Array


class Keyed(probes.Probe):
    """Draws its observations from a key of its own."""

    def reset_env(self, key, params):
        return jnp.zeros(1), State(key, jnp.int32(0))

    def step_env(self, key, state, action, params):
        key, now = jax.random.split(state.key)
        state = State(key, state.time + 1)
        return jax.random.normal(now, (1,)), state, 1.0, state.time >= 3, {}


class Mixed(Keyed):
    """Chooses between the key that it is given and one of its own making."""

    def reset_env(self, key, params):
        own = jax.random.key(7)
        return jnp.zeros(1), State(jnp.where(params.reward > 0, key, own), jnp.int32(0))


def kinds(tree):
    """The dtypes of the keys in a tree of shapes."""
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(tree)}
    return {d for d in dtypes if jax.dtypes.issubdtype(d, jax.dtypes.prng_key)}


@pytest.mark.parametrize("kind", [Keyed, Mixed])
@pytest.mark.parametrize("function", ["step", "play"])
def test_states_hold_keys_of_jax_itself(kind, function):
    env, key = device(kind()), jax.random.key(0)
    state, _ = jax.eval_shape(lambda: env.reset(key, 2))
    action = jnp.zeros(2, jnp.int32)
    after, _ = jax.eval_shape(getattr(env, function), key, state, action)
    assert kinds(state) == kinds(after) == {key.dtype}


def test_keys_give_the_bits_of_jax_itself():
    env, key = device(Keyed()), jax.random.key(5)

    @jit
    def played(key):
        state, _ = env.reset(key, 2)
        return env.play(key, state, jnp.zeros(2, jnp.int32))[1].obs

    drawn = [
        jax.random.normal(jax.random.split(row)[1], (1,))
        for row in jax.random.split(key, 2)
    ]
    np.testing.assert_array_equal(played(key), np.stack(drawn))


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_no_leaf_of_a_run_has_a_private_key(agent):
    run = make(Keyed(), agent, **OPTIONS)
    state = jax.eval_shape(run.init, jax.random.key(0))
    state, _ = jax.eval_shape(run.step, state)
    assert kinds(state) == {jax.random.key(0).dtype}


def test_a_run_with_keys_in_its_state_is_resumed(tmp_path):
    def run():
        return make(Keyed(), "ppo", num_minibatches=2, max_rounds=2, **OPTIONS)

    train(run(), directory=tmp_path / "run", progress=False)
    result = resume(tmp_path / "run", run(), progress=False, max_rounds=3)
    assert result.state.round.tolist() == [3]
