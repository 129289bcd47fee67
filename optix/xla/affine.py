"""Affine maps, with weight gradients that are fast on XLA:CPU."""

import jax

from optix.xla.backend import on_cpu

# below this many rows the plain gradient is as fast, and compiles sooner
_ROWS_WORTH_A_TRANSPOSE = 512


@jax.custom_vjp
def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Return `x @ kernel + bias` for x [N, inputs].

    XLA:CPU contracts over the rows of a large `x` three times slower than it multiplies
    forward, unless the transpose is made first: the barrier keeps it from being folded
    back into the product.
    """
    return x @ kernel + bias


def _affine_forward(x, kernel, bias):
    return affine(x, kernel, bias), (x, kernel)


def _affine_backward(residuals, g):
    x, kernel = residuals
    inputs, outputs = kernel.shape
    barrier = jax.lax.optimization_barrier
    narrow = outputs < inputs
    by_columns = barrier(barrier(g.T) @ x).T if narrow else barrier(x.T) @ g
    return g @ kernel.T, by_columns, g.sum(0)


affine.defvjp(_affine_forward, _affine_backward)


def apply_affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Return `x @ kernel + bias` for x [..., inputs], by whatever is faster.

    That is the plain expression for few rows, and on everything but a CPU.
    """
    rows = x.reshape(-1, x.shape[-1])
    if rows.shape[0] < _ROWS_WORTH_A_TRANSPOSE or not on_cpu():
        return x @ kernel + bias
    return affine(rows, kernel, bias).reshape(*x.shape[:-1], kernel.shape[-1])
