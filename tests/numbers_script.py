"""Rounds of every agent, tuner, transform and replay, to be run under a flag of JAX.

As a script of its own, for a flag that is set before the start reaches everything.
"""

import sys
import traceback

import jax
import jax.numpy as jnp
from jax import jit

import optix
from optix.loop.modulation import neuromodulation
from optix.loop.transforms import chain
from optix.neuroevo.graph.build import layered
from optix.neuroevo.growth.controller import topology_controller
from optix.neuroevo.growth.hebbian import hebbian
from optix.registry import ALGORITHMS
from optix.types import Box, Discrete

SMALL = {"num_envs": 2, "num_steps": 8, "evaluation_episodes": 2, "final_scores": 2}
NETWORK = {"hidden": (4,)}
REPLAY = {"batch_size": 4, "capacity": 64, "learning_starts": 4, "gradient_steps": 1}
GRAPH = layered(4, (3,), 3, capacity=14, recurrent_delay=1)
NORMAL = {"normalize_observations": True, "normalize_rewards": True}


def settings(name):
    """The environment and the options of a small run of an agent."""
    row = ALGORITHMS[name]
    replay = REPLAY if "capacity" in row.learner_options() else {}
    more = {"sequence_length": 4} if name.startswith("recurrent") else {}
    if name == "impala":
        more = {"sequence_length": 4, "num_minibatches": 2}
    boxes = Box in row.actions and Discrete not in row.actions
    env = "Pendulum-v1" if boxes else "CartPole-v1"
    return env, {"agent": name, **SMALL, **NETWORK, **replay, **more}


def cases():
    """{name: the loop's factory}."""
    for name in ALGORITHMS:
        env, options = settings(name)
        yield (
            name,
            lambda env=env, o=options: optix.make(env, tuner="spsa", **o, **NORMAL),
        )
    env, options = settings("ppo")
    yield "ppo of boxes", lambda: optix.make("Pendulum-v1", **options)
    yield (
        "one lane",
        lambda: optix.make(
            env, tuner=optix_spsa(lanes=1), **options, target_kl=0.1, decay_over=9
        ),
    )
    env, replaying = settings("dqn")
    extra = {"prioritised": True, "n_step": 2, "observation_dtype": "float16"}
    yield (
        "dqn, all of its replay",
        lambda: optix.make(env, **replaying, **extra, one_copy=True),
    )
    growing = chain(
        hebbian(GRAPH), topology_controller(GRAPH), neuromodulation(window=5)
    )
    yield (
        "a graph",
        lambda: optix.make(
            "CartPole-v1",
            "recurrent_ppo",
            network=GRAPH,
            transforms=growing,
            sequence_length=4,
            **SMALL,
        ),
    )


def optix_spsa(lanes):
    from optix.tuners.spsa import spsa

    return spsa({"learning_rate": (1e-5, 1e-2)}, lanes=lanes)


def traced(make):
    """A round and the end of a run, nothing compiled."""
    run = make()
    state = jax.eval_shape(run.init, jax.random.key(0))
    after = jax.eval_shape(run.step, state)[0]
    before, after_ = (jax.tree_util.tree_leaves_with_path(x) for x in (state, after))
    changed = [
        f"{jax.tree_util.keystr(path)}: {x.dtype}, then {y.dtype}"
        for (path, x), (_, y) in zip(before, after_, strict=True)
        if (x.shape, x.dtype) != (y.shape, y.dtype)
    ]
    assert not changed, changed
    jax.eval_shape(run.finish, after)


def played(make):
    """A round and the end of a run, really."""
    run = make()
    state, report = jit(run.step)(run.init(jax.random.key(0)))
    jax.block_until_ready(jit(run.finish)(state))
    assert jnp.isfinite(report.score)


if __name__ == "__main__":
    how, names, failed = (
        {"traced": traced, "played": played}[sys.argv[1]],
        sys.argv[2:],
        0,
    )
    for name, make in cases():
        if names and name not in names:
            continue
        try:
            how(make)
            print(f"{name}: right")
        except Exception:
            failed += 1
            print(f"{name}: {traceback.format_exc(limit=-4)}")
    sys.exit(failed)
