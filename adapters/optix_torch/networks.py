"""Networks of Torch agents; `for_env` makes its own of them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from optix import checks
from optix.host.fitting import image
from optix.networks.mlp import checked_hidden

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
}
_TRUNCATED = 0.87962566103423978  # the deviation of a normal cut at two deviations


class Dense(nn.Linear):
    """An affine layer: LeCun normal weights times `scale`, zero bias."""

    scale: float = 1.0

    def __init__(self, inputs: int, outputs: int, scale: float = 1.0):
        """Draw the weights."""
        super().__init__(inputs, outputs)
        self.scale = scale
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        deviation = 1 / math.sqrt(self.in_features) / _TRUNCATED
        limit = 2 * deviation
        nn.init.trunc_normal_(self.weight, std=deviation, a=-limit, b=limit)
        with torch.no_grad():
            self.weight.mul_(self.scale)
            self.bias.zero_()


class Image(nn.Module):
    """Images [N, height, width, channels] of bytes or floats, as features [N, ...].

    See `optix.host.fitting.image` for which axis is what, and the layers.
    """

    def __init__(self, shape: Sequence[int]):
        """Take the shape of one image."""
        super().__init__()
        seen = image(shape)
        self.channels_first = seen.channels_first
        convolutions, channels = [], seen.channels
        for filters, size, stride in seen.layers:
            convolutions += [nn.Conv2d(channels, filters, size, stride), nn.ReLU()]
            channels = filters
        self.layers = nn.Sequential(*convolutions, nn.Flatten())
        with torch.no_grad():
            self.features = self.layers(
                torch.zeros(1, seen.channels, *seen.size)
            ).shape[-1]

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return [N, features]."""
        obs = obs if self.channels_first else obs.movedim(-1, -3)
        return self.layers(obs)


class Flat(nn.Module):
    """Observations [N, ...] of any shape as vectors [N, size]."""

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return [N, size]."""
        return obs.flatten(1) if obs.ndim > 1 else obs.unsqueeze(1)


class OneHot(nn.Module):
    """Observations that number a state, [N] or [N, 1], as vectors [N, n]."""

    def __init__(self, n: int, start: int = 0):
        """Take the number of states, and the first."""
        super().__init__()
        self.features, self.start = n, start

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return [N, n]."""
        number = obs.reshape(-1).long() - self.start
        return nn.functional.one_hot(number, self.features).to(torch.float32)


class Concatenated(nn.Module):
    """A critic of an encoded observation and an action, given as one row [N, *]."""

    def __init__(self, encoder: nn.Module, inputs: int, shape: Sequence[int]):
        """Take what encodes an observation of `shape`, which fills `inputs` entries."""
        super().__init__()
        self.encoder, self.inputs, self.shape = encoder, inputs, tuple(shape)

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        """Return [N, features + actions]."""
        obs, action = row[:, : self.inputs], row[:, self.inputs :]
        return torch.cat([self.encoder(obs.reshape(-1, *self.shape)), action], -1)


class GaussianHead(nn.Module):
    """A mean, and a log scale that is the same everywhere: [..., 2 size]."""

    def __init__(self, inputs: int, size: int):
        """Begin at a scale of one."""
        super().__init__()
        self.mean = Dense(inputs, size, 0.01)
        self.log_scale = nn.Parameter(torch.zeros(size))

    def reset_parameters(self) -> None:
        """Begin at a scale of one again; the mean resets itself."""
        nn.init.zeros_(self.log_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the parameters of a `Gaussian`."""
        mean = self.mean(x)
        return torch.cat([mean, self.log_scale.expand_as(mean)], -1)


class Duel(nn.Module):
    """A state's value and each action's advantage, in streams of their own.

    https://arxiv.org/abs/1511.06581; with atoms, logits of distributions [..., n, atoms].
    """

    def __init__(
        self, value: nn.Module, advantage: nn.Module, n: int, atoms: int | None
    ):
        """Take the two streams, of `atoms` (or one) and `n` times as many outputs."""
        super().__init__()
        self.value, self.advantage = value, advantage
        self.n, self.atoms = n, atoms

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [..., n], or [..., n, atoms]."""
        advantage = self.advantage(x).unflatten(-1, (self.n, self.atoms or 1))
        value = self.value(x).unsqueeze(-2)
        out = value + advantage - advantage.mean(-2, keepdim=True)
        return out if self.atoms else out.squeeze(-1)


def encoder(space: Any) -> tuple[nn.Module | None, int, tuple[int, ...]]:
    """Return what makes a vector of an observation, its length, and the shape it takes.

    Args:
      space: of Gymnasium; a Box or Discrete.
    """
    shape = tuple(int(size) for size in space.shape)
    if hasattr(space, "n"):
        one_hot = OneHot(int(space.n), int(getattr(space, "start", 0)))
        return one_hot, one_hot.features, shape
    if len(shape) == 3:
        encode = Image(shape)
        return encode, encode.features, shape
    return (None if len(shape) == 1 else Flat()), math.prod(shape), shape


def dense_layers(
    inputs: int,
    hidden: Sequence[int],
    *,
    activation: str = "tanh",
    layer: Callable[[int, int], nn.Module] = Dense,
) -> list[nn.Module]:
    """Return hidden layers, each with its activation.

    Raises:
      ValueError: widths below one, an unknown activation.

    >>> dense_layers(4, (8,))
    [Dense(in_features=4, out_features=8, bias=True), Tanh()]
    """
    checks.known_names("activation", [activation], ACTIVATIONS)
    layers: list[nn.Module] = []
    for width in checked_hidden(hidden):
        layers += [layer(inputs, width), ACTIVATIONS[activation]()]
        inputs = width
    return layers


def network(
    space: Any, hidden: Sequence[int], head: Any, activation: str
) -> nn.Sequential:
    """Return encoder, hidden layers and a head of the last one's width.

    Args:
      space: of the observations, of Gymnasium.
      hidden: widths.
      head: `(inputs) -> module`.
      activation: one of tanh, relu, silu, gelu, elu.
    """
    encode, inputs, _ = encoder(space)
    layers = dense_layers(inputs, hidden, activation=activation)
    first = [] if encode is None else [encode]
    return nn.Sequential(*first, *layers, head(list(hidden)[-1]))
