"""rejax at the shared settings. Run by an interpreter that has rejax 0.1.3.

rejax expects gymnax before 1.0, whose step returns five values; gymnax's own wrapper
gives them back, but recurses for ever when rejax copies its configuration.
"""

import gymnax
import jax
import rejax
from gymnax.wrappers import LegacyStepAPIWrapper

from tests.benchmarks.settings import SETTINGS, window_steps
from tests.benchmarks.worker import serve


class FiveValues(LegacyStepAPIWrapper):
    """The wrapper, as something that can be copied."""

    def __deepcopy__(self, memo):
        """Return itself: it holds no state."""
        return self


def options_of(algorithm, settings, total):
    """The settings by the names of rejax."""
    networks = {"activation": settings["activation"]}
    if algorithm == "ppo":
        return {
            "num_steps": settings["num_steps"],
            "num_epochs": settings["num_epochs"],
            "num_minibatches": settings["num_minibatches"],
            "gae_lambda": settings["gae_lambda"],
            "clip_eps": settings["clip_ratio"],
            "vf_coef": settings["value_coefficient"],
            "ent_coef": settings["entropy_coefficient"],
            "max_grad_norm": settings["max_grad_norm"],
            "agent_kwargs": {**networks, "hidden_layer_sizes": settings["hidden"]},
        }
    replay = {
        "buffer_size": settings["capacity"],
        "fill_buffer": settings["learning_starts"],
        "batch_size": settings["batch_size"],
    }
    if algorithm == "dqn":
        return replay | {
            "eps_start": settings["epsilon_start"],
            "eps_end": settings["epsilon_end"],
            "exploration_fraction": settings["epsilon_steps"] / total,
            "target_update_freq": settings["target_period"] * settings["num_envs"],
            "polyak": 0.0,
            "ddqn": settings["double"],
            "agent_kwargs": networks,
        }
    replay["polyak"] = 1 - settings["target_rate"]
    if algorithm == "sac":
        return replay | {"agent_kwargs": networks}  # of its 64 x 64 units
    return replay | {
        "policy_delay": settings["policy_delay"],
        "exploration_noise": settings["exploration_noise"],
        "target_noise": settings["target_noise"],
        "target_noise_clip": settings["target_noise_limit"],
        "actor_kwargs": networks,  # of its 64 x 64 units
        "critic_kwargs": dict(networks),
    }


def build(algorithm, seeds, windows):
    """Return `key -> mean score`; more than one seed are vmapped."""
    settings = SETTINGS[algorithm]
    env, params = gymnax.make(settings["environment"])
    total = windows * window_steps(algorithm)
    learner = getattr(rejax, algorithm.upper()).create(
        env=FiveValues(env),
        env_params=params,
        total_timesteps=total,
        eval_freq=total,
        skip_initial_evaluation=True,
        learning_rate=settings["learning_rate"],
        gamma=settings["discount"],
        num_envs=settings["num_envs"],
        **options_of(algorithm, settings, total),
    )
    if algorithm == "dqn":  # `create` knows only 64 x 64 units
        agent = learner.agent.clone(hidden_layer_sizes=settings["hidden"])
        learner = learner.replace(agent=agent)

    def one(key):
        return learner.train(key)[1][1].mean()  # the 128 episodes of one evaluation

    if seeds == 1:
        return one
    return lambda key: jax.vmap(one)(jax.random.split(key, abs(seeds))).mean()


if __name__ == "__main__":
    serve(build, window_steps)
