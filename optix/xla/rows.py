"""When the rows of minibatches are gathered."""

import math

import jax

from optix.types import PyTree
from optix.xla.backend import on_cpu

NARROW = 64  # numbers in a row


def gathers_early(samples: PyTree) -> bool:
    """Return whether an epoch's rows are best gathered at once, before its minibatches.

    XLA:CPU hands the operations at the start of a loop's turn to a second thread where
    there are many, as there are gathers, and what follows them runs slower. Wide rows are
    too much to copy.

    Args:
      samples: leaves [N, ...].
    """
    width = sum(math.prod(x.shape[1:]) for x in jax.tree.leaves(samples))
    return on_cpu() and width <= NARROW
