"""Observations as tensors on an agent's device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from optix import checks
from optix.host.observing import CLIP, ObservationView
from optix.math.masks import on_observed
from optix.types import PyTree


class TensorView(ObservationView):
    """An `ObservationView` of tensors.

    Args:
      shape: of one observation; None takes that of the first one seen.
      normalised: by the moments of what `observe` was given.
      device: where the network is.
      masks: whether they may be `Masked`; masks stay what they are.
      trial: takes the first two of them [2, ...], and raises where no network can.
    """

    def __init__(
        self,
        shape: tuple[int, ...] | None,
        normalised: bool,
        device: torch.device,
        masks: bool = False,
        *,
        trial: Callable[[torch.Tensor], None],
    ):
        """See the class."""
        super().__init__(shape, normalised, masks)
        self._trial: Callable[[torch.Tensor], None] | None = trial
        self._shape = None if shape is None else tuple(shape)
        self._device = device

    def plain(self, observations: Any) -> torch.Tensor:
        """Return observations as float32, not normalised."""
        seen = super().plain(observations)
        if self._trial is not None:
            self._trial(seen[:1].repeat(2, *[1] * (seen.ndim - 1)))
            self._trial = None
            self._shape = tuple(seen.shape[1:])
        return seen

    def _placed(self, array: np.ndarray) -> torch.Tensor:
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

    def exported(self, seen: PyTree) -> PyTree:
        """Return what `normalize` does, by operations that can be traced."""
        if not self.normalised:
            return seen
        mean, scale = self.scale()
        return on_observed(lambda x: ((x - mean) * scale).clamp(-CLIP, CLIP), seen)
