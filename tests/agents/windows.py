"""Training on a probe, window by window, in one program."""

import jax

from optix.envs.device import device
from optix.learners.on_policy import on_policy
from tests.optimised import jit


def train(agent, probe, windows):
    """Return (policy, score of 64 episodes) after some windows."""
    learner = on_policy(
        agent, device(probe), num_envs=16, num_steps=16, evaluation_episodes=64
    )
    return jit(training(learner, windows))(jax.random.key(0))


def training(learner, windows):
    """Return `key -> (policy, score)` after some windows."""

    def run(key):
        def one(state, key):
            return learner.step(state, learner.hyperparams, key, True)[0], None

        keys = jax.random.split(key, windows)
        policy = jax.lax.scan(one, learner.init(key), keys)[0].policy
        return policy, learner.evaluate(policy, learner.hyperparams, key)

    return run
