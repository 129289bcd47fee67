"""How an agent sees observations: as float32, and normalised by running moments."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from optix import checks
from optix.host.advantages import inverse_deviation
from optix.host.normalizers import ObsNormalizer

CLIP = 10.0  # deviations


class ObservationView:
    """Observations [..., *shape] as a network gets them, and their moments.

    Args:
      shape: of one observation; None takes that of the first one seen.
      normalised: by the moments of what `observe` was given.

    told: the shape that all must have, None while any will do.

    >>> view = ObservationView((2,), True)
    >>> view.observe(np.array([[0.0, 1.0], [2.0, 1.0]]), 1)
    >>> view(np.array([[2, 1]])).tolist()
    [[1.0, 0.0]]
    """

    def __init__(self, shape: tuple[int, ...] | None, normalised: bool):
        """See the class."""
        self.normalised = checks.boolean("normalize_observations", normalised)
        self.told = None if shape is None else tuple(shape)
        self._moments = (
            None if shape is None or not normalised else ObsNormalizer(shape)
        )
        self._scale: tuple[Any, Any] | None = None

    def __call__(self, observations: Any) -> Any:
        """Return observations [B, ...] as the network gets them."""
        seen = self.plain(observations)
        return self.normalize(seen) if self.normalised else seen

    def plain(self, observations: Any) -> Any:
        """Return observations [B, ...] as float32, not normalised.

        Raises:
          ValueError: no numbers, or observations of another shape than was told.
        """
        array = np.asarray(observations)
        if array.dtype.kind not in "biuf":
            kind = type(observations).__name__
            raise checks.OptionError(
                f"observations must be arrays [B, ...] of numbers, got a {kind}; flatten "
                "them with a wrapper (gymnasium.wrappers.FlattenObservation)"
            )
        if self.told is not None and array.shape[1:] != self.told:
            raise checks.OptionError(
                f"observations must be [B{''.join(f', {n}' for n in self.told)}], got "
                f"the shape {list(array.shape)}; act takes one, act_batch a batch"
            )
        return self._placed(np.ascontiguousarray(array, np.float32))

    def _placed(self, array: np.ndarray) -> Any:
        """Return an array as the framework has it."""
        return array

    def normalize(self, seen: Any) -> Any:
        """Return what `plain` returned with mean 0 and variance 1, where asked for."""
        if not self.normalised:
            return seen
        mean, scale = self.scale()
        return ((seen - mean) * scale).clip(-CLIP, CLIP)

    def scale(self) -> tuple[Any, Any]:
        """Return the mean and one over the deviation, as `plain` returns arrays."""
        if self._moments is None:
            return self._placed(np.zeros(1, np.float32)), self._placed(
                np.ones(1, np.float32)
            )
        if self._scale is None:
            mean, variance = self._moments.mean, self._moments.var
            scale = inverse_deviation(mean, variance)
            self._scale = (
                self._placed(np.asarray(mean, np.float32)),
                self._placed(np.asarray(scale, np.float32)),
            )
        return self._scale

    def observe(self, observations: np.ndarray, lead: int) -> None:
        """Take in observations with `lead` axes before their own."""
        if not self.normalised:
            return
        if self._moments is None:
            self._moments = ObsNormalizer(np.shape(observations)[lead:])
        self._moments.update(observations)
        self._scale = None

    def state(self) -> dict[str, np.ndarray]:
        """Return all there is to save; nothing before the first observation."""
        return {} if self._moments is None else self._moments.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self._scale = None
        if not state:
            self._moments = None
            return
        if not self.normalised or "mean" not in state:
            raise checks.OptionError(
                "normalize_observations must be as where the state was taken, got "
                f"{self.normalised} for a state of {sorted(state)}"
            )
        self._moments = ObsNormalizer(np.shape(state["mean"]))
        self._moments.restore(state)
