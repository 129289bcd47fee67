"""How fast recurrent PPO runs: `python -m tests.benchmarks.recurrent`.

The settings of PPO's comparison with a GRU of 128 and its default torso. The peer's
figure, 21.6 k steps/s of PureJaxRL's recurrent PPO on two cores, is of these sizes and
of whole windows as sequences; sequences of 16 steps are the default here.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp

import optix
from tests.benchmarks.settings import PPO, window_steps

WINDOWS = 4  # in one call


def measure(sequence_length, repeats):
    """Print one row."""
    options = {name: PPO[name] for name in PPO.keys() - {"hidden", "activation"}}
    learner = optix.make(
        agent="recurrent_ppo", sequence_length=sequence_length, **options
    ).learner
    hyperparams = {k: jnp.float32(v) for k, v in learner.hyperparams.items()}

    def windows(state, key):
        def one(state, key):
            return learner.step(state, hyperparams, key, True)[0], None

        return jax.lax.scan(one, state, jax.random.split(key, WINDOWS))[0]

    key = jax.random.key(0)
    state = jax.jit(learner.init)(key)
    started = time.perf_counter()
    program = jax.jit(windows).lower(state, key).compile()
    compiled = time.perf_counter() - started
    seconds, processor = [], []
    for number in range(repeats):
        before = time.perf_counter(), time.process_time()
        state = program(state, jax.random.fold_in(key, number))
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - before[0])
        processor.append(time.process_time() - before[1])
    steps = WINDOWS * window_steps("ppo")
    rates = [steps / statistics.median(x) / 1e3 for x in (seconds, processor)]
    cells = [f"{sequence_length}", *(f"{x:.1f} k" for x in rates), f"{compiled:.1f} s"]
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 128])
    args = parser.parse_args()
    titles = "sequence|steps/s|steps/s of processor time|compile"
    print("| " + titles.replace("|", " | ") + " |\n|" + "---|" * 4)
    for length in args.lengths:
        measure(length, args.repeats)


if __name__ == "__main__":
    main()
