"""Normalisers for code outside JAX, in float64; agents here carry their own moments.

Both can be split and merged without loss: however the data is divided into chunks,
processes and devices, the moments are those of all of it at once.
"""

import math
import sys
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from optix import checks
from optix.math.running import Moments, merge


class ObsNormalizer:
    """Shifts and scales observations to mean 0 and variance 1.

    Args:
        obs_shape: of one observation.
        clip: largest magnitude of what comes out; infinity for none.

    Example:
        >>> normalizer = ObsNormalizer((1,))
        >>> normalizer.update([[1.0], [3.0]])
        >>> normalizer.count, normalizer.mean.tolist(), normalizer.var.tolist()
        (2, [2.0], [1.0])
        >>> normalizer.normalize([4.0]).round(3).tolist()
        [2.0]
    """

    def __init__(self, obs_shape: tuple[int, ...], clip: float = 10.0):
        """See the class."""
        self._shape = checks.shape("obs_shape", obs_shape)
        self._clip = _positive("clip", clip)
        self._moments = _nothing(self._shape)

    def update(self, obs: Any) -> None:
        """Take in observations [..., *obs_shape]; those not finite are left out."""
        obs = self._checked(obs)
        self._moments = merge(
            self._moments, _moments(obs.reshape(-1, *self._shape), self._shape)
        )

    def normalize(self, obs: Any) -> np.ndarray:
        """Return observations [..., *obs_shape] as float32 of mean 0 and variance 1."""
        scaled = (self._checked(obs) - self.mean) / np.sqrt(self.var + 1e-8)
        return np.clip(scaled, -self._clip, self._clip).astype(np.float32)

    @property
    def mean(self) -> np.ndarray:
        """Of all observations, [*obs_shape] float64; 0 before the first."""
        return np.asarray(self._moments.mean)

    @property
    def var(self) -> np.ndarray:
        """Variance of all observations, [*obs_shape] float64; 1 before the first."""
        return np.asarray(self._moments.variance)

    @property
    def count(self) -> int:
        """How many observations have been taken in."""
        return int(self._moments.count)

    def merge(self, other: "ObsNormalizer") -> None:
        """Take in what another one has seen and this one has not."""
        checks.record("other", other, ObsNormalizer, "merge two of the same kind")
        if other._shape != self._shape:
            raise checks.OptionError(
                f"other must be of observations {self._shape}, got {other._shape}; "
                "merge normalisers of the same environment"
            )
        self._moments = merge(self._moments, other._moments)

    def state(self) -> dict[str, np.ndarray]:
        """Return all there is to save, as plain arrays."""
        return _arrays(self._moments)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._moments = Moments(**_restored(state, self.state()))

    def _checked(self, obs: Any) -> np.ndarray:
        obs = np.asarray(obs, np.float64)
        start = obs.ndim - len(self._shape)
        if start < 0 or obs.shape[start:] != self._shape:
            raise checks.OptionError(
                f"observations must be [..., {', '.join(map(str, self._shape))}], got "
                f"the shape {obs.shape}; make the normaliser with obs_shape= of one"
            )
        return obs


