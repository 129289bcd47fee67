"""How an agent sees observations: as float32, and normalised by running moments."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from optix import checks
from optix.host.advantages import inverse_deviation
from optix.host.normalizers import ObsNormalizer
from optix.math.masks import allowed, mask_of, observed, told_mask
from optix.types import Masked, PyTree

CLIP = 10.0  # deviations


class ObservationView:
    """Observations [..., *shape] as a network gets them, and their moments.

    Args:
      shape: of one observation; None takes that of the first one seen.
      normalised: by the moments of what `observe` was given.
      masks: whether they may be `Masked`; masks stay what they are.

    told: the shape that all must have, None while any will do.

    >>> view = ObservationView((2,), True)
    >>> view.observe(np.array([[0.0, 1.0], [2.0, 1.0]]), 1)
    >>> view(np.array([[2, 1]])).tolist()
    [[1.0, 0.0]]
    """

    def __init__(
        self, shape: tuple[int, ...] | None, normalised: bool, masks: bool = False
    ):
        """See the class."""
        self._masks, self._number = masks, 0  # of actions, of the first mask
        self.normalised = checks.boolean("normalize_observations", normalised)
        self.told = None if shape is None else tuple(shape)
        self._moments = (
            None if shape is None or not normalised else ObsNormalizer(shape)
        )
        self._scale: tuple[Any, Any] | None = None

    def __call__(self, observations: PyTree) -> Any:
        """Return observations [B, ...] as the network gets them, `Masked` if they are."""
        seen = self.plain(observed(observations))
        seen = self.normalize(seen) if self.normalised else seen
        mask = self.mask(observations)
        return seen if mask is None else Masked(seen, mask)

    def mask(self, observations: PyTree) -> Any:
        """Return which actions are allowed [B, n] bool, None where nothing says it.

        Where nothing is, everything is: an episode is over there.

        Raises:
          ValueError: a mask of another form, or one that nobody reads.
        """
        given = mask_of(observations)
        if given is None:
            return None
        if not self._masks:
            raise checks.OptionError(
                "observations must be without an action mask for an agent that does not "
                "take masks, as none of real actions does; take an agent of discrete "
                "actions, or leave the mask out"
            )
        rows, array = len(observed(observations)), np.asarray(given)
        number = self._number or array.shape[-1]
        mask = told_mask(array, (rows,), (number,))
        if mask is None:
            raise checks.OptionError(
                f"an action mask must be bool of shape {(rows, number)}, got "
                f"{array.dtype} of shape {array.shape}"
            )
        self._number = number
        return self._placed(allowed(mask))

    def plain(self, observations: Any) -> Any:
        """Return observations [B, ...] as float32, not normalised.

        Raises:
          ValueError: no numbers, or observations of another shape than was told.
        """
        array = np.asarray(observations)
        if array.dtype.kind not in "biuf":
            is_array = isinstance(observations, np.ndarray)
            kind = array.dtype if is_array else f"a {type(observations).__name__}"
            raise checks.OptionError(
                f"observations must be arrays [B, ...] of numbers, got {kind}; flatten "
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

    def observe(self, observations: PyTree, lead: int) -> None:
        """Take in observations with `lead` axes before their own."""
        if not self.normalised:
            return
        observations = observed(observations)
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
