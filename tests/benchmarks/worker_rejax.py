"""rejax at the shared settings. Run by an interpreter that has rejax 0.1.3.

rejax expects gymnax before 1.0, whose step returns five values; gymnax's own wrapper
gives them back, but recurses for ever when rejax copies its configuration.
"""

from collections.abc import Callable

import gymnax
import jax
import rejax
from flax import linen
from gymnax.wrappers import LegacyStepAPIWrapper
from rejax.networks import MLP, DiscretePolicy

from tests.benchmarks.settings import settings_of, window_steps
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
            "normalize_observations": settings["normalize_observations"],
            "agent_kwargs": networks,
        }
    if algorithm == "pqn":  # whose layers are normalised
        return {
            "num_steps": settings["num_steps"],
            "num_epochs": settings["num_epochs"],
            "num_minibatches": settings["num_minibatches"],
            "td_lambda": settings["td_lambda"],
            "max_grad_norm": settings["max_grad_norm"],
            "eps_start": settings["epsilon_start"],
            "eps_end": settings["epsilon_end"],
            "exploration_fraction": settings["epsilon_steps"] / total,
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
        return replay | {"agent_kwargs": networks}
    return replay | {
        "policy_delay": settings["policy_delay"],
        "exploration_noise": settings["exploration_noise"],
        "target_noise": settings["target_noise"],
        "target_noise_clip": settings["target_noise_limit"],
        "actor_kwargs": networks,
        "critic_kwargs": dict(networks),
    }


class Images(linen.Module):
    """The layers of optix for images: a convolution, then the hidden layers."""

    hidden_layer_sizes: tuple
    activation: Callable

    @linen.compact
    def __call__(self, x):
        """Map [N, height, width, channels] to [N, hidden[-1]]."""
        x = self.activation(linen.Conv(16, (3, 3), padding="VALID")(x))
        return MLP(self.hidden_layer_sizes, self.activation)(x)


class ImagePolicy(DiscretePolicy):
    """rejax's policy with those layers."""

    def setup(self):
        """Name the parts."""
        self.features = Images(self.hidden_layer_sizes, self.activation)
        self.action_logits = linen.Dense(self.action_dim)


class ImageValue(linen.Module):
    """rejax's critic with those layers."""

    hidden_layer_sizes: tuple
    activation: Callable

    @linen.compact
    def __call__(self, obs):
        """Map [N, height, width, channels] to [N]."""
        x = Images(self.hidden_layer_sizes, self.activation)(obs)
        return linen.Dense(1)(x).squeeze(1)


def with_networks(learner, settings):
    """The learner with the hidden layers of the settings."""
    hidden = tuple(settings["hidden"])
    parts = {
        name: getattr(learner, name).clone(hidden_layer_sizes=hidden)
        for name in ("agent", "actor", "critic")
        if hasattr(learner, name)
    }
    images = "MinAtar" in settings["environment"] and not settings.get("flat")
    if images and "actor" in parts:
        layers = hidden, parts["actor"].activation
        parts["actor"] = ImagePolicy(parts["actor"].action_dim, *layers)
        parts["critic"] = ImageValue(*layers)
    return learner.replace(**parts)


def build(algorithm, seeds, windows):
    """Return `key -> mean score`; more than one seed are vmapped."""
    return built(settings_of(algorithm), algorithm, seeds, windows)


def learner_of(algorithm, settings, windows, env, params):
    """Return an algorithm of rejax at the settings, for so many windows."""
    total = windows * settings["num_envs"] * settings["num_steps"]
    learner = getattr(rejax, algorithm.upper()).create(
        env=env,
        env_params=params,
        total_timesteps=total,
        eval_freq=total,
        skip_initial_evaluation=True,
        learning_rate=settings["learning_rate"],
        gamma=settings["discount"],
        num_envs=settings["num_envs"],
        **options_of(algorithm, settings, total),
    )
    return with_networks(learner, settings)  # `create` knows only 64 x 64 units


def built(settings, algorithm, seeds, windows):
    """As `build`, at settings of one's own."""
    env, params = gymnax.make(settings["environment"])
    learner = learner_of(algorithm, settings, windows, FiveValues(env), params)

    def one(key):
        return learner.train(key)[1][1].mean()  # the 128 episodes of one evaluation

    if seeds == 1:
        return one
    return lambda key: jax.vmap(one)(jax.random.split(key, abs(seeds))).mean()


if __name__ == "__main__":
    serve(build, window_steps)
