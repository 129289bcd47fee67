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
    started, used = time.perf_counter(), time.process_time()
    lowered = jax.jit(function).lower(jax.random.key(0))
    traced = time.perf_counter()
    compiled = lowered.compile()
    say(
        {
            "compile": time.perf_counter() - started,
            "compile_cpu": time.process_time() - used,
            "trace": traced - started,
            "temporaries": compiled.memory_analysis().temp_size_in_bytes,
        }
    )
    steps = abs(seeds) * windows * window_steps(algorithm)
    respond(lambda number: (steps, float(compiled(jax.random.key(number)))))


def respond(run):
    """Time `run(number) -> (environment steps, score)` for each line of the input."""
    for number, _ in enumerate(sys.stdin):
        started, used = time.perf_counter(), time.process_time()
        steps, score = run(number)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        told = {"seconds": seconds, "cpu": cpu, "steps_per_second": steps / seconds}
        say({**told, "score": score})


def say(message):
    """Print one line of JSON at once."""
    print(json.dumps(message), flush=True)
