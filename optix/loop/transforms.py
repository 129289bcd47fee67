"""Composition of transforms, the pure callbacks of a loop."""

import jax.numpy as jnp

from optix import checks
from optix.types import Transform


def chain(*transforms: Transform) -> Transform:
    """Return the transform that applies `transforms` in order.

    Each sees what the one before left; where two modulate the same hyperparameter their
    factors multiply. With no transforms it is the identity.

    Raises:
      ValueError: two transforms claim the same hyperparameter.

    >>> chain().hyperparams
    {}
    """
    for transform in transforms:
        checks.record("each of transforms", transform, Transform, "call its factory")
    hyperparams = {}
    for transform in transforms:
        for name, value in transform.hyperparams.items():
            if name in hyperparams:
                raise checks.OptionError(
                    "each hyperparameter must belong to one transform, but two claim "
                    f"{name!r}; give one of them another prefix"
                )
            hyperparams[name] = value

    def init(policy):
        return tuple(transform.init(policy) for transform in transforms)

    def update(states, policy, rollout, report, signals):
        after, modulation = [], {}
        for transform, state in zip(transforms, states, strict=True):
            state, policy, rollout, factors = transform.update(
                state, policy, rollout, report, signals
            )
            after.append(state)
            for name, factor in factors.items():
                modulation[name] = modulation.get(name, 1.0) * factor
        return tuple(after), policy, rollout, modulation

    def events(states):
        found = jnp.int32(0)
        for transform, state in zip(transforms, states, strict=True):
            if transform.events is not None:
                found |= transform.events(state)
        return found

    says = any(transform.events is not None for transform in transforms)
    looks = any(transform.trajectory for transform in transforms)
    return Transform(init, update, hyperparams, events if says else None, looks)