class RewardNormalizer:
    """Divides rewards by the standard deviation of the discounted return.

    The sign of a reward is kept: nothing is subtracted. There is no made-up data behind
    the first estimate: until two returns that differ have been seen, rewards are only
    clipped. The next few are divided by an estimate from as few returns: rewards of 1
    become 1, 2.02, 1.24, 0.91, 0.73, and ever less while the first returns still grow.

    Args:
        gamma: discount of the returns.
        clip: largest magnitude of what comes out; infinity for none.
        epsilon: added to the variance.
        num_envs: environments side by side, each with a return of its own.

    Example:
        >>> normalizer = RewardNormalizer(num_envs=2)
        >>> normalizer.step([1.0, 3.0])
        >>> normalizer.normalize([1.0, -3.0]).round(3).tolist()
        [1.0, -3.0]
        >>> normalizer.reset([True, False])  # the first one's episode has ended
    """

    def __init__(
        self,
        gamma: float = 0.99,
        clip: float = 10.0,
        epsilon: float = 1e-8,
        num_envs: int = 1,
    ):
        """See the class."""
        self._gamma = checks.within("gamma", gamma, 0, 1)
        self._clip = _positive("clip", clip)
        self._epsilon = checks.within("epsilon", epsilon, 0, 1)
        num_envs = checks.positive_int("num_envs", num_envs)
        self._returns = np.zeros(num_envs)
        self._moments = _nothing(())

    def step(self, reward: Any) -> None:
        """Take in one reward of every environment, [num_envs] or a number for one.

        A reward that is not finite is left out, and its return starts afresh.
        """
        reward = np.atleast_1d(np.asarray(reward, np.float64))
        self._check("reward", reward)
        returns = self._gamma * self._returns + reward
        self._moments = merge(self._moments, _moments(returns, ()))
        self._returns = np.where(np.isfinite(returns), returns, 0.0)

    def normalize(self, reward: Any) -> np.ndarray:
        """Return rewards of any shape as float32, scaled."""
        known = self._moments.variance > 0 and self.count > 1
        deviation = np.sqrt(self.var + self._epsilon) if known else 1.0
        scaled = np.asarray(reward, np.float64) / deviation
        return np.clip(scaled, -self._clip, self._clip).astype(np.float32)

    def reset(self, ended: Any = True) -> None:
        """Begin new returns where episodes have ended: everywhere, or [num_envs] bool."""
        ended = np.asarray(ended, bool)
        if ended.ndim:
            self._check("ended", ended)
        self._returns = np.where(ended, 0.0, self._returns)

    def _check(self, name: str, array: np.ndarray) -> None:
        if array.shape != self._returns.shape:
            raise checks.OptionError(
                f"{name} must hold {len(self._returns)} numbers, got the shape "
                f"{array.shape}; make the normaliser with num_envs= of their number"
            )

    @property
    def mean(self) -> float:
        """Of the discounted returns; 0 before the first."""
        return float(self._moments.mean)

    @property
    def var(self) -> float:
        """Variance of the discounted returns; 1 before the first."""
        return float(self._moments.variance)

    @property
    def count(self) -> int:
        """How many returns have been taken in, one per step and environment."""
        return int(self._moments.count)

    def merge(self, other: "RewardNormalizer") -> None:
        """Take in what another one has seen and this one has not."""
        checks.record("other", other, RewardNormalizer, "merge two of the same kind")
        if other._gamma != self._gamma:
            raise checks.OptionError(
                f"other must have gamma {self._gamma}, got {other._gamma}; returns of "
                "different discounts have different deviations"
            )
        self._moments = merge(self._moments, other._moments)

    def state(self) -> dict[str, np.ndarray]:
        """Return all there is to save, as plain arrays."""
        return {**_arrays(self._moments), "returns": self._returns.copy()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        restored = _restored(state, self.state())
        self._returns = restored.pop("returns")
        self._moments = Moments(**restored)


def _nothing(shape: tuple[int, ...]) -> Moments:
    return Moments(np.zeros(()), np.zeros(shape), np.ones(shape))


def _moments(rows: np.ndarray, shape: tuple[int, ...]) -> Moments:
    """Return the moments of the finite rows of [N, *shape]."""
    rows = rows[np.isfinite(rows).all(tuple(range(1, rows.ndim)))]
    if not len(rows):
        return _nothing(shape)
    # around the first row, so that equal rows have a variance of exactly zero
    around = rows - rows[0]
    return Moments(
        np.asarray(float(len(rows))), rows[0] + around.mean(0), around.var(0)
    )


def _arrays(moments: Moments) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in moments._asdict().items()}


def _restored(
    state: Mapping[str, Any], like: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return copies of the arrays of a state, which must have the form of `like`."""
    checks.known_names("entry of the state", state, like)
    arrays = {}
    for name, present in like.items():
        array = np.array(state[name], np.float64) if name in state else None
        if array is None or array.shape != present.shape:
            found = "nothing" if array is None else f"the shape {array.shape}"
            raise checks.OptionError(
                f"{name} of the state must have the shape {present.shape}, got {found}; "
                "restore what `state` of an equal normaliser returned"
            )
        arrays[name] = array
    return arrays


def _positive(name: str, value: float) -> float:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not value > 0:
        raise checks.OptionError(f"{name} must be > 0, got {value!r}; use inf for none")
    return float(min(value, sys.float_info.max) if value != math.inf else value)
