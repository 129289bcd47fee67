"""PPO on an environment of a family, by optix or by a peer.

    python -m tests.benchmarks.worker_families WHO SEEDS WINDOWS SETTINGS

WHO is optix, rejax, brax, or the folder of a checkout of Craftax_Baselines, or "defaults":
optix with `trust` and no settings; SEEDS is 1, SETTINGS are a JSON object, by the names
of optix. The layers are there twice, for the policy and for the value, with all of them.
Steps alone are made, unless `scored_episodes` of the settings asks for the mean return of
so many, by the last policy, with chance in its actions.
"""

import json
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from tests.benchmarks.worker import respond, say, serve


class Side(NamedTuple):
    """A PPO.

    train: `key -> policy`.
    act: `(policy, obs [N, ...], key) -> [N] actions`.
    params: `policy -> parameters`.
    """

    train: Callable[[jax.Array], Any]
    act: Callable[..., jax.Array]
    params: Callable[[Any], Any] = lambda policy: policy


def of_optix(settings, windows):
    """Return optix at the settings, windows alone."""
    import optix
    from optix.envs.device import device

    options = dict(settings)
    environment = options.pop("environment")
    if options.pop("flat", False):
        environment = flat(device(environment))
    run = optix.make(
        environment, "ppo", windows_per_round=1, evaluation_episodes=1, **options
    )
    hyperparams = run.learner.hyperparams

    def train(key):
        first, later = jax.random.split(key)
        state = jax.tree.map(lambda x: x[0], run.init(first).learner)

        def window(state, key):
            return run.learner.step(state, hyperparams, key, True)[0], None

        state, _ = jax.lax.scan(window, state, jax.random.split(later, windows))
        return state.policy

    return _side(run, train)


def by_defaults(settings, windows):
    """Return optix as `optix train` has it, in so many rounds."""
    import optix

    environment = settings["environment"]
    run = optix.make(environment, "ppo", min_rounds_before_dormant=10**6)

    def train(key):
        state = jax.lax.fori_loop(
            0, windows, lambda _, state: run.step(state)[0], run.init(key)
        )
        return jax.tree.map(lambda x: x[0], state.learner.policy)

    return _side(run, train)


def _side(run, train):
    agent, hyperparams = run.learner.agent, run.learner.hyperparams

    def act(policy, obs, key):
        carry = agent.initial_carry(len(obs))
        return agent.act(policy, carry, obs, hyperparams, key, True)[1]

    return Side(train, act, lambda policy: policy.params)


def flat(env):
    """The environment with observations as vectors, as rejax's layers see them."""

    def vectors(obs):
        return obs.reshape(len(obs), -1)

    def reset(key, batch):
        state, obs = env.reset(key, batch)
        return state, vectors(obs)

    def step(key, state, action):
        state, told = env.step(key, state, action)
        obs, next_obs = vectors(told.obs), vectors(told.next_obs)
        return state, told._replace(obs=obs, next_obs=next_obs)

    return env._replace(
        observation_shape=(math.prod(env.observation_shape),), reset=reset, step=step
    )


def of_rejax(settings, windows):
    """Return rejax, which knows some families by a prefix."""
    import rejax

    from tests.benchmarks.worker_rejax import learner_of

    family, name = settings["environment"].split(":")
    made = rejax.compat.create(f"{family}/{name}")
    learner = learner_of("ppo", settings, windows, *made)

    def train(key):
        state = learner.init_state(key)

        def window(state, _):
            return learner.train_iteration(state), None

        return jax.lax.scan(window, state, None, windows)[0]

    def act(state, obs, key):
        keys = jax.random.split(key, len(obs))
        return jax.vmap(learner.make_act(state))(obs.astype(float), keys)

    return Side(train, act, lambda state: state.actor_ts.params)


def of_craftax(settings, windows, folder):
    """Return the baseline of Craftax, with its optimistic resets."""
    sys.path.insert(0, folder)
    import ppo  # type: ignore
    from craftax.craftax_env import make_craftax_env_from_name  # type: ignore

    (width,) = set(settings["hidden"])
    name = settings["environment"].split(":")[1]
    actions = make_craftax_env_from_name(name, False).action_space().n
    network = ppo.ActorCritic(actions, width)
    train = ppo.make_train(
        {
            "ENV_NAME": name,
            "TOTAL_TIMESTEPS": windows * settings["num_envs"] * settings["num_steps"],
            "NUM_ENVS": settings["num_envs"],
            "NUM_STEPS": settings["num_steps"],
            "NUM_MINIBATCHES": settings["num_minibatches"],
            "UPDATE_EPOCHS": settings["num_epochs"],
            "USE_OPTIMISTIC_RESETS": True,
            "OPTIMISTIC_RESET_RATIO": 16,
            "LAYER_SIZE": width,
            "LR": settings["learning_rate"],
            "ANNEAL_LR": False,
            "GAMMA": settings["discount"],
            "GAE_LAMBDA": settings["gae_lambda"],
            "CLIP_EPS": settings["clip_ratio"],
            "ENT_COEF": settings["entropy_coefficient"],
            "VF_COEF": settings["value_coefficient"],
            "MAX_GRAD_NORM": settings["max_grad_norm"],
            "TRAIN_ICM": False,
            "DEBUG": False,
            "USE_WANDB": False,
        }
    )
    return Side(
        lambda key: train(key)["runner_state"][0].params,
        lambda params, obs, key: network.apply(params, obs)[0].sample(seed=key),
    )


