"""Neuron graphs: `python -m tests.benchmarks.neuroevo --tensor-optix PYTHON`.

step: a step of a graph beside a flax MLP of two layers of 64, in turn, everything an
argument. static: a frozen graph beside the same MLP. training: the whole loop at equal
updates for each environment step beside tensor-optix 1.16.0, whose interpreter PYTHON is
run with one thread (its best). learning: graph PPO on CartPole-v1 and gated neurons on a
task of memory. growth: from no hidden neurons on a noisy XOR bandit, against no growth
and growth by chance. population: graphs of 64 topologies trained in one compile.
"""

import argparse
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

import optix
from optix.neuroevo.graph import forward
from optix.neuroevo.graph.build import GraphBuilder, layered, random_graph
from optix.neuroevo.graph.graph import is_hidden, num_edges
from optix.neuroevo.graph.network import graph_network
from optix.neuroevo.graph.static import freeze
from optix.neuroevo.growth.activity import graph_of
from optix.neuroevo.growth.controller import topology_controller
from tests.benchmarks.learning import MEMORY, environment, interval
from tests.benchmarks.speed import Worker
from tests.benchmarks.xor import STEPS, NoisyXor

BATCH = 1024
UPDATES = {  # 16 updates of 50 samples for 200 steps; 20 of 64 for 256: what the peer does
    "plain": dict(num_envs=8, num_steps=25, num_epochs=4, num_minibatches=4),
    "recurrent": dict(
        num_envs=4,
        num_steps=64,
        num_epochs=5,
        num_minibatches=4,
        sequence_length=64,
        kind="trainable_gru",
    ),
}


def row(*cells):
    """Print a row of a table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def table(*titles):
    """Print the head of a table."""
    print()
    row(*titles)
    print("|" + "---|" * len(titles), flush=True)


def medians(programs, repeats=40, calls=10):
    """Return the median seconds of each program, run in turn."""
    for program, arguments in programs.values():
        jax.block_until_ready(program(*arguments))
    times = {name: [] for name in programs}
    for _ in range(repeats):
        for name, (program, arguments) in programs.items():
            started = time.perf_counter()
            for _ in range(calls):
                out = program(*arguments)
            jax.block_until_ready(out)
            times[name].append((time.perf_counter() - started) / calls)
    return {name: statistics.median(values) for name, values in times.items()}


class MLP(linen.Module):
    """What the graph is compared with."""

    @linen.compact
    def __call__(self, x):
        for _ in range(2):
            x = linen.tanh(linen.Dense(64)(x))
        return linen.Dense(5)(x)


def deep_graph(neurons=64, inputs=8, outputs=5, depth=4, delays=3, density=0.2):
    """A graph of exactly this depth: 20 % of the edges that levels allow, 20 % delayed."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder()
    level = [0] * inputs + [depth] * outputs
    level += list(rng.integers(1, depth, neurons - inputs - outputs))
    kinds = rng.choice(["linear", "relu", "tanh", "sigmoid"], neurons)
    for number in range(neurons):
        roles = ["input"] * inputs + ["output"] * outputs
        role = roles[number] if number < len(roles) else "hidden"
        builder.add_neuron(role, str(kinds[number]) if role == "hidden" else "linear")
    for src in range(neurons):
        for dst in range(inputs, neurons):
            weight = float(rng.normal() / np.sqrt(density * neurons))
            if level[src] < level[dst] and rng.random() < density:
                builder.add_edge(src, dst, weight)
            for delay in range(1, delays + 1):
                if rng.random() < density / delays:
                    builder.add_edge(src, dst, weight, delay)
    return builder.build()


def step():
    """A step forward and its gradient."""
    graph = deep_graph()

    def run(weights, structure, carry, obs):
        ready = forward.circuit(graph.replace(weights=weights, structure=structure))
        _, signals = jax.vmap(forward.step, in_axes=(None, 0, 0))(ready, carry, obs)
        return forward.outputs_of(graph, signals)

    key = jax.random.key(0)
    obs = jax.random.normal(key, (BATCH, graph.num_inputs))
    carry = jax.tree.map(
        lambda x: jax.random.normal(key, (BATCH, *x.shape)),
        forward.initial_carry(graph),
    )
    mlp = MLP()
    params = mlp.init(key, obs)
    ours = graph.weights, graph.structure, carry, obs
    seconds = medians(
        {
            "graph": (jax.jit(run), ours),
            "graph gradient": (jax.jit(jax.grad(_square(run))), ours),
            "mlp": (jax.jit(mlp.apply), (params, obs)),
            "mlp gradient": (jax.jit(jax.grad(_square(mlp.apply))), (params, obs)),
        }
    )
    depth, edges = int(graph.structure.level.max()), int(num_edges(graph.structure))
    table(
        f"64 neurons, {edges} edges, depth {depth}, batch {BATCH}",
        "graph",
        "MLP",
        "ratio",
    )
    for name, suffix in (("forward", ""), ("gradient", " gradient")):
        own, other = seconds[f"graph{suffix}"], seconds[f"mlp{suffix}"]
        row(name, f"{own * 1e3:.2f} ms", f"{other * 1e3:.2f} ms", f"{own / other:.2f}")


