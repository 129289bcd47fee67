"""PPO on an environment of a family, by optix or by a peer: steps alone, no evaluation.

    python -m tests.benchmarks.worker_families WHO SEEDS WINDOWS SETTINGS

WHO is optix, rejax, brax, or the folder of a checkout of Craftax_Baselines; SEEDS is 1,
SETTINGS are a JSON object, by the names of optix. The layers are there twice, for the
policy and for the value, with all of them.
"""

import json
import math
import sys

import jax

from tests.benchmarks.worker import say, serve


def of_optix(settings, windows):
    """Return `key -> a number that needs all of the training`."""
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
        return weight(state.policy.params)

    return train


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
    """The same by rejax, which knows some families by a prefix."""
    import rejax

    from tests.benchmarks.worker_rejax import learner_of

    family, name = settings["environment"].split(":")
    made = rejax.compat.create(f"{family}/{name}")
    learner = learner_of("ppo", settings, windows, *made)

    def train(key):
        state = learner.init_state(key)

        def window(state, _):
            return learner.train_iteration(state), None

        state, _ = jax.lax.scan(window, state, None, windows)
        return weight(state.actor_ts.params)

    return train


def of_craftax(settings, windows, folder):
    """The same by the baseline of Craftax, with its optimistic resets."""
    sys.path.insert(0, folder)
    import ppo  # type: ignore

    (width,) = set(settings["hidden"])
    train = ppo.make_train(
        {
            "ENV_NAME": settings["environment"].split(":")[1],
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
    return lambda key: weight(train(key)["runner_state"][0].params)


def weight(params):
    """A number that needs all parameters."""
    return sum(leaf.sum() for leaf in jax.tree.leaves(params))


def serve_brax(settings, windows):
    """Let Brax's own `train` make an epoch for each line: it compiles within its run."""
    from brax import envs  # type: ignore
    from brax.training.agents.ppo import networks, train  # type: ignore

    # which jax has no longer
    jax.device_put_replicated = lambda tree, devices: jax.tree.map(
        lambda x: jax.numpy.stack([x] * len(devices)), tree
    )
    hidden = tuple(settings["hidden"])
    batch = settings["num_envs"] // settings["num_minibatches"]
    steps = windows * settings["num_envs"] * settings["num_steps"]
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

    train.train(
        envs.get_environment(settings["environment"].split(":")[1]),
        num_timesteps=steps * 1000,
        num_evals=1001,
        num_eval_envs=1,
        episode_length=1000,
        num_envs=settings["num_envs"],
        unroll_length=settings["num_steps"],
        batch_size=batch,
        num_minibatches=settings["num_minibatches"],
        num_updates_per_batch=settings["num_epochs"],
        learning_rate=settings["learning_rate"],
        entropy_cost=settings["entropy_coefficient"],
        discounting=settings["discount"],
        gae_lambda=settings["gae_lambda"],
        clipping_epsilon=settings["clip_ratio"],
        max_grad_norm=settings["max_grad_norm"],
        vf_loss_coefficient=settings["value_coefficient"],
        normalize_observations=True,
        use_pmap_on_reset=False,
        network_factory=lambda *sizes, **options: networks.make_ppo_networks(
            *sizes,
            policy_hidden_layer_sizes=hidden,
            value_hidden_layer_sizes=hidden,
            **options,
        ),
        progress_fn=progress,
    )


def main():
    """Serve whoever is named."""
    who, windows, settings = sys.argv[1], int(sys.argv[3]), json.loads(sys.argv[4])
    if who == "brax":
        serve_brax(settings, windows)
        return
    sides = {"optix": of_optix, "rejax": of_rejax}
    made = sides.get(who, lambda *told: of_craftax(*told, who))(settings, windows)
    serve(lambda *_: made, lambda _: settings["num_envs"] * settings["num_steps"])


if __name__ == "__main__":
    main()
