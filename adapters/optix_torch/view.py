"""Observations as tensors on an agent's device."""

from typing import Any

import torch

from optix.host.observing import ObservationView


class TensorView(ObservationView):
    """An `ObservationView` of tensors.

    Args:
      shape: of one observation; None takes that of the first one seen.
      normalised: by the moments of what `observe` was given.
      device: where the network is.
    """

    def __init__(
        self, shape: tuple[int, ...] | None, normalised: bool, device: torch.device
    ):
        """See the class."""
        super().__init__(shape, normalised)
        self._device = device

    def plain(self, observations: Any) -> torch.Tensor:
        """Return observations as float32, not normalised."""
        array = super().plain(observations)
        seen = torch.from_numpy(array if array.flags.writeable else array.copy())
        return seen if self._device.type == "cpu" else seen.to(self._device)
