"""No reinforcement at all: a regression that decides by itself when it has learned.

A `Learner` is five functions. Here a window is a hundred steps of Adam on fresh data
and the score is the negative validation error; the loop does the rest: it keeps the
best parameters, tunes the learning rate and stops when nothing is left to gain.
"""

import sys

import jax
import jax.numpy as jnp
import optax

import optix
from optix.loop.loop import loop
from optix.tuners.spsa import spsa
from optix.types import Learner, LearnerState, Policy, Report

WIDTH = 32


def predict(params, x):
    hidden = jnp.tanh(x @ params["inner"] + params["bias"])
    return hidden @ params["outer"]


def data(key, size):
    x_key, noise_key = jax.random.split(key)
    x = jax.random.uniform(x_key, (size, 1), minval=-3.0, maxval=3.0)
    y = jnp.sin(2 * x[:, 0]) + 0.1 * jax.random.normal(noise_key, (size,))
    return x, y


def regression() -> Learner:
    def error(params, x, y):
        return jnp.mean((predict(params, x) - y) ** 2)

    def optimizer(rate):
        return optax.adam(rate)

    def init(key):
        inner_key, outer_key = jax.random.split(key)
        params = {
            "inner": 2.0 * jax.random.normal(inner_key, (1, WIDTH)),
            "bias": jnp.linspace(-3.0, 3.0, WIDTH),
            "outer": 0.1 * jax.random.normal(outer_key, (WIDTH,)),
        }
        return LearnerState(Policy(params, opt_state=optimizer(0.0).init(params)))

    def step(state, hyperparams, key, active):
        del active  # nothing outlives the loop's own freezing
        update = optimizer(hyperparams["learning_rate"]).update

        def descend(policy, key):
            value, grads = jax.value_and_grad(error)(policy.params, *data(key, 64))
            updates, opt_state = update(grads, policy.opt_state)
            params = optax.apply_updates(policy.params, updates)
            return policy._replace(params=params, opt_state=opt_state), value

        keys = jax.random.split(key, 100)
        policy, losses = jax.lax.scan(descend, state.policy, keys)
        report = Report(
            env_steps=jnp.int32(100),  # steps of whatever the budget counts
            finite=jnp.isfinite(losses).all(),
            metrics={"loss": losses.mean()},
        )
        return LearnerState(policy), report

    def evaluate(policy, hyperparams, key):
        return -error(policy.params, *data(key, 1024))

    return Learner(
        init, lambda policy, key: (), step, evaluate, {"learning_rate": 1e-3}
    )


def main(max_rounds: int = 400) -> None:
    tuner = spsa({"learning_rate": (1e-5, 1e-1)})
    run = loop(regression(), tuner, max_rounds=max_rounds)
    state = jax.jit(run.run)(run.init(jax.random.key(0)))
    reason = optix.StopReason(int(state.stop_reason))
    print(f"stopped after {state.round} rounds: {reason.describe()}")
    print(f"validation error {-state.best.score:.4f} (the noise alone is 0.0100)")
    print(f"learning_rate {state.best.hyperparams['learning_rate']:.1e}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
