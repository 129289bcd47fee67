"""What actions are drawn from."""

import math

import torch

from optix import checks
from optix.host.bounds import Bounds
from optix.math.masks import NEVER, mask_of
from optix.types import PyTree

_LOG_ROOT_TAU = 0.5 * math.log(2 * math.pi)


class Categorical:
    """Discrete actions from logits [..., n]."""

    def __init__(self, logits: torch.Tensor):
        """Normalise the logits."""
        self.logits, self.log_probs = logits, logits.log_softmax(-1)

    def parameters(self) -> dict[str, torch.Tensor]:
        """Return the logits by name."""
        return {"logits": self.logits}

    def mode(self) -> torch.Tensor:
        """Return the likeliest actions [...]."""
        return self.log_probs.argmax(-1)

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """Return actions [...]: the first of exponential clocks at these rates to ring."""
        clock = torch.empty_like(self.log_probs).exponential_(generator=generator)
        return (self.log_probs - clock.log_()).argmax(-1)

    def log_prob(self, action: torch.Tensor) -> torch.Tensor:
        """Return [...]."""
        return self.log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> torch.Tensor:
        """Return [...]."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


def masked(out: torch.Tensor, obs: PyTree, what: str = "logits") -> torch.Tensor:
    """Return logits or values [N, n] that no policy prefers where `obs` forbids it.

    Raises:
      ValueError: they are not one for each action of the mask.
    """
    mask = mask_of(obs)
    if mask is None:
        return out
    if out.shape != mask.shape:
        raise checks.OptionError(
            f"an action mask needs {what} of the actions, one for each of its "
            f"{mask.shape[-1]}, but the network gives {list(out.shape)} beside a mask of "
            f"{list(mask.shape)}"
        )
    return torch.where(mask, out, NEVER)


def count_of(name: str, logits: torch.Tensor) -> int:
    """Return how many actions a network's logits [N, n] are of, or raise ValueError."""
    if logits.ndim != 2:
        raise checks.OptionError(
            f"{name} must give logits [N, n] of the actions, got the shape "
            f"{list(logits.shape)}"
        )
    return logits.shape[1]


class Gaussian:
    """Real actions [..., size] from a mean and a log scale beside it [..., 2 size]."""

    def __init__(self, parameters: torch.Tensor):
        """Take the two apart."""
        self.mean, self.log_scale = parameters.chunk(2, -1)

    def parameters(self) -> dict[str, torch.Tensor]:
        """Return both by name."""
        return {"mean": self.mean, "log_scale": self.log_scale}

    def mode(self) -> torch.Tensor:
        """Return the mean."""
        return self.mean

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """Return actions."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + self.log_scale.exp() * noise

    def log_prob(self, action: torch.Tensor) -> torch.Tensor:
        """Return [...], summed over the action."""
        z = (action - self.mean) * (-self.log_scale).exp()
        return (-0.5 * z.square() - self.log_scale - _LOG_ROOT_TAU).sum(-1)

    def entropy(self) -> torch.Tensor:
        """Return [...], summed over the action."""
        return (self.log_scale + (0.5 + _LOG_ROOT_TAU)).sum(-1)


def squashed(
    mean: torch.Tensor, log_scale: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return actions in (-1, 1) [..., size] and their log density [...].

    Args:
      mean: of the Gaussian before tanh, [..., size].
      log_scale: of the same.
      noise: standard normal, [..., size].
    """
    before = mean + log_scale.exp() * noise
    log_normal = -0.5 * noise.square() - log_scale - _LOG_ROOT_TAU
    # log(1 - tanh(x)**2) without cancellation
    log_slope = 2.0 * (
        math.log(2.0) - before - torch.nn.functional.softplus(-2 * before)
    )
    return before.tanh(), (log_normal - log_slope).sum(-1)


def decoded(bounds: Bounds, action: torch.Tensor) -> torch.Tensor:
    """Return what `bounds.decode` does, as a tensor that can be traced."""
    low, high, centre, unit = (
        torch.as_tensor(x, device=action.device)
        for x in (bounds.low, bounds.high, bounds.centre, bounds.unit)
    )
    action = torch.clamp(action * unit + centre, low, high)
    return action.reshape(-1, *bounds.shape)
