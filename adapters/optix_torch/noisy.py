"""Noisy layers (https://arxiv.org/abs/1706.10295): exploration by noise in the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from optix import checks
from optix.networks.mlp import checked_hidden
from optix_torch.networks import ACTIVATIONS, Dense, Duel


class NoisyLinear(Dense):
    """An affine layer with factorised noise of learned deviation.

    Without noise it is its mean; `noise` gives it some.

    Args:
      in_features: inputs.
      out_features: outputs.
      noise_scale: deviation at first, times the root of the inputs.

    >>> layer = NoisyLinear(4, 2)
    >>> float(layer.weight_deviation[0, 0].detach())
    0.25
    """

    def __init__(self, in_features: int, out_features: int, noise_scale: float = 0.5):
        """Draw the weights."""
        super().__init__(in_features, out_features)
        self.noise_scale = checks.within("noise_scale", noise_scale, 0.0, 100.0)
        self.factors: tuple[torch.Tensor, torch.Tensor] | None = None
        self.weight_deviation = nn.Parameter(torch.empty_like(self.weight))
        self.bias_deviation = nn.Parameter(torch.empty_like(self.bias))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew, of the first deviation."""
        super().reset_parameters()
        if hasattr(self, "weight_deviation"):
            deviation = self.noise_scale / math.sqrt(self.in_features)
            nn.init.constant_(self.weight_deviation, deviation)
            nn.init.constant_(self.bias_deviation, deviation)

    def draw(self, generator: torch.Generator, rows: int | None) -> None:
        """Take new noise: one draw for all rows, or one for each of so many."""
        lead = () if rows is None else (rows,)
        sizes = self.in_features, self.out_features
        size = (*lead, sum(sizes))
        noise = torch.empty(size, device=self.weight.device).normal_(
            generator=generator
        )
        noise = noise.sign() * noise.abs().sqrt()
        inputs, outputs = noise.split(sizes, -1)
        self.factors = inputs, outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [N, out_features]."""
        out = super().forward(x)
        if self.factors is None:
            return out
        # x (W + D * outer(f, g)) = x W + ((x * f) D) * g: no row's matrix is built
        inputs, outputs = self.factors
        noisy = nn.functional.linear(
            x * inputs, self.weight_deviation, self.bias_deviation
        )
        return out + noisy * outputs


@contextmanager
def noise(
    network: nn.Module, generator: torch.Generator, rows: int | None = None
) -> Iterator[None]:
    """Give the noisy layers of a network a draw of noise, and take it back.

    Args:
      network: holds `NoisyLinear` layers.
      generator: draws.
      rows: one draw for each of so many rows; None is one for all.
    """
    layers = noisy_layers(network)
    for layer in layers:
        layer.draw(generator, rows)
    try:
        yield
    finally:
        for layer in layers:
            layer.factors = None


def noisy_layers(network: nn.Module) -> list[NoisyLinear]:
    """Return the noisy layers of a network."""
    return [layer for layer in network.modules() if isinstance(layer, NoisyLinear)]


class RainbowQNetwork(nn.Sequential):
    """The network of Rainbow: noisy hidden layers, dueling streams, distributions.

    >>> RainbowQNetwork.build(4, 2)(torch.zeros(3, 4)).shape
    torch.Size([3, 2, 51])
    """

    @classmethod
    def build(
        cls,
        obs_dim: int,
        n_actions: int,
        hidden_size: int | Sequence[int] = 128,
        n_atoms: int = 51,
        *,
        activation: str = "relu",
        noise_scale: float = 0.5,
        encoder: nn.Module | None = None,
    ) -> RainbowQNetwork:
        """Return a network of observations [N, obs_dim] to logits [N, n_actions, n_atoms].

        Args:
          obs_dim: entries of an observation, or of what the encoder makes of it.
          n_actions: number of actions.
          hidden_size: width of the hidden layer, or of several; the last is each
            stream's own.
          n_atoms: of the distribution over returns.
          activation: one of tanh, relu, silu, gelu, elu.
          noise_scale: of the layers, see `NoisyLinear`.
          encoder: goes first, makes vectors of observations.

        Raises:
          ValueError: sizes below one, fewer than two atoms, unknown names.
        """
        inputs = checks.positive_int("obs_dim", obs_dim)
        checks.positive_int("n_actions", n_actions)
        checks.positive_int("n_atoms", n_atoms, 2)
        checks.known_names("activation", [activation], ACTIVATIONS)
        widths = [hidden_size] if isinstance(hidden_size, int) else hidden_size
        *shared, last = checked_hidden(widths)
        layers: list[nn.Module] = [] if encoder is None else [encoder]
        for width in shared:
            layers += [
                NoisyLinear(inputs, width, noise_scale),
                ACTIVATIONS[activation](),
            ]
            inputs = width

        def stream(outputs):
            return nn.Sequential(
                NoisyLinear(inputs, last, noise_scale),
                ACTIVATIONS[activation](),
                NoisyLinear(last, outputs, noise_scale),
            )

        duel = Duel(stream(n_atoms), stream(n_actions * n_atoms), n_actions, n_atoms)
        return cls(*layers, duel)
