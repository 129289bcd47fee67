"""Values that XLA keeps instead of computing them again for every use."""

import functools
from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from optix.xla.backend import on_cpu


def stored(function: Callable, *, static_argnames: tuple[str, ...] = ()) -> Callable:
    """Return `function` as a call that is not inlined, so that it is computed once.

    On a CPU, XLA fuses cheap arithmetic into whatever uses it, and so repeats it there: a
    draw of ten words that four arrays are selected from is hashed, and compiled, four
    times. What is not inlined cannot be fused into its users. On other devices, and in
    the backward pass, nothing is changed.

    Args:
      function: of arrays.
      static_argnames: arguments that are not arrays, as `jax.jit` takes them.

    >>> import jax.numpy as jnp
    >>> bool(stored(jnp.sin)(1.0) == jnp.sin(1.0))
    True
    """
    call = jax.jit(function, static_argnames=static_argnames)

    @functools.wraps(function)
    def kept(*args, **kwargs):
        result = call(*args, **kwargs)
        if not on_cpu():
            return result
        return set_xla_metadata(result, inlineable="false")

    return kept
