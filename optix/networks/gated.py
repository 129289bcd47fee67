"""Gated cells, step by step and over a window with gradients that are fast.

A cell is two products, of its input and of what it remembers, and gates, a function
without parameters, on what these give. Differentiated as a scan, a window would take the
gradients of the weights anew in each step. Here the scan backwards only hands on the
gradients of the carry; those of the weights are one product each over the whole window.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen

from optix.trees import select_rows
from optix.types import PyTree
from optix.xla.backend import time_unroll
from optix.xla.barrier import barrier


class Weights(NamedTuple):
    """The two products of a cell with `G` gates of size `M`."""

    input: jax.Array  # [I, G M] float32
    recurrent: jax.Array  # [M, G M] float32
    bias: jax.Array  # [2, G M] float32 of either


class Cell(linen.Module):
    """A gated cell of `size` numbers; LeCun normal weights, zero biases."""

    size: int

    gates = 0  # of each product
    parts = 0  # arrays of the carry; the last one is the output

    @staticmethod
    def rest(carry, of_input, of_output):
        """Return the new carry, from the old one and both products [..., G M]."""
        raise NotImplementedError

    @linen.compact
    def __call__(self, carry, x, ended=None):
        """Return (carry, output), of one step or of a window.

        Args:
          carry: a tuple of [..., size]; of a window [B, size], before its first step.
          x: [..., I], of a window [T, B, I].
          ended: None for a step; of a window [T, B] bool, the carry is zero after it.
        """
        width = self.gates * self.size
        normal, zeros = linen.initializers.lecun_normal(), linen.initializers.zeros
        weights = Weights(
            self.param("input", normal, (x.shape[-1], width)),
            self.param("recurrent", normal, (self.size, width)),
            self.param("bias", zeros, (2, width)),
        )
        if ended is None:
            carry = self.rest(carry, *_products(weights, x, carry[-1]))
            return carry, carry[-1]
        return over_window(self.rest, weights, carry, x, ended)

    def initial_carry(self, batch: int) -> PyTree:
        """Return the carry of an empty memory."""
        return tuple(jnp.zeros((batch, self.size)) for _ in range(self.parts))


class GRU(Cell):
    """A gated recurrent unit (https://arxiv.org/abs/1406.1078), as in cuDNN."""

    gates = 3
    parts = 1

    @staticmethod
    def rest(carry, of_input, of_output):
        """Return (output,)."""
        update, reset, new = jnp.split(of_input, 3, -1)
        keep, forget, old = jnp.split(of_output, 3, -1)
        # an open gate at first remembers for longer
        update = jax.nn.sigmoid(update + keep + 1.0)
        reset = jax.nn.sigmoid(reset + forget)
        new = jnp.tanh(new + reset * old)
        return (new + update * (carry[0] - new),)


class LSTM(Cell):
    """Long short-term memory (https://doi.org/10.1162/neco.1997.9.8.1735)."""

    gates = 4
    parts = 2

    @staticmethod
    def rest(carry, of_input, of_output):
        """Return (cell, output)."""
        write, keep, show, new = jnp.split(of_input + of_output, 4, -1)
        cell = jax.nn.sigmoid(keep + 1.0) * carry[0]
        cell = cell + jax.nn.sigmoid(write) * jnp.tanh(new)
        return cell, jax.nn.sigmoid(show) * jnp.tanh(cell)


def _products(weights, x, output):
    return (
        x @ weights.input + weights.bias[0],
        output @ weights.recurrent + weights.bias[1],
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def over_window(
    rest: Callable[..., Any],
    weights: Weights,
    carry: PyTree,
    x: jax.Array,
    ended: jax.Array,
) -> tuple[PyTree, jax.Array]:
    """Run a cell over a window, its carry zero after each step that ended.

    Args:
      rest: of the `Cell`.
      weights: of the cell.
      carry: a tuple of [B, M] before the first step.
      x: [T, B, I].
      ended: [T, B] bool.

    Returns:
      The carry after the last step, and the outputs [T, B, M].
    """

    def step(carry, inputs):
        x, ended = inputs
        after = rest(carry, *_products(weights, x, carry[-1]))
        return _zero_where(ended, after), after[-1]

    return jax.lax.scan(step, carry, (x, ended), unroll=time_unroll())


def _forward(rest, weights, carry, x, ended):
    def step(carry, inputs):
        x, ended = inputs
        # `pull` is what the gates' gradients need: arrays, which the scan stacks
        after, pull = jax.vjp(rest, carry, *_products(weights, x, carry[-1]))
        return _zero_where(ended, after), (after[-1], carry[-1], pull)

    carry, (output, before, pull) = jax.lax.scan(
        step, carry, (x, ended), unroll=time_unroll()
    )
    return (carry, output), (weights, x, before, pull, ended)


def _backward(rest, residuals, gradients):
    del rest
    weights, x, before, pull, ended = residuals
    transposed = barrier(weights.recurrent.T)

    def step(carry, inputs):
        output, pull, ended = inputs
        *others, last = _zero_where(ended, carry)
        carry, of_input, of_output = pull((*others, last + output))
        carry = (*carry[:-1], carry[-1] + of_output @ transposed)
        return carry, (of_input, of_output)

    carry, output = gradients
    carry, products = jax.lax.scan(
        step, carry, (output, pull, ended), reverse=True, unroll=time_unroll()
    )

    def rows(x):
        return x.reshape(-1, x.shape[-1])

    # see `optix.xla.affine` for the barriers
    of_input, of_output = barrier(jax.tree.map(rows, products))
    grads = Weights(
        barrier(rows(x).T) @ of_input,
        barrier(rows(before).T) @ of_output,
        jnp.stack([of_input.sum(0), of_output.sum(0)]),
    )
    return grads, carry, (of_input @ weights.input.T).reshape(x.shape), None


over_window.defvjp(_forward, _backward)


def _zero_where(ended, carry):
    return select_rows(ended, jax.tree.map(jnp.zeros_like, carry), carry)
