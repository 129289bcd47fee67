"""For which backend a program is traced.

JAX's default backend decides; a program placed on another device by hand is right there
too, and only slower than it could be.
"""

import jax

# of a step of an environment or a network: 8 was 2 % faster still, and compiles longer
_STEPS_A_TURN = 4


def on_cpu() -> bool:
    """Return whether a program traced now is for XLA:CPU."""
    return jax.default_backend() == "cpu"


def time_unroll() -> int:
    """Return how many steps of a loop over time one turn shall hold.

    What `jax.lax.scan` takes as `unroll`. A turn costs an accelerator some microseconds
    whatever is in it; a CPU gains nothing.
    """
    return 1 if on_cpu() else _STEPS_A_TURN
