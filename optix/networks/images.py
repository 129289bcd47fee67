"""What an image passes before the hidden layers: convolutions by its size, or by name."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen

from optix import checks
from optix.networks.dense import Convolution

# (features, size, stride) of the layers
LAYERS = {
    # https://arxiv.org/abs/1903.03176
    "minatar": ((16, 3, 1),),
    # https://doi.org/10.1038/nature14236
    "nature": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
}
_SECTIONS = (16, 32, 32)  # features, of https://arxiv.org/abs/1802.01561
# pixels a side of which something is left
_LEAST = {"minatar": 3, "nature": 36, "impala": 3}


class Section(linen.Module):
    """A convolution, the largest of each 3 by 3 in half the size, and two residual blocks.

    activate: what stands before the convolutions of a block.
    """

    features: int
    activate: Callable[[Any], Any]

    @linen.compact
    def __call__(self, x):
        """Map [N, height, width, channels] to half of both, rounded up, and features."""
        x = Convolution(self.features, same=True)(x)
        x = linen.max_pool(x, (3, 3), (2, 2), "SAME")
        for _ in range(2):
            inside = x
            for _ in range(2):
                inside = Convolution(self.features, same=True)(self.activate(inside))
            x = x + inside
        return x


def convolved(x: jax.Array, name: str | None, activate: Callable[[Any], Any]) -> Any:
    """Return the features of images; called in a module, whose layers they become.

    Args:
      x: [N, height, width, channels].
      name: one of minatar, nature and impala; None chooses by the size: small ones as in
        MinAtar, those of 36 pixels a side and more as DQN has them for Atari, for one
        layer alone would leave a hundred thousand features of an image of 84 by 84.
      activate: between the layers.
    """
    if name == "impala":
        for features in _SECTIONS:
            x = Section(features, activate)(x)
        return activate(x)
    if name is None:
        name = "nature" if min(x.shape[1:3]) >= _LEAST["nature"] else "minatar"
    for layer in LAYERS[name]:
        x = activate(Convolution(*layer)(x))
    return x


def checked_convolutions(name: Any, shape: tuple[int, ...]) -> str | None:
    """Return the name of convolutions, or raise ValueError where they do not fit.

    Args:
      name: as of `convolved`.
      shape: of an observation.
    """
    if name is None:
        return None
    checks.known_names("convolutions", [name], _LEAST)
    if len(shape) != 3 or min(shape[:2]) < _LEAST[name]:
        least = _LEAST[name]
        raise checks.OptionError(
            f"convolutions={name!r} takes images of at least {least} by {least} pixels, "
            f"channels last, got observations of shape {shape}; leave it out"
        )
    return name
