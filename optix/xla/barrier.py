"""What XLA:CPU shall not fuse."""

import jax

from optix.types import PyTree
from optix.xla.backend import on_cpu


def barrier(tree: PyTree) -> PyTree:
    """Return arrays that XLA:CPU has ready before it goes on; elsewhere nothing changes.

    Where fusing moves a transpose into a product, or a copy into the pass that made what
    is copied, a CPU takes several times as long. Other backends lose by being kept from
    it.
    """
    return jax.lax.optimization_barrier(tree) if on_cpu() else tree
