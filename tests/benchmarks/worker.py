"""A process that compiles once and then runs when told to, one line each."""

import json
import sys
import time


def serve(build, window_steps):
    """Compile what `build(algorithm, seeds, windows)` returns; time a run for each line.

    Args:
      build: returns `key -> score []`, to be jitted.
      window_steps: `(algorithm) -> environment steps` of a window of one seed.
    """
    import jax

    algorithm, seeds, windows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    function = build(algorithm, seeds, windows)
    started = time.perf_counter()
    lowered = jax.jit(function).lower(jax.random.key(0))
    traced = time.perf_counter()
    compiled = lowered.compile()
    say({"compile": time.perf_counter() - started, "trace": traced - started})
    steps = abs(seeds) * windows * window_steps(algorithm)
    respond(lambda number: (steps, float(compiled(jax.random.key(number)))))


def respond(run):
    """Time `run(number) -> (environment steps, score)` for each line of the input."""
    for number, _ in enumerate(sys.stdin):
        started = time.perf_counter()
        steps, score = run(number)
        seconds = time.perf_counter() - started
        say({"seconds": seconds, "steps_per_second": steps / seconds, "score": score})


def say(message):
    """Print one line of JSON at once."""
    print(json.dumps(message), flush=True)
