"""How often does `adaptive` take scores for what they are not?

    python -m tests.benchmarks.routing

1000 simulated histories of each kind, of 20, 30 and 40 scores: how often each rule is
chosen, in per cent. It takes a few seconds.
"""

import jax
import jax.numpy as jnp
import numpy as np

from optix.tuners.adaptive import HISTORY, Route, choose_route
from tests.noise import autoregressive

RUNS, COUNTS = 1000, (20, 30, 40)
CURVES = {
    "flat": lambda t: 0.0 * t,
    "line, 2 deviations in all": lambda t: 2 * t,
    "saturating, 8 deviations": lambda t: 8 * (1 - np.exp(-4 * t)),
    "falling by 2 at the end": lambda t: -2.0 * (t > 0.75),
}


def main():
    """Print a table."""
    print("| curve | noise | scores | " + " | ".join(r.name for r in Route) + " |")
    print("|" + "---|" * (3 + len(Route)))
    chosen = jax.jit(jax.vmap(choose_route, (0, None)))
    for name, curve in CURVES.items():
        rng = np.random.default_rng(0)
        for coefficient in (-0.6, 0.0, 0.5, 0.8):
            for count in COUNTS:
                noise = autoregressive(rng, RUNS, count, coefficient)
                scores = np.zeros((RUNS, HISTORY), np.float32)
                scores[:, HISTORY - count :] = noise + curve(np.linspace(0, 1, count))
                routes = np.asarray(chosen(jnp.asarray(scores), count))
                shares = [f"{100 * np.mean(routes == route):.1f}" for route in Route]
                cells = [name, f"{coefficient:g}", str(count), *shares]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