def static():
    """The layers of the MLP as a graph that is done growing."""
    network = graph_network(freeze(layered(8, (64, 64), 5)), keep_weights=True)
    params, structure = network.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (BATCH, 8))
    mlp = MLP()
    weights = mlp.init(jax.random.key(0), obs)

    def run(params, obs):
        return network.apply(params, structure, (), obs)[1]

    seconds = medians(
        {
            "frozen": (jax.jit(run), (params, obs)),
            "frozen gradient": (jax.jit(jax.grad(_square(run))), (params, obs)),
            "mlp": (jax.jit(mlp.apply), (weights, obs)),
            "mlp gradient": (jax.jit(jax.grad(_square(mlp.apply))), (weights, obs)),
        }
    )
    table(f"two layers of 64, batch {BATCH}", "frozen graph", "MLP", "ratio")
    for name, suffix in (("forward", ""), ("gradient", " gradient")):
        own, other = seconds[f"frozen{suffix}"], seconds[f"mlp{suffix}"]
        row(name, f"{own * 1e3:.2f} ms", f"{other * 1e3:.2f} ms", f"{own / other:.2f}")


def _square(function):
    return lambda *arguments: jnp.square(function(*arguments)).sum()


def training(python, repeats=5, rounds=4, windows=50):
    """The whole loop, evaluation included, at equal updates for each step."""
    os.environ["OMP_NUM_THREADS"] = "1"
    table(
        "CartPole-v1, 8 hidden neurons",
        "optix steps/s",
        "tensor-optix steps/s",
        "ratio",
    )
    for name, options in UPDATES.items():
        run = optix.make(
            "CartPole-v1",
            network="graph",
            windows_per_round=windows,
            min_rounds_before_dormant=10**6,
            **options,
        )
        steps = rounds * windows * options["num_envs"] * options["num_steps"]

        def several(state, run=run):
            return jax.lax.fori_loop(0, rounds, lambda _, s: run.step(s)[0], state)

        program = jax.jit(several)
        state = jax.block_until_ready(program(run.init(jax.random.key(0))))
        arguments = [] if python is None else [python]
        peers = [
            Worker(peer, "tests.benchmarks.worker_graph_agent", name, 8)
            for peer in arguments
        ]
        own, other = [], []
        for _ in range(repeats):
            started = time.perf_counter()
            state = jax.block_until_ready(program(state))
            own.append(steps / (time.perf_counter() - started))
            other += [peer.run()["steps_per_second"] for peer in peers]
        for peer in peers:
            peer.close()
        ours = statistics.median(own)
        theirs = statistics.median(other) if other else float("nan")
        kind = "trainable GRU" if name == "recurrent" else "tanh"
        row(kind, f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.0f}")


def learning(seeds):
    """Whether graphs learn: a share of seeds at the bar."""
    table("task", "network", "bar", "seeds at the bar", "score", "worst", "steps")
    cases = [
        (
            "CartPole-v1",
            "8 tanh neurons",
            475.0,
            dict(hidden=(8,), max_env_steps=2**21),
        ),
        (
            MEMORY,
            "8 trainable GRU neurons",
            0.95,
            dict(hidden=(8,), kind="trainable_gru", max_env_steps=2**20),
        ),
    ]
    for task, name, bar, options in cases:
        env, params = environment(task)
        run = optix.make(env, env_params=params, network="graph", **options)

        def one(key, run=run):
            state = run.run(run.init(key))
            return state.best.score, state.env_steps

        keys = jax.random.split(jax.random.key(0), seeds)
        score, steps = map(
            np.asarray, jax.jit(lambda k, f=one: jax.lax.map(f, k))(keys)
        )
        row(
            task,
            name,
            bar,
            f"{(score >= bar).sum()} of {seeds}",
            f"{score.mean():.2f} ± {interval(score):.2f}",
            f"{score.min():.2f}",
            f"{np.median(steps) / 1e6:.2f} M",
        )


