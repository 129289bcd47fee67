"""The matrix products of a run, and the time that they alone take.

What is counted are those of training as optix does it, without the evaluation: acting,
values, updates with both gradients of every layer. A gradient of [inputs, outputs] over
`rows` counts as a product of that shape, however its factors lie in memory: at its best.
"""

import collections
import time

import jax
import jax.numpy as jnp

SPACES = {  # observation shape, outputs of the policy
    "CartPole-v1": ((4,), 2),
    "Acrobot-v1": ((6,), 3),
    "Pendulum-v1": ((3,), 1),
    "Breakout-MinAtar": ((10, 10, 4), 3),
}
FILTERS, PATCH = 16, 9  # of the convolution
KEPT = 8  # matrices in turn, that no product is the one before


class Net:
    """The layers of a network, and how often its passes are asked for."""

    def __init__(self, shape, flat, hidden, outputs, counts):
        """`counts` gathers {(rows, inputs, outputs): times}."""
        self.counts = counts
        height, width, channels = shape if len(shape) == 3 else (0, 0, 0)
        self.places = 0 if flat else max(height - 2, 0) * max(width - 2, 0)
        self.channels = channels
        first = self.places * FILTERS or max(1, height * width) * (channels or shape[0])
        widths = [first, *hidden, outputs]
        self.layers = list(zip(widths[:-1], widths[1:], strict=True))

    def forward(self, rows, times):
        """A pass forward."""
        if self.places:
            inputs = PATCH * self.channels
            self.counts[rows * self.places, inputs, FILTERS] += times
        for inputs, outputs in self.layers:
            self.counts[rows, inputs, outputs] += times

    def backward(self, rows, times, weights=True, inputs_too=False):
        """The gradients of weights, and of what every layer but the first was given."""
        if self.places and weights:
            inputs = PATCH * self.channels
            self.counts[inputs, rows * self.places, FILTERS] += times
        for number, (inputs, outputs) in enumerate(self.layers):
            if weights:
                self.counts[inputs, rows, outputs] += times
            if number or self.places or inputs_too:
                self.counts[rows, outputs, inputs] += times


def products(algorithm, settings):
    """Return {(m, k, n): times a window} of one seed."""
    counts = collections.Counter()
    shape, outputs = SPACES[settings["environment"]]
    flat = settings.get("flat", False)

    def net(outputs, more=0):
        given = (shape[0] + more,) if more else shape
        return Net(given, flat, settings["hidden"], outputs, counts)

    envs, steps = settings["num_envs"], settings["num_steps"]
    if algorithm == "ppo":
        actor, critic = net(outputs), net(1)
        parts = settings["num_minibatches"]
        updates, rows = settings["num_epochs"] * parts, envs * steps // parts
        actor.forward(envs, steps)
        critic.forward(rows, parts)
        for one in (actor, critic):
            one.forward(rows, updates)
            one.backward(rows, updates)
        return counts
    if algorithm == "pqn":
        values = net(outputs)
        parts = settings["num_minibatches"]
        updates, rows = settings["num_epochs"] * parts, envs * steps // parts
        values.forward(envs, steps)
        values.forward(rows, parts)
        values.forward(rows, updates)
        values.backward(rows, updates)
        return counts
    updates = steps // settings["collect_steps"] * settings["gradient_steps"]
    rows = settings["batch_size"]
    if algorithm == "dqn":
        values = net(outputs)
        values.forward(envs, steps)
        values.forward(rows, 2 * updates)
        values.backward(rows, updates)
        return counts
    due = updates // settings.get("policy_delay", 1)
    actor, critic = net(2 if algorithm == "sac" else 1), net(1, more=1)
    judges = 2 if algorithm == "sac" else 1  # critics that the actor learns from
    actor.forward(envs, steps)
    actor.forward(rows, updates)
    critic.forward(rows, 4 * updates)
    critic.backward(rows, 2 * updates)
    actor.forward(rows, due)
    critic.forward(rows, judges * due)
    critic.backward(rows, judges * due, weights=False, inputs_too=True)
    actor.backward(rows, due)
    return counts


def seconds(counts, budget=0.05, clock=time.perf_counter):
    """Return how long the products take, each shape timed in a program of its own.

    Args:
      counts: {(m, k, n): times}.
      budget: seconds, about, that a shape is run for.
      clock: what tells the time.
    """
    return sum(times * _one(*size, budget, clock) for size, times in counts.items())


def _one(m, k, n, budget, clock):
    """Seconds of a product of [m, k] and [k, n], the least of three runs."""
    operations = max(2.0 * m * k * n, 1e5)
    turns = max(KEPT, int(budget * 3e10 / operations))

    @jax.jit
    def run(x, kernels):
        def turn(total, number):
            y = jax.lax.optimization_barrier(x @ kernels[number % KEPT])
            return total + y[0, 0], None

        return jax.lax.scan(turn, jnp.float32(0), jnp.arange(turns))[0]

    x, kernels = jnp.ones((m, k)), jnp.ones((KEPT, k, n))
    jax.block_until_ready(run(x, kernels))
    runs = []
    for _ in range(3):
        started = clock()
        jax.block_until_ready(run(x, kernels))
        runs.append(clock() - started)
    return min(runs) / turns
