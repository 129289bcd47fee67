"""Bounds of hyperparameters as a unit box, some of its sides logarithmic."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.types import Hyperparams

# What moves a logarithmic parameter by a factor e moves a linear one by this part of
# its range: a range counts as much as three decades.
_LINEAR_SPAN = math.log(1000.0)


class Space(NamedTuple):
    """A box of hyperparameters, and the way to the unit box [0, 1]^D and back."""

    bounds: dict[str, tuple[float, float]]
    spans: tuple[float, ...]  # length of each side in units of ln; ln 1000 if linear
    encode: Callable[[Hyperparams], jax.Array]  # ({name: []}) -> [D] clipped to [0, 1]
    decode: Callable[[jax.Array], Hyperparams]  # ([D]) -> {name: []} within the bounds


def space(
    bounds: Mapping[str, tuple[float, float]], log: Iterable[str] | None = None
) -> Space:
    """Return the space between bounds.

    Args:
        bounds: {name: (low, high)}.
        log: names tuned by factors instead of differences; None for every one with
            `low > 0` and `high / low >= 10`.

    Raises:
        ValueError: no bounds, reversed or infinite ones, an unknown name in `log`, or a
            logarithmic one whose lower bound is not positive.

    Example:
        >>> box = space({"learning_rate": (1e-4, 1e-2)})
        >>> round(float(box.decode(jnp.array([0.5]))["learning_rate"]), 6)
        0.001
    """
    bounds = checks.bounds(bounds)
    if not bounds:
        raise checks.OptionError("bounds must name at least one hyperparameter, got {}")
    if log is None:
        log = [name for name, (low, high) in bounds.items() if 0 < low <= high / 10]
    if isinstance(log, str) or not isinstance(log, Iterable):
        raise checks.OptionError(
            f"log must be names, as in ['learning_rate'], or None, got {log!r}"
        )
    log = tuple(log)
    checks.known_names("logarithmic hyperparameter", log, bounds)
    for name in log:
        if bounds[name][0] <= 0:
            raise checks.OptionError(
                f"bounds of {name!r} must be positive to be logarithmic, got "
                f"{bounds[name]}; raise the lower one or leave {name!r} out of log="
            )

    def ends(name):
        low, high = bounds[name]
        return (math.log(low), math.log(high)) if name in log else (low, high)

    def encode(hyperparams):
        def side(name):
            value = jnp.clip(jnp.asarray(hyperparams[name]), *bounds[name])
            low, high = ends(name)
            return ((jnp.log(value) if name in log else value) - low) / (high - low)

        return jnp.clip(jnp.stack([side(name) for name in bounds]), 0.0, 1.0)

    def decode(point):
        def value(name, fraction):
            low, high = ends(name)
            value = low + (high - low) * fraction
            return jnp.clip(jnp.exp(value) if name in log else value, *bounds[name])

        return {name: value(name, point[i]) for i, name in enumerate(bounds)}

    spans = tuple(
        math.log(high / low) if name in log else _LINEAR_SPAN
        for name, (low, high) in bounds.items()
    )
    return Space(bounds, spans, encode, decode)


def floats(base: Hyperparams, bounds: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Return {name: [] float32} of what a tuner starts from, or raise OptionError.

    Raises:
        ValueError: a bound of something that is not among the hyperparameters.
    """
    checks.known_names("tuned hyperparameter", bounds, base)
    return {name: jnp.asarray(value, jnp.float32) for name, value in base.items()}


def settings(box: Space, base: Hyperparams, points: jax.Array) -> Hyperparams:
    """Return {name: [L]} at points [L, D] of the unit box, the rest as in `base`."""
    tuned = jax.vmap(box.decode)(points)
    lanes = points.shape[0]
    return {**{name: jnp.repeat(x[None], lanes) for name, x in base.items()}, **tuned}


def explore(
    box: Space,
    key: jax.Array,
    points: jax.Array,
    factor: float | jax.Array,
    anew: float | jax.Array,
) -> jax.Array:
    """Return other points [L, D] of the unit box, some near those given, some anywhere.

    Args:
        box: whose sides tell how far a factor goes.
        key: of the draws.
        points: [L, D] to start from.
        factor: by which each hyperparameter is multiplied or divided.
        anew: chance that a point is drawn from the whole box instead.
    """
    sign_key, anew_key, point_key = jax.random.split(key, 3)
    signs = jax.random.rademacher(sign_key, points.shape, points.dtype)
    step = jnp.log(factor) / jnp.asarray(box.spans, points.dtype)
    drawn = jax.random.uniform(anew_key, points.shape[:1]) < anew
    elsewhere = jax.random.uniform(point_key, points.shape)
    return jnp.where(drawn[:, None], elsewhere, jnp.clip(points + step * signs, 0, 1))
