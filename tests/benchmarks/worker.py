"""A process that compiles once and then runs when told to, one line each."""

import json
import sys
import time


def serve(build):
    """Compile what `build(seeds, windows)` returns, then time one run for each line.

    Args:
      build: returns `key -> score []`, to be jitted.
    """
    import jax

    seeds, windows = int(sys.argv[1]), int(sys.argv[2])
    function = build(seeds, windows)
    started = time.perf_counter()
    lowered = jax.jit(function).lower(jax.random.key(0))
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    say({"trace": traced - started, "compile": done - traced})
    for number, _ in enumerate(sys.stdin):
        key = jax.random.key(number)
        started = time.perf_counter()
        score = float(compiled(key))
        say({"seconds": time.perf_counter() - started, "score": score})


def say(message):
    """Print one line of JSON at once."""
    print(json.dumps(message), flush=True)