GROWTH = {  # a control by chance gets the budget of the row above it
    "no growth": dict(trigger="never", prune=False),
    "three conditions": dict(),
    "by chance, as often as three conditions": dict(trigger="random"),
    "flat and utilised": dict(conditions=("flat", "utilised")),
    "by chance, as often as flat and utilised": dict(trigger="random"),
}


def growth(seeds, rounds=1500):
    """From no hidden neurons on a task that is not linear."""
    graph = layered(2, (), 3, capacity=24)
    table(
        f"noisy XOR, best {STEPS}, linear {STEPS * 3 // 4}",
        "score",
        "worst",
        "hidden neurons",
        "growths",
        "seeds above 28",
    )
    unlimited = jnp.full(seeds, 1e9)
    grown = np.zeros(seeds)
    for name, options in GROWTH.items():
        by_chance = options.get("trigger") == "random"
        budget = jnp.asarray(grown, jnp.float32) if by_chance else unlimited
        if by_chance:  # the same number of growths, spread evenly
            options = {**options, "growth_rate": float(grown.mean() / rounds)}
        controller = topology_controller(graph, **options)
        run = optix.make(
            NoisyXor(),
            network=graph,
            keep_weights=False,
            transforms=controller,
            tuner="fixed",
            num_envs=16,
            num_steps=64,
            entropy_coefficient=0.1,
            max_rounds=rounds,
            dormant_threshold=10**6,
        )

        def one(key, budget, run=run):
            state = run.run(run.init(key, {"topology/max_growths": budget}))
            policy = jax.tree.map(lambda x: x[0], state.learner.policy)
            hidden = is_hidden(graph_of(graph, policy)).sum()
            return state.best.score, hidden, state.transforms.counts.grown[0]

        keys = jax.random.split(jax.random.key(0), seeds)
        program = jax.jit(lambda *k, f=one: jax.lax.map(lambda x: f(*x), k))
        score, hidden, grown = map(np.asarray, program(keys, budget))
        row(
            name,
            f"{score.mean():.1f} ± {interval(score):.1f}",
            f"{score.min():.1f}",
            f"{hidden.mean():.1f}",
            f"{grown.mean():.1f}",
            f"{(score > 28).sum()} of {seeds}",
        )


def population(size=64):
    """Graphs of different topologies in one compile."""
    keys = jax.random.split(jax.random.key(0), size)
    graphs = [
        random_graph(k, 4, 8, 3, density=0.3 + 0.4 * n / size)
        for n, k in enumerate(keys)
    ]
    edges = [int(num_edges(g.structure)) for g in graphs]
    run = optix.make(
        "CartPole-v1", network=graphs[0], num_envs=8, min_rounds_before_dormant=10**6
    )
    traces = []

    def train(policy, key):
        traces.append(1)
        state = run.init(key)
        state = run.restart(state, policy, None, key)
        return jax.lax.fori_loop(0, 20, lambda _, s: run.step(s)[0], state).best.score

    policy = run.init(jax.random.key(0)).best.policy
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *graphs)
    policies = jax.vmap(lambda w, s: policy._replace(params=w, structure=s))(
        stacked.weights, stacked.structure
    )
    program = jax.jit(jax.vmap(train))
    compiled = program.lower(policies, keys).compile()
    started = time.perf_counter()
    scores = np.asarray(compiled(policies, keys))
    seconds = time.perf_counter() - started
    table("population", "edges", "traces", "mean score", "best score", "steps/s")
    steps = size * 20 * 8 * 128
    row(
        f"{size} topologies",
        f"{min(edges)} to {max(edges)}",
        len(traces),
        f"{scores.mean():.0f}",
        f"{scores.max():.0f}",
        f"{steps / seconds / 1e3:.0f} k",
    )


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tensor-optix", help="interpreter with tensor-optix 1.16.0")
    parser.add_argument("--seeds", type=int, default=16)
    parts = {
        "step": step,
        "static": static,
        "training": lambda: training(args.tensor_optix),
        "learning": lambda: learning(args.seeds),
        "growth": lambda: growth(args.seeds),
        "population": population,
    }
    parser.add_argument("--only", choices=parts)
    args = parser.parse_args()
    for name, part in parts.items():
        if args.only in (None, name):
            part()


if __name__ == "__main__":
    main()
