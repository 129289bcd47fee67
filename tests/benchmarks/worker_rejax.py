"""PPO of rejax at the shared settings. Run by an interpreter that has rejax 0.1.3.

rejax expects gymnax before 1.0, whose step returns five values; gymnax's own wrapper
gives them back, but recurses for ever when rejax copies its configuration.
"""

import gymnax
import jax
import rejax
from gymnax.wrappers import LegacyStepAPIWrapper

from tests.benchmarks.settings import PPO, STEPS_PER_WINDOW
from tests.benchmarks.worker import serve


class FiveValues(LegacyStepAPIWrapper):
    """The wrapper, as something that can be copied."""

    def __deepcopy__(self, memo):
        """Return itself: it holds no state."""
        return self


def build(seeds, windows):
    """Return `key -> mean score`; more than one seed are vmapped."""
    env, params = gymnax.make(PPO["environment"])
    total = windows * STEPS_PER_WINDOW
    algorithm = rejax.PPO.create(
        env=FiveValues(env),
        env_params=params,
        total_timesteps=total,
        eval_freq=total,
        skip_initial_evaluation=True,
        learning_rate=PPO["learning_rate"],
        gamma=PPO["discount"],
        num_envs=PPO["num_envs"],
        num_steps=PPO["num_steps"],
        num_epochs=PPO["num_epochs"],
        num_minibatches=PPO["num_minibatches"],
        gae_lambda=PPO["gae_lambda"],
        clip_eps=PPO["clip_ratio"],
        vf_coef=PPO["value_coefficient"],
        ent_coef=PPO["entropy_coefficient"],
        max_grad_norm=PPO["max_grad_norm"],
        agent_kwargs={
            "activation": PPO["activation"],
            "hidden_layer_sizes": PPO["hidden"],
        },
    )

    def one(key):
        return algorithm.train(key)[1][1].mean()  # the 128 episodes of one evaluation

    if seeds == 1:
        return one
    return lambda key: jax.vmap(one)(jax.random.split(key, abs(seeds))).mean()


if __name__ == "__main__":
    serve(build)
