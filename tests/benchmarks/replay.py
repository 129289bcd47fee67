"""How fast replay runs beside flashbax: `python -m tests.benchmarks.replay`.

A turn adds a few rows, samples a batch and, where priorities count, updates them; many
turns are one scan whose state is donated. The buffer is full before. Both run in turn,
so that whatever else the machine does hits both; the figure is the fastest of some
runs, in microseconds. Where flashbax==0.1.3 is not installed its columns are empty.
"""

import argparse
import importlib.util
import time
from functools import partial

import jax
import jax.numpy as jnp

from optix.buffers.prioritised import prioritised
from optix.buffers.uniform import uniform
from optix.types import Transition

TURNS, ROWS, BATCH = 200, 10, 128
CAPACITIES = {"10 k": 10_000, "100 k": 100_000, "1 M": 1_000_000}


def transitions(key, count):
    """Rows of a small environment."""
    obs = jax.random.normal(key, (count, 4))
    return Transition(obs, jnp.zeros(count, jnp.int32), obs[:, 0], obs[:, 1], obs + 1)


def ours(kind, capacity):
    """init, add, sample and update of optix."""
    buffer = {"uniform": uniform, "prioritised": prioritised}[kind](capacity)

    def add(state, rows):
        return buffer.add(state, rows, jnp.ones(len(rows.reward), bool))

    def sample(state, key):
        drawn = buffer.sample(state, key, BATCH, 0.5)
        return drawn.items, drawn.index, drawn.weight

    def update(state, index, priority):
        return buffer.update(state, index, priority, True)

    return buffer.init, add, sample, update


def theirs(kind, capacity):
    """init, add, sample and update of flashbax, weights by the same formula."""
    import flashbax

    if kind == "uniform":
        buffer = flashbax.make_item_buffer(capacity, 1, BATCH, add_batches=True)
    else:
        buffer = flashbax.make_prioritised_item_buffer(
            capacity, 1, BATCH, add_batches=True, priority_exponent=1.0
        )

    def sample(state, key):
        drawn = buffer.sample(state, key)
        if kind == "uniform":
            return drawn.experience, jnp.zeros(BATCH, jnp.int32), jnp.ones(BATCH)
        weight = (capacity * drawn.probabilities) ** -0.5
        return drawn.experience, drawn.indices, weight / weight.max()

    update = getattr(buffer, "set_priorities", lambda state, index, priority: state)
    return buffer.init, buffer.add, sample, update


def turn(parts, what, carry, key):
    """One iteration; its samples are used up in a sum."""
    _, add, sample, update = parts
    state, total = carry
    if what == "all":
        state = add(state, transitions(key, ROWS))
    items, index, weight = sample(state, key)
    if what == "all":
        state = update(state, index, jnp.abs(items.reward) + 0.1)
    used = sum(jnp.sum(x) for x in jax.tree.leaves(items)) + jnp.sum(weight)
    return (state, total + used), None


def program(parts, capacity, seeds, what):
    """Return a function that runs once and gives its seconds."""

    def fill(key):
        state = parts[0](jax.tree.map(lambda x: x[0], transitions(key, 1)))
        block = min(capacity, 10_000)
        keys = jax.random.split(key, capacity // block)
        state, _ = jax.lax.scan(
            lambda s, k: (parts[1](s, transitions(k, block)), None), state, keys
        )
        return state, jnp.float32(0)

    def turns(carry, key):
        keys = jax.random.split(key, TURNS)
        return jax.lax.scan(partial(turn, parts, what), carry, keys)[0]

    if seeds > 1:
        fill, turns = jax.vmap(fill), jax.vmap(turns)

    def keys(seed):
        key = jax.random.key(seed)
        return jax.random.split(key, seeds) if seeds > 1 else key

    carry = jax.jit(fill)(keys(0))
    compiled = jax.jit(turns, donate_argnums=0).lower(carry, keys(1)).compile()

    def run():
        nonlocal carry
        started = time.perf_counter()
        carry = jax.block_until_ready(compiled(carry, keys(2)))
        return time.perf_counter() - started

    return run


def measure(kind, capacity, seeds, what, repeats, peer):
    """Microseconds a turn of optix and, if it is there, of flashbax."""
    makers = (ours, theirs) if peer else (ours,)
    runs = [program(make(kind, capacity), capacity, seeds, what) for make in makers]
    seconds = [[run() for run in runs] for _ in range(repeats + 1)][1:]
    return [min(column) / TURNS * 1e6 for column in zip(*seconds, strict=True)]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=4, help="of the vmapped rows")
    parser.add_argument("--only", help="one capacity, e.g. '10 k'")
    args = parser.parse_args()
    peer = importlib.util.find_spec("flashbax") is not None
    print("| replay | capacity | seeds | turn | optix | flashbax |\n|" + "---|" * 6)
    for kind in ("uniform", "prioritised"):
        for name, capacity in CAPACITIES.items():
            if args.only not in (None, name):
                continue
            for seeds, what in ((1, "all"), (args.seeds, "all"), (1, "sample")):
                figures = measure(kind, capacity, seeds, what, args.repeats, peer)
                cells = [f"{x:.0f} us" for x in figures] + [""] * (2 - len(figures))
                cells = [kind, name, str(seeds), what, *cells]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