def number_of(side, settings):
    """Return `key -> []`, the score that is asked for, or a number of all parameters."""
    if "scored_episodes" not in settings:
        return lambda key: sum(
            leaf.sum() for leaf in jax.tree.leaves(side.params(side.train(key)))
        )
    from optix.envs.device import device
    from optix.learners.evaluate import evaluator
    from optix.make import make_agent

    env = device(settings["environment"])

    def act(policy, carry, obs, hyperparams, key, explore):
        return carry, side.act(policy, obs, key), None

    player = make_agent(env, "ppo")._replace(init=side.train, act=act, outputs=None)
    episodes = settings["scored_episodes"]
    score = evaluator(player, env, episodes=episodes, deterministic=False)

    def scored(key):
        train_key, play_key = jax.random.split(key)
        return score(side.train(train_key), {}, play_key)

    return scored


def train_brax(settings, **options):
    """Let Brax's own `train` run, with what it is told beside the settings."""
    from brax import envs  # type: ignore
    from brax.training.agents.ppo import networks, train  # type: ignore

    # which jax has no longer
    jax.device_put_replicated = lambda tree, devices: jax.tree.map(
        lambda x: jax.numpy.stack([x] * len(devices)), tree
    )
    sizes = {
        f"{part}_hidden_layer_sizes": tuple(settings[name])
        for part, name in (("policy", "hidden"), ("value", "value_hidden"))
    }
    train.train(
        envs.get_environment(settings["environment"].split(":")[1]),
        episode_length=1000,
        num_envs=settings["num_envs"],
        unroll_length=settings["num_steps"],
        batch_size=settings["batch_size"],
        num_minibatches=settings["num_minibatches"],
        num_updates_per_batch=settings["num_epochs"],
        learning_rate=settings["learning_rate"],
        entropy_cost=settings["entropy_coefficient"],
        discounting=settings["discount"],
        gae_lambda=settings["gae_lambda"],
        clipping_epsilon=settings["clip_ratio"],
        max_grad_norm=settings["max_grad_norm"],
        vf_loss_coefficient=settings["value_coefficient"],
        reward_scaling=settings["reward_scale"],
        normalize_observations=True,
        use_pmap_on_reset=False,
        network_factory=lambda *told, **more: networks.make_ppo_networks(
            *told, **sizes, **more
        ),
        **options,
    )


def serve_brax(settings, windows):
    """Let Brax's `train` make an epoch for each line: it compiles within its run."""
    settings = {
        "batch_size": settings["num_envs"] // settings["num_minibatches"],
        "value_hidden": settings["hidden"],
        "reward_scale": 1.0,
        **settings,
    }
    window = settings["num_steps"] * settings["batch_size"]
    steps = windows * window * settings["num_minibatches"]
    if "scored_episodes" in settings:
        say({"compile": 0.0})
        respond(lambda seed: (steps, _scored_brax(settings, steps, seed)))
        return
    speeds, started = [], False

    def progress(_, metrics):
        nonlocal started
        if "training/sps" not in metrics:
            return
        speeds.append(float(metrics["training/sps"]))
        if not started:  # the first epoch has compiled
            started = True
            say({"compile": float(metrics["training/walltime"])})
        else:
            told = {"seconds": steps / speeds[-1], "steps_per_second": speeds[-1]}
            say(told)
        if not sys.stdin.readline():
            raise SystemExit

    epochs = 1000
    train_brax(
        settings,
        num_timesteps=steps * epochs,
        num_evals=epochs + 1,
        num_eval_envs=1,
        progress_fn=progress,
    )


def _scored_brax(settings, steps, seed):
    found = []
    train_brax(
        settings,
        num_timesteps=steps,
        num_evals=2,
        num_eval_envs=settings["scored_episodes"],
        seed=seed,
        progress_fn=lambda _, told: found.append(told["eval/episode_reward"]),
    )
    return float(found[-1])


def main():
    """Serve whoever is named."""
    who, windows, settings = sys.argv[1], int(sys.argv[3]), json.loads(sys.argv[4])
    if who == "brax":
        serve_brax(settings, windows)
        return
    sides = {"optix": of_optix, "defaults": by_defaults, "rejax": of_rejax}
    side = sides.get(who, lambda *told: of_craftax(*told, who))(settings, windows)
    made = number_of(side, settings)
    serve(lambda *_: made, lambda _: settings["num_envs"] * settings["num_steps"])


if __name__ == "__main__":
    main()
