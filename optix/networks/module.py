"""A flax module behind the `Network` record."""

from flax import linen

from optix.types import Network, PyTree


def module_network(module: linen.Module, *example: PyTree) -> Network:
    """Return the feed-forward `Network` of a module.

    Args:
      module: called with what `example` stands for.
      *example: one batch of its inputs; where there are several, `apply` takes a tuple.
    """

    def init(key):
        return module.init(key, *example)["params"], ()

    def apply(params, structure, carry, inputs):
        del structure
        inputs = inputs if len(example) > 1 else (inputs,)
        return carry, module.apply({"params": params}, *inputs)

    return Network(init, lambda batch: (), apply)
