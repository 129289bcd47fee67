"""How an agent sees observations: as float32, and normalised by running moments."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from optix import checks
from optix.host.advantages import inverse_deviation
from optix.host.normalizers import ObsNormalizer

CLIP = 10.0  # deviations


class ObservationView:
    """Observations [..., *shape] as a network gets them, and their moments.

    Args:
      shape: of one observation; None takes that of the first one seen.
      normalised: by the moments of what `observe` was given.
      device: where the network is.
    """

    def __init__(
        self, shape: tuple[int, ...] | None, normalised: bool, device: torch.device
    ):
        """See the class."""
        self._normalised = checks.boolean("normalize_observations", normalised)
        self._device = device
        self._shape = None if shape is None else tuple(shape)
        self._moments = (
            None if shape is None or not normalised else ObsNormalizer(shape)
        )
        self._tensors: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, observations: Any) -> torch.Tensor:
        """Return observations [B, ...] as the network gets them."""
        seen = self.plain(observations)
        return self.normalize(seen) if self._normalised else seen

    def plain(self, observations: Any) -> torch.Tensor:
        """Return observations as float32, not normalised."""
        array = np.asarray(observations)
        if array.dtype.kind not in "biuf":
            kind = type(observations).__name__
            raise checks.OptionError(
                f"observations must be arrays [B, ...] of numbers, got a {kind}; flatten "
                "them with a wrapper (gymnasium.wrappers.FlattenObservation)"
            )
        if self._shape is None:
            self._shape = array.shape[1:]
        array = np.ascontiguousarray(array, np.float32)
        seen = torch.from_numpy(array if array.flags.writeable else array.copy())
        return seen if self._device.type == "cpu" else seen.to(self._device)

    def shape(self, first: nn.Module) -> tuple[int, ...]:
        """Return the shape of one observation: as was told, seen, or `first` takes it.

        Raises:
          ValueError: none of these says it.
        """
        if self._shape is not None:
            return self._shape
        if self._moments is not None:
            return np.shape(self._moments.mean)
        while isinstance(first, nn.Sequential) and len(first):
            first = first[0]
        if isinstance(first, nn.Linear):
            return (first.in_features,)
        if isinstance(first, nn.RNNBase):
            return (first.input_size,)
        raise checks.OptionError(
            "observation_shape must be known to export the policy, got None; give it to "
            "the agent, or let it act once"
        )

    def normalize(self, seen: torch.Tensor) -> torch.Tensor:
        """Return what `plain` returned with mean 0 and variance 1, where asked for."""
        if not self._normalised:
            return seen
        if self._moments is None:
            return seen.clamp(-CLIP, CLIP)
        if self._tensors is None:
            self._tensors = self._made(self._moments)
        mean, scale = self._tensors
        return ((seen - mean) * scale).clamp_(-CLIP, CLIP)

    def exported(self, seen: torch.Tensor) -> torch.Tensor:
        """Return what `normalize` does, by tensors of its own that can be traced."""
        if not self._normalised:
            return seen
        if self._moments is None:
            return seen.clamp(-CLIP, CLIP)
        mean, scale = self._made(self._moments)
        return ((seen - mean) * scale).clamp(-CLIP, CLIP)

    def _made(self, moments: ObsNormalizer) -> tuple[torch.Tensor, torch.Tensor]:
        mean, variance = moments.mean, moments.var
        scale = inverse_deviation(mean, variance)
        mean, scale = (
            torch.as_tensor(x.astype(np.float32), device=self._device)
            for x in (mean, scale)
        )
        return mean, scale

    def observe(self, observations: np.ndarray, lead: int) -> None:
        """Take in observations with `lead` axes before their own."""
        if not self._normalised:
            return
        if self._moments is None:
            self._moments = ObsNormalizer(np.shape(observations)[lead:])
        self._moments.update(observations)
        self._tensors = None

    def state(self) -> dict[str, np.ndarray]:
        """Return all there is to save; nothing before the first observation."""
        return {} if self._moments is None else self._moments.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self._tensors = None
        if not state:
            self._moments = None
            return
        if not self._normalised or "mean" not in state:
            raise checks.OptionError(
                "normalize_observations must be as where the state was taken, got "
                f"{self._normalised} for a state of {sorted(state)}"
            )
        self._moments = ObsNormalizer(np.shape(state["mean"]))
        self._moments.restore(state)
